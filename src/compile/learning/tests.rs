//! Interim rules: libvirt's as captured (nwfilter.md E10), and ours.

use super::*;
use crate::compile::example::{assert_golden, guest};
use crate::model::learned::{Anchor, Claimant};
use crate::resolve::Treatment;

fn learn(method: Method, quirks: Quirks) -> ObjectRules {
    learn_families(method, Families::Ipv4, quirks)
}

fn learn_families(method: Method, families: Families, quirks: Quirks) -> ObjectRules {
    let claimant = Claimant { anchor: Anchor::Address, mac: Mac([0x52, 0x54, 0, 0x56, 0x44, 0x32]), filter: "f".into(), method };
    let learning = Learning { claimant, families };
    compile(&guest("vnet0", Treatment::Learning(learning.clone())), &learning, quirks)
}

#[test]
fn libvirt_lets_a_guest_use_any_address_and_receive_everything() {
    assert_golden(&learn(Method::Any, Quirks::Libvirt), include_str!("../golden/learning-any.rules"));
}

#[test]
fn a_guest_without_an_address_speaks_arp_and_dhcp_under_its_own_name_only() {
    let golden = "[ebtables]
        -A PREROUTING -i vnet0 -j libvirt-I-vnet0
        -A POSTROUTING -o vnet0 -j libvirt-O-vnet0
        -A libvirt-I-vnet0 -p ARP -s 52:54:00:56:44:32 --arp-ip-src 0.0.0.0 --arp-mac-src 52:54:00:56:44:32 -j ACCEPT
        -A libvirt-I-vnet0 -p IPv4 -s 52:54:00:56:44:32 --ip-proto udp --ip-sport 68 --ip-dport 67 -j ACCEPT
        -A libvirt-I-vnet0 -j DROP
        -A libvirt-O-vnet0 -p ARP -j ACCEPT
        -A libvirt-O-vnet0 -p IPv4 -d 52:54:00:56:44:32 --ip-proto udp --ip-sport 67 --ip-dport 68 -j ACCEPT
        -A libvirt-O-vnet0 -p IPv4 -d Broadcast --ip-proto udp --ip-sport 67 --ip-dport 68 -j ACCEPT
        -A libvirt-O-vnet0 -j DROP";
    assert_golden(&learn(Method::Any, Quirks::Fixed), golden);
}

#[test]
fn named_dhcp_servers_alone_may_answer() {
    let servers = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
    for quirks in [Quirks::Fixed, Quirks::Libvirt] {
        assert_golden(&learn(Method::Dhcp(servers.clone()), quirks), include_str!("../golden/learning-dhcp.rules"));
    }
}

#[test]
fn any_dhcp_server_may_answer_where_none_is_named() {
    let golden: String = include_str!("../golden/learning-dhcp.rules")
        .lines()
        .filter(|line| !line.contains("10.0.0.2"))
        .flat_map(|line| [&*line.replace(" --ip-src 10.0.0.1", ""), "\n"].concat().chars().collect::<Vec<_>>())
        .collect();
    assert_golden(&learn(Method::Dhcp(vec![]), Quirks::Fixed), &golden);
}

#[test]
fn a_guest_that_lacks_an_ipv6_address_may_look_for_one() {
    let golden = "[ebtables]
        -A PREROUTING -i vnet0 -j libvirt-I-vnet0
        -A POSTROUTING -o vnet0 -j libvirt-O-vnet0
        -A libvirt-I-vnet0 -p ARP -s 52:54:00:56:44:32 --arp-ip-src 0.0.0.0 --arp-mac-src 52:54:00:56:44:32 -j ACCEPT
        -A libvirt-I-vnet0 -p IPv4 -s 52:54:00:56:44:32 --ip-proto udp --ip-sport 68 --ip-dport 67 -j ACCEPT
        -A libvirt-I-vnet0 -p IPv6 -s 52:54:00:56:44:32 --ip6-src fe80::/10 --ip6-proto ipv6-icmp --ip6-icmp-type 133/0:255 -j ACCEPT
        -A libvirt-I-vnet0 -p IPv6 -s 52:54:00:56:44:32 --ip6-src fe80::/10 --ip6-proto ipv6-icmp --ip6-icmp-type 135/0:255 -j ACCEPT
        -A libvirt-I-vnet0 -p IPv6 -s 52:54:00:56:44:32 --ip6-src fe80::/10 --ip6-proto ipv6-icmp --ip6-icmp-type 136/0:255 -j ACCEPT
        -A libvirt-I-vnet0 -p IPv6 -s 52:54:00:56:44:32 --ip6-src :: --ip6-proto ipv6-icmp --ip6-icmp-type 135/0:255 -j ACCEPT
        -A libvirt-I-vnet0 -p IPv6 -s 52:54:00:56:44:32 --ip6-src fe80::/10 --ip6-proto udp --ip6-sport 546 --ip6-dport 547 -j ACCEPT
        -A libvirt-I-vnet0 -j DROP
        -A libvirt-O-vnet0 -p ARP -j ACCEPT
        -A libvirt-O-vnet0 -p IPv4 -d 52:54:00:56:44:32 --ip-proto udp --ip-sport 67 --ip-dport 68 -j ACCEPT
        -A libvirt-O-vnet0 -p IPv4 -d Broadcast --ip-proto udp --ip-sport 67 --ip-dport 68 -j ACCEPT
        -A libvirt-O-vnet0 -p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 134/0:255 -j ACCEPT
        -A libvirt-O-vnet0 -p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 135/0:255 -j ACCEPT
        -A libvirt-O-vnet0 -p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 136/0:255 -j ACCEPT
        -A libvirt-O-vnet0 -p IPv6 --ip6-proto udp --ip6-sport 547 --ip6-dport 546 -j ACCEPT
        -A libvirt-O-vnet0 -j DROP";
    assert_golden(&learn_families(Method::Any, Families::Both, Quirks::Fixed), golden);
}
