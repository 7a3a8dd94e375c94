//! What is believed of whom: nwfilter.md section 5 for `libvirt`, and the stricter rules of `fixed`.

use dhcproto::v4::MessageType;
use dhcproto::v6;

use super::*;
use crate::learn::example::{self, Dhcp, GUEST, SERVER, ack, arp, arp_of, ip, solicitation, udp};
use crate::learn::frame;

const NOW: u64 = 1000;

fn hear(bytes: &[u8], method: &Method, quirks: Quirks) -> Vec<Verdict> {
    judge(&frame::decode(bytes).expect("well-formed").expect("it says something"), GUEST, method, quirks, NOW)
}

/// The address and the end that a frame makes known, in one text.
fn claimed(bytes: &[u8], method: &Method, quirks: Quirks) -> Option<String> {
    match hear(bytes, method, quirks)[..] {
        [Verdict::Claim { address, until: Until::Second(end), .. }] => Some(format!("{address} until {end}")),
        [Verdict::Claim { address, until: Until::Forever, .. }] => Some(format!("{address}")),
        _ => None,
    }
}

fn dhcp(servers: &[&str]) -> Method {
    Method::Dhcp(servers.iter().map(|server| ip(server)).collect())
}

#[test]
fn fixed_any_believes_what_the_guest_itself_says_with_its_own_address() {
    let any = |bytes: &[u8]| claimed(bytes, &Method::Any, Quirks::Fixed);
    assert_eq!(any(&arp(GUEST, "10.0.0.5")).as_deref(), Some("10.0.0.5"));
    assert_eq!(any(&udp(GUEST, 2, "10.0.0.5", (9, 9), b"x")).as_deref(), Some("10.0.0.5"));
    assert_eq!(any(&solicitation("::", "2001:db8::5")).as_deref(), Some("2001:db8::5"));
    assert_eq!(any(&solicitation("2001:db8::6", "2001:db8::5")).as_deref(), Some("2001:db8::6"));
    assert_eq!(any(&arp(SERVER, "10.0.0.5")), None, "somebody else's frame");
    assert_eq!(any(&arp_of(GUEST, SERVER, "10.0.0.5")), None, "in somebody else's name");
    assert_eq!(any(&ack("10.0.0.5", Some(60)).by("10.0.0.1")), None, "what a server says is no use");
}

#[test]
fn fixed_never_believes_addresses_that_no_host_has() {
    for address in ["0.0.0.0", "0.1.2.3", "255.255.255.255", "224.0.0.5", "240.0.0.1", "169.254.1.1", "127.0.0.1"] {
        assert_eq!(claimed(&arp(GUEST, address), &Method::Any, Quirks::Fixed), None, "{address}");
        assert_eq!(claimed(&udp(GUEST, 0, address, (9, 9), b"x"), &Method::Any, Quirks::Fixed), None, "{address}");
    }
    let link_local = ack("169.254.1.1", Some(60)).by("10.0.0.1");
    assert_eq!(claimed(&link_local, &dhcp(&[]), Quirks::Fixed), None);
    for target in ["fe80::1", "ff02::1", "::1", "::ffff:10.0.0.1"] {
        assert_eq!(claimed(&solicitation("::", target), &Method::Any, Quirks::Fixed), None, "{target}");
    }
}

#[test]
fn fixed_dhcp_believes_acknowledgements_of_the_named_servers() {
    let ack = ack("10.0.0.5", Some(60));
    assert_eq!(claimed(&ack.by("10.0.0.1"), &dhcp(&[]), Quirks::Fixed).as_deref(), Some("10.0.0.5 until 1060"));
    assert_eq!(claimed(&ack.by("10.0.0.1"), &dhcp(&["10.0.0.1"]), Quirks::Fixed).as_deref(), Some("10.0.0.5 until 1060"));
    assert_eq!(claimed(&ack.by("10.0.0.2"), &dhcp(&["10.0.0.1"]), Quirks::Fixed), None, "another server");
    assert_eq!(claimed(&ack.answered("10.0.0.1", Mac::BROADCAST), &dhcp(&[]), Quirks::Fixed).as_deref(), Some("10.0.0.5 until 1060"));
    assert_eq!(claimed(&ack.answered("10.0.0.1", SERVER), &dhcp(&[]), Quirks::Fixed), None, "for somebody else");
    let others = Dhcp { client: SERVER, ..example::ack("10.0.0.5", Some(60)) };
    assert_eq!(claimed(&others.by("10.0.0.1"), &dhcp(&[]), Quirks::Fixed), None, "of somebody else");
    assert_eq!(claimed(&example::ack("10.0.0.5", Some(u32::MAX)).by("10.0.0.1"), &dhcp(&[]), Quirks::Fixed).as_deref(), Some("10.0.0.5"));
    assert_eq!(claimed(&example::ack("10.0.0.5", None).by("10.0.0.1"), &dhcp(&[]), Quirks::Fixed), None, "no lease");
    let offer = Dhcp { given: "10.0.0.5", lease: Some(60), ..Dhcp::new(MessageType::Offer) };
    assert_eq!(claimed(&offer.by("10.0.0.1"), &dhcp(&[]), Quirks::Fixed), None);
    assert_eq!(claimed(&arp(GUEST, "10.0.0.5"), &dhcp(&[]), Quirks::Fixed), None);
}

#[test]
fn fixed_dhcp_hears_requests_releases_declinations_and_refusals() {
    let hear = |bytes: &[u8]| hear(bytes, &dhcp(&["10.0.0.1"]), Quirks::Fixed);
    let address = ip("10.0.0.5");
    let release = Dhcp { has: "10.0.0.5", ..Dhcp::new(MessageType::Release) };
    assert_eq!(hear(&release.sent()), [Verdict::End { address: address.into() }]);
    assert_eq!(hear(&release.by("10.0.0.1")), [], "a server does not release");
    let decline = Dhcp { wanted: Some("10.0.0.5"), ..Dhcp::new(MessageType::Decline) };
    assert_eq!(hear(&decline.sent()), [Verdict::End { address: address.into() }]);
    let request = Dhcp { wanted: Some("10.0.0.5"), transaction: 7, ..Dhcp::new(MessageType::Request) };
    assert_eq!(hear(&request.sent()), [Verdict::Asks { transaction: 7, address }]);
    let renewal = Dhcp { has: "10.0.0.5", transaction: 8, ..Dhcp::new(MessageType::Request) };
    assert_eq!(hear(&renewal.sent()), [Verdict::Asks { transaction: 8, address }]);
    let refusal = Dhcp { transaction: 7, ..Dhcp::new(MessageType::Nak) };
    assert_eq!(hear(&refusal.by("10.0.0.1")), [Verdict::Refused { transaction: 7 }]);
    assert_eq!(hear(&refusal.by("10.0.0.2")), [], "another server");
}

#[test]
fn fixed_dhcp_hears_dhcpv6_and_no_solicitations() {
    let method = dhcp(&[]);
    let reply = example::dhcpv6(v6::MessageType::Reply, false, "2001:db8::5", 60);
    assert_eq!(claimed(&reply, &method, Quirks::Fixed).as_deref(), Some("2001:db8::5 until 1060"));
    let ended = [Verdict::End { address: "2001:db8::5".parse().expect("an address") }];
    assert_eq!(hear(&example::dhcpv6(v6::MessageType::Reply, false, "2001:db8::5", 0), &method, Quirks::Fixed), ended);
    assert_eq!(hear(&example::dhcpv6(v6::MessageType::Release, true, "2001:db8::5", 0), &method, Quirks::Fixed), ended);
    assert_eq!(hear(&example::dhcpv6(v6::MessageType::Reply, true, "2001:db8::5", 60), &method, Quirks::Fixed), [], "of the guest itself");
    assert_eq!(hear(&solicitation("::", "2001:db8::5"), &method, Quirks::Fixed), []);
    assert_eq!(hear(&reply, &method, Quirks::Libvirt), []);
}

#[test]
fn libvirt_any_believes_any_source_and_any_offer_but_no_arp() {
    let any = |bytes: &[u8]| claimed(bytes, &Method::Any, Quirks::Libvirt);
    assert_eq!(any(&arp(GUEST, "10.5.5.5")), None);
    assert_eq!(any(&udp(GUEST, 0, "10.5.5.5", (9, 9), b"x")).as_deref(), Some("10.5.5.5"));
    assert_eq!(any(&udp(GUEST, 1, "10.5.5.5", (9, 9), b"x")).as_deref(), Some("10.5.5.5"));
    assert_eq!(any(&udp(GUEST, 0, "169.254.1.1", (9, 9), b"x")).as_deref(), Some("169.254.1.1"));
    assert_eq!(any(&udp(GUEST, 0, "224.0.0.5", (9, 9), b"x")), None);
    assert_eq!(any(&udp(SERVER, 0, "10.5.5.5", (9, 9), b"x")), None);
    assert_eq!(any(&Dhcp::new(MessageType::Discover).sent()), None);
    let offer = Dhcp { given: "10.8.8.8", ..Dhcp::new(MessageType::Offer) };
    assert_eq!(any(&offer.by("10.0.0.1")).as_deref(), Some("10.8.8.8"));
    assert_eq!(any(&ack("10.8.8.8", None).by("10.0.0.1")).as_deref(), Some("10.8.8.8"));
    assert_eq!(any(&Dhcp { given: "10.8.8.8", ..Dhcp::new(MessageType::Nak) }.by("10.0.0.1")), None);
}

#[test]
fn libvirt_dhcp_believes_every_server_and_takes_an_infinite_lease_for_one_that_has_ended() {
    let method = dhcp(&["10.0.0.1"]);
    let heard = |bytes: &[u8]| claimed(bytes, &method, Quirks::Libvirt);
    assert_eq!(heard(&ack("10.0.0.5", Some(60)).by("10.0.0.2")).as_deref(), Some("10.0.0.5 until 1060"));
    assert_eq!(heard(&ack("10.0.0.5", Some(u32::MAX)).by("10.0.0.1")).as_deref(), Some("10.0.0.5 until 1010"));
    assert_eq!(heard(&ack("10.0.0.5", None).by("10.0.0.1")).as_deref(), Some("10.0.0.5 until 1010"));
    let release = Dhcp { has: "10.0.0.5", ..Dhcp::new(MessageType::Release) };
    let nowhere = [Verdict::End { address: ip("0.0.0.0").into() }];
    assert_eq!(hear(&release.sent(), &method, Quirks::Libvirt), nowhere, "a release counts for yiaddr, which clients leave empty");
    let nak = Dhcp { transaction: 7, ..Dhcp::new(MessageType::Nak) };
    assert_eq!(hear(&nak.by("10.0.0.1"), &method, Quirks::Libvirt), []);
}
