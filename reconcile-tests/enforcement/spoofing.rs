//! What a guest may say about itself: frames with a false sender are dropped, the honest ones beside them arrive.

use super::frame::{Frame, Host, Operation};
use super::wire::Wire;
use crate::fixture::guest;

const GUEST: Host = Host::guest(0);
const PEER: Host = Host::guest(1);
const OTHER_MAC: [u8; 6] = [0x52, 0x54, 0, 0x40, 0, 0x66];
const OTHER_IPV4: [u8; 4] = [10, 40, 0, 66];

/// Asserts that all frames arrive without rules, and those named after `vnet0` got this filter.
fn assert_lets_out(filter: &str, frames: &[Frame], expected: &[&str]) {
    let wire = Wire::new(2);
    let all: Vec<&str> = frames.iter().map(|frame| frame.name).collect();
    assert_eq!(wire.arrivals(0, 1, frames), all, "without rules everything passes");
    wire.world.write("vnet0.xml", &guest(0, filter));
    wire.world.apply();
    assert_eq!(wire.arrivals(0, 1, frames), expected, "with {filter}");
}

#[test]
fn clean_traffic_drops_every_false_sender() {
    let frames = [
        Frame { name: "true ping", bytes: GUEST.icmp(PEER, 8) },
        Frame { name: "ping with a false MAC", bytes: GUEST.with_mac(OTHER_MAC).icmp(PEER, 8) },
        Frame { name: "ping with a false address", bytes: GUEST.with_ipv4(OTHER_IPV4).icmp(PEER, 8) },
        Frame { name: "ping with the peer's address", bytes: GUEST.with_ipv4(PEER.ipv4).icmp(PEER, 8) },
        Frame { name: "true ARP request", bytes: GUEST.arp(Operation::REQUEST, GUEST, PEER.broadcast()) },
        Frame { name: "ARP reply with a false address", bytes: GUEST.arp(Operation::REPLY, GUEST.with_ipv4(OTHER_IPV4), PEER) },
        Frame { name: "ARP reply with a false MAC inside", bytes: GUEST.arp(Operation::REPLY, GUEST.with_mac(OTHER_MAC), PEER) },
        Frame { name: "ARP reply in a false frame", bytes: GUEST.with_mac(OTHER_MAC).arp(Operation::REPLY, GUEST, PEER) },
        Frame { name: "IPv6", bytes: GUEST.neighbour(PEER, 136, GUEST.ipv6) },
        Frame { name: "true ARP reply", bytes: GUEST.arp(Operation::REPLY, GUEST, PEER) },
    ];
    assert_lets_out("clean-traffic", &frames, &["true ping", "true ARP request", "true ARP reply"]);
}

#[test]
fn each_stock_filter_against_spoofing_drops_its_own_lie_alone() {
    let false_mac = || Frame { name: "false MAC", bytes: GUEST.with_mac(OTHER_MAC).icmp(PEER, 8) };
    let false_address = || Frame { name: "false address", bytes: GUEST.with_ipv4(OTHER_IPV4).icmp(PEER, 8) };
    let false_arp = || Frame { name: "false ARP", bytes: GUEST.arp(Operation::REPLY, GUEST.with_ipv4(OTHER_IPV4), PEER) };
    let frames = [false_mac(), false_address(), false_arp(), Frame { name: "truth", bytes: GUEST.icmp(PEER, 8) }];
    let wire = Wire::new(2);
    for (filter, expected) in [
        ("no-mac-spoofing", ["false address", "false ARP", "truth"]),
        ("no-ip-spoofing", ["false MAC", "false ARP", "truth"]),
        ("no-arp-spoofing", ["false MAC", "false address", "truth"]),
    ] {
        assert_eq!(wire.arrivals(0, 1, &frames).len(), frames.len(), "without rules everything passes");
        wire.world.write("vnet0.xml", &guest(0, filter));
        wire.world.apply();
        assert_eq!(wire.arrivals(0, 1, &frames), expected, "with {filter}");
        wire.world.delete("vnet0.xml");
        wire.world.apply();
    }
}

#[test]
fn no_mac_broadcast_stops_ipv4_for_all_and_lets_arp_ask() {
    let frames = [
        Frame { name: "to one", bytes: GUEST.udp(5000, PEER, 5001) },
        Frame { name: "to all", bytes: GUEST.udp(5000, PEER.broadcast(), 5001) },
        Frame { name: "ARP to all", bytes: GUEST.arp(Operation::REQUEST, GUEST, PEER.broadcast()) },
    ];
    assert_lets_out("no-mac-broadcast", &frames, &["to one", "ARP to all"]);
}

#[test]
fn a_filter_may_close_broadcast_in_both_directions() {
    const FILTER: &str = "<filter name='quiet' chain='root'>
  <rule action='drop' direction='inout'><mac dstmacaddr='ff:ff:ff:ff:ff:ff'/></rule>
  <rule action='drop' direction='out'><mac dstmacaddr='ff:ff:ff:ff:ff:ff'/></rule>
</filter>
";
    let wire = Wire::new(2);
    let frames = |from: Host, to: Host| {
        [
            Frame { name: "to all", bytes: from.arp(Operation::REQUEST, from, to.broadcast()) },
            Frame { name: "to one", bytes: from.arp(Operation::REQUEST, from, to) },
        ]
    };
    let (out, into) = (frames(GUEST, PEER), frames(PEER, GUEST));
    assert_eq!(wire.arrivals(0, 1, &out), ["to all", "to one"]);
    assert_eq!(wire.arrivals(1, 0, &into), ["to all", "to one"]);
    wire.world.write("quiet.xml", FILTER);
    wire.world.write("vnet0.xml", &guest(0, "quiet"));
    wire.world.apply();
    assert_eq!(wire.arrivals(0, 1, &out), ["to one"]);
    assert_eq!(wire.arrivals(1, 0, &into), ["to one"]);
}

#[test]
fn neighbour_discovery_under_no_ipv6_spoofing_needs_the_guests_own_address() {
    const NEIGHBOUR: &str = "<filterbinding>
  <owner><name>vm0</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1000</uuid></owner>
  <portdev name='vnet0'/>
  <mac address='52:54:00:40:00:00'/>
  <filterref filter='no-ipv6-spoofing'><parameter name='IPV6' value='fd40::10'/></filterref>
</filterbinding>
";
    const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0x40, 0, 0];
    let stranger = GUEST.with_ipv6([0xfd, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66]);
    let frames = [
        Frame { name: "true solicitation", bytes: GUEST.neighbour(PEER, 135, PEER.ipv6) },
        Frame { name: "solicitation of a stranger", bytes: stranger.neighbour(PEER, 135, PEER.ipv6) },
        Frame { name: "advertisement of a stranger", bytes: stranger.neighbour(PEER, 136, stranger.ipv6) },
        // The stock filter lets link-local senders out for UDP alone.
        Frame { name: "link-local solicitation", bytes: GUEST.with_ipv6(LINK_LOCAL).neighbour(PEER, 135, PEER.ipv6) },
        Frame { name: "true advertisement", bytes: GUEST.neighbour(PEER, 136, GUEST.ipv6) },
    ];
    let wire = Wire::new(2);
    assert_eq!(wire.arrivals(0, 1, &frames).len(), frames.len(), "without rules everything passes");
    wire.world.write("vnet0.xml", NEIGHBOUR);
    wire.world.apply();
    assert_eq!(wire.arrivals(0, 1, &frames), ["true solicitation", "true advertisement"]);
    let answers = [
        Frame { name: "solicitation of the peer", bytes: PEER.neighbour(GUEST, 135, GUEST.ipv6) },
        Frame { name: "advertisement of the peer", bytes: PEER.neighbour(GUEST, 136, PEER.ipv6) },
    ];
    assert_eq!(wire.arrivals(1, 0, &answers).len(), answers.len(), "what comes in is not the guest's to answer for");
}

#[test]
fn what_a_sub_chain_does_not_match_goes_on_whether_it_says_so_or_not() {
    const ROOT: &str = "<filter name='whole' chain='root'>
  <filterref filter='tail'/>
  <rule action='accept' direction='out' priority='100'><ip protocol='udp' dstportstart='9'/></rule>
  <rule action='drop' direction='out' priority='1000'/>
</filter>
";
    let tail = |end: &str| {
        let drop = "<rule action='drop' direction='out' priority='100'><ip protocol='udp' dstportstart='7'/></rule>";
        format!("<filter name='tail' chain='ipv4'>\n  {drop}\n  {end}\n</filter>\n")
    };
    let frames = [
        Frame { name: "udp 7", bytes: GUEST.udp(5000, PEER, 7) },
        Frame { name: "udp 8", bytes: GUEST.udp(5000, PEER, 8) },
        Frame { name: "ARP", bytes: GUEST.arp(Operation::REQUEST, GUEST, PEER) },
        Frame { name: "udp 9", bytes: GUEST.udp(5000, PEER, 9) },
    ];
    let wire = Wire::new(2);
    assert_eq!(wire.arrivals(0, 1, &frames).len(), frames.len(), "without rules everything passes");
    wire.world.write("whole.xml", ROOT);
    wire.world.write("tail.xml", &tail(""));
    wire.world.write("vnet0.xml", &guest(0, "whole"));
    wire.world.apply();
    assert_eq!(wire.arrivals(0, 1, &frames), ["udp 9"]);
    wire.world.write("tail.xml", &tail("<rule action='return' direction='out' priority='1000'/>"));
    wire.world.apply();
    assert_eq!(wire.arrivals(0, 1, &frames), ["udp 9"]);
}
