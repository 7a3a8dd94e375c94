//! What lives of our objects now, as wishes: what a plan would have to be made for to bring it back later.
//!
//! The record says what we meant, the kernel what is: rules that somebody took out, or that were there before us, count as they are. Rules that cannot be
//! parsed are left out, since no tool could be told to make them. Rules straight in built-in chains are taken from the record, which alone tells them from
//! others'.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Desired;
use super::ownership::{self, Claims, Role};
use crate::compile::{Key, ObjectRules, PlacedRule};
use crate::model::Object;
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, ChainName, ChainRules, Family, LiveRule, Observation, Observed, Policy};

/// The live rules of every object that `desired` wants or `recorded` remembers; objects of which nothing lives, and nothing is remembered, are not in it.
pub fn earlier(
    desired: &Desired,
    observed: &Observed,
    recorded: &BTreeMap<Object, Arc<ObjectRules>>,
) -> BTreeMap<Object, Arc<ObjectRules>> {
    let nobody = BTreeSet::new();
    let claims = Claims::new(desired, &nobody);
    // The record's names first: they are of the time that we want back.
    let mut owners: HashMap<&Key, &Object> = HashMap::new();
    for (object, rules) in recorded.iter().chain(&desired.objects) {
        for key in &rules.keys {
            owners.entry(key).or_insert(object);
        }
    }
    let mut found: BTreeMap<Object, ObjectRules> = BTreeMap::new();
    let unseen = |id: &ChainId| !matches!(observed.families.get(&id.family), Some(Observation::Read(_)));
    for (object, rules) in recorded {
        // Of what cannot be seen the record knows best.
        let mut known = ObjectRules::clone(rules);
        known.chains.retain(|id, _| unseen(id));
        known.returning.retain(unseen);
        known.shared.retain(|id, _| unseen(id));
        found.insert(object.clone(), known);
    }
    for (family, observation) in &observed.families {
        let Observation::Read(tables) = observation else { continue };
        for (table, live) in tables {
            for (chain, content) in &live.chains {
                let id = ChainId { family: *family, table: *table, chain: chain.clone() };
                match claims.role(*family, *table, chain, live) {
                    Role::Guest(device) if owners.contains_key(&Key::Guest(device.clone())) => {
                        let known = known(content).map(placed).collect();
                        let rules = of(&mut found, &owners, &Key::Guest(device));
                        if *family == Family::Bridge && content.policy == Some(Policy::Return) {
                            rules.returning.insert(id.clone());
                        }
                        rules.chains.insert(id, known);
                    }
                    Role::Base(base) => share(&mut found, &owners, &id, content, |rule| base.key(rule)),
                    Role::BridgeHook => share(&mut found, &owners, &id, content, |rule| hook_key(chain, rule)),
                    Role::Guest(_) | Role::Temporary(_) | Role::Gate | Role::Foreign => {}
                }
            }
        }
    }
    found.into_iter().map(|(object, rules)| (object, Arc::new(rules))).collect()
}

fn share(
    found: &mut BTreeMap<Object, ObjectRules>,
    owners: &HashMap<&Key, &Object>,
    id: &ChainId,
    content: &ChainRules,
    key: impl Fn(&Rule) -> Option<Key>,
) {
    for rule in known(content) {
        if let Some(key) = key(rule).filter(|key| owners.contains_key(key)) {
            of(found, owners, &key).shared.entry(id.clone()).or_default().push(placed(rule));
        }
    }
}

/// The rules found so far of the object that a key names.
fn of<'f>(found: &'f mut BTreeMap<Object, ObjectRules>, owners: &HashMap<&Key, &Object>, key: &Key) -> &'f mut ObjectRules {
    let rules = found.entry(owners[key].clone()).or_default();
    rules.keys.insert(key.clone());
    rules
}

/// The guest whose hook a rule is; a gate belongs to a plan under way and is no state to go back to.
fn hook_key(chain: &ChainName, rule: &Rule) -> Option<Key> {
    let Rule::Bridge(hook) = rule else { return None };
    let gate = ownership::destinations(&LiveRule::Known(rule.clone())).iter().any(|target| target.as_str() == ownership::GATE);
    if gate { None } else { ownership::bridge_hook(chain, hook).map(Key::Guest) }
}

fn known(content: &ChainRules) -> impl Iterator<Item = &Rule> {
    content.rules.iter().filter_map(|rule| if let LiveRule::Known(rule) = rule { Some(rule) } else { None })
}

fn placed(rule: &Rule) -> PlacedRule {
    PlacedRule { rule: rule.clone(), place: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::DeviceName;
    use crate::ruleset::save;

    const BEFORE: &str = "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n:libvirt-I-vnet0 ACCEPT\n:libvirt-I-alien ACCEPT\n\
        -A PREROUTING -i vnet0 -j libvirt-I-vnet0\n-A PREROUTING -i alien -j libvirt-I-alien\n\
        -A libvirt-I-vnet0 -p ARP -j ACCEPT\n-A libvirt-I-alien -j DROP\nCOMMIT\n";

    fn observed(text: &str) -> Observed {
        let tables = save::parse(Family::Bridge, text).expect("save text");
        Observed { families: BTreeMap::from([(Family::Bridge, Observation::Read(tables))]) }
    }

    fn desired(device: &str) -> Desired {
        let object = Object::Interface(DeviceName::new(device).expect("a device name"));
        let rules = crate::compile::closed(&DeviceName::new(device).expect("a device name"));
        Desired { objects: BTreeMap::from([(object, rules.into())]), ..Desired::default() }
    }

    #[test]
    fn going_back_to_what_lived_gives_what_lived() {
        let before = observed(BEFORE);
        let new = desired("vnet0");
        let earlier = earlier(&new, &before, &BTreeMap::new());
        assert_eq!(earlier.len(), 1, "the alien guest is nobody's business: {earlier:?}");
        let mut after = before.clone();
        super::super::apply(&super::super::plan(&new, &after).expect("a plan"), &mut after);
        assert_ne!(after, before);
        let back = Desired { objects: earlier, ..Desired::default() };
        super::super::apply(&super::super::plan(&back, &after).expect("a plan"), &mut after);
        assert_eq!(super::super::plan(&back, &before).map(|plan| plan.is_empty()), Ok(true));
        assert_eq!(after, before);
    }

    #[test]
    fn an_object_of_which_nothing_lived_goes_again() {
        let earlier = earlier(&desired("vnet7"), &observed(BEFORE), &BTreeMap::new());
        assert!(earlier.is_empty(), "{earlier:?}");
    }
}
