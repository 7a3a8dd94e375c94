//! Guests that a libvirtd is writing at this moment: left alone until it is done.
//!
//! libvirt builds a guest's chains under temporary names and renames them (nwfilter.md 3.6). A pass that falls in between would see a guest without its
//! rules. So while temporary chains of a guest change it is not touched, ten seconds at most; chains that only lie there were left by a
//! libvirtd that died and keep nobody waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::addr::DeviceName;
use crate::compile::Key;
use crate::plan::ownership;
use crate::ruleset::Observed;

/// Chains that have not changed for so long are leftovers.
const QUIET: Duration = Duration::from_secs(1);
/// Nobody is waited for longer.
const LONGEST: Duration = Duration::from_secs(10);

/// How soon a guest is to be looked at again that a libvirtd was writing.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What was seen of temporary chains.
#[derive(Debug, Clone, Default)]
pub struct Parking {
    seen: BTreeMap<DeviceName, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    changed: Instant,
    fingerprint: u64,
}

impl Parking {
    /// Takes in what was observed now; says whom to leave alone.
    pub fn look(&mut self, observed: &Observed, now: Instant) -> BTreeSet<Key> {
        let mut seen = BTreeMap::new();
        for (device, fingerprint) in ownership::being_written(observed) {
            let fresh = Seen { first: now, changed: now, fingerprint };
            let entry = match self.seen.get(&device) {
                Some(before) if before.fingerprint == fingerprint => *before,
                Some(before) => Seen { first: before.first, ..fresh },
                None => fresh,
            };
            seen.insert(device, entry);
        }
        self.seen = seen;
        let busy = |seen: &Seen| now.duration_since(seen.changed) < QUIET && now.duration_since(seen.first) < LONGEST;
        self.seen.iter().filter(|(_, seen)| busy(seen)).map(|(device, _)| Key::Guest(device.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ruleset::{Family, Observation, save};

    fn observed(rules: &str) -> Observed {
        let text = format!("*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n{rules}# Completed\n");
        let tables = save::parse(Family::Bridge, &text).expect("ebtables-save text");
        Observed { families: BTreeMap::from([(Family::Bridge, Observation::Read(tables))]) }
    }

    fn parked(parking: &mut Parking, rules: &str, now: Instant) -> Vec<String> {
        let name = |key| if let Key::Guest(device) = key { device.to_string() } else { unreachable!("only guests are parked") };
        parking.look(&observed(rules), now).into_iter().map(name).collect()
    }

    #[test]
    fn a_guest_is_left_alone_while_its_temporary_chains_change_and_not_after() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut parking = Parking::default();
        assert_eq!(parked(&mut parking, ":libvirt-J-vnet0 ACCEPT\n", at(0)), ["vnet0"]);
        assert_eq!(parked(&mut parking, ":libvirt-J-vnet0 ACCEPT\n", at(900)), ["vnet0"]);
        assert_eq!(parked(&mut parking, ":libvirt-J-vnet0 ACCEPT\n:J-vnet0-mac ACCEPT\n", at(950)), ["vnet0"]);
        assert_eq!(parked(&mut parking, ":libvirt-J-vnet0 ACCEPT\n:J-vnet0-mac ACCEPT\n", at(1900)), ["vnet0"]);
        assert_eq!(parked(&mut parking, ":libvirt-J-vnet0 ACCEPT\n:J-vnet0-mac ACCEPT\n", at(1951)), Vec::<String>::new());
        assert_eq!(parked(&mut parking, ":libvirt-I-vnet0 ACCEPT\n", at(2000)), Vec::<String>::new());
    }

    #[test]
    fn nobody_is_waited_for_longer_than_ten_seconds() {
        let start = Instant::now();
        let mut parking = Parking::default();
        let mut last = None;
        for half_second in 0..40_u64 {
            let rules = format!(":libvirt-J-vnet0 ACCEPT\n-A libvirt-J-vnet0 -s 52:54:00:00:00:{half_second:02x} -j DROP\n");
            let now = start + Duration::from_millis(500 * half_second);
            if !parked(&mut parking, &rules, now).is_empty() {
                last = Some(half_second);
            }
        }
        assert_eq!(last, Some(19));
    }
}
