//! Frames that no program sends: answers of a server, put on the bridge and straight on a guest's tap.
//!
//! Frames of one tap are judged in their order, so one that came before a frame that is known to have taught something was judged, too.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use dhcproto::Encodable;
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode};
use etherparse::PacketBuilder;
use rustix::net::{SendFlags, send};

use super::lease::DHCP;
use super::{bridged, guest, reaches, wait_until_closed, wait_until_known};
use crate::enforcement::wire::packet_socket;
use crate::namespace::inside;
use crate::world::World;

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
    message.set_opcode(if kind == MessageType::Request { Opcode::BootRequest } else { Opcode::BootReply });
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
    let lease = DhcpOption::AddressLeaseTime(120);
    frame(SERVER, server, (67, 68), &message(MessageType::Ack, Ipv4Addr::new(10, 40, 0, last), lease))
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

#[test]
fn an_acknowledgement_of_a_rogue_server_does_nothing() {
    let world = bridged(1);
    world.write("vnet0.xml", &guest(0, DHCP));
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 0);
    world.sh("ip -n guest0 addr add 10.40.0.77/24 dev eth0");
    let own = place(&world, Some("guest0"), "eth0");
    // By way of the bridge the interim rules drop a rogue's frame; straight on the tap it is heard, and not believed.
    for (device, last) in [("br-lab", 50), ("vnet0", 51)] {
        let place = place(&world, None, device);
        put(&request(77), &own);
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
    let world = bridged(1);
    world.write("vnet0.xml", &guest(0, DHCP));
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 0);
    let (tap, own) = (place(&world, None, "vnet0"), place(&world, Some("guest0"), "eth0"));
    put(&request(50), &own);
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
