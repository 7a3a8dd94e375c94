//! Frames that no program sends: answers of a server, put on the bridge and straight on a guest's tap.
//!
//! Frames of one tap are judged in their order, so one that came before a frame that is known to have taught something was judged, too.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use dhcproto::Encodable;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use rustix::net::{SendFlags, send};
use serde_json::Value;

use super::{DHCP, plug, reaches, wait_until_known, waiting};
use crate::enforcement::wire::packet_socket;
use crate::namespace::inside;
use crate::world::{Daemon, World};

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0x40, 0, 0];
const SERVER: [u8; 6] = [0x52, 0x54, 0, 0x99, 0x99, 0x99];
/// The one of `DHCPSERVER`.
const NAMED: Ipv4Addr = Ipv4Addr::new(10, 40, 0, 1);
const ROGUE: Ipv4Addr = Ipv4Addr::new(10, 40, 0, 9);
const EXCHANGE: u32 = 9;

/// The payload of a message; 300 bytes at least, as those of real servers.
fn message(kind: MessageType, given: Ipv4Addr, option: DhcpOption) -> Vec<u8> {
    let nobody = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(EXCHANGE, nobody, given, nobody, nobody, &GUEST);
    let asks = matches!(kind, MessageType::Request | MessageType::Release);
    message.set_opcode(if asks { Opcode::BootRequest } else { Opcode::BootReply });
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    message.opts_mut().insert(option);
    let mut bytes = message.to_vec().expect("a short message fits");
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

fn frame(ethernet: [u8; 6], from: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let packet = PacketBuilder::ethernet2(ethernet, [0xff; 6]).ipv4(from.octets(), [255; 4], 64).udp(ports.0, ports.1);
    packet.write(&mut bytes, payload).expect("memory takes every write");
    bytes
}

/// This server gives the guest this address, for two minutes.
fn acknowledgement(server: Ipv4Addr, last: u8) -> Vec<u8> {
    frame(SERVER, server, (67, 68), &lease(last, 120))
}

fn lease(last: u8, seconds: u32) -> Vec<u8> {
    message(MessageType::Ack, Ipv4Addr::new(10, 40, 0, last), DhcpOption::AddressLeaseTime(seconds))
}

/// The guest gives this address back.
fn release(last: u8) -> Vec<u8> {
    let mut payload = message(MessageType::Release, Ipv4Addr::UNSPECIFIED, DhcpOption::ServerIdentifier(NAMED));
    // `ciaddr`.
    payload[12..16].copy_from_slice(&[10, 40, 0, last]);
    frame(GUEST, Ipv4Addr::new(10, 40, 0, last), (68, 67), &payload)
}

/// The guest asks for its server in the name of this address.
fn arp_of(last: u8) -> Vec<u8> {
    let (kind, protocol, sender) = (ArpHardwareId::ETHERNET, EtherType::IPV4, [10, 40, 0, last]);
    let message = ArpPacket::new(kind, protocol, ArpOperation::REQUEST, &GUEST, &sender, &[0; 6], &NAMED.octets()).expect("equal sizes");
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, [0xff; 6]).arp(message).write(&mut bytes).expect("memory takes every write");
    bytes
}

/// The same behind so many VLAN tags.
fn tagged(frame: &[u8], tags: usize) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 7].repeat(tags), &frame[12..]].concat()
}

/// This server does not give what was asked for.
fn refusal(server: Ipv4Addr) -> Vec<u8> {
    let server_id = DhcpOption::ServerIdentifier(server);
    frame(SERVER, server, (67, 68), &message(MessageType::Nak, Ipv4Addr::UNSPECIFIED, server_id))
}

/// The guest asks for this address.
fn request(last: u8) -> Vec<u8> {
    let wanted = DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 40, 0, last));
    frame(GUEST, Ipv4Addr::UNSPECIFIED, (68, 67), &message(MessageType::Request, Ipv4Addr::UNSPECIFIED, wanted))
}

/// A place for whole frames: a device of this namespace of the world, or of its own.
fn place(world: &World, namespace: Option<&str>, device: &str) -> OwnedFd {
    inside(&world.namespace(namespace), || packet_socket(device))
}

fn put(frame: &[u8], place: &OwnedFd) {
    assert_eq!(send(place, frame, SendFlags::empty()), Ok(frame.len()), "the link is up");
}

fn is_known(world: &World, address: &str) -> bool {
    world.save("ebtables").contains(&format!("{address} ")) || world.sh("cat /var/lib/bridgeward/*/learned.json").contains(address)
}

/// Whether a ping from this address of the guest is answered. What it knew of its neighbours is forgotten before: Linux goes on asking for a
/// neighbour in the name of the address that asked first.
fn reaches_from(world: &World, last: u8) -> bool {
    world.sh("ip -n guest0 neigh flush dev eth0");
    reaches(world, 0, &format!("-I 10.40.0.{last}"))
}

/// A guest that waits for an address, the place of its server, and its own.
fn heard(parameters: &[(&str, &str)], arguments: &[&str]) -> (World, Daemon, OwnedFd, OwnedFd) {
    let (world, daemon) = waiting(parameters, arguments);
    let (tap, own) = (place(&world, None, "vnet0"), place(&world, Some("guest0"), "eth0"));
    (world, daemon, tap, own)
}

#[test]
fn an_acknowledgement_of_a_rogue_server_does_nothing() {
    let (world, mut daemon) = waiting(DHCP, &[]);
    world.sh("ip -n guest0 addr add 10.40.0.77/24 dev eth0");
    // By way of the bridge the interim rules drop a rogue's frame; straight on the tap it is heard, and not believed.
    for (device, last) in [("br-lab", 50), ("vnet0", 51)] {
        let place = place(&world, None, device);
        put(&acknowledgement(ROGUE, 77), &place);
        assert!(!reaches_from(&world, 77), "the guest stays closed");
        put(&acknowledgement(NAMED, last), &place);

        wait_until_known(&world, &mut daemon, 0, &format!("10.40.0.{last}"));
        assert!(!is_known(&world, "10.40.0.77"), "a rogue on {device} gives nothing");
        assert!(!reaches_from(&world, 77), "nor opens anything");
    }
    put(&acknowledgement(NAMED, 77), &place(&world, None, "vnet0"));
    wait_until_known(&world, &mut daemon, 0, "10.40.0.77");
    assert!(reaches_from(&world, 77), "the same from the server that is named counts");
    world.assert_in_sync();
}

#[test]
fn a_refusal_takes_the_lease_that_was_asked_for_and_one_of_a_rogue_does_nothing() {
    let (world, mut daemon, tap, own) = heard(DHCP, &[]);
    put(&acknowledgement(NAMED, 50), &tap);
    put(&acknowledgement(NAMED, 77), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.77");
    world.sh("ip -n guest0 addr add 10.40.0.77/24 dev eth0; ip -n guest0 addr add 10.40.0.50/24 dev eth0");
    assert!(reaches_from(&world, 77));

    put(&request(77), &own);
    put(&refusal(ROGUE), &tap);
    put(&acknowledgement(NAMED, 51), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.51");
    assert!(reaches_from(&world, 77), "a rogue takes nothing away");

    put(&request(77), &own);
    put(&refusal(NAMED), &tap);
    daemon.wait_until("the refused lease is gone", || !is_known(&world, "10.40.0.77"));
    daemon.wait_until_log("refused by the server");
    assert!(!reaches_from(&world, 77), "a refusal closes");
    assert!(reaches_from(&world, 50), "what was not asked for stays");
    world.assert_in_sync();
}

#[test]
fn a_frame_of_the_guest_is_never_the_servers_nor_the_other_way_round() {
    let (world, mut daemon, tap, own) = heard(DHCP, &[]);
    // The guest plays its server, under another Ethernet address and under its own.
    put(&acknowledgement(NAMED, 77), &own);
    put(&frame(GUEST, NAMED, (67, 68), &lease(77, 120)), &own);
    put(&acknowledgement(NAMED, 50), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    // A neighbour plays the guest.
    put(&release(50), &tap);
    put(&frame(GUEST, NAMED, (67, 68), &lease(77, 120)), &tap);
    put(&acknowledgement(NAMED, 77), &own);
    put(&acknowledgement(NAMED, 51), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.51");
    assert!(!is_known(&world, "10.40.0.77"), "a guest gives itself nothing");
    assert!(is_known(&world, "10.40.0.50"), "nobody gives up for the guest");
    put(&release(50), &own);
    daemon.wait_until("the guest does", || !is_known(&world, "10.40.0.50"));
}

#[test]
fn two_vlan_tags_are_looked_behind_and_no_more_both_ways() {
    let (world, mut daemon, tap, own) = heard(DHCP, &[]);
    put(&tagged(&acknowledgement(NAMED, 77), 3), &tap);
    for tags in 1..=2_u8 {
        put(&tagged(&acknowledgement(NAMED, 50 + tags), tags.into()), &tap);
        wait_until_known(&world, &mut daemon, 0, &format!("10.40.0.{}", 50 + tags));
    }
    assert!(!is_known(&world, "10.40.0.77"));
    put(&tagged(&release(51), 3), &own);
    put(&tagged(&release(52), 2), &own);
    daemon.wait_until("the release was heard", || !is_known(&world, "10.40.0.52"));
    assert!(is_known(&world, "10.40.0.51"));
    put(&tagged(&release(51), 1), &own);
    daemon.wait_until("so was this", || !is_known(&world, "10.40.0.51"));
}

#[test]
fn libvirt_quirks_look_behind_fewer_tags_and_believe_every_server_but_no_arp() {
    let (world, mut daemon, tap, own) = heard(&[("CTRL_IP_LEARNING", "any")], &["--quirks", "libvirt"]);
    let says = |last| frame(GUEST, Ipv4Addr::new(10, 40, 0, last), (9, 9), b"here");
    put(&arp_of(71), &own);
    put(&tagged(&says(72), 2), &own);
    put(&tagged(&says(50), 1), &own);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    assert!(!is_known(&world, "10.40.0.71") && !is_known(&world, "10.40.0.72"));
    drop((daemon, world, tap));

    let (world, mut daemon, tap, own) = heard(DHCP, &["--quirks", "libvirt"]);
    put(&tagged(&acknowledgement(NAMED, 71), 1), &tap);
    put(&acknowledgement(NAMED, 72), &own);
    put(&acknowledgement(ROGUE, 50), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    assert!(!is_known(&world, "10.40.0.71") && !is_known(&world, "10.40.0.72"));
}

#[test]
fn a_lease_ends_when_its_time_is_over() {
    let (world, mut daemon, tap, _) = heard(DHCP, &[]);
    world.sh("ip -n guest0 addr add 10.40.0.50/24 dev eth0");
    put(&acknowledgement(NAMED, 51), &tap);
    put(&frame(SERVER, NAMED, (67, 68), &lease(50, 5)), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    daemon.wait_until("five seconds are over", || !is_known(&world, "10.40.0.50"));
    daemon.wait_until_log("the lease ended");
    assert!(!reaches_from(&world, 50), "an end closes");
    assert!(is_known(&world, "10.40.0.51"), "the other lease goes on");
}

#[test]
fn long_and_relayed_answers_count_and_malformed_ones_are_counted() {
    let (world, mut daemon, tap, _) = heard(DHCP, &[]);
    let [options, hardware_length, relay] = [240, 2, 24];
    let mut malformed = lease(77, 120);
    malformed[hardware_length] = 200;
    put(&frame(SERVER, NAMED, (67, 68), &malformed), &tap);
    let mut twice = lease(77, 120);
    let end = options + twice[options..].iter().position(|byte| *byte == 255).expect("options end");
    twice[end..end + 7].copy_from_slice(&[51, 4, 0, 0, 0, 60, 255]);
    put(&frame(SERVER, NAMED, (67, 68), &twice), &tap);
    // Private options to the end of the largest frame, the relay's address and its option.
    let mut long = lease(50, 120);
    long[relay..relay + 4].copy_from_slice(&ROGUE.octets());
    let end = options + long[options..].iter().position(|byte| *byte == 255).expect("options end");
    long.truncate(end);
    long.extend_from_slice(&[82, 4, 1, 2, 0, 0]);
    while long.len() + 257 < 1472 {
        long.extend_from_slice(&[224, 255]);
        long.extend_from_slice(&[7; 255]);
    }
    long.push(255);
    put(&frame(SERVER, NAMED, (67, 68), &long), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    assert!(!is_known(&world, "10.40.0.77"));
    let listening = || {
        let status: Value = serde_json::from_str(&world.bridgeward(&["status", "--format", "json"]).stdout).expect("JSON");
        status["listening"].clone()
    };
    assert_eq!(listening(), serde_json::json!({ "taps": 1, "frames": 3, "malformed": 2, "surplus": 0 }));
    let text = world.bridgeward(&["status"]).stdout;
    assert!(text.contains("\nlistening: 1 tap; 3 frames heard, 2 malformed, 0 from guests that send too many\n"), "{text}");
}

#[test]
fn a_tap_that_is_made_anew_keeps_its_lease_and_is_listened_to() {
    let (world, mut daemon, tap, _) = heard(DHCP, &[]);
    put(&acknowledgement(NAMED, 50), &tap);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    world.sh("ip link del vnet0");
    plug(&world, 0);
    world.sh("ip -n guest0 addr add 10.40.0.50/24 dev eth0");
    daemon.wait_until("the lease counts on the new tap", || reaches_from(&world, 50));
    let own = place(&world, Some("guest0"), "eth0");
    daemon.wait_until("the new tap is listened to", || {
        put(&release(50), &own);
        !is_known(&world, "10.40.0.50")
    });
    // Down and up again, and it is still listened to.
    world.sh("ip link set vnet0 down; ip link set vnet0 up");
    let tap = place(&world, None, "vnet0");
    daemon.wait_until("a tap that was down is listened to", || {
        put(&acknowledgement(NAMED, 51), &tap);
        is_known(&world, "10.40.0.51")
    });
}
