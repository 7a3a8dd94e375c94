//! Plans by example: every folder of `cases` shows what the kernel holds, what is desired, what the plan does about it, and
//! what the kernel holds then.
//!
//! `observed.TOOL.save` is what `TOOL-save` printed (an absent file: nothing); `desired` names objects, with their keys, and
//! their rules; `plan` and `after.TOOL.save` are compared, and written anew with `UPDATE_CASES=1`. The plan is carried out by
//! the kernel in memory, and a second one must find nothing to do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridgeward::addr::DeviceName;
use bridgeward::backend::Kernel;
use bridgeward::backend::fake::Fake;
use bridgeward::compile::{Key, ObjectRules, PlacedRule};
use bridgeward::model::Object;
use bridgeward::plan::{self, Desired, HookPlacement, Plan, Scope, script};
use bridgeward::ruleset::{ChainId, ChainName, Family, LiveRule, Table, chain_name, save};

/// The cases with a test each; `no_case_is_forgotten` compares them with the folders.
macro_rules! cases {
    ($($name:ident)*) => {
        const CASES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

cases! {
    a_base_chain_with_a_foreign_rule_stays
    a_broken_file_deletes_nothing
    a_chain_that_a_foreign_rule_jumps_to_is_emptied
    a_deleted_rule_comes_back_in_its_place
    a_flushed_host_is_restored
    a_gate_that_was_left_is_removed
    a_guest_changed_in_two_families_is_gated
    a_held_guest_without_record_is_left_alone
    a_missing_hook_goes_before_its_successor
    a_policy_that_drops_is_undone
    a_recorded_guest_goes_with_its_chains
    a_rule_that_names_nobody_goes
    an_open_chain_returns_at_its_end
    base_chains_of_ours_go_when_empty
    base_chains_that_nothing_needs_go_while_a_file_is_broken
    blocks_in_another_order_are_in_sync
    duplicates_of_ours_go
    exclusive_scope_removes_strangers
    foreign_rules_in_shared_chains_stay
    hooks_first_moves_hooks_to_the_head
    temporary_chains_are_left_to_libvirtd
    where_nothing_is_filtered_all_families_go_at_once
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-tests/cases")
}

#[test]
fn no_case_is_forgotten() {
    let folders = fs::read_dir(root()).expect("the cases are there").map(|entry| entry.expect("a folder can be listed").file_name());
    let folders: BTreeSet<String> = folders.map(|name| name.to_string_lossy().replace('-', "_")).collect();
    assert_eq!(folders, CASES.iter().map(|name| (*name).to_owned()).collect());
}

fn check(name: &str) {
    let folder = root().join(name.replace('_', "-"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let kernel = Fake::default();
    for family in Family::ALL {
        let text = fs::read_to_string(folder.join(format!("observed.{family}.save"))).unwrap_or_default();
        kernel.feed(family, &text).unwrap_or_else(|refusal| panic!("{}: {refusal}", folder.display()));
    }
    let desired = desired(&fs::read_to_string(folder.join("desired")).expect("a case says what is desired"));
    let plan = plan::plan(&desired, &runtime.block_on(kernel.observe(&Family::ALL))).expect("all families can be read");
    compare(&folder.join("plan"), &text(&plan));
    for (family, tables) in plan.phases.iter().flat_map(|phase| &phase.families) {
        runtime.block_on(kernel.commit(*family, &script::script(*family, tables))).expect("a plan is accepted");
    }
    for family in Family::ALL {
        compare(&folder.join(format!("after.{family}.save")), &occupied(family, &kernel.save(family)));
    }
    let again = plan::plan(&desired, &runtime.block_on(kernel.observe(&Family::ALL))).expect("all families can be read");
    assert!(again.is_empty(), "the second plan is\n{}", text(&again));
}

/// Save text without empty built-in chains, which say nothing.
fn occupied(family: Family, save: &str) -> String {
    let mut table = None;
    let silent = |line: &str, table: Option<Table>| {
        let chain = line.strip_prefix(':').and_then(|rest| rest.split(' ').next());
        chain.zip(table).is_some_and(|(chain, table)| chain_name::is_builtin(family, table, chain))
    };
    let lines = save.lines().filter(|line| {
        table = line.strip_prefix('*').map_or(table, Table::from_name);
        !silent(line, table)
    });
    let lines: Vec<&str> = lines.collect();
    let text: String = lines.iter().fold(String::new(), |text, line| text + line + "\n");
    // A table of which nothing is left is no table.
    ["filter", "nat", "mangle"].iter().fold(text, |text, table| text.replace(&format!("*{table}\nCOMMIT\n"), ""))
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (number, phase) in plan.phases.iter().enumerate() {
        for (family, tables) in &phase.families {
            write!(text, "# phase {}: {family}\n{}", number + 1, script::script(*family, tables).text).expect("a string takes it");
        }
    }
    for remark in &plan.remarks {
        writeln!(text, "# {}: {}", remark.code, remark.message).expect("a string takes it");
    }
    if text.is_empty() { "# nothing to do\n".to_owned() } else { text }
}

/// An empty text has no file.
fn compare(path: &Path, found: &str) {
    if std::env::var_os("UPDATE_CASES").is_some() {
        let _ = fs::remove_file(path);
        if !found.is_empty() {
            fs::write(path, found).expect("the case can be written");
        }
        return;
    }
    assert_eq!(found, fs::read_to_string(path).unwrap_or_default(), "{}", path.display());
}

/// Reads `desired`: an object or a choice at the start of a line, an object's chains and rules indented below it.
fn desired(text: &str) -> Desired {
    let mut desired = Desired::default();
    let mut object = None;
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            let object: &Object = object.as_ref().expect("a rule belongs to an object");
            rule(Arc::make_mut(desired.objects.get_mut(object).expect("it was just put in")), &words);
            continue;
        }
        match words[..] {
            ["network", name, ref keys @ ..] => {
                object = Some(Object::Network(name.to_owned()));
                desired.objects.insert(
                    Object::Network(name.to_owned()),
                    Arc::new(ObjectRules { keys: keys.chunks(2).map(key).collect(), ..ObjectRules::default() }),
                );
            }
            ["interface", name] => {
                let interface = Object::Interface(DeviceName::new(name).expect("a device"));
                let keys = BTreeSet::from([key(&["guest", name])]);
                desired.objects.insert(interface.clone(), Arc::new(ObjectRules { keys, ..ObjectRules::default() }));
                object = Some(interface);
            }
            ["recorded", ref words @ ..] => drop(desired.recorded.insert(key(words))),
            ["frozen", ref words @ ..] => drop(desired.frozen.insert(key(words))),
            ["made", family, table, chain] => drop(desired.made.insert(chain_id(family, table, chain))),
            ["scope", "exclusive"] => desired.scope = Scope::Exclusive,
            ["hooks", "first"] => desired.hooks = HookPlacement::First,
            ["incomplete"] => desired.incomplete = true,
            ["libvirtd"] => desired.libvirtd = true,
            _ => panic!("`{line}` is nothing that can be desired"),
        }
    }
    desired
}

fn key(words: &[&str]) -> Key {
    match words {
        ["guest", device] => Key::Guest(DeviceName::new(device).expect("a device")),
        ["bridge", device] => Key::Bridge(DeviceName::new(device).expect("a device")),
        ["subnet", net] => Key::Subnet(net.parse().expect("a subnet")),
        _ => panic!("{words:?} is no key"),
    }
}

fn chain_id(family: &str, table: &str, chain: &str) -> ChainId {
    let family = Family::ALL.into_iter().find(|known| known.tool() == family).expect("a tool");
    ChainId { family, table: Table::from_name(table).expect("a table"), chain: ChainName::new(chain) }
}

/// `TOOL TABLE CHAIN RULE...`; without a rule, the chain is empty; with `returns`, its end does that.
fn rule(rules: &mut ObjectRules, words: &[&str]) {
    let [family, table, chain, words @ ..] = words else { panic!("{words:?} is no rule") };
    let id = chain_id(family, table, chain);
    let bases = chain_name::BASE_CHAINS.contains(chain) || chain_name::is_builtin(id.family, id.table, chain);
    let list = if bases { &mut rules.shared } else { &mut rules.chains };
    let list = list.entry(id.clone()).or_default();
    match words {
        [] => return,
        ["returns"] => {
            rules.returning.insert(id);
            return;
        }
        _ => {}
    }
    let LiveRule::Known(rule) = save::parse_rule(id.family, &words.join(" ")) else { panic!("{words:?} is not understood") };
    list.push(PlacedRule { rule, place: None });
}
