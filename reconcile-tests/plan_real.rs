//! Plans through the real tools: what a plan says it makes of the kernel is what the kernel holds afterwards, rule for rule,
//! whatever it held before.
//!
//! Two laws, each with the nf_tables and the legacy tools. One is about edits: random worlds of rules, with somebody else's among them, from any state to any other. The other
//! is about meaning: random filter trees as XML ([`tree`]), in both quirks modes, each over the one before: the kernel holds what `render` prints, a second plan is empty, and
//! whatever is then flushed or changed is repaired to the same rules.

mod tree;

use std::collections::{BTreeMap, BTreeSet};

use bridgeward::backend::Kernel;
use bridgeward::backend::fake::Fake;
use bridgeward::backend::probe::{Commands, probe};
use bridgeward::backend::system::System;
use bridgeward::model::Quirks;
use bridgeward::plan::desire::{self, Choices, Installed};
use bridgeward::plan::ownership::{BASES, is_common};
use bridgeward::plan::{self, Desired, direct, script, show};
use bridgeward::reconcile::compute::Reading;
use bridgeward::ruleset::{Family, LiveRule, Observation, Observed};
use proptest::strategy::{Strategy, ValueTree};

use crate::namespace::in_new_namespace;
use crate::nightly::{Dice, runner, times};
use crate::plan_laws::{World, after, chains, committed, occupied, save_text, world};

/// How many worlds in `make test` and nightly. Enough for every kind of edit to meet every other in one chain; each costs some twelve runs of the tools.
const WORLDS: [usize; 2] = [25, 500];

async fn commit(system: &System, family: Family, text: String) {
    let lines = script::Script { text, origins: Vec::new() };
    system.commit(family, &lines).await.unwrap_or_else(|refusal| panic!("{refusal}\n{}", lines.text));
}

/// Empties the kernel and brings it to the world's old state.
async fn enter(system: &System, world: &World) {
    for family in Family::ALL {
        let tool = &system.tools().of(family).expect("the tests need all three tools").command;
        let tables: &[&str] = if family == Family::Bridge { &["nat"] } else { &["filter", "nat", "mangle"] };
        for table in tables {
            crate::namespace::sh(&format!("{tool} -t {table} -F; {tool} -t {table} -X"));
        }
        let Some(Observation::Read(tables)) = world.live.families.get(&family) else { continue };
        commit(system, family, save_text(family, tables)).await;
    }
}

async fn commit_lands(commands: Commands) {
    let system = System::new(probe(&commands).await, System::DEFAULT_LIMIT);
    let mut runner = runner();
    let [few, many] = WORLDS;
    for _ in 0..times(few, many) {
        let world = world().new_tree(&mut runner).expect("a world can be made").current();
        enter(&system, &world).await;
        let live = system.observe(&Family::ALL).await;
        assert_eq!(occupied(&live), occupied(&world.live), "the world is not what it was meant to be");
        let plan = plan::plan(&world.desired, &live).expect("all families can be read");
        for (family, tables) in plan.phases.iter().flat_map(|phase| &phase.families) {
            commit(&system, *family, script::script(*family, tables).text).await;
        }
        let end = system.observe(&Family::ALL).await;
        assert_eq!(occupied(&end), occupied(&after(&plan, &live)), "{plan:#?}");
        let direct = committed(direct::prospect(&world.desired, &live));
        let desired = Desired { direct, ..world.desired };
        assert!(plan::plan(&desired, &end).expect("all families can be read").is_empty());
    }
}

/// How many trees in `make test` and nightly; each costs some twenty runs of the tools.
const TREES: [usize; 2] = [12, 1_000];

/// Carries out what has to be done, and looks; nothing more may be left to do.
async fn land(system: &System, desired: &Desired, live: &Observed) -> Observed {
    let plan = plan::plan(desired, live).expect("all families can be read");
    for (family, tables) in plan.phases.iter().flat_map(|phase| &phase.families) {
        commit(system, *family, script::script(*family, tables).text).await;
    }
    let end = system.observe(&Family::ALL).await;
    let second = plan::plan(desired, &end).expect("all families can be read");
    assert!(second.is_empty(), "{second:#?}");
    end
}

/// Every chain with its rules but the jumps to base chains, which come first; none where there is no rule. In chains that objects share, where order follows who came first,
/// the rules are sorted.
fn said(observed: &Observed) -> (BTreeSet<String>, BTreeMap<String, Vec<LiveRule>>) {
    let (mut hooks, mut said) = (BTreeSet::new(), BTreeMap::new());
    for (family, table, chain, rules) in chains(observed) {
        let is_hook = |rule: &LiveRule| BASES.iter().any(|base| *rule == LiveRule::Known(base.jump()));
        let (jumps, mut rules): (Vec<_>, Vec<_>) = rules.iter().cloned().partition(is_hook);
        hooks.extend(jumps.iter().map(|jump| format!("{family} {table} {chain} {jump:?}")));
        if is_common(chain) {
            rules.sort();
        }
        if !rules.is_empty() || !is_common(chain) {
            said.insert(format!("{family} {table} {chain}"), rules);
        }
    }
    (hooks, said)
}

/// The kernel holds what `render` prints; base chains of earlier trees and the jumps to them may stay.
fn assert_as_rendered(live: &Observed, rendered: &Observed, files: &[(String, String)]) {
    let ((hooks, rules), (wanted_hooks, wanted)) = (said(live), said(rendered));
    assert_eq!(rules, wanted, "{files:#?}");
    assert!(wanted_hooks.is_subset(&hooks), "{wanted_hooks:#?} are not all in {hooks:#?}");
}

/// What a restore makes of what `render` prints.
async fn rendered(desired: &Desired) -> Observed {
    let kernel = Fake::default();
    for family in Family::ALL {
        kernel.feed(family, &show::render(desired, family, None)).expect("what is rendered can be restored");
    }
    kernel.observe(&Family::ALL).await
}

/// Flushes, deletes or puts in something of what is there.
fn damage(system: &System, dice: &mut Dice, live: &Observed) {
    let ours: Vec<_> = chains(live).filter(|(_, _, _, rules)| !rules.is_empty()).collect();
    for _ in 0..=dice.below(3) {
        let Some(at) = usize::try_from(dice.below(ours.len().max(1) as u64)).ok().filter(|at| *at < ours.len()) else { return };
        let (family, table, chain, rules) = ours[at];
        let tool = &system.tools().of(family).expect("the tests need all three tools").command;
        let tool = format!("{tool} -t {table}");
        let change = match dice.below(5) {
            0 => format!("{tool} -F"),
            1 => format!("{tool} -F; {tool} -X"),
            2 => format!("{tool} -F {chain}"),
            // In front of a common chain this would be somebody else's rule, which stays.
            3 if !is_common(chain) => format!("{tool} -I {chain} -j ACCEPT"),
            _ => format!("{tool} -D {chain} {}", 1 + dice.below(rules.len() as u64)),
        };
        // What it is aimed at may be gone since, or be in use.
        crate::namespace::sh(&format!("{{ {change}; }} 2>/dev/null || true"));
    }
}

async fn trees_land(commands: Commands) {
    let system = System::new(probe(&commands).await, System::DEFAULT_LIMIT);
    let [four, six] = tree::SETS;
    crate::namespace::sh(&format!("ipset create '{four}' hash:ip; ipset create '{six}' hash:ip family inet6"));
    let mut dice = Dice::new();
    let mut installed = Installed::default();
    let [few, many] = TREES;
    for round in 0..times(few, many) {
        let quirks = if round % 2 == 0 { Quirks::Fixed } else { Quirks::Libvirt };
        let reading = Reading { quirks, ..Reading::default() };
        let files = tree::state(&mut dice, reading);
        let computed = tree::compute(&files, reading);
        assert_eq!(computed.compiled.objects.len(), 2, "{files:#?}\n{:#?}", computed.diagnostics);
        let live = system.observe(&Family::ALL).await;
        let (desired, _) = desire::desire(&computed.resolved, &computed.compiled, &BTreeMap::new(), &installed, &live, Choices::default());
        let end = land(&system, &desired, &live).await;
        let rendered = rendered(&desired).await;
        assert_as_rendered(&end, &rendered, &files);
        damage(&system, &mut dice, &end);
        let damaged = system.observe(&Family::ALL).await;
        assert_as_rendered(&land(&system, &desired, &damaged).await, &rendered, &files);
        let keys = desired.objects.values().flat_map(|rules| rules.keys.clone()).collect();
        installed = Installed { keys, objects: desired.objects, ..Installed::default() };
    }
}

fn nf_tables() -> Commands {
    Commands { ipv4: "iptables-nft".into(), ipv6: "ip6tables-nft".into(), bridge: "ebtables-nft".into() }
}

fn legacy() -> Commands {
    Commands { ipv4: "iptables-legacy".into(), ipv6: "ip6tables-legacy".into(), bridge: "ebtables-nft".into() }
}

#[test]
fn a_filter_tree_lands_as_it_is_rendered_and_is_repaired_with_nf_tables_tools() {
    in_new_namespace(async || trees_land(nf_tables()).await);
}

#[test]
fn a_filter_tree_lands_as_it_is_rendered_and_is_repaired_with_legacy_tools() {
    in_new_namespace(async || trees_land(legacy()).await);
}

#[test]
fn a_plan_lands_exactly_with_nf_tables_tools() {
    in_new_namespace(async || commit_lands(nf_tables()).await);
}

#[test]
fn a_plan_lands_exactly_with_legacy_tools() {
    in_new_namespace(async || commit_lands(legacy()).await);
}
