//! What is known of every guest that learns, and how it changes: evidence and time in, changes out.
//!
//! No kernel, no clock, no file: the daemon brings the frames, the time and the list of guests, and keeps what comes out. An address
//! that two guests of one bridge claim stays with the first; the other is told of once, and gets it when the first has lost it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::filter::Hearing;
use super::frame::Utterance;
use super::judge::{Known, Verdict, judge};
use super::limit::Bucket;
use crate::addr::{DeviceName, Mac};
use crate::model::Quirks;
use crate::model::learned::{Anchor, Claimant, Finding, Knowledge, Learned, MOST_ADDRESSES, Method, Source, Until};
use crate::resolve::{Families, Learning, Resolved};

/// So many unanswered requests of one guest are remembered, to know what a refusal refuses.
const MOST_REQUESTS: usize = 4;
/// Every change of a guest's addresses is a plan for all: so many at once, and then one every ten seconds, are enough for any client.
const CHANGES: u32 = 8;
const CHANGES_PER_SECOND: f64 = 0.1;

/// Everything that is known, and who is listened to.
#[derive(Debug, Clone)]
pub struct Learner {
    quirks: Quirks,
    learned: Learned,
    pupils: BTreeMap<DeviceName, Pupil>,
}

/// A guest that is listened to.
#[derive(Debug, Clone)]
struct Pupil {
    learning: Learning,
    /// Which guests it could be mistaken for: those at the same bridge. `None` while its tap is not there or at no bridge.
    segment: Option<Segment>,
    /// What it asked servers for, the oldest first.
    requests: VecDeque<(u32, Ipv4Addr)>,
    changes: Bucket,
    /// Told that it changes too often, until it may again.
    restless: bool,
    /// Addresses that it wants and another one has.
    denied: BTreeMap<IpAddr, DeviceName>,
}

/// A bridge, by the kernel's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment(pub u32);

/// Something worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A guest has an address that it did not have.
    Found(DeviceName, IpAddr, Source),
    /// An address is no longer the guest's.
    Lost(DeviceName, IpAddr, Loss),
    /// The guest wants an address that the second one has.
    Denied(DeviceName, IpAddr, DeviceName),
    /// The guest changes its addresses too often; this change is ignored.
    Restless(DeviceName, IpAddr),
}

/// Why an address is no longer somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The guest, or its server, gave it up.
    Released,
    /// A server refused it.
    Refused,
    /// Its lease ended.
    Expired,
    /// A person said so.
    Forgotten,
}

/// What a call changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// True when rules may have to change.
    pub addresses: bool,
    /// True when only ends moved: to be kept, but no rule changes.
    pub ends: bool,
    /// What there is to tell, in order.
    pub news: Vec<News>,
}

impl Learner {
    /// Goes on from what is known; nobody is listened to yet.
    pub fn new(quirks: Quirks, learned: Learned) -> Self {
        let mut learner = Self { quirks, learned, pupils: BTreeMap::new() };
        // libvirt starts over with the lease that it finds.
        for knowledge in learner.learned.0.values_mut() {
            knowledge.first = first_of(quirks, knowledge);
        }
        learner
    }

    /// Everything that is known, ended or not.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// The guests that are listened to, with what is learned for them and what is known.
    pub fn pupils(&self) -> impl Iterator<Item = (&DeviceName, &Learning, &[Finding])> {
        self.pupils.iter().map(|(device, pupil)| {
            let known = self.learned.0.get(&pupil.learning.claimant).map_or(&[][..], |knowledge| &knowledge.findings);
            (device, &pupil.learning, known)
        })
    }

    /// What has to be heard from whom: in mode `any` nothing more once an address of every wanted kind is known.
    pub fn hearing(&self) -> BTreeMap<DeviceName, (Mac, Hearing)> {
        let all = self.pupils.iter().map(|(device, pupil)| (device.clone(), (pupil.learning.claimant.mac, self.hearing_of(pupil))));
        all.filter(|(_, (_, hearing))| hearing.is_any()).collect()
    }

    fn hearing_of(&self, pupil: &Pupil) -> Hearing {
        let Learning { claimant, families } = &pupil.learning;
        let (ipv4, ipv6) = (*families != Families::Ipv6, *families != Families::Ipv4);
        let known = |ipv4: bool| {
            let findings = self.learned.0.get(claimant).map_or(&[][..], |knowledge| &knowledge.findings);
            findings.iter().any(|finding| finding.address.is_ipv4() == ipv4)
        };
        match (&claimant.method, self.quirks) {
            (Method::Any, Quirks::Fixed) => {
                let uses = ipv4 && !known(true);
                Hearing { arp: uses, ipv4: uses, neighbour: ipv6 && !known(false), tags: 2, ..Hearing::default() }
            }
            (Method::Dhcp(_), Quirks::Fixed) => Hearing { requests: ipv4, replies: ipv4, dhcpv6: ipv6, tags: 2, ..Hearing::default() },
            (Method::Any, Quirks::Libvirt) => Hearing { ipv4: !known(true), replies: !known(true), tags: 1, ..Hearing::default() },
            (Method::Dhcp(_), Quirks::Libvirt) => Hearing { requests: true, replies: true, tags: 0, ..Hearing::default() },
        }
    }

    /// Addresses that guests want and do not get, with the guests that have them.
    pub fn denied(&self) -> impl Iterator<Item = (&DeviceName, IpAddr, &DeviceName)> {
        self.pupils.iter().flat_map(|(device, pupil)| pupil.denied.iter().map(move |(address, holder)| (device, *address, holder)))
    }

    /// Takes in a new policy: who learns now. A guest that is held is listened to as before; what nobody can claim any more is forgotten,
    /// except leases, which go on while their guest is away, as a server believes, too. True when something was forgotten.
    pub fn attend(&mut self, resolved: &Resolved, quirks: Quirks) -> bool {
        if self.quirks != quirks {
            *self = Self { pupils: std::mem::take(&mut self.pupils), ..Self::new(quirks, std::mem::take(&mut self.learned)) };
        }
        let mut before = std::mem::take(&mut self.pupils);
        for guest in &resolved.guests {
            let Some(learning) = guest.learning() else { continue };
            let pupil = match before.remove(&guest.device) {
                Some(pupil) if pupil.learning.claimant == learning.claimant => Pupil { learning: learning.clone(), ..pupil },
                other => Pupil::new(learning.clone(), other.and_then(|other| other.segment)),
            };
            self.pupils.insert(guest.device.clone(), pupil);
        }
        let settled = resolved.held.is_empty() && !resolved.incomplete;
        if !settled {
            let present: BTreeSet<&DeviceName> = resolved.guests.iter().map(|guest| &guest.device).collect();
            before.retain(|device, _| !present.contains(device));
            self.pupils.extend(before);
            return false;
        }
        let claimants: BTreeSet<&Claimant> =
            resolved.guests.iter().filter_map(|guest| guest.learning()).map(|learning| &learning.claimant).collect();
        let devices: BTreeSet<&DeviceName> = resolved.guests.iter().map(|guest| &guest.device).collect();
        let count = self.learned.0.len();
        self.learned.0.retain(|claimant, knowledge| {
            let replaced = matches!(&claimant.anchor, Anchor::Device(device) if devices.contains(device));
            let leased = claimant.method != Method::Any && !replaced;
            claimants.contains(claimant) || (leased && !knowledge.findings.is_empty())
        });
        self.learned.0.len() != count
    }

    /// Takes in at which bridges the taps are.
    pub fn place(&mut self, segments: &BTreeMap<DeviceName, Segment>) {
        for (device, pupil) in &mut self.pupils {
            pupil.segment = segments.get(device).copied();
        }
    }

    /// A guest's tap is gone: the guest has stopped. What it merely used ends with it, as in libvirt; leases go on.
    pub fn leave(&mut self, device: &DeviceName) -> Changes {
        let mut changes = Changes::default();
        let Some(pupil) = self.pupils.get(device) else { return changes };
        if pupil.learning.claimant.method == Method::Any {
            changes = self.remove(device, Loss::Released, |_| true);
        }
        changes
    }

    /// Takes in a frame that was heard on a guest's tap. `now` is in seconds since 1970.
    pub fn hear(&mut self, device: &DeviceName, frame: &Utterance, now: u64) -> Changes {
        let mut changes = Changes::default();
        let Some(pupil) = self.pupils.get(device) else { return changes };
        let Claimant { mac, method, .. } = &pupil.learning.claimant;
        for verdict in judge(frame, *mac, method, self.quirks, now) {
            match verdict {
                Verdict::Claim { address, source, until, known } => {
                    let finding = Finding { address, source, until };
                    changes.add(self.claim(device, finding, known, now));
                }
                Verdict::End { address } => changes.add(self.end(device, address, Loss::Released, now)),
                Verdict::Asks { transaction, address } => self.note_request(device, transaction, address),
                Verdict::Refused { transaction } => {
                    if let Some(address) = self.take_request(device, transaction) {
                        changes.add(self.end(device, address.into(), Loss::Refused, now));
                    }
                }
            }
        }
        changes
    }

    /// Lets go of what has ended. `now` is in seconds since 1970.
    pub fn expire(&mut self, now: u64) -> Changes {
        let devices: Vec<DeviceName> = self.pupils.keys().cloned().collect();
        let mut changes = Changes::default();
        for device in devices {
            changes.add(self.remove(&device, Loss::Expired, |finding| !finding.until.is_after(now)));
        }
        // Leases of guests that are away.
        let count = self.learned.0.len();
        self.learned.0.retain(|_, knowledge| {
            knowledge.findings.retain(|finding| finding.until.is_after(now));
            !knowledge.findings.is_empty() || knowledge.first.is_some()
        });
        changes.ends |= self.learned.0.len() != count;
        changes
    }

    /// When the next thing ends, in seconds since 1970.
    pub fn next_end(&self) -> Option<u64> {
        let findings = self.learned.0.values().flat_map(|knowledge| &knowledge.findings);
        findings.filter_map(|finding| if let Until::Second(end) = finding.until { Some(end) } else { None }).min()
    }

    /// Forgets everything about the guest with this device; `None` when nothing is learned for it.
    pub fn forget(&mut self, device: &DeviceName) -> Option<Changes> {
        let pupil = self.pupils.get_mut(device)?;
        pupil.denied.clear();
        pupil.requests.clear();
        let claimant = pupil.learning.claimant.clone();
        let changes = self.remove(device, Loss::Forgotten, |_| true);
        self.learned.0.remove(&claimant);
        Some(changes)
    }

    fn claim(&mut self, device: &DeviceName, finding: Finding, known: Known, now: u64) -> Changes {
        let mut changes = Changes::default();
        let quirks = self.quirks;
        let Some(pupil) = self.pupils.get(device) else { return changes };
        if !pupil.learning.families.include(finding.address) {
            return changes;
        }
        let claimant = pupil.learning.claimant.clone();
        let mine = self.learned.0.get(&claimant).map_or(&[][..], |knowledge| &knowledge.findings);
        if let Some(at) = mine.iter().position(|mine| mine.address == finding.address) {
            let longer = finding.until > mine[at].until;
            if known == Known::FirstStays || (known == Known::Extend && !longer) || mine[at] == finding {
                return changes;
            }
            self.learned.0.get_mut(&claimant).expect("it was found there").findings[at] = finding;
            changes.ends = true;
            return changes;
        }
        let taken = known == Known::FirstStays && mine.iter().any(|mine| mine.address.is_ipv4() == finding.address.is_ipv4());
        if taken || mine.len() >= MOST_ADDRESSES {
            return changes;
        }
        if quirks == Quirks::Fixed
            && let Some(holder) = self.holder(device, finding.address, now)
        {
            let pupil = self.pupils.get_mut(device).expect("it was found there");
            if pupil.denied.len() < MOST_ADDRESSES && pupil.denied.insert(finding.address, holder.clone()).is_none() {
                changes.news.push(News::Denied(device.clone(), finding.address, holder));
            }
            return changes;
        }
        if !self.may_change(device, finding.address, now, &mut changes) {
            return changes;
        }
        let knowledge = self.learned.0.entry(claimant).or_default();
        knowledge.findings.push(finding);
        knowledge.first = knowledge.first.or_else(|| first_of(quirks, knowledge));
        changes.addresses = true;
        changes.news.push(News::Found(device.clone(), finding.address, finding.source));
        if let Some(pupil) = self.pupils.get_mut(device) {
            pupil.denied.remove(&finding.address);
        }
        changes
    }

    /// Who at the same bridge has this address now.
    fn holder(&self, device: &DeviceName, address: IpAddr, now: u64) -> Option<DeviceName> {
        let segment = self.pupils.get(device)?.segment?;
        let has = |pupil: &Pupil| {
            let findings = self.learned.0.get(&pupil.learning.claimant).map_or(&[][..], |knowledge| &knowledge.findings);
            findings.iter().any(|finding| finding.address == address && finding.until.is_after(now))
        };
        let mut others = self.pupils.iter().filter(|(other, pupil)| *other != device && pupil.segment == Some(segment));
        others.find(|(_, pupil)| has(pupil)).map(|(other, _)| other.clone())
    }

    fn end(&mut self, device: &DeviceName, address: IpAddr, loss: Loss, now: u64) -> Changes {
        let mut changes = Changes::default();
        let Some(pupil) = self.pupils.get(device) else { return changes };
        let known = self.learned.0.get(&pupil.learning.claimant);
        if !known.is_some_and(|known| known.findings.iter().any(|finding| finding.address == address)) {
            return changes;
        }
        if self.may_change(device, address, now, &mut changes) {
            changes.add(self.remove(device, loss, |finding| finding.address == address));
        }
        changes
    }

    fn may_change(&mut self, device: &DeviceName, address: IpAddr, now: u64, changes: &mut Changes) -> bool {
        let Some(pupil) = self.pupils.get_mut(device) else { return false };
        let may = pupil.changes.take(Duration::from_secs(now));
        if !may && !pupil.restless {
            changes.news.push(News::Restless(device.clone(), address));
        }
        pupil.restless = !may;
        may
    }

    fn remove(&mut self, device: &DeviceName, loss: Loss, which: impl Fn(&Finding) -> bool) -> Changes {
        let mut changes = Changes::default();
        let Some(pupil) = self.pupils.get(device) else { return changes };
        let Some(knowledge) = self.learned.0.get_mut(&pupil.learning.claimant) else { return changes };
        for gone in knowledge.findings.extract_if(.., |finding| which(finding)) {
            changes.news.push(News::Lost(device.clone(), gone.address, loss));
            for pupil in self.pupils.values_mut() {
                if pupil.denied.get(&gone.address) == Some(device) {
                    pupil.denied.remove(&gone.address);
                }
            }
        }
        changes.addresses = !changes.news.is_empty();
        changes
    }

    fn note_request(&mut self, device: &DeviceName, transaction: u32, address: Ipv4Addr) {
        let Some(pupil) = self.pupils.get_mut(device) else { return };
        pupil.requests.retain(|(known, _)| *known != transaction);
        if pupil.requests.len() == MOST_REQUESTS {
            pupil.requests.pop_front();
        }
        pupil.requests.push_back((transaction, address));
    }

    fn take_request(&mut self, device: &DeviceName, transaction: u32) -> Option<Ipv4Addr> {
        let requests = &mut self.pupils.get_mut(device)?.requests;
        let at = requests.iter().position(|(known, _)| *known == transaction)?;
        requests.remove(at).map(|(_, address)| address)
    }
}

/// The address that libvirt goes on with: of leases only, for in mode `any` there is one anyway.
fn first_of(quirks: Quirks, knowledge: &Knowledge) -> Option<IpAddr> {
    let leased = |finding: &&Finding| matches!(finding.source, Source::Lease(_));
    (quirks == Quirks::Libvirt).then(|| knowledge.findings.iter().find(leased).map(|finding| finding.address)).flatten()
}

impl Pupil {
    fn new(learning: Learning, segment: Option<Segment>) -> Self {
        let changes = Bucket::full(CHANGES, CHANGES_PER_SECOND);
        Self { learning, segment, requests: VecDeque::new(), changes, restless: false, denied: BTreeMap::new() }
    }
}

impl Changes {
    /// Adds what a later call changed.
    pub fn add(&mut self, later: Self) {
        self.addresses |= later.addresses;
        self.ends |= later.ends;
        self.news.extend(later.news);
    }

    /// Whether anything has to be kept.
    pub fn any(&self) -> bool {
        self.addresses || self.ends
    }
}

#[cfg(test)]
mod tests;
