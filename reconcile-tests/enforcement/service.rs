//! What a guest offers and uses: ports, ICMP types, replies, numbers of connections, sets.

use super::frame::{Frame, Host};
use super::wire::Wire;
use crate::fixture::guest;

const GUEST: Host = Host::guest(0);
const PEER: Host = Host::guest(1);

impl Wire {
    /// Gives `vnet0` a filter with these rules.
    pub(super) fn filter(&self, rules: &str) {
        self.world.write("service.xml", &format!("<filter name='service' chain='root'>\n{rules}\n</filter>\n"));
        self.world.write("vnet0.xml", &guest(0, "service"));
        self.world.apply();
    }

    /// Asserts that every frame passes between these guests.
    fn assert_open(&self, from: usize, to: usize, frames: &[Frame]) {
        let all: Vec<&str> = frames.iter().map(|frame| frame.name).collect();
        assert_eq!(self.arrivals(from, to, frames), all, "without rules everything passes");
    }
}

#[test]
fn ports_are_open_in_the_direction_that_the_rule_names() {
    let wire = Wire::new(2);
    let frames = |from: Host, to: Host| {
        [
            Frame { name: "tcp 443", bytes: from.syn(6000, to, 443) },
            Frame { name: "tcp 80", bytes: from.syn(6001, to, 80) },
            Frame { name: "tcp 81", bytes: from.syn(6002, to, 81) },
            Frame { name: "udp 123", bytes: from.udp(6003, to, 123) },
            Frame { name: "udp 54", bytes: from.udp(6004, to, 54) },
            Frame { name: "udp 53", bytes: from.udp(6005, to, 53) },
            Frame { name: "udp 700", bytes: from.udp(6006, to, 700) },
        ]
    };
    let (into, out) = (frames(PEER, GUEST), frames(GUEST, PEER));
    wire.assert_open(1, 0, &into);
    wire.assert_open(0, 1, &out);
    wire.filter(
        "  <rule action='accept' direction='in' priority='100'><tcp dstportstart='80'/></rule>
  <rule action='accept' direction='in' priority='100'><udp dstportstart='53'/></rule>
  <rule action='accept' direction='out' priority='100'><tcp dstportstart='443'/></rule>
  <rule action='accept' direction='out' priority='100'><udp dstportstart='123' dstportend='124'/></rule>
  <rule action='accept' direction='inout' priority='100'><udp dstportstart='700'/></rule>
  <rule action='accept' direction='out' priority='100'><udp dstportstart='700'/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>",
    );
    assert_eq!(wire.arrivals(1, 0, &into), ["tcp 80", "udp 53", "udp 700"]);
    assert_eq!(wire.arrivals(0, 1, &out), ["tcp 443", "udp 123", "udp 700"]);
}

#[test]
fn a_reply_passes_and_what_nobody_asked_for_does_not() {
    let wire = Wire::new(2);
    let questions = [
        Frame { name: "udp question", bytes: GUEST.udp(5000, PEER, 53) },
        Frame { name: "tcp connection", bytes: GUEST.syn(5001, PEER, 80) },
    ];
    let answers = [
        Frame { name: "tcp answer", bytes: PEER.syn_ack(80, GUEST, 5001) },
        Frame { name: "udp from another port", bytes: PEER.udp(54, GUEST, 5000) },
        Frame { name: "tcp connection from outside", bytes: PEER.syn(5002, GUEST, 5001) },
        Frame { name: "answer to no question", bytes: PEER.udp(53, GUEST, 5003) },
        Frame { name: "udp answer", bytes: PEER.udp(53, GUEST, 5000) },
    ];
    let probe = || Frame { name: "probe", bytes: PEER.udp(9, GUEST, 9) };
    wire.assert_open(0, 1, &questions);
    wire.assert_open(1, 0, &answers);
    wire.filter(
        "  <rule action='accept' direction='out' priority='100'><all/></rule>
  <rule action='accept' direction='in' priority='100' statematch='false'><udp dstportstart='9'/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>",
    );
    let too_early = [Frame { name: "answer", bytes: PEER.udp(53, GUEST, 5000) }, probe()];
    assert_eq!(wire.arrivals(1, 0, &too_early), ["probe"], "nobody has asked yet");
    wire.assert_open(0, 1, &questions);
    assert_eq!(wire.arrivals(1, 0, &answers), ["tcp answer", "udp answer"]);
}

#[test]
fn icmp_types_are_told_apart() {
    let wire = Wire::new(2);
    let frames = |from: Host, to: Host| {
        [
            Frame { name: "timestamp", bytes: from.icmp(to, 13) },
            Frame { name: "router solicitation", bytes: from.icmp(to, 10) },
            Frame { name: "echo", bytes: from.icmp(to, 8) },
        ]
    };
    let (into, out) = (frames(PEER, GUEST), frames(GUEST, PEER));
    wire.assert_open(1, 0, &into);
    wire.assert_open(0, 1, &out);
    wire.filter(
        "  <rule action='accept' direction='inout' priority='100'><icmp type='8'/></rule>
  <rule action='accept' direction='in' priority='100'><icmp type='13'/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>",
    );
    assert_eq!(wire.arrivals(1, 0, &into), ["timestamp", "echo"]);
    assert_eq!(wire.arrivals(0, 1, &out), ["echo"]);
}

#[test]
fn connections_above_the_limit_are_dropped_for_each_source_alone() {
    let wire = Wire::new(2);
    let other = PEER.with_ipv4([10, 40, 0, 77]);
    let frames = [
        Frame { name: "first", bytes: PEER.syn(7001, GUEST, 22) },
        Frame { name: "second", bytes: PEER.syn(7002, GUEST, 22) },
        Frame { name: "third", bytes: PEER.syn(7003, GUEST, 22) },
        Frame { name: "from elsewhere", bytes: other.syn(7001, GUEST, 22) },
    ];
    wire.assert_open(1, 0, &frames[..3]);
    wire.filter(
        "  <rule action='drop' direction='in' priority='100'><tcp dstportstart='22' connlimit-above='2'/></rule>
  <rule action='accept' direction='in' priority='200'><tcp dstportstart='22'/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>",
    );
    assert_eq!(wire.arrivals(1, 0, &frames), ["first", "second", "from elsewhere"]);
}

#[test]
fn a_set_decides_without_another_pass() {
    let wire = Wire::new(2);
    let friend = PEER.with_ipv4([10, 40, 0, 77]);
    let frames = [
        Frame { name: "stranger's tcp", bytes: PEER.syn(7001, GUEST, 22) },
        Frame { name: "friend's tcp", bytes: friend.syn(7001, GUEST, 22) },
        Frame { name: "friend's udp", bytes: friend.udp(7001, GUEST, 22) },
    ];
    wire.assert_open(1, 0, &frames);
    wire.world.sh("ipset create friends hash:ip; ipset add friends 10.40.0.77");
    wire.filter(
        "  <rule action='accept' direction='in' priority='100'><all ipset='friends' ipsetflags='src'/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>",
    );
    assert_eq!(wire.arrivals(1, 0, &frames), ["friend's tcp", "friend's udp"]);
    wire.world.sh("ipset add friends 10.40.0.11");
    wire.assert_open(1, 0, &frames);
    wire.filter(
        "  <rule action='accept' direction='in' priority='100'><tcp ipset='friends' ipsetflags='src'/></rule>
  <rule action='accept' direction='in' priority='100'><udp dstportstart='9'/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>",
    );
    wire.world.sh("ipset del friends 10.40.0.11");
    let fresh = [
        Frame { name: "stranger's tcp", bytes: PEER.syn(7101, GUEST, 22) },
        Frame { name: "friend's udp", bytes: friend.udp(7101, GUEST, 22) },
        Frame { name: "friend's tcp", bytes: friend.syn(7101, GUEST, 22) },
    ];
    assert_eq!(wire.arrivals(1, 0, &fresh), ["friend's tcp"], "a set is matched on every protocol, not on `all` alone");
}
