//! Frames as guests make them: whole, with right checksums, and true or false in their addresses as the test wishes.

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder, PacketBuilderStep};
use etherparse::{IpHeaders, TcpHeader};

/// A frame with a name for messages.
pub struct Frame {
    /// What it is, in the words of the test.
    pub name: &'static str,
    /// From the Ethernet header to the end.
    pub bytes: Vec<u8>,
}

/// One end of a conversation: what a guest says it is.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub ipv4: [u8; 4],
    /// Its IPv6 address.
    pub ipv6: [u8; 16],
}

/// `Request` or `Reply`.
pub type Operation = ArpOperation;

const BROADCAST: [u8; 6] = [0xff; 6];

impl Host {
    /// The guest behind `vnetN`: 52:54:00:40:00:0N, 10.40.0.1N, fd40::1N.
    pub const fn guest(number: u8) -> Self {
        let mut ipv6 = [0; 16];
        (ipv6[0], ipv6[1], ipv6[15]) = (0xfd, 0x40, 0x10 + number);
        Self { mac: [0x52, 0x54, 0, 0x40, 0, number], ipv4: [10, 40, 0, 10 + number], ipv6 }
    }

    /// The same with another Ethernet address.
    pub const fn with_mac(self, mac: [u8; 6]) -> Self {
        Self { mac, ..self }
    }

    /// The same with another IPv4 address.
    pub const fn with_ipv4(self, ipv4: [u8; 4]) -> Self {
        Self { ipv4, ..self }
    }

    /// The same with another IPv6 address.
    pub const fn with_ipv6(self, ipv6: [u8; 16]) -> Self {
        Self { ipv6, ..self }
    }

    /// The same, heard by all.
    pub const fn broadcast(self) -> Self {
        self.with_mac(BROADCAST)
    }

    fn ipv4_to(self, to: Self) -> PacketBuilderStep<IpHeaders> {
        PacketBuilder::ethernet2(self.mac, to.mac).ipv4(self.ipv4, to.ipv4, 64)
    }

    fn ipv6_to(self, to: Self) -> PacketBuilderStep<IpHeaders> {
        PacketBuilder::ethernet2(self.mac, to.mac).ipv6(self.ipv6, to.ipv6, 255)
    }

    fn tcp_to(self, source: u16, to: Self, destination: u16) -> PacketBuilderStep<TcpHeader> {
        self.ipv4_to(to).tcp(source, destination, 1000, 4096)
    }

    /// An ICMP message of this type, code 0.
    pub fn icmp(self, to: Self, kind: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = self.ipv4_to(to).icmpv4_raw(kind, 0, [0, 1, 0, 1]).write(&mut bytes, &[0; 12]);
        written.expect("a short packet fits");
        bytes
    }

    /// A datagram with a few bytes.
    pub fn udp(self, source: u16, to: Self, destination: u16) -> Vec<u8> {
        self.udp_with(source, to, destination, b"hello")
    }

    /// A datagram with this content.
    pub fn udp_with(self, source: u16, to: Self, destination: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.ipv4_to(to).udp(source, destination).write(&mut bytes, content).expect("a short packet fits");
        bytes
    }

    /// The first segment of a connection.
    pub fn syn(self, source: u16, to: Self, destination: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.tcp_to(source, to, destination).syn().write(&mut bytes, &[]).expect("a short packet fits");
        bytes
    }

    /// The answer to [`Self::syn`].
    pub fn syn_ack(self, source: u16, to: Self, destination: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.tcp_to(source, to, destination).syn().ack(1001).write(&mut bytes, &[]).expect("a short packet fits");
        bytes
    }

    /// An ARP message in which the sender is `claimed`, whoever sends the frame.
    pub fn arp(self, operation: Operation, claimed: Self, to: Self) -> Vec<u8> {
        let message = ArpPacket::new(ArpHardwareId::ETHERNET, EtherType::IPV4, operation, &claimed.mac, &claimed.ipv4, &to.mac, &to.ipv4);
        let mut bytes = Vec::new();
        let message = message.expect("both ends have addresses of the same size");
        PacketBuilder::ethernet2(self.mac, to.mac).arp(message).write(&mut bytes).expect("a short packet fits");
        bytes
    }

    /// A neighbour solicitation or advertisement (type 135 or 136) about this address, with the sender's Ethernet address.
    pub fn neighbour(self, to: Self, kind: u8, about: [u8; 16]) -> Vec<u8> {
        let option = if kind == 135 { 1 } else { 2 };
        let content: Vec<u8> = about.into_iter().chain([option, 1]).chain(self.mac).collect();
        let mut bytes = Vec::new();
        self.ipv6_to(to).icmpv6_raw(kind, 0, [0; 4]).write(&mut bytes, &content).expect("a short packet fits");
        bytes
    }
}
