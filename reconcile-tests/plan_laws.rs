//! The laws of a plan, on random small worlds: two networks and three guests, an old state that was tampered with, a new one,
//! and foreign rules between.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use bridgeward::addr::DeviceName;
use bridgeward::backend::Kernel;
use bridgeward::backend::fake::Fake;
use bridgeward::compile::{Key, Layout, ObjectRules, PlacedRule};
use bridgeward::model::Object;
use bridgeward::plan::direct::{self, Possession};
use bridgeward::plan::{self, Change, Desired, HookPlacement, Plan, Scope, edit, ownership, script};
use bridgeward::ruleset::rule::Rule;
use bridgeward::ruleset::{ChainId, ChainName, Family, LiveRule, Observation, Observed, Table, TableRules, chain_name, save};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::nightly::times;
use crate::packet::{self, Packet};

const GUESTS: [&str; 3] = ["vnet0", "vnet1", "a-arp"];

/// A rule in the tool's words; tests read better so.
fn rule(family: Family, text: &str) -> Rule {
    match save::parse_rule(family, text) {
        LiveRule::Known(rule) => rule,
        LiveRule::Unknown(text) => panic!("the test's own rule `{text}` is not understood"),
    }
}

fn id(family: Family, table: Table, chain: &str) -> ChainId {
    ChainId { family, table, chain: ChainName::new(chain) }
}

fn placed(family: Family, texts: &[String]) -> Vec<PlacedRule> {
    texts.iter().map(|text| PlacedRule { rule: rule(family, text), place: None }).collect()
}

/// One side of a guest in ebtables: rules of the root chain and of its one sub-chain.
#[derive(Debug, Clone)]
struct BridgeSide {
    root: Vec<&'static str>,
    sub: Vec<&'static str>,
}

/// A guest of a random world.
#[derive(Debug, Clone)]
struct Guest {
    sides: [Option<BridgeSide>; 2],
    ip: [Option<[Vec<&'static str>; 3]>; 2],
}

fn bridge_side() -> impl Strategy<Value = Option<BridgeSide>> {
    let verdicts = [
        "-p ARP -j DROP",
        "-p ARP -j ACCEPT",
        "-p IPv4 -j ACCEPT",
        "-s 2:0:0:0:0:1 -j RETURN",
        "-s 2:0:0:0:0:1 -j ACCEPT",
        "-j DROP",
        "-p IPv4 -j SUB",
    ];
    let root = prop::collection::vec(select(verdicts.to_vec()), 0..5);
    let sub = prop::collection::vec(select(verdicts[..6].to_vec()), 0..3);
    prop::option::weighted(0.8, (root, sub).prop_map(|(root, sub)| BridgeSide { root, sub }))
}

fn guest() -> impl Strategy<Value = Guest> {
    let verdicts = ["-p tcp -j ACCEPT", "-p udp -j ACCEPT", "-p tcp -j DROP", "-p tcp -j RETURN", "-j DROP", "-j ACCEPT"];
    let chain = || prop::collection::vec(select(verdicts.to_vec()), 0..4);
    let ip = || prop::option::of([chain(), chain(), chain()]);
    ([bridge_side(), bridge_side()], [ip(), ip()]).prop_map(|(sides, ip)| Guest { sides, ip })
}

impl Guest {
    fn rules(&self, device: &str) -> ObjectRules {
        let mut rules = ObjectRules { keys: BTreeSet::from([guest_key(device)]), ..ObjectRules::default() };
        for (side, (letter, parent, option)) in self.sides.iter().zip([("I", "PREROUTING", "-i"), ("O", "POSTROUTING", "-o")]) {
            let Some(side) = side else { continue };
            let sub = format!("{letter}-{device}-arp");
            let texts = |list: &[&str]| list.iter().map(|text| text.replace("SUB", &sub)).collect::<Vec<_>>();
            let mut chain =
                |name: &str, texts: &[String]| rules.chains.insert(id(Family::Bridge, Table::Nat, name), placed(Family::Bridge, texts));
            chain(&format!("libvirt-{letter}-{device}"), &texts(&side.root));
            if side.root.iter().any(|text| text.contains("SUB")) {
                chain(&sub, &texts(&side.sub));
            }
            let hook = format!("{option} {device} -j libvirt-{letter}-{device}");
            rules.shared.insert(id(Family::Bridge, Table::Nat, parent), placed(Family::Bridge, &[hook]));
        }
        for (chains, family) in self.ip.iter().zip([Family::Ipv4, Family::Ipv6]) {
            let Some(chains) = chains else { continue };
            for (chain, name) in chains.iter().zip(["FI", "FO", "HI"]) {
                let texts: Vec<String> = chain.iter().map(|text| (*text).to_owned()).collect();
                rules.chains.insert(id(family, Table::Filter, &format!("{name}-{device}")), placed(family, &texts));
            }
            let hooks = [
                ("libvirt-in", format!("-m physdev --physdev-in {device} -g FI-{device}")),
                ("libvirt-out", format!("-m physdev --physdev-out {device} --physdev-is-bridged -g FO-{device}")),
                ("libvirt-in-post", format!("-m physdev --physdev-in {device} -j ACCEPT")),
                ("libvirt-host-in", format!("-m physdev --physdev-in {device} -g HI-{device}")),
            ];
            for (chain, text) in hooks {
                rules.shared.insert(id(family, Table::Filter, chain), placed(family, &[text]));
            }
        }
        rules
    }
}

fn guest_key(device: &str) -> Key {
    Key::Guest(DeviceName::new(device).expect("a device name"))
}

/// A network of a random world: which of its possible rules it has, in private chains or straight in built-in ones. There,
/// networks share a subnet, so that some of their rules are equal.
fn network(number: usize, chosen: [bool; 6], layout: Layout) -> ObjectRules {
    let bridge = format!("virbr{number}");
    let subnet = if layout == Layout::Chains { format!("10.0.{number}.0/24") } else { "10.0.9.0/24".to_owned() };
    let possible = [
        (
            Table::Filter,
            "LIBVIRT_INP",
            vec![format!("-i {bridge} -p udp -m udp --dport 53 -j ACCEPT"), format!("-i {bridge} -p tcp -m tcp --dport 53 -j ACCEPT")],
        ),
        (Table::Filter, "LIBVIRT_FWX", vec![format!("-i {bridge} -o {bridge} -j ACCEPT")]),
        (
            Table::Filter,
            "LIBVIRT_FWI",
            vec![format!("-d {subnet} -o {bridge} -j ACCEPT"), format!("-o {bridge} -j REJECT --reject-with icmp-port-unreachable")],
        ),
        (
            Table::Filter,
            "LIBVIRT_FWO",
            vec![format!("-s {subnet} -i {bridge} -j ACCEPT"), format!("-i {bridge} -j REJECT --reject-with icmp-port-unreachable")],
        ),
        (
            Table::Nat,
            "LIBVIRT_PRT",
            vec![format!("-s {subnet} -d 224.0.0.0/24 -j RETURN"), format!("-s {subnet} ! -d {subnet} -j MASQUERADE")],
        ),
        (Table::Mangle, "LIBVIRT_PRT", vec![format!("-o {bridge} -p udp -m udp --dport 68 -j CHECKSUM --checksum-fill")]),
    ];
    let keys = [Key::Bridge(DeviceName::new(&bridge).expect("a device name")), Key::Subnet(subnet.parse().expect("a subnet"))];
    let mut rules = ObjectRules { keys: keys.into(), ..ObjectRules::default() };
    for ((table, chain, texts), _) in possible.into_iter().zip(chosen).filter(|(_, chosen)| *chosen) {
        let texts = placed(Family::Ipv4, &texts);
        if layout == Layout::Chains {
            rules.shared.insert(id(Family::Ipv4, table, chain), texts);
        } else {
            let base = ownership::BASES.iter().find(|base| base.chain == chain && base.table == table).expect("a base chain");
            rules.direct.entry(id(Family::Ipv4, table, base.parent)).or_default().extend(texts);
        }
    }
    rules
}

fn objects() -> impl Strategy<Value = BTreeMap<Object, Arc<ObjectRules>>> {
    let guests = prop::array::uniform3(prop::option::weighted(0.7, guest()));
    let networks = prop::array::uniform2(prop::option::weighted(0.6, any::<[bool; 6]>()));
    let layout = select(vec![Layout::Chains, Layout::Classic]);
    (guests, networks, layout).prop_map(|(guests, networks, layout)| {
        let guests = guests.into_iter().zip(GUESTS).filter_map(|(guest, device)| {
            let rules = guest?.rules(device);
            Some((Object::Interface(DeviceName::new(device)?), rules))
        });
        let networks = networks
            .into_iter()
            .enumerate()
            .filter_map(|(number, chosen)| Some((Object::Network(format!("net{number}")), network(number, chosen?, layout))));
        guests.chain(networks).map(|(object, rules)| (object, Arc::new(rules))).collect()
    })
}

/// What happened to the kernel since we last looked.
#[derive(Debug, Clone)]
enum Tampering {
    Remove(Index, Index),
    Double(Index, Index, Index),
    Move(Index, Index, Index),
    Foreign(Index, Index),
}

fn tampering() -> impl Strategy<Value = Vec<Tampering>> {
    let one = prop_oneof![
        any::<(Index, Index)>().prop_map(|(chain, rule)| Tampering::Remove(chain, rule)),
        any::<(Index, Index, Index)>().prop_map(|(chain, rule, to)| Tampering::Double(chain, rule, to)),
        any::<(Index, Index, Index)>().prop_map(|(chain, rule, to)| Tampering::Move(chain, rule, to)),
        any::<(Index, Index)>().prop_map(|(chain, at)| Tampering::Foreign(chain, at)),
    ];
    prop::collection::vec(one, 0..8)
}

fn tamper(tables: &mut Observed, tampering: &[Tampering]) {
    for one in tampering {
        let (Tampering::Remove(chain, _) | Tampering::Double(chain, ..) | Tampering::Move(chain, ..) | Tampering::Foreign(chain, _)) = one;
        let mut chains: Vec<_> = tables
            .families
            .iter_mut()
            .filter_map(|(family, read)| if let Observation::Read(tables) = read { Some((*family, tables)) } else { None })
            .flat_map(|(family, tables)| tables.iter_mut().map(move |(table, rules)| (family, *table, rules)))
            .flat_map(|(family, table, rules)| {
                rules.chains.iter_mut().map(move |(name, chain)| (family, table, name.clone(), &mut chain.rules))
            })
            .collect();
        if chains.is_empty() {
            return;
        }
        let at = chain.index(chains.len());
        let (family, _, name, rules) = &mut chains[at];
        match one {
            Tampering::Remove(_, rule) if !rules.is_empty() => drop(rules.remove(rule.index(rules.len()))),
            Tampering::Double(_, rule, to) if !rules.is_empty() => {
                let copy = rules[rule.index(rules.len())].clone();
                rules.insert(to.index(rules.len() + 1), copy);
            }
            Tampering::Move(_, rule, to) if !rules.is_empty() => {
                let moved = rules.remove(rule.index(rules.len()));
                rules.insert(to.index(rules.len() + 1), moved);
            }
            Tampering::Foreign(_, at) => rules.insert(at.index(rules.len() + 1), foreign(*family, name)),
            _ => {}
        }
    }
}

/// A rule that is not ours in this chain; in a chain that is ours whole, it is drift.
fn foreign(family: Family, chain: &ChainName) -> LiveRule {
    let text = match (family, chain.as_str()) {
        (_, "POSTROUTING" | "OUTPUT") => "-o eth9 -j ACCEPT",
        (_, "PREROUTING" | "INPUT") | (Family::Bridge, _) => "-i eth9 -j ACCEPT",
        (_, "libvirt-out") => "-m physdev --physdev-out eth9 -j ACCEPT",
        (_, name) if name.starts_with("libvirt-") => "-m physdev --physdev-in eth9 -j ACCEPT",
        (Family::Ipv6, "LIBVIRT_PRT") => "-s 2001:db8::/64 -o eth9 -j RETURN",
        (_, "LIBVIRT_PRT") => "-s 203.0.113.0/24 -o eth9 -j RETURN",
        _ => "-i eth9 -o eth9 -j ACCEPT",
    };
    LiveRule::Known(rule(family, text))
}

/// The foreign rules of every chain that is not ours whole.
fn foreign_rules(observed: &Observed) -> BTreeMap<(Family, Table, ChainName), Vec<LiveRule>> {
    chains(observed)
        .filter(|(_, _, name, _)| !GUESTS.iter().any(|guest| name.as_str().contains(guest)))
        .map(|(family, table, name, rules)| {
            let foreign = rules.iter().filter(|rule| format!("{rule:?}").contains("eth9")).cloned().collect();
            ((family, table, name.clone()), foreign)
        })
        .filter(|(_, rules): &(_, Vec<LiveRule>)| !rules.is_empty())
        .collect()
}

/// The chains that are these devices', whole, and of all others the rules that name one of them.
fn naming(devices: &[&str], observed: &Observed) -> Vec<String> {
    let mut found = Vec::new();
    for (family, table, name, rules) in chains(observed) {
        let is_theirs = devices.iter().any(|device| name.as_str().contains(device));
        found.extend(is_theirs.then(|| format!("{family} {table} {name}")));
        let rules = rules
            .iter()
            .map(|rule| format!("{rule:?}"))
            .filter(|rule| is_theirs || devices.iter().any(|device| rule.contains(&format!("\"{device}\""))));
        found.extend(rules.map(|rule| format!("{family} {table} {name} {rule}")));
    }
    found
}

/// Every chain of a rule set.
pub fn chains(observed: &Observed) -> impl Iterator<Item = (Family, Table, &ChainName, &Vec<LiveRule>)> {
    let read = observed
        .families
        .iter()
        .filter_map(|(family, read)| if let Observation::Read(tables) = read { Some((*family, tables)) } else { None });
    let tables = read.flat_map(|(family, tables)| tables.iter().map(move |(table, rules)| (family, *table, rules)));
    tables.flat_map(|(family, table, rules)| rules.chains.iter().map(move |(name, chain)| (family, table, name, &chain.rules)))
}

fn empty() -> Observed {
    Observed { families: Family::ALL.map(|family| (family, Observation::Read(BTreeMap::new()))).into() }
}

/// The rules of every chain that somebody made or put a rule into; the tools show built-in chains whenever they show a table.
pub fn occupied(observed: &Observed) -> Vec<(Family, Table, &ChainName, &[LiveRule])> {
    let chains = chains(observed).map(|(family, table, name, rules)| (family, table, name, rules.as_slice()));
    chains.filter(|(family, table, name, rules)| !rules.is_empty() || !chain_name::is_builtin(*family, *table, name.as_str())).collect()
}

/// The rule set once the plan is committed.
pub fn after(plan: &Plan, observed: &Observed) -> Observed {
    let mut observed = observed.clone();
    plan::apply(plan, &mut observed);
    observed
}

/// A random old world, what became of it, and what is wanted now.
#[derive(Debug, Clone)]
pub struct World {
    /// What the kernel holds.
    pub live: Observed,
    /// What it should hold.
    pub desired: Desired,
}

/// Any world.
pub fn world() -> impl Strategy<Value = World> {
    let placement = prop_oneof![Just(HookPlacement::Present), Just(HookPlacement::First)];
    let new = prop_oneof![Just(None), objects().prop_map(Some)];
    let lost = prop::bool::weighted(0.1);
    (objects(), new, tampering(), placement, any::<bool>(), lost).prop_map(|(old, new, tampering, hooks, exclusive, lost)| {
        let recorded = old.values().flat_map(|rules| rules.keys.clone()).collect();
        let before = Desired { objects: old.clone(), ..Desired::default() };
        let direct = if lost { BTreeMap::new() } else { committed(direct::prospect(&before, &empty())) };
        let mut live = after(&plan::plan(&before, &empty()).expect("all families can be read"), &empty());
        tamper(&mut live, &tampering);
        let scope =
            if exclusive && !tampering.iter().any(|one| matches!(one, Tampering::Foreign(..))) { Scope::Exclusive } else { Scope::Shared };
        World { live, desired: Desired { objects: new.unwrap_or(old), recorded, direct, hooks, scope, ..Desired::default() } }
    })
}

/// The record of built-in chains once a commit is known to be in.
pub fn committed(prospect: BTreeMap<ChainId, Possession>) -> BTreeMap<ChainId, Possession> {
    prospect.into_iter().map(|(id, possession)| (id, possession.committed())).collect()
}

/// Every state that packets can meet while the plan is committed: the families of a phase may be at different tables.
pub fn states_between(plan: &Plan, observed: &Observed) -> Vec<Observed> {
    let mut states = Vec::new();
    let mut at_start = vec![observed.clone()];
    for phase in &plan.phases {
        let mut reached = at_start.clone();
        for (family, tables) in &phase.families {
            let mut next = reached.clone();
            for state in reached {
                let mut state = state;
                for table in tables {
                    let Some(Observation::Read(live)) = state.families.get_mut(family) else { continue };
                    let rules: &mut TableRules = live.entry(table.table).or_default();
                    table.edits.iter().for_each(|change| edit::apply(rules, change));
                    next.push(state.clone());
                }
            }
            reached = next;
        }
        at_start = reached.last().cloned().into_iter().collect();
        states.extend(reached);
    }
    states
}

/// The first packet that passes somewhere on the way although it is dropped before and after.
fn leak(desired: &Desired, live: &Observed) -> Option<String> {
    let plan = plan::plan(desired, live).expect("all families can be read");
    let end = after(&plan, live);
    let states = states_between(&plan, live);
    let dropped = |packet: &Packet| !packet::passes(live, packet) && !packet::passes(&end, packet);
    let packets = Packet::all(&GUESTS).into_iter().filter(dropped);
    let leaks = packets.filter_map(|packet| {
        let state = states.iter().position(|state| packet::passes(state, &packet))?;
        Some(format!("{packet:?} passes in state {state} of\n{plan:#?}"))
    });
    leaks.into_iter().next()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: times(300, 10_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_committed_plan_leaves_nothing_to_do_and_every_wish_fulfilled(world in world()) {
        let plan = plan::plan(&world.desired, &world.live).expect("all families can be read");
        let live = after(&plan, &world.live);
        let direct = committed(direct::prospect(&world.desired, &world.live));
        let again = plan::plan(&Desired { direct, ..world.desired.clone() }, &live).expect("all families can be read");
        prop_assert!(again.is_empty(), "the second plan is {again:#?}");
        let with_id = |(family, table, name, rules): (_, _, &ChainName, _)| (ChainId { family, table, chain: name.clone() }, rules);
        let found: BTreeMap<ChainId, &Vec<LiveRule>> = chains(&live).map(with_id).collect();
        for rules in world.desired.objects.values() {
            for (id, wanted) in &rules.chains {
                let wanted: Vec<LiveRule> = wanted.iter().map(|placed| LiveRule::Known(placed.rule.clone())).collect();
                prop_assert_eq!(found.get(id).map(|rules| rules.as_slice()), Some(wanted.as_slice()), "{:?}", id);
            }
            for (id, wanted) in &rules.shared {
                let wanted: Vec<LiveRule> = wanted.iter().map(|placed| LiveRule::Known(placed.rule.clone())).collect();
                let rules = found.get(id).into_iter().flat_map(|rules| rules.iter());
                let block: Vec<LiveRule> = rules.filter(|rule| wanted.contains(rule)).cloned().collect();
                prop_assert_eq!(block, wanted, "{:?}", id);
            }
        }
    }

    #[test]
    fn foreign_rules_stay_as_and_where_they_are(world in world()) {
        let plan = plan::plan(&world.desired, &world.live).expect("all families can be read");
        prop_assert_eq!(foreign_rules(&after(&plan, &world.live)), foreign_rules(&world.live));
    }

    #[test]
    fn in_shared_scope_a_device_that_nobody_named_is_not_touched(world in world(), unnamed in prop::collection::vec(any::<bool>(), 5)) {
        let devices: Vec<&str> = GUESTS.iter().copied().chain(["virbr0", "virbr1"]).zip(unnamed).filter(|(_, unnamed)| *unnamed).map(|(name, _)| name).collect();
        let named = |keys: &BTreeSet<Key>| keys.iter().any(|key| matches!(key, Key::Guest(device) | Key::Bridge(device) if devices.contains(&device.as_str())));
        let mut desired = Desired { scope: Scope::Shared, hooks: HookPlacement::Present, direct: BTreeMap::new(), ..world.desired };
        desired.objects.retain(|_, rules| !named(&rules.keys) && rules.direct.is_empty());
        desired.recorded.retain(|key| !named(&BTreeSet::from([key.clone()])));
        let plan = plan::plan(&desired, &world.live).expect("all families can be read");
        prop_assert_eq!(naming(&devices, &after(&plan, &world.live)), naming(&devices, &world.live));
    }

    #[test]
    fn a_chain_that_is_as_desired_is_not_touched(world in world()) {
        let plan = plan::plan(&world.desired, &world.live).expect("all families can be read");
        let live = after(&plan, &world.live);
        let unchanged = chains(&world.live).filter(|old| chains(&live).any(|new| new == *old));
        let as_before: BTreeSet<_> = unchanged.map(|(family, table, name, _)| (family, table, name)).collect();
        for (family, table, edit) in plan.edits() {
            let gate = format!("{:?}", edit.change).contains(plan::ownership::GATE);
            prop_assert!(gate || !as_before.contains(&(family, table, edit.change.chain())), "{edit:?}");
        }
    }

    #[test]
    fn nothing_passes_on_the_way_that_old_and_new_drop(world in world()) {
        prop_assert_eq!(leak(&world.desired, &world.live), None);
    }

    #[test]
    fn after_a_kill_anywhere_the_next_plan_finishes_as_safely(world in world()) {
        let plan = plan::plan(&world.desired, &world.live).expect("all families can be read");
        // What the record says at that time.
        let killed = Desired { direct: direct::prospect(&world.desired, &world.live), ..world.desired.clone() };
        for state in states_between(&plan, &world.live) {
            prop_assert_eq!(leak(&killed, &state), None);
            let next = plan::plan(&killed, &state).expect("all families can be read");
            let end = after(&next, &state);
            let verified = Desired { direct: committed(direct::prospect(&killed, &state)), ..killed.clone() };
            let last = plan::plan(&verified, &end).expect("all families can be read");
            prop_assert!(last.is_empty(), "the last plan is {last:#?}");
            prop_assert!(!format!("{end:?}").contains(plan::ownership::GATE), "a gate is left");
        }
    }

    #[test]
    fn the_tools_words_do_what_the_edits_say(world in world()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let kernel = Fake::default();
        for (family, read) in &world.live.families {
            let Observation::Read(tables) = read else { continue };
            kernel.feed(*family, &save_text(*family, tables)).expect("a world is well-formed");
        }
        let live = runtime.block_on(kernel.observe(&Family::ALL));
        let plan = plan::plan(&world.desired, &live).expect("all families can be read");
        kernel.traffic();
        for (family, tables) in plan.phases.iter().flat_map(|phase| &phase.families) {
            runtime.block_on(kernel.commit(*family, &script::script(*family, tables))).expect("a plan is accepted");
        }
        let end = runtime.block_on(kernel.observe(&Family::ALL));
        let expected = after(&plan, &live);
        prop_assert_eq!(occupied(&end), occupied(&expected));
        for (family, table, name, rules) in chains(&live) {
            let here = plan.edits().filter(|(of, within, edit)| (*of, *within, edit.change.chain()) == (family, table, name));
            let deletes = |change: &Change| matches!(change, Change::DeleteAt { .. } | Change::DeleteRule { .. });
            let deleted = here.filter(|(_, _, edit)| deletes(&edit.change)).count();
            let counters = kernel.counters(family, table, name.as_str());
            let kept = counters.iter().filter(|(_, packets)| *packets == 1).count();
            // A gate is deleted without having been there before.
            prop_assert!(kept + deleted >= rules.len(), "a counter of {name} is lost");
        }
    }
}

/// Restore text that makes these tables.
pub fn save_text(family: Family, tables: &BTreeMap<Table, TableRules>) -> String {
    let mut text = String::new();
    for (table, rules) in tables {
        writeln!(text, "*{table}").expect("a string takes it");
        for chain in rules.chains.keys().filter(|chain| !chain_name::is_builtin(family, *table, chain.as_str())) {
            writeln!(text, ":{chain} {}", if family == Family::Bridge { "ACCEPT" } else { "-" }).expect("a string takes it");
        }
        for (chain, rule) in rules.chains.iter().flat_map(|(chain, rules)| rules.rules.iter().map(move |rule| (chain, rule))) {
            let LiveRule::Known(rule) = rule else { continue };
            writeln!(text, "-A {chain} {}", plan::show::rule_words(family, rule)).expect("a string takes it");
        }
        text.push_str("COMMIT\n");
    }
    text
}
