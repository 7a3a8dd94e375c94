//! Frames for the tests: real ones, as a guest and its server put them on the wire.

use std::net::{Ipv4Addr, Ipv6Addr};

use dhcproto::v4::{self, DhcpOption, MessageType, Opcode};
use dhcproto::{Encodable, v6};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder, VlanId};

use crate::addr::Mac;

pub(super) const GUEST: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
pub(super) const SERVER: Mac = Mac([0x52, 0x54, 0, 9, 9, 9]);

pub(super) fn ip(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

pub(super) fn ip6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

/// A gratuitous ARP request of this sender.
pub(super) fn arp(source: Mac, sender: &str) -> Vec<u8> {
    arp_of(source, source, sender)
}

pub(super) fn arp_of(source: Mac, claimed: Mac, sender: &str) -> Vec<u8> {
    let sender = ip(sender).octets();
    let (kind, protocol) = (ArpHardwareId::ETHERNET, EtherType::IPV4);
    let message = ArpPacket::new(kind, protocol, ArpOperation::REQUEST, &claimed.0, &sender, &[0; 6], &sender).expect("equal sizes");
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(source.0, [0xff; 6]).arp(message).write(&mut bytes).expect("memory takes every write");
    bytes
}

/// A UDP packet with so many VLAN tags.
pub(super) fn udp(source: Mac, tags: usize, from: &str, ports: (u16, u16), content: &[u8]) -> Vec<u8> {
    udp_to(source, Mac::BROADCAST, tags, from, ports, content)
}

fn udp_to(source: Mac, destination: Mac, tags: usize, from: &str, ports: (u16, u16), content: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(source.0, destination.0);
    let (from, to) = (ip(from).octets(), [255; 4]);
    let id = |id| VlanId::try_new(id).expect("12 bits");
    let step = match tags {
        0 => ethernet.ipv4(from, to, 64),
        1 => ethernet.single_vlan(id(7)).ipv4(from, to, 64),
        _ => ethernet.double_vlan(id(7), id(8)).ipv4(from, to, 64),
    };
    let mut bytes = Vec::new();
    step.udp(ports.0, ports.1).write(&mut bytes, content).expect("memory takes every write");
    bytes
}

/// One message of a DHCP story; what is not set is zero.
pub(super) struct Dhcp {
    pub(super) kind: MessageType,
    pub(super) given: &'static str,
    pub(super) has: &'static str,
    pub(super) wanted: Option<&'static str>,
    pub(super) lease: Option<u32>,
    pub(super) transaction: u32,
    pub(super) client: Mac,
}

impl Dhcp {
    pub(super) fn new(kind: MessageType) -> Self {
        Self { kind, given: "0.0.0.0", has: "0.0.0.0", wanted: None, lease: None, transaction: 1, client: GUEST }
    }

    fn payload(&self, opcode: Opcode) -> Vec<u8> {
        let mut message = v4::Message::new_with_id(
            self.transaction,
            ip(self.has),
            ip(self.given),
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            &self.client.0,
        );
        message.set_opcode(opcode);
        message.opts_mut().insert(DhcpOption::MessageType(self.kind));
        if let Some(wanted) = self.wanted {
            message.opts_mut().insert(DhcpOption::RequestedIpAddress(ip(wanted)));
        }
        if let Some(lease) = self.lease {
            message.opts_mut().insert(DhcpOption::AddressLeaseTime(lease));
        }
        // As real ones are, padded to what BOOTP had.
        let mut bytes = message.to_vec().expect("a short message fits");
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }

    /// As the guest sends it.
    pub(super) fn sent(&self) -> Vec<u8> {
        udp(GUEST, 0, self.has, (68, 67), &self.payload(Opcode::BootRequest))
    }

    /// As this server answers it.
    pub(super) fn by(&self, server: &str) -> Vec<u8> {
        self.answered(server, GUEST)
    }

    pub(super) fn answered(&self, server: &str, destination: Mac) -> Vec<u8> {
        udp_to(SERVER, destination, 0, server, (67, 68), &self.payload(Opcode::BootReply))
    }
}

/// An acknowledgement of this address for so many seconds.
pub(super) fn ack(given: &'static str, lease: Option<u32>) -> Dhcp {
    Dhcp { given, lease, ..Dhcp::new(MessageType::Ack) }
}

/// A neighbour solicitation of the guest.
pub(super) fn solicitation(source: &str, target: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST.0, [0x33, 0x33, 0xff, 0, 0, 1])
        .ipv6(ip6(source).octets(), ip6("ff02::1:ff00:1").octets(), 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut bytes, &ip6(target).octets())
        .expect("memory takes every write");
    bytes
}

/// A DHCPv6 message about one address.
pub(super) fn dhcpv6(kind: v6::MessageType, from_guest: bool, address: &str, valid: u32) -> Vec<u8> {
    let mut message = v6::Message::new(kind);
    let mut inner = v6::DhcpOptions::new();
    let address = v6::IAAddr { addr: ip6(address), preferred_life: valid, valid_life: valid, opts: v6::DhcpOptions::new() };
    inner.insert(v6::DhcpOption::IAAddr(address));
    message.opts_mut().insert(v6::DhcpOption::IANA(v6::IANA { id: 1, t1: 0, t2: 0, opts: inner }));
    let (source, destination, ports) =
        if from_guest { (GUEST, Mac([0x33, 0x33, 0, 1, 0, 2]), (546, 547)) } else { (SERVER, GUEST, (547, 546)) };
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(source.0, destination.0)
        .ipv6(ip6("fe80::1").octets(), ip6("fe80::2").octets(), 1)
        .udp(ports.0, ports.1)
        .write(&mut bytes, &message.to_vec().expect("a short message fits"))
        .expect("memory takes every write");
    bytes
}
