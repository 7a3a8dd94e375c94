//! Packets in the words of the page: `tcp 443`, `answer to udp 53`, `arp reply, as 10.40.0.66`, `tcp 80 over ipv6`, `tcp 80, at 203.0.113.9`, `ping, vlan 7`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bridgeward::addr::Mac;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpHeaders, PacketBuilder, PacketBuilderStep};

use super::lab::Place;

/// From which port somebody asked whom: by the names of both, and what was asked.
pub type Asked = BTreeMap<(String, String, String), u16>;

/// What nobody asked from.
const UNASKED: u16 = 39_999;

/// Who sends to whom, as the packet says.
struct Ends {
    macs: ([u8; 6], [u8; 6]),
    ipv4: (Ipv4Addr, Ipv4Addr),
    ipv6: (Ipv6Addr, Ipv6Addr),
}

impl Ends {
    fn ipv4(&self) -> PacketBuilderStep<IpHeaders> {
        PacketBuilder::ethernet2(self.macs.0, self.macs.1).ipv4(self.ipv4.0.octets(), self.ipv4.1.octets(), 64)
    }

    fn ipv6(&self) -> PacketBuilderStep<IpHeaders> {
        PacketBuilder::ethernet2(self.macs.0, self.macs.1).ipv6(self.ipv6.0.octets(), self.ipv6.1.octets(), 255)
    }
}

/// The frame, with `mark` in it; `port` is nobody else's.
pub fn packet(from: &Place, to: &Place, words: &str, port: u16, mark: &[u8], asked: &mut Asked) -> Vec<u8> {
    let (words, options) = words.split_once(", ").unwrap_or((words, ""));
    let (words, ipv6) = words.strip_suffix(" over ipv6").map_or((words, false), |words| (words, true));
    let mut ends = Ends { macs: from.ethernet_to(to), ipv4: (from.ipv4, to.ipv4), ipv6: (from.ipv6, to.ipv6) };
    let mut vlan = None;
    for option in options.split(", ").filter(|option| !option.is_empty()) {
        match option.split_once(' ') {
            Some(("as", liar)) => lie(&mut ends, liar),
            Some(("at", address)) => {
                ends.ipv4.1 = address.parse().unwrap_or_else(|_| panic!("docs/cookbook.md: `{address}` is no IPv4 address"));
            }
            Some(("vlan", number)) => vlan = Some(number.parse::<u16>().expect("a VLAN has a number")),
            _ => panic!("docs/cookbook.md: `{option}` says nothing about a packet"),
        }
    }
    let ip = |ends: &Ends| if ipv6 { ends.ipv6() } else { ends.ipv4() };
    let name = |place: &Place| place.name.to_owned();
    let mut bytes = Vec::new();
    let written = match words.split(' ').collect::<Vec<_>>().as_slice() {
        ["tcp", number] => {
            asked.insert((name(from), name(to), words.to_owned()), port);
            ip(&ends).tcp(port, parse(number), 1000, 4096).syn().write(&mut bytes, mark)
        }
        ["udp", number] => {
            asked.insert((name(from), name(to), words.to_owned()), port);
            ip(&ends).udp(port, parse(number)).write(&mut bytes, mark)
        }
        ["answer", "to", protocol, number] => {
            let back = asked.get(&(name(to), name(from), format!("{protocol} {number}"))).copied().unwrap_or(UNASKED);
            match *protocol {
                "tcp" => ip(&ends).tcp(parse(number), back, 1000, 4096).syn().ack(1001).write(&mut bytes, mark),
                "udp" => ip(&ends).udp(parse(number), back).write(&mut bytes, mark),
                _ => panic!("docs/cookbook.md: `{words}` is no answer"),
            }
        }
        ["ping"] if ipv6 => ends.ipv6().icmpv6_raw(128, 0, [0, 1, 0, 1]).write(&mut bytes, mark),
        ["ping"] => ends.ipv4().icmpv4_raw(8, 0, [0, 1, 0, 1]).write(&mut bytes, mark),
        ["dhcp", "request"] => {
            ends.macs.1 = [0xff; 6];
            ends.ipv4 = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
            ends.ipv4().udp(68, 67).write(&mut bytes, mark)
        }
        ["dhcp", "answer"] => ends.ipv4().udp(67, 68).write(&mut bytes, mark),
        ["router", "advertisement"] => {
            ends.macs.1 = [0x33, 0x33, 0, 0, 0, 1];
            ends.ipv6 = (link_local(ends.macs.0), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
            ends.ipv6().icmpv6_raw(134, 0, [64, 0, 0, 30]).write(&mut bytes, &[&[0; 8], mark].concat())
        }
        ["neighbour", kind] => {
            let (kind, about) = if *kind == "solicitation" { (135, ends.ipv6.1) } else { (136, ends.ipv6.0) };
            ends.ipv6().icmpv6_raw(kind, 0, [0; 4]).write(&mut bytes, &[&about.octets(), mark].concat())
        }
        ["arp", kind] => {
            let operation = if *kind == "request" { ArpOperation::REQUEST } else { ArpOperation::REPLY };
            let ((own, other), (source, target)) = (ends.macs, ends.ipv4);
            let message =
                ArpPacket::new(ArpHardwareId::ETHERNET, EtherType::IPV4, operation, &own, &source.octets(), &other, &target.octets());
            let message = message.expect("both ends have addresses of the same size");
            let written = PacketBuilder::ethernet2(own, other).arp(message).write(&mut bytes);
            bytes.extend(mark);
            written
        }
        _ => panic!("docs/cookbook.md: `{words}` is no packet that the tests know"),
    };
    written.expect("a short packet fits");
    if let Some(vlan) = vlan {
        bytes.splice(12..12, [0x81, 0].into_iter().chain(vlan.to_be_bytes()));
    }
    bytes
}

/// Says that the sender is another, by whichever address.
fn lie(ends: &mut Ends, liar: &str) {
    match (liar.parse(), Mac::parse(liar)) {
        (Ok(IpAddr::V4(address)), _) => ends.ipv4.0 = address,
        (Ok(IpAddr::V6(address)), _) => ends.ipv6.0 = address,
        (_, Some(mac)) => ends.macs.0 = mac.0,
        _ => panic!("docs/cookbook.md: `{liar}` is no address"),
    }
}

/// The address that a device gives itself.
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, 0, 0, 0];
    octets[13..].copy_from_slice(&mac[3..]);
    Ipv6Addr::from(octets)
}

fn parse(number: &str) -> u16 {
    number.parse().unwrap_or_else(|_| panic!("docs/cookbook.md: `{number}` is no port"))
}
