//! Whole stories of guests: first uses, leases, renewals, ends, conflicts, floods.

use dhcproto::v4::MessageType;

use super::*;
use crate::learn::example::{Dhcp, GUEST, ack, arp, ip, solicitation, udp};
use crate::learn::frame;
use crate::resolve::{GuestPolicy, Treatment};
use crate::source::{FileId, Span};

const BRIDGE: Segment = Segment(7);

fn device(name: &str) -> DeviceName {
    DeviceName::new(name).expect("a device name")
}

fn learning(name: &str, method: &Method, mac: Mac) -> Learning {
    let claimant = Claimant { anchor: Anchor::Device(device(name)), mac, filter: "clean-traffic".into(), method: method.clone() };
    Learning { claimant, families: Families::Both }
}

fn policy(guests: &[(&str, Learning)]) -> Resolved {
    let place = Span { file: FileId(0), start: 0, end: 0 };
    let guest = |(name, learning): &(&str, Learning)| GuestPolicy {
        device: device(name),
        mac: learning.claimant.mac,
        owner: None,
        treatment: Treatment::Learning(learning.clone()),
        learned: None,
        place,
    };
    Resolved { guests: guests.iter().map(|known| guest(known).into()).collect(), ..Resolved::default() }
}

/// One guest `vnet0`, and what is known of it.
struct Story {
    learner: Learner,
}

impl Story {
    fn of(method: &Method, quirks: Quirks) -> Self {
        let mut learner = Learner::new(quirks, Learned::default());
        learner.attend(&policy(&[("vnet0", learning("vnet0", method, GUEST))]), quirks);
        Self { learner }
    }

    fn hear(&mut self, bytes: &[u8], now: u64) -> Changes {
        let frame = frame::decode(bytes).expect("well-formed").expect("it says something");
        self.learner.hear(&device("vnet0"), &frame, now)
    }

    fn known(&self, now: u64) -> Vec<String> {
        let learned = self.learner.learned().at(now);
        let all = learned.0.values().flat_map(|knowledge| knowledge.addresses(self.learner.quirks));
        all.map(|address| address.to_string()).collect()
    }
}

fn dhcp() -> Method {
    Method::Dhcp(vec![ip("10.0.0.1")])
}

#[test]
fn the_first_address_of_each_kind_stays() {
    let mut story = Story::of(&Method::Any, Quirks::Fixed);
    assert!(story.hear(&arp(GUEST, "10.0.0.5"), 1).addresses);
    assert_eq!(story.hear(&arp(GUEST, "10.0.0.6"), 2), Changes::default());
    assert_eq!(story.hear(&udp(GUEST, 0, "10.0.0.7", (9, 9), b"x"), 3), Changes::default());
    assert!(story.hear(&solicitation("::", "2001:db8::5"), 4).addresses);
    assert_eq!(story.hear(&solicitation("::", "2001:db8::6"), 5), Changes::default());
    assert_eq!(story.known(u64::MAX - 1), ["10.0.0.5", "2001:db8::5"]);
    assert!(story.learner.hearing().is_empty(), "nothing is left to hear");
}

#[test]
fn a_lease_is_renewed_ends_and_is_given_up() {
    let mut story = Story::of(&dhcp(), Quirks::Fixed);
    assert!(story.hear(&ack("10.0.0.5", Some(100)).by("10.0.0.1"), 0).addresses);
    assert_eq!(story.known(99), ["10.0.0.5"]);
    let renewed = story.hear(&ack("10.0.0.5", Some(100)).by("10.0.0.1"), 50);
    assert!(renewed.ends && !renewed.addresses, "a renewal changes no rule");
    assert_eq!(story.learner.next_end(), Some(150));
    assert_eq!(story.learner.expire(149), Changes::default());
    assert!(story.learner.expire(150).addresses);
    assert_eq!(story.known(150), [""; 0]);
    story.hear(&ack("10.0.0.6", Some(100)).by("10.0.0.1"), 200);
    story.hear(&ack("10.0.0.7", Some(u32::MAX)).by("10.0.0.1"), 210);
    assert_eq!(story.known(210), ["10.0.0.6", "10.0.0.7"], "several leases at once");
    let released = story.hear(&Dhcp { has: "10.0.0.6", ..Dhcp::new(MessageType::Release) }.sent(), 220);
    assert_eq!(released.news, [News::Lost(device("vnet0"), ip("10.0.0.6").into(), Loss::Released)]);
    assert_eq!(story.known(u64::MAX - 1), ["10.0.0.7"], "an infinite lease is infinite");
}

#[test]
fn a_refusal_ends_what_the_guest_had_asked_for_and_nothing_else() {
    let mut story = Story::of(&dhcp(), Quirks::Fixed);
    story.hear(&ack("10.0.0.5", Some(100)).by("10.0.0.1"), 0);
    story.hear(&ack("10.0.0.6", Some(100)).by("10.0.0.1"), 0);
    assert_eq!(story.hear(&Dhcp { transaction: 9, ..Dhcp::new(MessageType::Nak) }.by("10.0.0.1"), 1), Changes::default());
    story.hear(&Dhcp { wanted: Some("10.0.0.5"), transaction: 9, ..Dhcp::new(MessageType::Request) }.sent(), 2);
    assert_eq!(story.hear(&Dhcp { transaction: 9, ..Dhcp::new(MessageType::Nak) }.by("10.0.0.2"), 3), Changes::default(), "a rogue");
    assert!(story.hear(&Dhcp { transaction: 9, ..Dhcp::new(MessageType::Nak) }.by("10.0.0.1"), 4).addresses);
    assert_eq!(story.known(5), ["10.0.0.6"]);
}

#[test]
fn libvirt_goes_on_with_the_first_address_while_any_lease_is_left() {
    let mut story = Story::of(&dhcp(), Quirks::Libvirt);
    story.hear(&ack("10.0.0.5", Some(100)).by("10.0.0.2"), 0);
    story.hear(&ack("10.0.0.6", Some(1000)).by("10.0.0.1"), 0);
    assert_eq!(story.known(0), ["10.0.0.5"]);
    story.learner.expire(500);
    assert_eq!(story.known(500), ["10.0.0.5"], "its own lease has ended");
    story.learner.expire(1000);
    assert_eq!(story.known(1000), [""; 0]);
    story.hear(&ack("10.0.0.7", Some(100)).by("10.0.0.1"), 1100);
    assert_eq!(story.known(1100), ["10.0.0.5"], "even then");
    let again = Learner::new(Quirks::Libvirt, story.learner.learned().clone());
    assert_eq!(Story { learner: again }.known(1100), ["10.0.0.7"], "a restart picks up the current one");
    story.hear(&ack("10.0.0.7", Some(10)).by("10.0.0.1"), 1100);
    assert_eq!(story.learner.next_end(), Some(1200), "an end is never moved back");
}

#[test]
fn of_two_guests_at_one_bridge_the_first_keeps_an_address_until_it_has_lost_it() {
    let other = Mac([0x52, 0x54, 0, 1, 2, 4]);
    let guests = [("vnet0", learning("vnet0", &Method::Any, GUEST)), ("vnet1", learning("vnet1", &Method::Any, other))];
    let mut learner = Learner::new(Quirks::Fixed, Learned::default());
    learner.attend(&policy(&guests), Quirks::Fixed);
    let say = |learner: &mut Learner, name: &str, mac| {
        let frame = frame::decode(&arp(mac, "10.0.0.5")).expect("well-formed").expect("it says something");
        learner.hear(&device(name), &frame, 1)
    };
    learner.place(&BTreeMap::from([(device("vnet0"), BRIDGE), (device("vnet1"), BRIDGE)]));
    assert!(say(&mut learner, "vnet0", GUEST).addresses);
    let denied = News::Denied(device("vnet1"), ip("10.0.0.5").into(), device("vnet0"));
    assert_eq!(say(&mut learner, "vnet1", other).news, [denied]);
    assert_eq!(say(&mut learner, "vnet1", other), Changes::default(), "told once");
    assert_eq!(learner.denied().count(), 1);
    assert!(learner.forget(&device("vnet0")).expect("it learns").addresses);
    assert_eq!(learner.denied().count(), 0);
    assert!(say(&mut learner, "vnet1", other).addresses);
    assert!(!say(&mut learner, "vnet0", GUEST).addresses);
    learner.place(&BTreeMap::from([(device("vnet0"), Segment(8)), (device("vnet1"), BRIDGE)]));
    assert!(say(&mut learner, "vnet0", GUEST).addresses, "another bridge is another network");
}

#[test]
fn another_mac_filter_or_server_is_another_guest() {
    let mut story = Story::of(&Method::Any, Quirks::Fixed);
    story.hear(&arp(GUEST, "10.0.0.5"), 1);
    let same = learning("vnet0", &Method::Any, GUEST);
    let mut changed = [same.clone(), same.clone(), same.clone()];
    changed[0].claimant.mac = Mac([2; 6]);
    changed[1].claimant.filter = "other".into();
    changed[2].claimant.method = dhcp();
    for learning in changed {
        let mut learner = story.learner.clone();
        assert!(learner.attend(&policy(&[("vnet0", learning)]), Quirks::Fixed));
        assert!(learner.learned().0.is_empty());
    }
    assert!(!story.learner.attend(&policy(&[("vnet0", same)]), Quirks::Fixed));
    assert_eq!(story.known(2), ["10.0.0.5"]);
}

#[test]
fn a_guest_that_is_away_keeps_its_leases_and_one_that_is_held_everything() {
    let mut story = Story::of(&dhcp(), Quirks::Fixed);
    story.hear(&ack("10.0.0.5", Some(100)).by("10.0.0.1"), 0);
    story.learner.attend(&policy(&[]), Quirks::Fixed);
    assert_eq!(story.known(1), ["10.0.0.5"]);
    story.learner.expire(100);
    assert!(story.learner.learned().0.is_empty());

    let mut story = Story::of(&Method::Any, Quirks::Fixed);
    story.hear(&arp(GUEST, "10.0.0.5"), 1);
    story.learner.attend(&Resolved { incomplete: true, ..policy(&[]) }, Quirks::Fixed);
    assert_eq!(story.known(1), ["10.0.0.5"]);
    assert_eq!(story.learner.pupils().count(), 1);
    story.learner.attend(&policy(&[]), Quirks::Fixed);
    assert_eq!(story.known(1), [""; 0]);
}

#[test]
fn what_a_guest_merely_used_ends_with_its_tap_and_a_lease_does_not() {
    let mut story = Story::of(&Method::Any, Quirks::Fixed);
    story.hear(&arp(GUEST, "10.0.0.5"), 1);
    assert!(story.learner.leave(&device("vnet0")).addresses);
    let mut story = Story::of(&dhcp(), Quirks::Fixed);
    story.hear(&ack("10.0.0.5", Some(100)).by("10.0.0.1"), 0);
    assert_eq!(story.learner.leave(&device("vnet0")), Changes::default());
}

#[test]
fn a_guest_that_changes_its_address_all_the_time_is_heard_less() {
    let mut story = Story::of(&dhcp(), Quirks::Fixed);
    let mut changed = 0;
    let mut told = 0;
    for round in 0..1000 {
        let taken = story.hear(&ack("10.0.0.5", Some(100)).by("10.0.0.1"), round / 100);
        let released = story.hear(&Dhcp { has: "10.0.0.5", ..Dhcp::new(MessageType::Release) }.sent(), round / 100);
        for changes in [taken, released] {
            changed += usize::from(changes.addresses);
            told += changes.news.iter().filter(|news| matches!(news, News::Restless(..))).count();
        }
    }
    assert_eq!(changed, 8);
    assert_eq!(told, 1);
}

#[test]
fn a_forging_server_cannot_give_a_guest_more_addresses_than_are_remembered() {
    let mut story = Story::of(&Method::Dhcp(Vec::new()), Quirks::Fixed);
    for round in 0..40 {
        let given: &'static str = Box::leak(format!("10.0.0.{}", round + 5).into_boxed_str());
        story.hear(&ack(given, Some(u32::MAX)).by("10.0.0.1"), round * 1000);
    }
    assert_eq!(story.known(0).len(), MOST_ADDRESSES);
}
