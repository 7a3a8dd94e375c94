//! Which observed chains and rules are ours: the claims of the desired state and the record, held against names and keys.
//!
//! What comes out is an answer per chain ([`Role`]) and per rule ([`Owner`]); nothing here decides what to do about it. A rule in a
//! shared chain is told by its *key* (design section 4), never by its looks: what names an unclaimed device, bridge or subnet is somebody
//! else's, whatever it does.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Desired, Scope};
use crate::addr::DeviceName;
use crate::compile::Key;
use crate::model::Object;
use crate::ruleset::chain_name::{self, GuestChain, Side, Stage, bridge_root};
use crate::ruleset::rule::{BridgeRule, BridgeTarget, Invertible, IpMatch, IpRule, IpTarget, Rule};
use crate::ruleset::{ChainName, ChainRules, Family, LiveRule, Observation, Observed, Table, TableRules};

/// The chain that closes a guest while its edits in two families are half in (see [`super::order`]); `-j DROP` alone.
///
/// A chain of its own, and not a bare `-j DROP` per guest: after a kill between two commits, a plan must be able to tell our
/// gate from an administrator's quarantine of the same device. The name is in libvirt's name space so that its rules are
/// observed, and libvirt never makes it.
pub const GATE: &str = "libvirt-gate";

/// What a chain is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A chain that libvirt's networks or guests share, hung into a built-in chain.
    Base(&'static Base),
    /// A chain that is one guest's, whole.
    Guest(DeviceName),
    /// A chain under the name that libvirtd uses while it writes this guest.
    Temporary(DeviceName),
    /// See [`GATE`].
    Gate,
    /// The PREROUTING or POSTROUTING of ebtables nat, where guests are hooked in.
    BridgeHook,
    /// Anything else; hooks of base chains may stand in it.
    Foreign,
}

/// A base chain by name (networks.md 3.1, nwfilter.md 3.2).
#[derive(Debug, PartialEq, Eq)]
pub struct Base {
    /// The table that it is in.
    pub table: Table,
    /// The built-in chain that jumps to it.
    pub parent: &'static str,
    /// Its name.
    pub chain: &'static str,
    /// Where blocks of objects that are new in it go.
    pub entry: Entry,
    key: KeyField,
}

/// Where a new block goes in a shared chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Before everything, as libvirt's network driver does: in front of stale or foreign rules that would judge the same packets.
    Head,
    /// After everything, as libvirt's nwfilter driver does.
    Tail,
}

/// The part of a rule that names its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyField {
    InBridge,
    OutBridge,
    Source,
    PhysdevIn,
    PhysdevOut,
}

/// All base chains, those of one parent in the order of their jumps (design section 4, hooks).
pub static BASES: [Base; 11] = [
    Base::guest("INPUT", chain_name::GUEST_HOST_IN, KeyField::PhysdevIn),
    Base::network(Table::Filter, "INPUT", chain_name::LIBVIRT_INP, KeyField::InBridge),
    Base::guest("FORWARD", chain_name::GUEST_IN, KeyField::PhysdevIn),
    Base::guest("FORWARD", chain_name::GUEST_OUT, KeyField::PhysdevOut),
    Base::guest("FORWARD", chain_name::GUEST_IN_POST, KeyField::PhysdevIn),
    Base::network(Table::Filter, "FORWARD", chain_name::LIBVIRT_FWX, KeyField::InBridge),
    Base::network(Table::Filter, "FORWARD", chain_name::LIBVIRT_FWI, KeyField::OutBridge),
    Base::network(Table::Filter, "FORWARD", chain_name::LIBVIRT_FWO, KeyField::InBridge),
    Base::network(Table::Filter, "OUTPUT", chain_name::LIBVIRT_OUT, KeyField::OutBridge),
    Base::network(Table::Nat, "POSTROUTING", chain_name::LIBVIRT_PRT, KeyField::Source),
    Base::network(Table::Mangle, "POSTROUTING", chain_name::LIBVIRT_PRT, KeyField::OutBridge),
];

/// Whether a chain of this name is built in or a base chain: it is not one object's.
pub fn is_common(chain: &ChainName) -> bool {
    let name = chain.as_str();
    matches!(name, "INPUT" | "FORWARD" | "OUTPUT" | "PREROUTING" | "POSTROUTING") || base(chain).is_some()
}

/// The base chain of this name. Where one name stands in two tables both are of networks.
pub fn base(chain: &ChainName) -> Option<&'static Base> {
    BASES.iter().find(|base| base.chain == chain.as_str())
}

/// Whose a rule or a chain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Ours; the object it belongs to where one can be named.
    Ours(Option<Object>),
    /// Of a held object that has to stay as it is.
    Frozen,
    /// Somebody else's.
    Foreign,
}

impl Owner {
    /// The object that something of ours belongs to.
    pub fn object(self) -> Option<Object> {
        if let Self::Ours(object) = self { object } else { None }
    }
}

/// Everything that we lay claim to.
#[derive(Debug)]
pub struct Claims<'a> {
    scope: Scope,
    incomplete: bool,
    named: HashMap<&'a Key, Option<&'a Object>>,
    frozen: HashSet<&'a Key>,
    leftovers: &'a BTreeSet<DeviceName>,
}

impl Base {
    const fn guest(parent: &'static str, chain: &'static str, key: KeyField) -> Self {
        Self { table: Table::Filter, parent, chain, entry: Entry::Tail, key }
    }

    const fn network(table: Table, parent: &'static str, chain: &'static str, key: KeyField) -> Self {
        Self { table, parent, chain, entry: Entry::Head, key }
    }

    /// Whether it holds rules of networks, not of guests.
    pub fn is_of_networks(&self) -> bool {
        !matches!(self.key, KeyField::PhysdevIn | KeyField::PhysdevOut)
    }

    /// The jump that hangs it into its parent; a jump with any condition does not count (networks.md 3.1).
    pub fn jump(&self) -> Rule {
        IpRule::new(IpTarget::Jump(ChainName::new(self.chain))).into()
    }

    /// Whom a rule in this chain belongs to; `None` when it names nobody. A negation names nobody.
    pub fn key(&self, rule: &Rule) -> Option<Key> {
        let Rule::Ip(rule) = rule else { return None };
        let matched = |pick: fn(&IpMatch) -> Option<&Invertible<DeviceName>>| rule.matches.iter().find_map(pick).and_then(positive);
        match self.key {
            KeyField::InBridge => rule.in_device.as_ref().and_then(positive).map(Key::Bridge),
            KeyField::OutBridge => rule.out_device.as_ref().and_then(positive).map(Key::Bridge),
            KeyField::Source => rule.source.as_ref().and_then(positive).map(Key::Subnet),
            KeyField::PhysdevIn => matched(|m| if let IpMatch::PhysdevIn(device) = m { Some(device) } else { None }).map(Key::Guest),
            KeyField::PhysdevOut => matched(|m| if let IpMatch::PhysdevOut(device) = m { Some(device) } else { None }).map(Key::Guest),
        }
    }
}

fn positive<T: Clone>(value: &Invertible<T>) -> Option<T> {
    (!value.inverted).then(|| value.value.clone())
}

impl<'a> Claims<'a> {
    /// Collects the claims; `parked` guests are left alone for now, like frozen ones.
    pub fn new(desired: &'a Desired, parked: &'a BTreeSet<Key>) -> Self {
        let mut named = HashMap::new();
        if !desired.incomplete {
            // An absent object is deleted because it is absent: not while a file is broken that may define it.
            named.extend(desired.recorded.iter().map(|key| (key, None)));
        }
        named.extend(desired.outgrown.iter().map(|key| (key, None)));
        for (object, rules) in &desired.objects {
            named.extend(rules.keys.iter().map(|key| (key, Some(object))));
        }
        let frozen = desired.frozen.iter().chain(parked).collect();
        Self { scope: desired.scope, incomplete: desired.incomplete, named, frozen, leftovers: &desired.leftovers }
    }

    /// Whose the things are that this key names.
    pub fn owner(&self, key: &Key) -> Owner {
        if self.frozen.contains(key) {
            return Owner::Frozen;
        }
        let object = match (self.named.get(key), key) {
            (_, Key::Guest(device)) => Some(Object::Interface(device.clone())),
            (Some(object), _) => object.cloned(),
            (None, _) => None,
        };
        let reached = self.named.contains_key(key) || (self.scope == Scope::Exclusive && !self.incomplete);
        if reached { Owner::Ours(object) } else { Owner::Foreign }
    }

    /// Whose a guest's chains are.
    pub fn guest(&self, device: &DeviceName) -> Owner {
        self.owner(&Key::Guest(device.clone()))
    }

    /// Whose a rule of a base chain is: by its key, and without one, ours (nobody's rule in a chain of ours is drift).
    pub fn in_base(&self, base: &Base, rule: &LiveRule) -> Owner {
        match rule {
            LiveRule::Known(rule) => base.key(rule).map_or(Owner::Ours(None), |key| self.owner(&key)),
            LiveRule::Unknown(_) if self.scope == Scope::Exclusive => Owner::Ours(None),
            LiveRule::Unknown(_) => Owner::Foreign,
        }
    }

    /// The object that a rule of ours straight in a built-in chain is for, by any device or subnet that it names.
    pub fn in_built_in(&self, rule: &LiveRule) -> Option<Object> {
        let LiveRule::Known(Rule::Ip(rule)) = rule else { return None };
        let devices = [&rule.in_device, &rule.out_device].into_iter().filter_map(|device| positive(device.as_ref()?)).map(Key::Bridge);
        let subnet = rule.source.as_ref().and_then(positive).map(Key::Subnet);
        devices.chain(subnet).find_map(|key| self.named.get(&key).copied().flatten().cloned())
    }

    /// Whose a rule of ebtables PREROUTING or POSTROUTING is: ours only when it is, exactly, a claimed guest's hook or gate.
    pub fn in_bridge_hook(&self, chain: &ChainName, rule: &LiveRule) -> Owner {
        let LiveRule::Known(Rule::Bridge(rule)) = rule else { return Owner::Foreign };
        let left = || temporary_hook(chain, rule).filter(|device| self.leftovers.contains(device));
        bridge_hook(chain, rule).or_else(left).map_or(Owner::Foreign, |device| self.guest(&device))
    }

    /// What a chain is; `live` is its table.
    pub fn role(&self, family: Family, table: Table, chain: &ChainName, live: &TableRules) -> Role {
        let name = chain.as_str();
        match (family, table) {
            (Family::Bridge, Table::Nat) if matches!(name, "PREROUTING" | "POSTROUTING") => return Role::BridgeHook,
            (Family::Bridge, Table::Nat) if name == GATE => return Role::Gate,
            (Family::Ipv4 | Family::Ipv6, _) => {
                if let Some(base) = BASES.iter().find(|base| base.table == table && base.chain == name) {
                    return Role::Base(base);
                }
            }
            _ => {}
        }
        match self.reading(readings(family, table, name), live) {
            Some((device, Stage::Final)) => Role::Guest(device),
            Some((device, Stage::Temporary)) => Role::Temporary(device),
            None => Role::Foreign,
        }
    }

    /// Picks among the readings of a name. One is credible when we know the device or it has a root chain; one that is not ours
    /// wins, since deleting is final.
    fn reading(&self, mut readings: Vec<(DeviceName, Stage)>, live: &TableRules) -> Option<(DeviceName, Stage)> {
        if readings.len() > 1 {
            let rooted = |device: &DeviceName| {
                [Side::FromGuest, Side::ToGuest].iter().any(|side| live.chains.contains_key(&bridge_root(*side, device)))
            };
            readings.retain(|(device, _)| self.guest(device) != Owner::Foreign || rooted(device));
            readings.sort_by_key(|(device, _)| matches!(self.guest(device), Owner::Ours(_)));
        }
        readings.into_iter().next()
    }
}

/// The guests of which the kernel holds any chain or rule, under a final or a temporary name; of a name that reads in several ways, all.
pub fn living(observed: &Observed) -> HashSet<DeviceName> {
    let mut living = HashSet::new();
    for (family, observation) in &observed.families {
        let Observation::Read(tables) = observation else { continue };
        for (table, rules) in tables {
            for (chain, content) in &rules.chains {
                living.extend(readings(*family, *table, chain.as_str()).into_iter().map(|(device, _)| device));
                living.extend(named(*family, *table, chain, content));
            }
        }
    }
    living
}

/// The guests that chains under libvirt's temporary names belong to, each with a fingerprint of those chains: while it changes, a libvirtd is writing
/// that guest.
pub fn being_written(observed: &Observed) -> BTreeMap<DeviceName, u64> {
    let mut chains: BTreeMap<DeviceName, DefaultHasher> = BTreeMap::new();
    for (family, observation) in &observed.families {
        let Observation::Read(tables) = observation else { continue };
        for (table, rules) in tables {
            for (name, content) in rules.chains.iter().filter(|(name, _)| chain_name::is_temporary(name.as_str())) {
                let temporary = readings(*family, *table, name.as_str()).into_iter().filter(|(_, stage)| *stage == Stage::Temporary);
                for (device, _) in temporary {
                    (family, table, name, &content.rules).hash(chains.entry(device).or_default());
                }
            }
        }
    }
    chains.into_iter().map(|(device, hasher)| (device, hasher.finish())).collect()
}

/// The guests that rules of a shared chain are of.
fn named(family: Family, table: Table, chain: &ChainName, content: &ChainRules) -> Vec<DeviceName> {
    let known = content.rules.iter().filter_map(|rule| if let LiveRule::Known(rule) = rule { Some(rule) } else { None });
    if family == Family::Bridge {
        let hooks = table == Table::Nat && matches!(chain.as_str(), "PREROUTING" | "POSTROUTING");
        let of_hook = |rule: &Rule| if let Rule::Bridge(rule) = rule { bridge_hook(chain, rule) } else { None };
        return known.filter(|_| hooks).filter_map(of_hook).collect();
    }
    let Some(base) = BASES.iter().find(|base| base.table == table && base.chain == chain.as_str()) else { return Vec::new() };
    known.filter_map(|rule| if let Some(Key::Guest(device)) = base.key(rule) { Some(device) } else { None }).collect()
}

/// The guest whose exact hook or gate this rule is.
pub fn bridge_hook(chain: &ChainName, rule: &BridgeRule) -> Option<DeviceName> {
    bare_jump(chain, rule, |target, side, device| target.as_str() == GATE || *target == bridge_root(side, device))
}

/// The guest whose exact hook under a temporary name this rule is.
fn temporary_hook(chain: &ChainName, rule: &BridgeRule) -> Option<DeviceName> {
    bare_jump(chain, rule, |target, side, device| {
        let root = |(kind, stage)| kind == GuestChain::Root(side) && stage == Stage::Temporary;
        chain_name::guest_of(target.as_str(), device).is_some_and(root)
    })
}

/// The guest that a rule of PREROUTING or POSTROUTING sends to a chain, with no other condition than its device.
fn bare_jump(chain: &ChainName, rule: &BridgeRule, takes: impl Fn(&ChainName, Side, &DeviceName) -> bool) -> Option<DeviceName> {
    let (device, side) = match chain.as_str() {
        "PREROUTING" => (rule.in_device.as_ref()?, Side::FromGuest),
        _ => (rule.out_device.as_ref()?, Side::ToGuest),
    };
    let device = positive(device)?;
    let BridgeTarget::Jump(target) = &rule.target else { return None };
    let bare = takes(target, side, &device) && *rule == side_rule(chain, &device, BridgeTarget::Jump(target.clone()));
    bare.then_some(device)
}

/// The gate of one guest in PREROUTING or POSTROUTING.
pub fn gate(chain: &ChainName, device: &DeviceName) -> Rule {
    side_rule(chain, device, BridgeTarget::Jump(ChainName::new(GATE))).into()
}

fn side_rule(chain: &ChainName, device: &DeviceName, target: BridgeTarget) -> BridgeRule {
    let device = Some(Invertible::is(device.clone()));
    let rule = BridgeRule::new(target);
    if chain.as_str() == "PREROUTING" { BridgeRule { in_device: device, ..rule } } else { BridgeRule { out_device: device, ..rule } }
}

/// The devices that a chain of this name can belong to, longest first. Both a device and a label may hold dashes, so there may be several.
fn readings(family: Family, table: Table, name: &str) -> Vec<(DeviceName, Stage)> {
    let Some((_, rest)) = name.strip_prefix("libvirt-").unwrap_or(name).split_once('-') else { return Vec::new() };
    let ends = std::iter::once(rest.len()).chain(rest.rmatch_indices('-').map(|(at, _)| at));
    let readings = ends.filter_map(|end| {
        let device = DeviceName::new(&rest[..end])?;
        let (kind, stage) = chain_name::guest_of(name, &device)?;
        let belongs = match kind {
            GuestChain::Root(_) | GuestChain::Sub(..) => (family, table) == (Family::Bridge, Table::Nat),
            GuestChain::Ip(_) => family != Family::Bridge && table == Table::Filter,
        };
        belongs.then_some((device, stage))
    });
    readings.collect()
}

/// The chains that a rule jumps or goes to; for one that we cannot parse, every word that may be such a chain.
pub fn destinations(rule: &LiveRule) -> Vec<ChainName> {
    match rule {
        LiveRule::Known(rule) => rule.destination().cloned().into_iter().collect(),
        LiveRule::Unknown(text) => {
            let words: Vec<&str> = text.split(' ').collect();
            words.windows(2).filter(|pair| matches!(pair[0], "-j" | "-g")).map(|pair| ChainName::new(pair[1])).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::ObjectRules;
    use crate::compile::hooks::base_chains;
    use crate::ruleset::{ChainId, save};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn device(name: &str) -> DeviceName {
        DeviceName::new(name).expect("a device name")
    }

    fn desired(guests: &[&str]) -> Desired {
        let objects = guests.iter().map(|guest| {
            let keys = BTreeSet::from([Key::Guest(device(guest))]);
            (Object::Interface(device(guest)), Arc::new(ObjectRules { keys, ..ObjectRules::default() }))
        });
        Desired { objects: objects.collect(), ..Desired::default() }
    }

    fn role(desired: &Desired, live: &[&str], name: &str) -> Role {
        let chains = live.iter().map(|name| (ChainName::new(name), ChainRules::default())).collect();
        let live = TableRules { chains, ..TableRules::default() };
        Claims::new(desired, &BTreeSet::new()).role(Family::Bridge, Table::Nat, &ChainName::new(name), &live)
    }

    fn owner(desired: &Desired, key: &Key) -> Owner {
        Claims::new(desired, &BTreeSet::new()).owner(key)
    }

    fn rule(family: Family, text: &str) -> LiveRule {
        let rule = save::parse_rule(family, text);
        assert!(matches!(rule, LiveRule::Known(_)), "{text}");
        rule
    }

    #[test]
    fn the_hooks_stand_in_the_order_in_which_they_are_compiled() {
        let id = |chain: &str| ChainId { family: Family::Ipv4, table: Table::Filter, chain: ChainName::new(chain) };
        let rules = |chain: &str| Arc::new(ObjectRules { shared: BTreeMap::from([(id(chain), Vec::new())]), ..ObjectRules::default() });
        let objects = BTreeMap::from([
            (Object::Network("net".into()), rules("LIBVIRT_INP")),
            (Object::Interface(device("vnet0")), rules("libvirt-in")),
        ]);
        let compiled = base_chains(&objects);
        for parent in ["INPUT", "FORWARD", "OUTPUT"] {
            let ours: Vec<&str> = BASES.iter().filter(|base| base.parent == parent).map(|base| base.chain).collect();
            let theirs = compiled.iter().filter(|base| base.id.family == Family::Ipv4 && base.parent.as_str() == parent);
            assert_eq!(ours, theirs.map(|base| base.id.chain.as_str()).collect::<Vec<_>>());
        }
        let jumps = |base: &Base| compiled.iter().any(|compiled| compiled.jump == base.jump() && compiled.id.table == base.table);
        assert!(BASES.iter().all(jumps));
    }

    #[test]
    fn a_rule_belongs_to_whom_its_key_names() {
        let key = |chain: &str, text: &str| {
            let base = BASES.iter().find(|base| base.chain == chain).expect("a base chain");
            let LiveRule::Known(rule) = rule(Family::Ipv4, text) else { unreachable!("checked by `rule`") };
            base.key(&rule)
        };
        assert_eq!(key("LIBVIRT_INP", "-i virbr0 -j ACCEPT"), Some(Key::Bridge(device("virbr0"))));
        assert_eq!(key("LIBVIRT_FWI", "-i virbr0 -o virbr1 -j ACCEPT"), Some(Key::Bridge(device("virbr1"))));
        assert_eq!(key("libvirt-out", "-m physdev --physdev-out vnet0 -g FO-vnet0"), Some(Key::Guest(device("vnet0"))));
        assert_eq!(key("LIBVIRT_PRT", "-s 10.0.0.0/24 -j RETURN"), Some(Key::Subnet("10.0.0.0/24".parse().expect("a subnet"))));
        assert_eq!(key("LIBVIRT_INP", "! -i virbr0 -j ACCEPT"), None);
        assert_eq!(key("LIBVIRT_INP", "-o virbr0 -j ACCEPT"), None);
    }

    #[test]
    fn scope_record_and_broken_files_decide_on_what_is_not_desired() {
        let key = Key::Guest(device("vnet9"));
        let ours = Owner::Ours(Some(Object::Interface(device("vnet9"))));
        let mut desired = desired(&["vnet0"]);
        assert_eq!(owner(&desired, &key), Owner::Foreign);
        desired.scope = Scope::Exclusive;
        assert_eq!(owner(&desired, &key), ours);
        desired.incomplete = true;
        assert_eq!(owner(&desired, &key), Owner::Foreign);
        let mut desired = Desired { recorded: BTreeSet::from([key.clone()]), ..Desired::default() };
        assert_eq!(owner(&desired, &key), ours);
        desired.frozen.insert(key.clone());
        assert_eq!(owner(&desired, &key), Owner::Frozen);
    }

    #[test]
    fn a_name_with_two_readings_is_ours_only_when_both_are() {
        let name = "I-a-arp-mac";
        assert_eq!(role(&desired(&["a"]), &["libvirt-I-a"], name), Role::Guest(device("a")));
        let foreign = role(&desired(&["a"]), &["libvirt-I-a", "libvirt-I-a-arp"], name);
        assert_eq!(foreign, Role::Guest(device("a-arp")));
        assert_eq!(role(&desired(&["a", "a-arp"]), &[], name), Role::Guest(device("a-arp")));
    }

    #[test]
    fn only_the_exact_hook_or_gate_is_ours() {
        let desired = desired(&["vnet0"]);
        let claim = |text: &str| {
            let claims = Claims::new(&desired, const { &BTreeSet::new() });
            claims.in_bridge_hook(&ChainName::new("PREROUTING"), &rule(Family::Bridge, text))
        };
        assert!(matches!(claim("-i vnet0 -j libvirt-I-vnet0"), Owner::Ours(_)));
        assert!(matches!(claim("-i vnet0 -j libvirt-gate"), Owner::Ours(_)));
        for foreign in
            ["-i vnet0 -j DROP", "-p ARP -i vnet0 -j libvirt-I-vnet0", "-i vnet0 -j libvirt-I-vnet1", "-i vnet1 -j libvirt-I-vnet1"]
        {
            assert_eq!(claim(foreign), Owner::Foreign, "{foreign}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_parsed_holds_every_chain_that_it_may_name() {
        let targets = destinations(&LiveRule::Unknown("-m comment --comment -j x -g FI-vnet0".into()));
        assert_eq!(targets, [ChainName::new("x"), ChainName::new("FI-vnet0")]);
    }
}
