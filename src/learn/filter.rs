//! What the kernel passes from a tap to us: just the frames that can teach something about one guest.
//!
//! A program for the kernel's packet filter: libpcap compiles what frames hold, from text; around that stands which way a frame goes, which the
//! kernel alone knows. It is settled here and nowhere else: what the guest sends comes *in* on its tap and must carry its Ethernet address,
//! what goes *out* to it must not; so whoever reads the frames can tell by the source. Without that, a neighbour could send in the
//! guest's name, and be believed where the bridge repeats the frame to the guest.

use pcap::{Capture, Linktype};
use socket2::SockFilter;

use crate::addr::Mac;

/// What is to be heard from, and to, one guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a kind of frame, heard or not, and any may come with any other")]
pub struct Hearing {
    /// ARP that it sends.
    pub arp: bool,
    /// Every IPv4 packet that it sends.
    pub ipv4: bool,
    /// Neighbour solicitations that it sends.
    pub neighbour: bool,
    /// DHCP that it sends.
    pub requests: bool,
    /// DHCP that is sent to it.
    pub replies: bool,
    /// DHCPv6, both ways.
    pub dhcpv6: bool,
    /// How many VLAN tags may stand before all that, 0 to 2.
    pub tags: usize,
}

/// The fields of Ethernet, without a tag, with one, with two: where the type of the content stands.
const TYPE_AT: [u32; 3] = [12, 16, 20];

/// Instructions of the classic packet filter, as in linux/filter.h: load what the kernel knows of the packet, compare it, jump, return.
const LOAD: u16 = 0x20;
const IS_EQUAL: u16 = 0x15;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;
/// `SKF_AD_OFF`, with what can be loaded there: `SKF_AD_PKTTYPE` and `SKF_AD_VLAN_TAG_PRESENT`.
const DIRECTION: u32 = 0xffff_f000 + 4;
const HAS_TAG: u32 = 0xffff_f000 + 48;
/// `PACKET_OUTGOING`: everything else comes in.
const OUTGOING: u32 = 4;

impl Hearing {
    /// Whether there is anything to hear.
    pub fn is_any(self) -> bool {
        self != Self { tags: self.tags, ..Self::default() }
    }

    /// How many bytes of a frame are needed: of DHCP all of it, else the headers.
    pub fn snap_length(self) -> u16 {
        if self.requests || self.replies || self.dhcpv6 { 1600 } else { 128 }
    }

    /// The filter for the tap of the guest with this address.
    ///
    /// # Errors
    /// When libpcap does not compile what frames hold.
    pub fn program(self, mac: Mac) -> Result<Vec<SockFilter>, pcap::Error> {
        Ok(choose(DIRECTION, OUTGOING, self.one_way(mac, false)?, self.one_way(mac, true)?))
    }

    /// The kernel keeps the outermost tag of most frames apart from their bytes: then one less stands in them.
    fn one_way(self, mac: Mac, sent: bool) -> Result<Vec<SockFilter>, pcap::Error> {
        let compile = |tags: Option<usize>| {
            let content = tags.map(|tags| self.content(sent, tags)).filter(|content| !content.is_empty());
            let Some(content) = content else { return Ok(vec![SockFilter::new(RETURN, 0, 0, 0)]) };
            let not = if sent { "" } else { "not " };
            self.compile(&format!("{not}ether src {mac} and ({content})"))
        };
        Ok(choose(HAS_TAG, 0, compile(Some(self.tags))?, compile(self.tags.checked_sub(1))?))
    }

    fn compile(self, text: &str) -> Result<Vec<SockFilter>, pcap::Error> {
        let program = Capture::dead(Linktype::ETHERNET)?.compile(text, true)?;
        let instructions = program.get_instructions().iter().map(|instruction| {
            // pcap gives its instructions away as text alone.
            let text = instruction.to_string();
            let numbers: Vec<u32> = text.split(' ').filter_map(|number| number.parse().ok()).collect();
            let [code, yes, no, operand] = numbers[..] else { return None };
            let code = code.try_into().ok()?;
            // What is returned is how much of the packet is wanted.
            let operand = if code == RETURN { operand.min(self.snap_length().into()) } else { operand };
            Some(SockFilter::new(code, yes.try_into().ok()?, no.try_into().ok()?, operand))
        });
        Ok(instructions.collect::<Option<_>>().expect("pcap writes code, two jumps and operand"))
    }

    /// Which contents count behind so many tags at most, from the guest or to it.
    fn content(self, sent: bool, most_tags: usize) -> String {
        let mut clauses = Vec::new();
        for (tags, at) in TYPE_AT.into_iter().enumerate().take(most_tags + 1) {
            let inner = self.clauses(sent, at);
            let tagged = TYPE_AT[..tags].iter().map(|at| format!("(ether[{at}:2] = 0x8100 or ether[{at}:2] = 0x88a8) and "));
            let tagged: String = tagged.collect();
            clauses.extend(inner.into_iter().map(|clause| format!("({tagged}{clause})")));
        }
        clauses.join(" or ")
    }

    fn clauses(self, sent: bool, at: u32) -> Vec<String> {
        let packet = at + 2;
        let ipv4 = format!("ether[{at}:2] = 0x0800");
        let ipv6 = format!("ether[{at}:2] = 0x86dd");
        let mut clauses = Vec::new();
        if sent && self.arp {
            clauses.push(format!("ether[{at}:2] = 0x0806"));
        }
        if sent && self.ipv4 {
            clauses.push(ipv4.clone());
        }
        if sent && self.neighbour {
            clauses.push(format!("{ipv6} and ether[{}] = 58 and ether[{}] = 135", packet + 6, packet + 40));
        }
        if (sent && self.requests) || (!sent && self.replies) {
            // The first fragment of a UDP packet, whose ports stand behind a header of variable length.
            let ports = if sent { "0x00440043" } else { "0x00430044" };
            clauses.push(format!(
                "{ipv4} and ether[{}] = 17 and ether[{}:2] & 0x1fff = 0 and ether[((ether[{packet}] & 0xf) << 2) + {packet} : 4] = {ports}",
                packet + 9,
                packet + 6
            ));
        }
        if self.dhcpv6 {
            let ports = if sent { "0x02220223" } else { "0x02230222" };
            clauses.push(format!("{ipv6} and ether[{}] = 17 and ether[{}:4] = {ports}", packet + 6, packet + 40));
        }
        clauses
    }
}

/// One program where what the kernel knows of a packet is this value, the other one where it is not. Both return.
fn choose(what: u32, value: u32, equal: Vec<SockFilter>, other: Vec<SockFilter>) -> Vec<SockFilter> {
    let length = u32::try_from(equal.len()).expect("a program is short");
    let head = [SockFilter::new(LOAD, 0, 0, what), SockFilter::new(IS_EQUAL, 1, 0, value), SockFilter::new(JUMP, 0, 0, length)];
    head.into_iter().chain(equal).chain(other).collect()
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder, VlanId};
    use pcap::{Capture, Linktype};

    use super::*;

    const GUEST: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];

    fn builder(tags: usize) -> etherparse::PacketBuilderStep<etherparse::VlanHeader> {
        let id = |id| VlanId::try_new(id).expect("12 bits");
        match tags {
            1 => PacketBuilder::ethernet2(GUEST, [0xff; 6]).single_vlan(id(5)),
            _ => PacketBuilder::ethernet2(GUEST, [0xff; 6]).double_vlan(id(5), id(6)),
        }
    }

    fn udp(tags: usize, from: u16, to: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let ends = ([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let written = match tags {
            0 => PacketBuilder::ethernet2(GUEST, [0xff; 6]).ipv4(ends.0, ends.1, ends.2).udp(from, to).write(&mut bytes, &[0; 300]),
            tags => builder(tags).ipv4(ends.0, ends.1, ends.2).udp(from, to).write(&mut bytes, &[0; 300]),
        };
        written.expect("memory takes every write");
        bytes
    }

    fn arp(tags: usize) -> Vec<u8> {
        let message = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            ArpOperation::REQUEST,
            &GUEST,
            &[10, 0, 0, 1],
            &[0; 6],
            &[10, 0, 0, 2],
        )
        .expect("both have the same sizes");
        let mut bytes = Vec::new();
        let written = match tags {
            0 => PacketBuilder::ethernet2(GUEST, [0xff; 6]).arp(message).write(&mut bytes),
            tags => builder(tags).arp(message).write(&mut bytes),
        };
        written.expect("memory takes every write");
        bytes
    }

    fn passes(hearing: Hearing, sent: bool, bytes: &[u8]) -> bool {
        let dead = Capture::dead(Linktype::ETHERNET).expect("libpcap makes one");
        dead.compile(&hearing.content(sent, hearing.tags), true).expect("the filter is one").filter(bytes)
    }

    #[test]
    fn only_what_teaches_passes_with_and_without_tags() {
        let dhcp = Hearing { requests: true, replies: true, tags: 2, ..Hearing::default() };
        let uses = Hearing { arp: true, ipv4: true, tags: 2, ..Hearing::default() };
        for tags in 0..=2 {
            assert!(passes(dhcp, true, &udp(tags, 68, 67)), "{tags}");
            assert!(passes(dhcp, false, &udp(tags, 67, 68)), "{tags}");
            assert!(!passes(dhcp, true, &udp(tags, 67, 68)), "{tags}");
            assert!(!passes(dhcp, true, &udp(tags, 53, 67)), "{tags}");
            assert!(!passes(dhcp, true, &arp(tags)), "{tags}");
            assert!(passes(uses, true, &arp(tags)), "{tags}");
            assert!(passes(uses, true, &udp(tags, 1, 2)), "{tags}");
            assert_eq!(passes(Hearing { tags: 1, ..uses }, true, &arp(tags)), tags <= 1, "{tags}");
            assert_eq!(passes(Hearing { tags: 0, ..uses }, true, &arp(tags)), tags == 0, "{tags}");
        }
    }

    #[test]
    fn the_longest_program_is_one_that_the_kernel_takes() {
        // The kernel charges its own, longer form to the socket: 8 bytes an instruction, 20 KiB (net.core.optmem_max) in all.
        let all = Hearing { arp: true, ipv4: true, neighbour: true, requests: true, replies: true, dhcpv6: true, tags: 2 };
        let dhcp = Hearing { requests: true, replies: true, dhcpv6: true, tags: 2, ..Hearing::default() };
        for hearing in [all, dhcp] {
            let length = hearing.program(Mac(GUEST)).expect("the filter is one").len();
            assert!(length < 500, "{length}");
        }
    }

    #[test]
    fn ipv6_passes_by_what_it_carries() {
        let hearing = Hearing { neighbour: true, dhcpv6: true, ..Hearing::default() };
        let mut solicitation = Vec::new();
        let start = || PacketBuilder::ethernet2(GUEST, [0x33, 0x33, 0, 0, 0, 1]).ipv6([0; 16], [2; 16], 255);
        start().icmpv6_raw(135, 0, [0; 4]).write(&mut solicitation, &[0; 16]).expect("memory takes every write");
        assert!(passes(hearing, true, &solicitation));
        assert!(!passes(hearing, false, &solicitation), "what others look for says nothing about the guest");
        let mut echo = Vec::new();
        start().icmpv6_raw(128, 0, [0; 4]).write(&mut echo, &[0; 16]).expect("memory takes every write");
        assert!(!passes(hearing, true, &echo));
        let mut reply = Vec::new();
        start().udp(547, 546).write(&mut reply, &[0; 16]).expect("memory takes every write");
        assert!(passes(hearing, false, &reply) && !passes(hearing, true, &reply));
    }
}
