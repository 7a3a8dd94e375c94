//! What covers what, and what excludes itself, rule against rule in XML.

use std::sync::Arc;

use super::super::order::{Gate, Side};
use super::super::{PolicyRule, Resolved, Treatment, resolve};
use super::frames::{Frames, of_rule};
use super::{Remarks, SHOWN, lint};
use crate::addr::Mac;
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::parse::{Parsed, parse};
use crate::source::{FileId, Sources, Span};

const BINDING: &str = "<filterbinding>
  <owner><name>vm</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1000</uuid></owner>
  <portdev name='vnet0'/><mac address='52:54:00:40:00:01'/><filterref filter='f'/>
</filterbinding>";

/// A guest with these `<rule>`s.
fn guest(xml: &str, quirks: Quirks) -> ([Parsed; 2], Resolved) {
    let texts = [format!("<filter name='f'>{xml}</filter>"), BINDING.to_owned()];
    state(texts, quirks)
}

fn state<const N: usize>(texts: [String; N], quirks: Quirks) -> ([Parsed; N], Resolved) {
    let mut sources = Sources::default();
    let documents = texts.map(|text| {
        let file = sources.add("test.xml", text);
        parse(&sources, file, quirks)
    });
    let faults: Vec<_> = documents.iter().flat_map(|document| &document.diagnostics).filter(|fault| fault.is_error()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    let resolved = resolve(&documents, &[], &[], &crate::model::learned::Learned::default(), quirks);
    (documents, resolved)
}

fn rules(xml: &str, quirks: Quirks) -> Vec<Arc<PolicyRule>> {
    let (_, mut resolved) = guest(xml, quirks);
    let guest = resolved.guests.pop().unwrap_or_else(|| panic!("{xml}: {:?}", resolved.diagnostics));
    let Treatment::Filtered(rules) = guest.treatment.clone() else { panic!("nothing to learn here") };
    rules
}

fn frames(rule: &str, side: Side, quirks: Quirks) -> Option<Frames> {
    of_rule(&rules(rule, quirks)[0], side, quirks)
}

/// The frames from a guest that an outgoing drop of this element matches.
fn dropped(element: &str) -> Frames {
    let rule = format!("<rule action='drop' direction='out'>{element}</rule>");
    frames(&rule, Side::FromGuest, Quirks::Fixed).expect("it has an instance")
}

#[test]
fn a_wider_rule_covers_a_narrower_one_and_not_the_other_way_round() {
    for (wide, narrow) in [
        ("", "<mac protocolid='arp'/>"),
        ("<mac protocolid='ipv4'/>", "<ip srcipaddr='10.0.0.1'/>"),
        ("<mac srcmacaddr='52:54:00:00:00:00' srcmacmask='ff:ff:ff:00:00:00'/>", "<arp srcmacaddr='52:54:00:40:00:01'/>"),
        ("<ip srcipaddr='10.0.0.0' srcipmask='8'/>", "<ip srcipaddr='10.9.0.0' srcipmask='16' protocol='tcp'/>"),
        ("<ip protocol='udp' dstportstart='1' dstportend='99'/>", "<ip protocol='udp' dstportstart='5' dstportend='9'/>"),
        ("<ip match='no' srcipaddr='10.0.0.0' srcipmask='8'/>", "<ip srcipaddr='192.0.2.1'/>"),
        ("<ip match='no' srcipaddr='10.9.0.0' srcipmask='16'/>", "<ip match='no' srcipaddr='10.0.0.0' srcipmask='8'/>"),
        ("<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='24'/>", "<arp arpsrcipaddr='10.0.0.7' opcode='Request'/>"),
        ("<stp root-priority='1' root-priority-hi='9'/>", "<stp root-priority='5'/>"),
        ("<mac dstmacaddr='01:80:c2:00:00:00'/>", "<stp type='0'/>"),
        ("<ipv6 protocol='icmpv6' type='130' typeend='140'/>", "<ipv6 protocol='icmpv6' type='135' code='0'/>"),
        ("<all/>", "<tcp dstportstart='22' state='NEW'/>"),
        ("<all srcipfrom='10.0.0.1' srcipto='10.0.0.9'/>", "<tcp srcipaddr='10.0.0.4' srcipmask='31'/>"),
        ("<icmp type='3'/>", "<icmp type='3' code='4'/>"),
        ("<tcp flags='SYN,ACK/SYN'/>", "<tcp flags='SYN,ACK/SYN' dstportstart='22'/>"),
    ] {
        assert!(dropped(wide).cover(&dropped(narrow)), "{wide} covers {narrow}");
        assert!(!dropped(narrow).cover(&dropped(wide)), "{narrow} does not cover {wide}");
        assert!(!dropped(narrow).are_none(), "{narrow}");
    }
}

#[test]
fn what_is_not_sure_is_not_said() {
    for (one, other) in [
        // A set and a number of connections change; two options may both be there.
        ("<all ipset='s' ipsetflags='src'/>", "<all ipset='s' ipsetflags='src'/>"),
        ("<tcp connlimit-above='3'/>", "<tcp connlimit-above='3'/>"),
        ("<tcp match='no' option='5'/>", "<tcp option='6'/>"),
        ("<tcp match='no' flags='SYN/SYN'/>", "<tcp flags='ALL/ACK'/>"),
        // A fragment has no ports.
        ("<ip protocol='udp' dstportstart='0' dstportend='65535'/>", "<ip protocol='udp'/>"),
        // The negation of a type and its code is not that of each.
        ("<icmp match='no' type='3' code='4'/>", "<icmp type='8' code='0'/>"),
        // The same numbers in another family.
        ("<ip srcipaddr='0.0.0.1'/>", "<ipv6 srcipaddr='::1'/>"),
    ] {
        assert!(!dropped(one).cover(&dropped(other)), "{one} covers {other}");
    }
    assert!(!dropped("<tcp match='no' option='5'/>").and(&dropped("<tcp option='6'/>")).are_none());
}

#[test]
fn conditions_exclude_each_other_and_the_gate() {
    let arp = Frames::through(Gate::EtherType(0x0806));
    for element in ["<ip/>", "<mac protocolid='ipv6'/>", "<rarp/>", "<vlan vlanid='4'/>", "<mac match='no' protocolid='arp'/>"] {
        assert!(dropped(element).and(&arp).are_none(), "{element} in an arp chain");
    }
    for element in ["", "<arp/>", "<mac protocolid='arp'/>", "<mac srcmacaddr='52:54:00:40:00:01'/>", "<mac match='no' protocolid='ipv4'/>"]
    {
        assert!(!dropped(element).and(&arp).are_none(), "{element} in an arp chain");
    }
    let tree = Frames::through(Gate::Destination(Mac::BRIDGE_GROUP));
    assert!(dropped("<mac dstmacaddr='52:54:00:40:00:01'/>").and(&tree).are_none());
    assert!(!dropped("<mac srcmacaddr='52:54:00:40:00:01'/>").and(&tree).are_none());
}

#[test]
fn a_reversed_rule_looks_at_the_other_end() {
    let both = "<rule action='drop' direction='inout'><ip srcipaddr='10.0.0.1' protocol='udp' srcportstart='53'/></rule>";
    let from = "<rule action='drop' direction='out'><ip dstipaddr='10.0.0.1' protocol='udp' dstportstart='53'/></rule>";
    let to = "<rule action='drop' direction='in'><ip srcipaddr='10.0.0.1' protocol='udp' srcportstart='53'/></rule>";
    let get = |rule, side| frames(rule, side, Quirks::Fixed);
    assert_eq!(get(both, Side::ToGuest), get(to, Side::ToGuest));
    let (both, from_guest) = (get(both, Side::FromGuest).expect("made"), get(from, Side::FromGuest).expect("made"));
    assert!(both.cover(&from_guest) && from_guest.cover(&both));
    assert_eq!((get(from, Side::ToGuest), get(to, Side::FromGuest)), (None, None));
}

#[test]
fn layer_3_rules_have_the_instances_that_they_are_compiled_to() {
    let instances = |direction, element, quirks| {
        let rule = format!("<rule action='accept' direction='{direction}'>{element}</rule>");
        Side::ALL.map(|side| frames(&rule, side, quirks).is_some())
    };
    for (direction, element, expected) in [
        ("out", "<tcp/>", [true, true]),
        ("out", "<tcp state='NEW'/>", [true, false]),
        ("in", "<tcp state='NEW'/>", [false, true]),
        ("in", "<tcp connlimit-above='3'/>", [false, true]),
        ("out", "<icmp type='8'/>", [true, false]),
        ("in", "<all srcmacaddr='52:54:00:40:00:01'/>", [false, true]),
        ("in", "<all srcmacaddr='52:54:00:40:00:01' dscp='4'/>", [true, true]),
    ] {
        for quirks in [Quirks::Fixed, Quirks::Libvirt] {
            assert_eq!(instances(direction, element, quirks), expected, "{direction} {element}");
        }
    }
    assert_eq!(instances("inout", "<icmp type='8'/>", Quirks::Fixed), [true, true]);
    assert_eq!(instances("inout", "<icmp type='8'/>", Quirks::Libvirt), [false, false]);
}

#[test]
fn an_icmp_type_in_both_directions_is_seen_from_both_ends() {
    let rule = "<rule action='drop' direction='inout'><icmp srcipaddr='10.0.0.9' type='8'/></rule>";
    let written = frames(rule, Side::ToGuest, Quirks::Fixed).expect("it has an instance");
    let reversed = frames(rule, Side::FromGuest, Quirks::Fixed).expect("it has an instance");
    assert!(!written.cover(&reversed) && !reversed.cover(&written), "one looks at the source, the other at the destination");
    assert_eq!(reversed, dropped("<icmp dstipaddr='10.0.0.9' type='8'/>"));
    assert_eq!(frames(rule, Side::FromGuest, Quirks::Libvirt), None);
}

#[test]
fn states_are_compared_as_they_are_compiled() {
    let accept = |direction, element: &str| {
        let rule = format!("<rule action='accept' direction='{direction}'>{element}</rule>");
        frames(&rule, Side::ToGuest, Quirks::Fixed).expect("it has an instance")
    };
    let incoming = accept("in", "<tcp dstportstart='80'/>");
    assert!(incoming.cover(&accept("in", "<tcp dstportstart='80' dscp='4'/>")));
    assert!(!incoming.cover(&accept("inout", "<tcp dstportstart='80'/>")), "a stateless rule takes more");
    assert!(accept("inout", "<tcp dstportstart='80'/>").cover(&incoming));
    assert!(!incoming.cover(&accept("in", "<tcp dstportstart='80' state='NEW'/>")));
}

#[test]
fn libvirt_quirks_compare_what_libvirt_makes() {
    let made = |element: &str| {
        let rule = format!("<rule action='drop' direction='out'>{element}</rule>");
        frames(&rule, Side::FromGuest, Quirks::Libvirt).expect("it has an instance")
    };
    // Row 6: the destination port's negation is the source port's.
    assert!(made("<tcp match='no' dstportstart='22'/>").cover(&made("<tcp dstportstart='22'/>")));
    // Row 9: the destination has the source's mask.
    let lent = made("<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='8' arpdstipaddr='10.1.0.0'/>");
    assert!(lent.cover(&made("<arp arpsrcipaddr='10.0.0.0' arpsrcipmask='8' arpdstipaddr='10.2.0.0' arpdstipmask='16'/>")));
    // Row 12: flags are not looked at.
    assert!(made("<tcp-ipv6 flags='SYN/SYN'/>").cover(&made("<tcp-ipv6/>")));
    // Row 31: iptables takes a descending range for udp.
    assert!(made("<udp dstportstart='9' dstportend='8'/>").are_none());
}

#[test]
fn a_flood_of_remarks_is_cut_and_said_to_be() {
    let element = "<rule action='drop' direction='out'><ip srcipaddr='10.0.0.1'/></rule>".repeat(SHOWN + 8);
    let (documents, resolved) = guest(&element, Quirks::Fixed);
    let found = lint(&documents, &[], &resolved, Quirks::Fixed);
    assert_eq!(found.len(), SHOWN + 1);
    assert_eq!(found[SHOWN].message, "7 more remarks `unreachable-rule` are not shown");
    assert!(found[..SHOWN].iter().all(|diagnostic| diagnostic.code == "unreachable-rule"));
}

#[test]
fn the_first_remarks_by_place_are_shown_in_whatever_order_they_are_made() {
    let mut remarks = Remarks::default();
    for start in (0..103).rev() {
        let place = Span { file: FileId(0), start, end: start };
        remarks.add("some-remark", place, |code| Diagnostic::note(code, "", place, ""));
    }
    let found = remarks.finish();
    assert!(found.iter().map(|remark| remark.span().start).eq(0..=100));
    assert_eq!(found[SHOWN].message, "3 more remarks `some-remark` are not shown");
}

#[test]
fn while_a_network_is_held_no_address_is_said_to_be_in_none() {
    let network = |name: &str, bridge: &str, address: &str| {
        format!("<network><name>{name}</name><bridge name='{bridge}'/><ip address='{address}' prefix='24'/></network>")
    };
    let binding =
        || BINDING.replace("<filterref filter='f'/>", "<filterref filter='f'><parameter name='IP' value='192.0.2.9'/></filterref>");
    let found = |bridge: &str| {
        let networks = [network("a", "br-a", "10.0.0.1"), network("b", "br-b", "10.1.0.1"), network("c", bridge, "192.0.3.1")];
        let [a, b, c] = networks;
        let (documents, resolved) = state([a, b, c, "<filter name='f'/>".to_owned(), binding()], Quirks::Fixed);
        lint(&documents, &[], &resolved, Quirks::Fixed).iter().map(|diagnostic| diagnostic.code).collect::<Vec<_>>()
    };
    assert_eq!(found("br-c"), ["address-outside-network"]);
    assert_eq!(found("br-b"), Vec::<&str>::new(), "two networks share a bridge and are held");
}

#[test]
fn a_subnet_overlaps_the_nearest_of_another_network_however_many_of_its_own_stand_between() {
    let network = |name: &str, addresses: &[&str]| {
        let ips = addresses.iter().fold(String::new(), |ips, address| ips + &format!("<ip address='{address}' prefix='24'/>"));
        format!("<network><name>{name}</name><bridge name='br-{name}'/>{ips}</network>")
    };
    let texts = [network("a", &["10.0.0.1", "10.0.0.2", "10.1.0.1"]), network("b", &["10.0.0.3", "10.0.0.4"])];
    let (documents, resolved) = state(texts, Quirks::Fixed);
    let found = lint(&documents, &[], &resolved, Quirks::Fixed);
    let places: Vec<_> = found.iter().map(|remark| (remark.code, [0, 1].map(|at| remark.labels[at].span))).collect();
    let [a, b] = [0, 1].map(|at| resolved.networks[at].addresses.iter().map(|address| address.span).collect::<Vec<_>>());
    assert_eq!(places, [("overlapping-subnets", [b[0], a[1]]), ("overlapping-subnets", [b[1], a[1]])]);
}

#[test]
fn behind_more_drops_than_are_remembered_no_rule_is_said_to_let_frames_out_early() {
    let drop = |at: usize| format!("<rule action='drop' direction='out'><mac protocolid='{}'/></rule>", 1536 + at);
    let told = |drops: usize| {
        let drops = (0..drops).fold(String::new(), |drops, at| drops + &drop(at));
        let accept = "<rule action='accept' direction='out'><mac protocolid='65535'/></rule>";
        let check = "<rule action='drop' direction='out'><mac match='no' srcmacaddr='$MAC'/></rule>";
        let (documents, resolved) = guest(&format!("{drops}{accept}{check}"), Quirks::Fixed);
        lint(&documents, &[], &resolved, Quirks::Fixed).iter().map(|remark| remark.code).collect::<Vec<_>>()
    };
    assert_eq!((told(64), told(65)), (vec!["late-mac-check"], vec![]));
}
