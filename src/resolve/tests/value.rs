//! What the tools make of a variable's text, attribute by attribute, as tried on iptables, ip6tables and ebtables 1.8.9.

use proptest::prelude::*;

use super::*;
use crate::model::attribute::ValueKind;
use crate::resolve::value;
use AttributeName as A;

fn read(quirks: Quirks, protocol: Protocol, name: AttributeName, text: &str) -> Option<Literal> {
    let spec = protocol.attribute(name).expect("an attribute of its protocol");
    let Entry::Rule(rule) = rule(protocol, vec![var(name, "A")]) else { unreachable!("a rule") };
    value::read(text, &rule, spec, quirks).ok().flatten()
}

/// What both quirks read as `value`.
fn reads(protocol: Protocol, name: AttributeName, text: &str, value: Literal) {
    assert_eq!(read(Quirks::Fixed, protocol, name, text), Some(value.clone()), "fixed: {text}");
    assert_eq!(read(Quirks::Libvirt, protocol, name, text), Some(value), "libvirt: {text}");
}

/// What libvirt and the tool read as `value`, and `fixed` refuses.
fn reads_lax(protocol: Protocol, name: AttributeName, text: &str, value: Literal) {
    assert_eq!(read(Quirks::Fixed, protocol, name, text), None, "fixed: {text}");
    assert_eq!(read(Quirks::Libvirt, protocol, name, text), Some(value), "libvirt: {text}");
}

fn refuses(protocol: Protocol, name: AttributeName, texts: &[&str]) {
    for text in texts {
        assert_eq!(read(Quirks::Fixed, protocol, name, text), None, "fixed: {text}");
        assert_eq!(read(Quirks::Libvirt, protocol, name, text), None, "libvirt: {text}");
    }
}

fn number(number: u32) -> Literal {
    Literal::Number(number)
}

fn ipv4(text: &str) -> Literal {
    Literal::Ipv4(text.parse().expect("an address"))
}

#[test]
fn ports_are_numbers_or_ranges() {
    for (protocol, name) in [(Protocol::Tcp, A::SrcPortStart), (Protocol::Ip, A::DstPortStart), (Protocol::UdpIpv6, A::DstPortStart)] {
        reads(protocol, name, "80", number(80));
        reads(protocol, name, "0", number(0));
        reads(protocol, name, "65535", number(65535));
        reads(protocol, name, "80:90", Literal::Range(80, 90));
        reads(protocol, name, "80:", Literal::Range(80, 65535));
        reads(protocol, name, ":90", Literal::Range(0, 90));
        refuses(protocol, name, &["65536", "http", "80:90:100", "0x", "1f", "99999999999999999999", "80:http"]);
    }
}

#[test]
fn tcp_ports_are_in_c_notation_and_udp_ports_are_decimal() {
    reads(Protocol::Tcp, A::SrcPortStart, "0x50", number(80));
    reads(Protocol::Sctp, A::SrcPortStart, "0x50:0x5a", Literal::Range(80, 90));
    reads_lax(Protocol::Tcp, A::SrcPortStart, "010", number(8));
    refuses(Protocol::Tcp, A::SrcPortStart, &["080"]);
    reads(Protocol::Udp, A::SrcPortStart, "010", number(10));
    refuses(Protocol::Udp, A::SrcPortStart, &["0x50"]);
}

#[test]
fn only_udp_takes_a_descending_range_and_fixed_not_even_there() {
    reads_lax(Protocol::Udp, A::SrcPortStart, "90:80", Literal::Range(90, 80));
    refuses(Protocol::Tcp, A::SrcPortStart, &["90:80"]);
    refuses(Protocol::Ipv6, A::SrcPortStart, &["90:80"]);
}

#[test]
fn a_range_has_no_place_where_the_rule_has_both_ends() {
    reads(Protocol::Tcp, A::SrcPortEnd, "90", number(90));
    refuses(Protocol::Tcp, A::SrcPortEnd, &["80:90"]);
    let Entry::Rule(both) = rule(Protocol::Tcp, vec![var(A::SrcPortStart, "A"), lit(A::SrcPortEnd, number(90))]) else {
        unreachable!("a rule")
    };
    let spec = Protocol::Tcp.attribute(A::SrcPortStart).expect("known");
    assert!(value::read("80:90", &both, spec, Quirks::Libvirt).is_err());
    assert!(value::read("80", &both, spec, Quirks::Libvirt).is_ok());
}

#[test]
fn ethernet_types_are_hex_and_fixed_wants_that_written() {
    reads(Protocol::Mac, A::ProtocolId, "0x800", number(0x800));
    reads(Protocol::Mac, A::ProtocolId, "0X86dd", number(0x86dd));
    reads(Protocol::Mac, A::ProtocolId, "arp", number(0x806));
    reads(Protocol::Mac, A::ProtocolId, "IPv4", number(0x800));
    reads_lax(Protocol::Mac, A::ProtocolId, "800", number(0x800));
    reads_lax(Protocol::Mac, A::ProtocolId, "2048", number(0x2048));
    refuses(Protocol::Mac, A::ProtocolId, &["0x5ff", "0x10000", "vlan", "x800", "08"]);
}

#[test]
fn vlan_encapsulation_is_hex_and_cut_to_16_bits_by_ebtables() {
    reads(Protocol::Vlan, A::EncapProtocol, "0x806", number(0x806));
    reads(Protocol::Vlan, A::EncapProtocol, "arp", number(0x806));
    reads_lax(Protocol::Vlan, A::EncapProtocol, "2054", number(0x2054));
    reads_lax(Protocol::Vlan, A::EncapProtocol, "3c", number(0x3c));
    reads_lax(Protocol::Vlan, A::EncapProtocol, "12345", number(0x2345));
    refuses(Protocol::Vlan, A::EncapProtocol, &["0x3b", "0x10000", "LENGTH"]);
}

#[test]
fn vlan_ids_are_decimal_up_to_4094() {
    reads(Protocol::Vlan, A::VlanId, "4094", number(4094));
    reads(Protocol::Vlan, A::VlanId, "010", number(10));
    refuses(Protocol::Vlan, A::VlanId, &["4095", "0x5", "abc", "65536"]);
}

#[test]
fn arp_fields_are_decimal_but_the_protocol_type_is_hex() {
    reads(Protocol::Arp, A::Opcode, "2", number(2));
    reads(Protocol::Rarp, A::Opcode, "Reply", number(2));
    reads(Protocol::Arp, A::Opcode, "arp_nak", number(9));
    refuses(Protocol::Arp, A::Opcode, &["0x2", "answer", "65536"]);
    reads(Protocol::Arp, A::HwType, "65535", number(65535));
    refuses(Protocol::Arp, A::HwType, &["0x1", "65536"]);
    reads(Protocol::Arp, A::ProtocolType, "0x800", number(0x800));
    reads_lax(Protocol::Arp, A::ProtocolType, "800", number(0x800));
    reads_lax(Protocol::Arp, A::ProtocolType, "IPv4", number(0x800));
    refuses(Protocol::Arp, A::ProtocolType, &["65535", "LENGTH"]);
}

#[test]
fn ip_protocols_are_numbers_or_the_names_that_the_xml_has() {
    reads(Protocol::Ip, A::IpProtocol, "tcp", number(6));
    reads(Protocol::Ipv6, A::IpProtocol, "icmpv6", number(58));
    reads(Protocol::Ip, A::IpProtocol, "0x11", number(17));
    reads_lax(Protocol::Ip, A::IpProtocol, "010", number(8));
    refuses(Protocol::Ip, A::IpProtocol, &["256", "ospf", "1f"]);
}

#[test]
fn dscp_is_the_whole_octet_for_ebtables_in_libvirt_quirks() {
    reads(Protocol::Ip, A::Dscp, "0x3f", number(63));
    reads(Protocol::Tcp, A::Dscp, "46", number(46));
    reads_lax(Protocol::Ip, A::Dscp, "255", number(255));
    reads_lax(Protocol::Tcp, A::Dscp, "077", number(63));
    refuses(Protocol::Tcp, A::Dscp, &["64", "1f"]);
    refuses(Protocol::Ip, A::Dscp, &["256", "0x100"]);
}

#[test]
fn other_numbers_of_iptables_are_in_c_notation_and_bounded() {
    reads(Protocol::Tcp, A::TcpOption, "0x5", number(5));
    refuses(Protocol::Tcp, A::TcpOption, &["0", "256"]);
    reads(Protocol::Icmp, A::Type, "8", number(8));
    reads(Protocol::Icmpv6, A::Code, "0x80", number(128));
    refuses(Protocol::Icmp, A::Type, &["ping", "256", "1f"]);
    reads(Protocol::All, A::ConnLimitAbove, "65535", number(65535));
    reads_lax(Protocol::All, A::ConnLimitAbove, "65536", number(65536));
    reads_lax(Protocol::All, A::ConnLimitAbove, "010", number(8));
    refuses(Protocol::All, A::ConnLimitAbove, &["4294967296", "many"]);
}

#[test]
fn spanning_tree_ranges_are_decimal_and_types_in_c_notation() {
    reads(Protocol::Stp, A::RootPriority, "010", number(10));
    refuses(Protocol::Stp, A::RootPriority, &["0x5", "65536", "1:5"]);
    reads(Protocol::Stp, A::RootCost, "4294967295", number(u32::MAX));
    reads(Protocol::Stp, A::StpType, "0x80", number(128));
    reads_lax(Protocol::Stp, A::StpFlags, "010", number(8));
}

#[test]
fn ethernet_addresses_have_two_names_in_ebtables_and_none_elsewhere() {
    reads(Protocol::Mac, A::SrcMacAddr, "0:1:2:3:4:AF", Literal::Mac(mac("00:01:02:03:04:af")));
    reads_lax(Protocol::Arp, A::ArpSrcMacAddr, "Broadcast", Literal::Mac(Mac::BROADCAST));
    reads_lax(Protocol::Mac, A::SrcMacAddr, "bga", Literal::Mac(Mac::BRIDGE_GROUP));
    refuses(Protocol::Mac, A::SrcMacAddr, &["Multicast", "00:01:02:03:04", "000:1:2:3:4:5", "52.54.00"]);
    refuses(Protocol::Tcp, A::SrcMacAddr, &["Broadcast"]);
}

#[test]
fn ethernet_masks_may_have_holes_only_for_libvirt() {
    reads(Protocol::Mac, A::SrcMacMask, "ff:ff:ff:00:00:00", Literal::Mac(mac("ff:ff:ff:00:00:00")));
    reads(Protocol::Mac, A::SrcMacMask, "ff:ff:ff:ff:ff:ff", Literal::Mac(Mac::BROADCAST));
    reads_lax(Protocol::Mac, A::SrcMacMask, "ff:00:ff:00:00:00", Literal::Mac(mac("ff:00:ff:00:00:00")));
    refuses(Protocol::Mac, A::SrcMacMask, &["24"]);
}

#[test]
fn ipv4_addresses_are_filled_from_the_left_by_the_tools() {
    reads(Protocol::Ip, A::SrcIpAddr, "10.0.0.1", ipv4("10.0.0.1"));
    reads_lax(Protocol::Tcp, A::SrcIpFrom, "10.1", ipv4("10.1.0.0"));
    reads_lax(Protocol::Arp, A::ArpSrcIpAddr, "010.1.1.1", ipv4("8.1.1.1"));
    reads_lax(Protocol::Ip, A::SrcIpAddr, "0x0a.1.1.1", ipv4("10.1.1.1"));
    reads_lax(Protocol::Ip, A::SrcIpAddr, "167772161", ipv4("10.0.0.1"));
    reads_lax(Protocol::Ip, A::SrcIpAddr, "10", ipv4("10.0.0.0"));
    refuses(Protocol::Ip, A::SrcIpAddr, &["localhost", "1.2.3.4.5", "10.0.0.256", "10..1", "08.1.1.1", "::1", ".", "99999999999"]);
}

#[test]
fn masks_are_lengths_or_contiguous() {
    for (text, length) in [("8", 8), ("0", 0), ("32", 32), ("255.255.0.0", 16), ("0.0.0.0", 0), ("255.255.255.255", 32), ("0x8", 8)] {
        reads(Protocol::Tcp, A::SrcIpMask, text, Literal::Prefix(length));
    }
    reads_lax(Protocol::Tcp, A::SrcIpMask, "010", Literal::Prefix(8));
    refuses(Protocol::Tcp, A::SrcIpMask, &["33", "255.0.255.0", "255.255", "08", "ffff::"]);
    for (text, length) in [("10", 10), ("0", 0), ("128", 128), ("ffff::", 16), ("::", 0)] {
        reads(Protocol::Ipv6, A::SrcIpMask, text, Literal::Prefix(length));
    }
    refuses(Protocol::Ipv6, A::SrcIpMask, &["129", "ff00:ff::", "255.0.0.0"]);
}

#[test]
fn ipv6_addresses_have_no_short_forms() {
    reads(Protocol::AllIpv6, A::DstIpTo, "FE80::1", Literal::Ipv6("fe80::1".parse().expect("an address")));
    refuses(Protocol::AllIpv6, A::DstIpTo, &["10.0.0.1", "1:2", "localhost"]);
}

#[test]
fn sets_have_short_names_and_one_direction() {
    reads(Protocol::All, A::IpSet, "blocked", Literal::Text("blocked".into()));
    refuses(Protocol::All, A::IpSet, &["a123456789a123456789a123456789ab"]);
    let source = Literal::SetDirections(vec![crate::model::filter::SetDirection::Source]);
    reads(Protocol::All, A::IpSetFlags, "src", source);
    refuses(Protocol::All, A::IpSetFlags, &["SRC", "srcdst"]);
}

#[test]
fn a_comment_that_is_printed_takes_no_variable() {
    refuses(Protocol::Tcp, A::Comment, &["web"]);
}

#[test]
fn where_variables_do_not_work_fixed_refuses_them_and_libvirt_forgets_them() {
    reads_lax(Protocol::Tcp, A::TcpFlags, "SYN", Literal::TcpFlags(0, 0));
    for (protocol, name) in [(Protocol::Tcp, A::State), (Protocol::Arp, A::Gratuitous), (Protocol::Arp, A::Comment)] {
        let spec = protocol.attribute(name).expect("known");
        let Entry::Rule(rule) = rule(protocol, vec![var(name, "A")]) else { unreachable!("a rule") };
        assert!(value::read("NEW", &rule, spec, Quirks::Fixed).is_err());
        assert_eq!(value::read("NEW", &rule, spec, Quirks::Libvirt), Ok(None));
    }
}

proptest! {
    #[test]
    fn no_text_of_a_parameter_is_read_out_of_range(text in "[A-Za-z0-9_.:]{1,20}|(0x|0)?[0-9a-f]{1,12}|[0-9]{1,12}") {
        for (_, protocol) in Protocol::ELEMENTS {
            for spec in protocol.attributes() {
                let Entry::Rule(rule) = rule(protocol, vec![var(spec.name, "A")]) else { unreachable!("a rule") };
                let _ = value::read(&text, &rule, spec, Quirks::Libvirt);
                match (value::read(&text, &rule, spec, Quirks::Fixed), spec.kind) {
                    (Ok(Some(Literal::Number(number))), ValueKind::Number { min, max }) => prop_assert!((min..=max).contains(&number)),
                    (Ok(Some(Literal::Range(first, last))), _) => prop_assert!(first <= last),
                    (Ok(Some(Literal::Prefix(length))), ValueKind::Ipv4Mask) => prop_assert!(length <= 32),
                    (Ok(Some(Literal::Prefix(length))), _) => prop_assert!(length <= 128),
                    _ => {}
                }
            }
        }
    }
}
