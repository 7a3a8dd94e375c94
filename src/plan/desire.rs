//! What the kernel should hold: fresh rules for every sound object, and for every held one the rules that keep it as it was.
//!
//! A fault never opens and never freezes anything else (design section 4, "Bad files"): a held object keeps its last good rules,
//! which drift is repaired to; without a record what lives is left alone; a guest interface of which nothing lives is closed.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::direct::Possession;
use super::ownership;
use super::{Desired, HookPlacement, Scope};
use crate::addr::DeviceName;
use crate::compile::{self, Compiled, Key, ObjectRules};
use crate::model::Object;
use crate::resolve::{Held, Resolved};
use crate::ruleset::{ChainId, Observed};

/// What earlier passes installed, as the record has it.
#[derive(Debug, Clone, Default)]
pub struct Installed {
    /// The last good rules of every object.
    pub objects: BTreeMap<Object, Arc<ObjectRules>>,
    /// Keys of everything installed, or about to be when we were interrupted.
    pub keys: BTreeSet<Key>,
    /// Rules straight in built-in chains.
    pub direct: BTreeMap<ChainId, Possession>,
    /// Base chains that we made.
    pub made: BTreeSet<ChainId>,
}

/// What an operator chose, and what the host is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices {
    /// Whose rules are ours.
    pub scope: Scope,
    /// Where hooks stand.
    pub hooks: HookPlacement,
    /// Whether a libvirtd shares the network namespace.
    pub libvirtd: bool,
}

/// How a held object is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeping {
    /// Its last good rules stay desired.
    LastGood,
    /// There is no record of it: what lives in the kernel is left alone.
    Live,
    /// It is cut off, both ways: an interface of which nothing lives.
    Closed,
    /// A network of which nothing lives has no rules.
    Absent,
}

/// How far a tool's refusal has gone with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// Its fresh rules were refused.
    Fresh,
    /// Its last good rules were refused as well.
    LastGood,
}

/// Puts together what the kernel should hold, and says how every held object is kept.
///
/// `refused` are objects that a tool would not take in this pass. The order of nothing matters.
pub fn desire(
    resolved: &Resolved,
    compiled: &Compiled,
    refused: &BTreeMap<Object, Refused>,
    installed: &Installed,
    observed: &Observed,
    choices: Choices,
) -> (Desired, BTreeMap<Object, Keeping>) {
    let mut desired = Desired {
        objects: compiled.objects.clone(),
        recorded: installed.keys.clone(),
        direct: installed.direct.clone(),
        made: installed.made.clone(),
        scope: choices.scope,
        hooks: choices.hooks,
        incomplete: resolved.incomplete,
        libvirtd: choices.libvirtd,
        ..Desired::default()
    };
    let mut kept = BTreeMap::new();
    let living = LazyCell::new(|| ownership::living(observed));
    let faulty = resolved.held.iter().chain(&compiled.held).map(|held: &Held| (&held.object, None));
    for (object, refusal) in faulty.chain(refused.iter().map(|(object, refusal)| (object, Some(*refusal)))) {
        desired.objects.remove(object);
        kept.insert(object.clone(), keep(object, refusal, installed, |device| living.contains(device), &mut desired));
    }
    for (object, rules) in installed.objects.iter().filter(|(object, _)| !kept.contains_key(*object)) {
        // A sound network without any rule is compiled, too.
        if desired.objects.contains_key(object) || resolved.unruled.contains(object) {
            desired.outgrown.extend(rules.keys.iter().cloned());
        } else if resolved.incomplete {
            desired.objects.insert(object.clone(), ObjectRules::unplaced(rules));
        }
    }
    (desired, kept)
}

fn keep(
    object: &Object,
    refusal: Option<Refused>,
    installed: &Installed,
    lives: impl Fn(&DeviceName) -> bool,
    desired: &mut Desired,
) -> Keeping {
    if refusal != Some(Refused::LastGood)
        && let Some(rules) = installed.objects.get(object)
    {
        desired.objects.insert(object.clone(), ObjectRules::unplaced(rules));
        let closed = matches!(object, Object::Interface(device) if **rules == compile::closed(device));
        return if closed { Keeping::Closed } else { Keeping::LastGood };
    }
    match object {
        Object::Interface(device) => {
            let key = Key::Guest(device.clone());
            let installed_by_us = installed.keys.contains(&key);
            if !installed_by_us && lives(device) {
                desired.frozen.insert(key);
                return Keeping::Live;
            }
            desired.objects.insert(object.clone(), Arc::new(compile::closed(device)));
            Keeping::Closed
        }
        Object::Network(_) => {
            // Without a record nothing tells which rules are this network's; in exclusive scope they must not be taken for strays.
            desired.incomplete = true;
            if let Some(rules) = installed.objects.get(object) {
                desired.leave(rules);
            }
            Keeping::Absent
        }
    }
}

impl std::fmt::Display for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LastGood => "its last good rules stay in force",
            Self::Live => "its rules in the kernel are left as they are",
            Self::Closed => "it is closed: nothing passes, in or out",
            Self::Absent => "it has no rules of ours",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::PlacedRule;
    use crate::ruleset::rule::{BridgeRule, BridgeTarget};
    use crate::ruleset::{ChainName, Family, Table};
    use crate::source::{FileId, Span};

    /// The rules of a guest as a pass made them from a file that has changed, or gone, since.
    fn guest(device: &str) -> (Object, Arc<ObjectRules>) {
        let device = DeviceName::new(device).expect("a device name");
        let place = Some(Span { file: FileId(7), start: 10, end: 20 });
        let chain = ChainId { family: Family::Bridge, table: Table::Nat, chain: ChainName::new(&format!("libvirt-I-{device}")) };
        let rule = PlacedRule { rule: BridgeRule::new(BridgeTarget::Accept).into(), place };
        let rules = ObjectRules { chains: BTreeMap::from([(chain, vec![rule])]), ..compile::closed(&device) };
        (Object::Interface(device), Arc::new(rules))
    }

    #[test]
    fn rules_that_stay_from_earlier_files_have_no_place_in_those_of_now() {
        let (held, absent) = (guest("held0"), guest("absent0"));
        let installed = Installed { objects: BTreeMap::from([held.clone(), absent.clone()]), ..Installed::default() };
        let span = Span { file: FileId(1), start: 0, end: 1 };
        let fault = Held { object: held.0.clone(), span, code: "some-fault", message: String::new() };
        let resolved = Resolved { held: vec![fault], incomplete: true, ..Resolved::default() };
        let desire = |installed: &Installed| {
            desire(&resolved, &Compiled::default(), &BTreeMap::new(), installed, &Observed::default(), Choices::default()).0.objects
        };
        let first = desire(&installed);
        for (object, rules) in [&held, &absent] {
            assert!(first[object].says_the_same(rules));
            assert!(first[object].blocks().flat_map(|(_, placed)| placed).all(|placed| placed.place.is_none()));
        }
        let second = desire(&Installed { objects: first.clone(), ..Installed::default() });
        assert!(first.iter().zip(&second).all(|(one, two)| Arc::ptr_eq(one.1, two.1)), "the same rules again, not others like them");
    }
}
