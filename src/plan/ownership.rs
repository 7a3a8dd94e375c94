//! Which observed chains and rules are ours: the claims of the desired state and the record, held against names and keys.
//!
//! What comes out is an answer per chain ([`Role`]) and per rule ([`Owner`]); nothing here decides what to do about it. A rule in a
//! shared chain is told by its *key* (design section 4), never by its looks: what names an unclaimed device, bridge or subnet is somebody
//! else's, whatever it does.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Desired, Scope};
use crate::addr::DeviceName;
use crate::compile::Key;
use crate::model::Object;
use crate::ruleset::rule::{BridgeRule, BridgeTarget, Invertible, IpMatch, IpRule, IpTarget, Rule};
use crate::ruleset::chain_name::{self, GuestChain, Side, Stage, bridge_root};
use crate::ruleset::{ChainName, ChainRules, Family, LiveRule, Observation, Observed, Table};

/// The chain that closes a guest while its edits in two families are half in (see [`super::order`]); `-j DROP` alone.
///
/// A chain of its own, and not a bare `-j DROP` per guest: after a kill between two commits, a plan must be able to tell our gate from an
/// administrator's quarantine of the same device. The name is in libvirt's name space so that its rules are observed, and libvirt never makes it.
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
}

impl Base {
    const fn guest(parent: &'static str, chain: &'static str, key: KeyField) -> Self {
        Self { table: Table::Filter, parent, chain, entry: Entry::Tail, key }
    }

    const fn network(table: Table, parent: &'static str, chain: &'static str, key: KeyField) -> Self {
        Self { table, parent, chain, entry: Entry::Head, key }
    }

    /// The jump that hangs it into its parent; a jump with any condition does not count (networks.md 3.1).
    pub fn jump(&self) -> Rule {
        Rule::Ip(IpRule::new(IpTarget::Jump(ChainName::new(self.chain))))
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
        for (object, rules) in &desired.objects {
            named.extend(rules.keys.iter().map(|key| (key, Some(object))));
        }
        let frozen = desired.frozen.iter().chain(parked).collect();
        Self { scope: desired.scope, incomplete: desired.incomplete, named, frozen }
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

    /// Whose a rule of ebtables PREROUTING or POSTROUTING is: ours only when it is, exactly, a claimed guest's hook or gate.
    pub fn in_bridge_hook(&self, chain: &ChainName, rule: &LiveRule) -> Owner {
        let LiveRule::Known(Rule::Bridge(rule)) = rule else { return Owner::Foreign };
        bridge_hook(chain, rule).map_or(Owner::Foreign, |device| self.guest(&device))
    }

    /// What a chain is; `live` are the names of all chains of its table.
    pub fn role(&self, family: Family, table: Table, chain: &ChainName, live: &HashSet<&ChainName>) -> Role {
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

    /// Picks among the readings of a name. One is credible when we know the device or it has a root chain; one that is not ours wins, since deleting is final.
    fn reading(&self, mut readings: Vec<(DeviceName, Stage)>, live: &HashSet<&ChainName>) -> Option<(DeviceName, Stage)> {
        if readings.len() > 1 {
            let rooted = |device: &DeviceName| [Side::FromGuest, Side::ToGuest].iter().any(|side| live.contains(&bridge_root(*side, device)));
            readings.retain(|(device, _)| self.guest(device) != Owner::Foreign || rooted(device));
            readings.sort_by_key(|(device, _)| matches!(self.guest(device), Owner::Ours(_)));
        }
        readings.into_iter().next()
    }
}

/// Whether the kernel holds any chain or rule of this guest, under a final or a temporary name.
pub fn lives(observed: &Observed, device: &DeviceName) -> bool {
    let tables = observed.families.iter().filter_map(|(family, observation)| match observation {
        Observation::Read(tables) => Some(tables.iter().map(|(table, rules)| (*family, *table, rules))),
        Observation::Unreadable(_) | Observation::Missing(_) => None,
    });
    tables.flatten().any(|(family, table, rules)| {
        rules.chains.iter().any(|(chain, content)| {
            readings(family, table, chain.as_str()).iter().any(|(owner, _)| owner == device) || names(family, table, chain, content, device)
        })
    })
}

/// Whether a shared chain holds a rule of this guest.
fn names(family: Family, table: Table, chain: &ChainName, content: &ChainRules, device: &DeviceName) -> bool {
    let known = || content.rules.iter().filter_map(|rule| if let LiveRule::Known(rule) = rule { Some(rule) } else { None });
    if family == Family::Bridge {
        let hooks = table == Table::Nat && matches!(chain.as_str(), "PREROUTING" | "POSTROUTING");
        return hooks && known().any(|rule| matches!(rule, Rule::Bridge(rule) if bridge_hook(chain, rule).as_ref() == Some(device)));
    }
    let base = BASES.iter().find(|base| base.table == table && base.chain == chain.as_str());
    base.is_some_and(|base| known().any(|rule| base.key(rule) == Some(Key::Guest(device.clone()))))
}

/// The guest whose exact hook or gate this rule is.
pub fn bridge_hook(chain: &ChainName, rule: &BridgeRule) -> Option<DeviceName> {
    let (device, side) = match chain.as_str() {
        "PREROUTING" => (rule.in_device.as_ref()?, Side::FromGuest),
        _ => (rule.out_device.as_ref()?, Side::ToGuest),
    };
    let device = positive(device)?;
    let BridgeTarget::Jump(target) = &rule.target else { return None };
    let ours = target.as_str() == GATE || *target == bridge_root(side, &device);
    let bare = ours && *rule == side_rule(chain, &device, BridgeTarget::Jump(target.clone()));
    bare.then_some(device)
}

/// The gate of one guest in PREROUTING or POSTROUTING.
pub fn gate(chain: &ChainName, device: &DeviceName) -> Rule {
    Rule::Bridge(side_rule(chain, device, BridgeTarget::Jump(ChainName::new(GATE))))
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
        LiveRule::Known(Rule::Ip(IpRule { target: IpTarget::Jump(chain) | IpTarget::Goto(chain), .. }))
        | LiveRule::Known(Rule::Bridge(BridgeRule { target: BridgeTarget::Jump(chain), .. })) => vec![chain.clone()],
        LiveRule::Known(_) => Vec::new(),
        LiveRule::Unknown(text) => {
            let words: Vec<&str> = text.split(' ').collect();
            words.windows(2).filter(|pair| matches!(pair[0], "-j" | "-g")).map(|pair| ChainName::new(pair[1])).collect()
        }
    }
}
