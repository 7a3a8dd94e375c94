//! Guests that a libvirtd is writing at this moment: left alone until it is done.
//!
//! libvirt builds a guest's chains under temporary names and renames them (nwfilter.md 3.6), and when a filter is redefined it does so for all guests of the
//! filter, one after the other, before it writes the filter's file. A pass that falls in between would see guests without their rules, or with rules that no file
//! wants yet, and a chain that it puts back makes libvirt's renaming fail. So while any temporary chain changes, the guests that have some, or had some a moment
//! ago, are not touched, a minute at most. Chains that only lie there were left by a libvirtd that died: they keep nobody waiting, and go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::addr::DeviceName;
use crate::compile::Key;
use crate::plan::ownership;
use crate::ruleset::Observed;

/// So long after the last change of any temporary chain a libvirtd is taken to be at work.
const QUIET: Duration = Duration::from_secs(2);
/// So long a guest is waited for that has no temporary chains any more.
const FINISHED: Duration = Duration::from_secs(10);
/// Nobody is waited for longer.
const LONGEST: Duration = Duration::from_mins(1);
/// Chains are leftovers when nothing has changed for so long.
const LEFT: Duration = Duration::from_secs(10);

/// How soon a guest is to be looked at again that a libvirtd was writing.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What was seen of temporary chains.
#[derive(Debug, Clone, Default)]
pub struct Parking {
    seen: BTreeMap<DeviceName, Seen>,
    /// When anything last changed.
    changed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    changed: Instant,
    /// Of its temporary chains, while there are any.
    fingerprint: Option<u64>,
}

impl Parking {
    /// Takes in what was observed now; says whom to leave alone.
    pub fn look(&mut self, observed: &Observed, now: Instant) -> BTreeSet<Key> {
        let written = ownership::being_written(observed);
        let devices: BTreeSet<DeviceName> = written.keys().chain(self.seen.keys()).cloned().collect();
        for device in devices {
            let fingerprint = written.get(&device).copied();
            let before = self.seen.get(&device).copied();
            if before.is_some_and(|before| before.fingerprint == fingerprint) {
                continue;
            }
            let first = before.filter(|before| now.duration_since(before.changed) < LEFT).map_or(now, |before| before.first);
            self.seen.insert(device, Seen { first, changed: now, fingerprint });
            self.changed = Some(now);
        }
        let busy = self.changed.is_some_and(|changed| now.duration_since(changed) < QUIET);
        let finishing = |seen: &Seen| busy && now.duration_since(seen.changed) < FINISHED;
        self.seen.retain(|_, seen| seen.fingerprint.is_some() || finishing(seen));
        let parked = self.seen.iter().filter(|(_, seen)| busy && now.duration_since(seen.first) < LONGEST);
        parked.map(|(device, _)| Key::Guest(device.clone())).collect()
    }

    /// The guests whose temporary chains nobody is going to rename, as of the last look.
    pub fn leftovers(&self, now: Instant) -> BTreeSet<DeviceName> {
        let left = self.changed.is_some_and(|changed| now.duration_since(changed) >= LEFT);
        self.seen.iter().filter(|(_, seen)| left && seen.fingerprint.is_some()).map(|(device, _)| device.clone()).collect()
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
    fn guests_are_left_alone_while_temporary_chains_change_and_not_after() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut parking = Parking::default();
        let (one, two) = (":libvirt-J-vnet0 ACCEPT\n", ":libvirt-J-vnet0 ACCEPT\n:libvirt-J-vnet1 ACCEPT\n");
        assert_eq!(parked(&mut parking, one, at(0)), ["vnet0"]);
        assert_eq!(parked(&mut parking, one, at(1900)), ["vnet0"]);
        // The first waits while libvirtd writes the second.
        assert_eq!(parked(&mut parking, two, at(1950)), ["vnet0", "vnet1"]);
        assert_eq!(parked(&mut parking, two, at(3900)), ["vnet0", "vnet1"]);
        // And while the second is renamed, though the first is ready.
        assert_eq!(parked(&mut parking, ":libvirt-I-vnet0 ACCEPT\n:libvirt-J-vnet1 ACCEPT\n", at(3920)), ["vnet0", "vnet1"]);
        let done = ":libvirt-I-vnet0 ACCEPT\n:libvirt-I-vnet1 ACCEPT\n";
        assert_eq!(parked(&mut parking, done, at(5900)), ["vnet0", "vnet1"]);
        assert_eq!(parked(&mut parking, done, at(7901)), Vec::<String>::new());
    }

    #[test]
    fn a_guest_that_is_ready_does_not_wait_for_others_without_end() {
        let start = Instant::now();
        let mut parking = Parking::default();
        let mut last = None;
        for second in 0..30_u64 {
            let ready = if second == 0 { ":libvirt-J-vnet0 ACCEPT\n" } else { ":libvirt-I-vnet0 ACCEPT\n" };
            let rules = format!("{ready}:libvirt-J-vnet1 ACCEPT\n-A libvirt-J-vnet1 -s 52:54:00:00:00:{second:02x} -j DROP\n");
            if parked(&mut parking, &rules, start + Duration::from_secs(second)).contains(&"vnet0".to_owned()) {
                last = Some(second);
            }
        }
        assert_eq!(last, Some(10));
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_minute() {
        let start = Instant::now();
        let mut parking = Parking::default();
        let mut last = None;
        for second in 0..80_u64 {
            let rules = format!(":libvirt-J-vnet0 ACCEPT\n-A libvirt-J-vnet0 -s 52:54:00:00:00:{second:02x} -j DROP\n");
            if !parked(&mut parking, &rules, start + Duration::from_secs(second)).is_empty() {
                last = Some(second);
            }
        }
        assert_eq!(last, Some(59));
    }

    #[test]
    fn chains_that_only_lie_there_are_leftovers_until_they_change() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut parking = Parking::default();
        let mut left = |rules: &str, now: Instant| {
            let parked = parked(&mut parking, rules, now);
            (parked.len(), parking.leftovers(now).len())
        };
        let rules = ":P-vnet0-mac ACCEPT\n";
        assert_eq!(left(rules, at(0)), (1, 0));
        assert_eq!(left(rules, at(9)), (0, 0));
        assert_eq!(left(rules, at(10)), (0, 1));
        assert_eq!(left(":P-vnet0-mac ACCEPT\n:J-vnet0-mac ACCEPT\n", at(100)), (1, 0));
        assert_eq!(left("", at(101)), (1, 0));
        assert_eq!(left("", at(104)), (0, 0));
    }
}
