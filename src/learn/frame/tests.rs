//! Real frames, whole, cut off and damaged.

use dhcproto::v4::MessageType;
use dhcproto::v6;
use proptest::prelude::*;

use super::*;
use crate::learn::example::{self, Dhcp, GUEST, SERVER, ack, arp, ip, ip6, solicitation};

fn content(bytes: &[u8]) -> Content {
    decode(bytes).expect("it is well-formed").expect("it says something").content
}

fn samples() -> Vec<Vec<u8>> {
    let mut frames = vec![
        arp(GUEST, "10.0.0.5"),
        Dhcp { wanted: Some("10.0.0.5"), ..Dhcp::new(MessageType::Request) }.sent(),
        ack("10.0.0.5", Some(3600)).by("10.0.0.1"),
        Dhcp::new(MessageType::Nak).by("10.0.0.1"),
        solicitation("::", "2001:db8::5"),
        example::dhcpv6(v6::MessageType::Reply, false, "2001:db8::5", 3600),
        example::dhcpv6(v6::MessageType::Release, true, "2001:db8::5", 0),
    ];
    frames.extend((0..=2).map(|tags| example::udp(GUEST, tags, "10.0.0.5", (9, 9), b"hello")));
    frames
}

#[test]
fn arp_and_ip_name_their_senders_behind_up_to_two_tags() {
    assert_eq!(content(&arp(GUEST, "10.0.0.5")), Content::Arp { mac: GUEST, sender: ip("10.0.0.5") });
    for tags in 0..=2 {
        let utterance = decode(&example::udp(GUEST, tags, "10.0.0.5", (9, 9), b"x")).expect("well-formed").expect("it says something");
        assert_eq!(utterance.source, GUEST);
        assert_eq!(utterance.content, Content::Ipv4 { source: ip("10.0.0.5"), dhcp: None });
    }
    let expected = Content::Neighbour { source: ip6("::"), target: ip6("2001:db8::5") };
    assert_eq!(content(&solicitation("::", "2001:db8::5")), expected);
}

#[test]
fn a_dhcp_message_is_read_with_its_options() {
    let Content::Ipv4 { source, dhcp: Some(message) } = content(&ack("10.0.0.5", Some(60)).by("10.0.0.1")) else { panic!("no DHCP") };
    assert_eq!((source, message.kind, message.given, message.lease), (ip("10.0.0.1"), dhcp::Kind::Ack, ip("10.0.0.5"), Some(60)));
    assert!(message.reply && message.client == GUEST);
    let request = Dhcp { wanted: Some("10.0.0.7"), transaction: 9, ..Dhcp::new(MessageType::Request) }.sent();
    let Content::Ipv4 { dhcp: Some(message), .. } = content(&request) else { panic!("no DHCP") };
    assert_eq!((message.kind, message.wanted, message.transaction), (dhcp::Kind::Request, Some(ip("10.0.0.7")), 9));
    assert!(!message.reply);
}

#[test]
fn a_dhcpv6_message_is_read_with_its_addresses() {
    let Content::Dhcpv6 { message, .. } = content(&example::dhcpv6(v6::MessageType::Reply, false, "2001:db8::5", 60)) else {
        panic!("no DHCPv6")
    };
    assert_eq!(message, dhcpv6::Message { kind: dhcpv6::Kind::Reply, addresses: vec![(ip6("2001:db8::5"), 60)] });
}

#[test]
fn what_is_not_what_it_claims_to_be_is_malformed() {
    let whole = ack("10.0.0.5", Some(60)).by("10.0.0.1");
    let options = 14 + 20 + 8 + 240;
    assert_eq!(decode(&whole[..options - 1]), Err(Malformed), "cut off before its options");
    assert_eq!(decode(&[]), Err(Malformed));
    assert_eq!(decode(&whole[..20]), Err(Malformed), "cut off in a header");
    let mut unmagic = whole.clone();
    unmagic[options - 1] ^= 1;
    assert_eq!(decode(&unmagic), Err(Malformed));
    let mut twice = whole.clone();
    // The padding of the message has room for a second lease time.
    let end = options + twice[options..].iter().position(|byte| *byte == 255).expect("options end");
    twice[end..end + 7].copy_from_slice(&[51, 4, 0, 0, 0, 1, 255]);
    assert_eq!(decode(&twice), Err(Malformed));
    let mut long_address = whole;
    long_address[14 + 20 + 8 + 2] = 200;
    assert_eq!(decode(&long_address), Err(Malformed), "a hardware address longer than its field");
}

#[test]
fn what_says_nothing_is_nothing() {
    let mut other = arp(GUEST, "10.0.0.5");
    other[12..14].copy_from_slice(&0x88cc_u16.to_be_bytes());
    assert_eq!(decode(&other), Ok(None));
    let udp = example::dhcpv6(v6::MessageType::Solicit, true, "2001:db8::5", 0);
    let Content::Dhcpv6 { message, .. } = content(&udp) else { panic!("no DHCPv6") };
    assert_eq!(message.kind, dhcpv6::Kind::Other);
    assert_ne!(GUEST, SERVER);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_damage_to_a_real_frame_panics(
        at in 0..10_usize,
        cut in 0..700_usize,
        flips in prop::collection::vec((0..700_usize, any::<u8>()), 0..12),
    ) {
        let mut bytes = samples().swap_remove(at);
        for (place, value) in flips {
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        bytes.truncate(cut);
        let _ = decode(&bytes);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes);
        let _ = dhcp::decode(&bytes);
        let _ = dhcpv6::decode(&bytes);
    }
}
