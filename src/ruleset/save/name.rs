//! The names that tools print for numbers. Which ones depends on files of the host, so all that are common are known, and numbers always.

/// A number in decimal, or in hexadecimal after `0x`.
pub(super) fn number<N: TryFrom<u32>>(text: &str) -> Option<N> {
    let number = match text.strip_prefix("0x") {
        Some(digits) if !digits.starts_with('+') => u32::from_str_radix(digits, 16).ok()?,
        None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok()?,
        _ => return None,
    };
    N::try_from(number).ok()
}

/// An IP protocol. The names are those of iptables itself and of `/etc/protocols` as Debian, Fedora, SUSE and IANA have it.
///
/// Left out is every name that two of them give to different numbers.
pub(super) fn protocol(text: &str) -> Option<u8> {
    if let Some(number) = number(text) {
        return Some(number);
    }
    PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number)
}

/// The Ethernet type of a name in `/etc/ethertypes` as ebtables ships it, or a number.
pub(super) fn ether_type(text: &str) -> Option<u16> {
    if let Some(number) = number(text) {
        return Some(number);
    }
    ETHER_TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number)
}

/// The operation of an ARP packet: names are ebtables' own.
pub(super) fn arp_operation(text: &str) -> Option<u16> {
    if let Some(number) = number(text) {
        return Some(number);
    }
    (1..).zip(ARP_OPERATIONS).find(|(_, name)| *name == text).map(|(number, _)| number)
}

/// Type and code of ICMPv6 by ebtables' name; `None` for every code.
pub(super) fn icmp6(text: &str) -> Option<(u8, Option<u8>)> {
    ICMP6.iter().find(|(name, ..)| *name == text).map(|(_, number, code)| (*number, *code))
}

const PROTOCOLS: &[(&str, u8)] = &[
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("igmp", 2),
    ("sctp", 132),
    ("esp", 50),
    ("ah", 51),
    ("udplite", 136),
    ("ip", 0),
    ("hopopt", 0),
    ("ggp", 3),
    ("ipencap", 4),
    ("ipv4", 4),
    ("st", 5),
    ("cbt", 7),
    ("egp", 8),
    ("igp", 9),
    ("pup", 12),
    ("hmp", 20),
    ("xns-idp", 22),
    ("rdp", 27),
    ("irtp", 28),
    ("iso-tp4", 29),
    ("dccp", 33),
    ("xtp", 36),
    ("ddp", 37),
    ("idpr-cmtp", 38),
    ("ipv6", 41),
    ("sdrp", 42),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("idrp", 45),
    ("rsvp", 46),
    ("gre", 47),
    ("dsr", 48),
    ("mobile", 55),
    ("skip", 57),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("rspf", 73),
    ("vmtp", 81),
    ("eigrp", 88),
    ("ospf", 89),
    ("ospfigp", 89),
    ("ax.25", 93),
    ("ipip", 94),
    ("etherip", 97),
    ("encap", 98),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("isis", 124),
    ("fc", 133),
    ("mobility-header", 135),
    ("ipv6-mh", 135),
    ("mh", 135),
    ("mpls-in-ip", 137),
    ("manet", 138),
    ("hip", 139),
    ("shim6", 140),
    ("wesp", 141),
    ("rohc", 142),
    ("ethernet", 143),
];

const ETHER_TYPES: &[(&str, u16)] = &[
    ("IPv4", 0x0800),
    ("ARP", 0x0806),
    ("IPv6", 0x86dd),
    ("RARP", 0x8035),
    ("802_1Q", 0x8100),
    ("X25", 0x0805),
    ("FR_ARP", 0x0808),
    ("BPQ", 0x08ff),
    ("TRILL", 0x22f3),
    ("L2-IS-IS", 0x22f4),
    ("TEB", 0x6558),
    ("RAW_FR", 0x6559),
    ("ATALK", 0x809b),
    ("AARP", 0x80f3),
    ("IPX", 0x8137),
    ("NetBEUI", 0x8191),
    ("PPP", 0x880b),
    ("MPLS", 0x8847),
    ("MPLS_MULTI", 0x8848),
    ("ATMMPOA", 0x884c),
    ("PPP_DISC", 0x8863),
    ("PPP_SES", 0x8864),
    ("ATMFATE", 0x8884),
    ("EAPOL", 0x888e),
    ("S-TAG", 0x88a8),
    ("EAP_PREAUTH", 0x88c7),
    ("LLDP", 0x88cc),
    ("MACSEC", 0x88e5),
    ("PBB", 0x88e7),
    ("MVRP", 0x88f5),
    ("PTP", 0x88f7),
    ("FCOE", 0x8906),
    ("FIP", 0x8914),
    ("ROCE", 0x8915),
    ("LoWPAN", 0xa0ed),
];

const ARP_OPERATIONS: [&str; 9] =
    ["Request", "Reply", "Request_Reverse", "Reply_Reverse", "DRARP_Request", "DRARP_Reply", "DRARP_Error", "InARP_Request", "ARP_NAK"];

const ICMP6: &[(&str, u8, Option<u8>)] = &[
    ("destination-unreachable", 1, None),
    ("no-route", 1, Some(0)),
    ("communication-prohibited", 1, Some(1)),
    ("beyond-scope", 1, Some(2)),
    ("address-unreachable", 1, Some(3)),
    ("port-unreachable", 1, Some(4)),
    ("failed-policy", 1, Some(5)),
    ("reject-route", 1, Some(6)),
    ("packet-too-big", 2, None),
    ("time-exceeded", 3, None),
    ("ttl-zero-during-transit", 3, Some(0)),
    ("ttl-zero-during-reassembly", 3, Some(1)),
    ("parameter-problem", 4, None),
    ("bad-header", 4, Some(0)),
    ("unknown-header-type", 4, Some(1)),
    ("unknown-option", 4, Some(2)),
    ("echo-request", 128, None),
    ("echo-reply", 129, None),
    ("router-solicitation", 133, None),
    ("router-advertisement", 134, None),
    ("neighbour-solicitation", 135, None),
    ("neighbour-advertisement", 136, None),
    ("redirect", 137, None),
];
