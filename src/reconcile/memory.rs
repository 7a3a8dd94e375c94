//! Between the record on disk and the values of the core: what the record claims, and what it has to say after a commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compute::Computed;
use crate::addr::DeviceName;
use crate::compile::{Key, ObjectRules};
use crate::model::Object;
use crate::plan::desire::Installed;
use crate::plan::direct::Possession;
use crate::plan::{Change, Desired, Plan, ownership};
use crate::ruleset::{ChainId, Observation, Observed};
use crate::store::{Intent, Record, RecordedObject};

/// Everything that the record claims, as a value.
pub(super) fn installed(record: &Record) -> Installed {
    let names: BTreeSet<&Object> = record.objects.keys().chain(record.intent.iter().flat_map(|intent| intent.objects.keys())).collect();
    let objects = names.into_iter().filter_map(|object| Some((object.clone(), record.last_good(object)?.rules.clone()))).collect();
    Installed { objects, keys: record.keys(), direct: record.direct.clone(), made: record.made() }
}

/// What the record must say before a plan is carried out.
pub(super) fn intent(plan: &Plan, desired: &Desired, computed: &Computed, record: &Record) -> Intent {
    let touched: BTreeSet<&Object> = plan.edits().filter_map(|(_, _, edit)| edit.object.as_ref()).collect();
    let objects = touched
        .into_iter()
        .filter_map(|object| Some((object, recorded(object, desired.objects.get(object)?, computed, record))))
        // What is on record as it is wanted is claimed already: the repair of a flush need not write it down once more.
        .filter(|(object, wanted)| !record.objects.get(*object).is_some_and(|known| known.says_the_same(wanted)))
        .map(|(object, wanted)| (object.clone(), wanted))
        .collect();
    Intent { made: new_base_chains(plan), objects }
}

/// What the record must say after everything desired was seen in the kernel. `resting` are objects that were left alone.
pub(super) fn verified<'a>(
    record: &Record,
    desired: &Desired,
    observed: &Observed,
    computed: &Computed,
    resting: impl Iterator<Item = &'a Object>,
) -> Record {
    let mut objects: BTreeMap<Object, RecordedObject> = BTreeMap::new();
    for (object, rules) in &desired.objects {
        objects.insert(object.clone(), recorded(object, rules, computed, record));
    }
    for object in resting {
        if let Some(known) = record.last_good(object) {
            objects.insert(object.clone(), known.clone());
        }
    }
    for device in lingering(record, desired, observed) {
        let rules = ObjectRules { keys: BTreeSet::from([Key::Guest(device.clone())]), ..ObjectRules::default() };
        objects.entry(Object::Interface(device)).or_insert(RecordedObject { rules: Arc::new(rules), source: None });
    }
    for (object, known) in unseen(record, observed) {
        objects.entry(object).or_insert(known);
    }
    let made = record.made().into_iter().filter(|chain| exists(observed, chain)).collect();
    Record { made, objects, direct: record.direct.clone(), intent: None }
}

/// Writes down one side of a prospect: what is ours in built-in chains before a commit, or after it, or both. Of families that
/// could not be read, the record knows best.
pub(super) fn possess(
    record: &mut Record,
    observed: &Observed,
    prospect: &BTreeMap<ChainId, Possession>,
    side: fn(Possession) -> Possession,
) {
    record.direct.retain(|id, _| !matches!(observed.families.get(&id.family), Some(Observation::Read(_))));
    record.direct.extend(prospect.iter().map(|(id, possession)| (id.clone(), side(possession.clone()))));
    record.direct.retain(|_, possession| !possession.is_empty());
}

/// Guests that nothing desires any more and of which something is still there, such as a chain that a foreign rule jumps to: ours until it is gone.
fn lingering(record: &Record, desired: &Desired, observed: &Observed) -> Vec<DeviceName> {
    let wanted: BTreeSet<&Key> = desired.objects.values().flat_map(|rules| &rules.keys).collect();
    let device = |key| if let Key::Guest(device) = key { Some(device) } else { None };
    let absent: Vec<DeviceName> = record.keys().into_iter().filter(|key| !wanted.contains(key)).filter_map(device).collect();
    if absent.is_empty() {
        return absent;
    }
    let living = ownership::living(observed);
    absent.into_iter().filter(|device| living.contains(device)).collect()
}

/// Objects with rules in a family that cannot be read: they stay ours until somebody has seen that they are gone.
fn unseen(record: &Record, observed: &Observed) -> Vec<(Object, RecordedObject)> {
    let unreadable = |family| matches!(observed.families.get(&family), Some(Observation::Unreadable(_)));
    let known = installed(record).objects.into_keys().filter_map(|object| Some((record.last_good(&object)?.clone(), object)));
    known.filter(|(known, _)| known.rules.families().any(unreadable)).map(|(known, object)| (object, known)).collect()
}

fn recorded(object: &Object, rules: &Arc<ObjectRules>, computed: &Computed, record: &Record) -> RecordedObject {
    let fresh = computed.compiled.objects.get(object) == Some(rules);
    let source = if fresh {
        computed.definition(object).map(|span| computed.sources.position(span).to_string().into())
    } else {
        record.last_good(object).and_then(|known| known.source.clone())
    };
    RecordedObject { rules: Arc::clone(rules), source }
}

fn new_base_chains(plan: &Plan) -> BTreeSet<ChainId> {
    plan.edits()
        .filter(|(_, _, edit)| edit.object.is_none())
        .filter_map(|(family, table, edit)| match &edit.change {
            Change::NewChain(chain) => Some(ChainId { family, table, chain: chain.clone() }),
            _ => None,
        })
        .collect()
}

fn exists(observed: &Observed, id: &ChainId) -> bool {
    match observed.families.get(&id.family) {
        Some(Observation::Read(tables)) => tables.get(&id.table).is_some_and(|table| table.chains.contains_key(&id.chain)),
        // What cannot be read may still be there.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{ChainName, Family, Table};

    #[test]
    fn what_cannot_be_seen_stays_ours_until_it_is_seen_to_be_gone() {
        let object = Object::Interface(DeviceName::new("vnet0").expect("a device name"));
        let chain = ChainId { family: Family::Ipv6, table: Table::Filter, chain: ChainName::new("FO-vnet0") };
        let rules = ObjectRules { chains: BTreeMap::from([(chain, Vec::new())]), ..ObjectRules::default() };
        let known = RecordedObject { rules: Arc::new(rules), source: None };
        let record = Record { objects: BTreeMap::from([(object.clone(), known)]), ..Record::default() };
        let after = |observation| {
            let observed = Observed { families: BTreeMap::from([(Family::Ipv6, observation)]) };
            verified(&record, &Desired::default(), &observed, &Computed::default(), std::iter::empty()).objects
        };
        assert!(after(Observation::Unreadable("tainted".into())).contains_key(&object));
        assert!(after(Observation::Read(BTreeMap::new())).is_empty());
    }
}
