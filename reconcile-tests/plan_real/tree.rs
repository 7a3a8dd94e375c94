//! Random filter trees, as the XML of a filter, of those that it includes, and of guests with lists of values: every protocol, every attribute, chains of every kind,
//! priorities, both senses of a match, variables in every iterator, references inside references.
//!
//! What comes out is without fault: a rule that would be refused under the given quirks is made again. What the parser and the tools refuse is told by other tests.

use std::fmt::Write as _;

use bridgeward::model::Quirks;
use bridgeward::model::attribute::{AttributeSpec, ValueKind as Kind};
use bridgeward::model::filter::{Layer, Protocol};
use bridgeward::model::learned::Learned;
use bridgeward::reconcile::cache::Cache;
use bridgeward::reconcile::compute::{Computed, Reading};

use crate::nightly::Dice;
use crate::restore_law::loaded;

/// The sets of IPv4 and IPv6 addresses that rules name; they must exist.
pub const SETS: [&str; 2] = ["two words", "six"];

/// What stands in a chain of each kind, and `root`, where everything may.
const CHAINS: [(&str, &[&str]); 8] = [
    ("root", &[]),
    ("mac", &["mac"]),
    ("vlan", &["vlan"]),
    ("stp-x", &["stp"]),
    ("arp.2", &["arp"]),
    ("rarp", &["rarp"]),
    ("ipv4-tcp", &["ip"]),
    ("ipv6_web", &["ipv6"]),
];

/// Attributes that mean nothing alone, with those that they belong to.
const BASES: [(&str, &str); 14] = [
    ("srcmacmask", "srcmacaddr"),
    ("dstmacmask", "dstmacaddr"),
    ("srcipmask", "srcipaddr"),
    ("dstipmask", "dstipaddr"),
    ("srcipto", "srcipfrom"),
    ("dstipto", "dstipfrom"),
    ("srcportend", "srcportstart"),
    ("dstportend", "dstportstart"),
    ("ipsetflags", "ipset"),
    ("ipset", "ipsetflags"),
    ("code", "type"),
    ("arpsrcmacmask", "arpsrcmacaddr"),
    ("arpdstmacmask", "arpdstmacaddr"),
    ("arpsrcipmask", "arpsrcipaddr"),
];

/// A state directory: filters `t0` to at most `t5`, and two guests with the first one.
pub fn state(dice: &mut Dice, reading: Reading) -> Vec<(String, String)> {
    let mut judge = Judge { reading, cache: Cache::default() };
    let count = 1 + pick(dice, 6);
    let mut files = Vec::new();
    for number in 0..count {
        let (chain, protocols) = CHAINS[if number == 0 { 0 } else { pick(dice, CHAINS.len()) }];
        let mut inner = String::new();
        for _ in 0..pick(dice, 5) {
            inner += &judge.rule(dice, protocols);
        }
        // Only to later ones: no ring. The first one reaches some of all.
        for other in number + 1..count {
            if dice.below(2) == 0 {
                inner += &reference(dice, other);
            }
        }
        let priority = if dice.below(2) == 0 || chain == "root" { String::new() } else { format!(" priority='{}'", priority(dice)) };
        files.push((format!("t{number}.xml"), format!("<filter name='t{number}' chain='{chain}'{priority}>\n{inner}</filter>\n")));
    }
    for number in 0..2 {
        files.push((format!("vnet{number}.xml"), guest(number)));
    }
    files
}

/// What comes of the files.
pub fn compute(files: &[(String, String)], reading: Reading) -> Computed {
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Cache::default().compute(&loaded(&files), &[], &Learned::default(), reading)
}

fn guest(number: usize) -> String {
    let parameter = |(name, value): (&str, &str)| format!("<parameter name='{name}' value='{value}'/>");
    let own = format!("10.40.0.1{number}");
    let values = [
        ("IP", &*own),
        ("A", "10.1.0.1"),
        ("A", "10.2.0.2"),
        ("SIX", "fd00::1"),
        ("SIX", "fd00::2"),
        ("P", "80"),
        ("P", "443"),
        ("P", "8080"),
    ];
    let values: String = values.into_iter().map(parameter).collect();
    format!(
        "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c100{number}</uuid></owner>\
         <portdev name='vnet{number}'/><mac address='52:54:00:40:00:0{number}'/><filterref filter='t0'>{values}</filterref></filterbinding>\n"
    )
}

/// To a filter of the tree, or now and then to a stock filter, with a value more.
fn reference(dice: &mut Dice, number: usize) -> String {
    let stock = ["clean-traffic", "no-mac-broadcast", "allow-dhcp", "no-arp-ip-spoofing", "qemu-announce-self"];
    let filter = if dice.below(4) == 0 { one(dice, &stock).to_owned() } else { format!("t{number}") };
    let value = if dice.below(3) == 0 { "<parameter name='P' value='22'/>" } else { "" };
    format!("  <filterref filter='{filter}'>{value}</filterref>\n")
}

/// Makes rules, and knows whether they would be refused.
struct Judge {
    reading: Reading,
    cache: Cache,
}

impl Judge {
    /// A rule for one of these protocols, or for any.
    fn rule(&mut self, dice: &mut Dice, protocols: &[&str]) -> String {
        loop {
            let rule = rule(dice, protocols);
            let filter = format!("<filter name='t0'>{rule}</filter>");
            let files = [("t0.xml", &*filter), ("vnet0.xml", &*guest(0))];
            if !self.cache.compute(&loaded(&files), &[], &Learned::default(), self.reading).has_errors() {
                return rule;
            }
        }
    }
}

fn rule(dice: &mut Dice, protocols: &[&str]) -> String {
    let any = Protocol::ELEMENTS.map(|(name, _)| name);
    let name = one(dice, if protocols.is_empty() { &any } else { protocols });
    let protocol = Protocol::named(name).expect("it is one of them");
    let mut text = String::new();
    let mut attributes: Vec<&AttributeSpec> = Vec::new();
    for _ in 0..pick(dice, 5) {
        let spec = &protocol.attributes()[pick(dice, protocol.attributes().len())];
        let base = BASES
            .iter()
            .find(|(name, _)| *name == spec.xml)
            .and_then(|(_, base)| protocol.attributes().iter().find(|spec| spec.xml == *base));
        for spec in [base, Some(spec)].into_iter().flatten() {
            if !attributes.contains(&spec) {
                attributes.push(spec);
                write!(text, " {}='{}'", spec.xml, value(dice, spec, protocol.layer())).expect("a string takes it");
            }
        }
    }
    let sense = if dice.below(5) == 0 { " match='no'" } else { "" };
    let state = if dice.below(6) == 0 { " statematch='false'" } else { "" };
    let (action, direction) = (one(dice, &["accept", "drop", "reject", "return", "continue"]), one(dice, &["in", "out", "inout"]));
    format!("  <rule action='{action}' direction='{direction}' priority='{}'{state}><{name}{sense}{text}/></rule>\n", priority(dice))
}

fn value(dice: &mut Dice, spec: &AttributeSpec, layer: Layer) -> String {
    let port = spec.xml.contains("port");
    let fixed = |text: &str| text.to_owned();
    match spec.kind {
        Kind::Number { .. } if port && dice.below(3) == 0 => fixed(one(dice, &["$P", "$P[1]", "$P[@1]", "$P[@2]"])),
        Kind::Number { min, max } => {
            let span = u64::from(max - min);
            let offset = [0, span, dice.below(span + 1)][pick(dice, 3)];
            (u64::from(min) + offset).to_string()
        }
        Kind::Decimal => dice.below(0x1_0000).to_string(),
        Kind::EtherType { min } => one(dice, &[&*min.max(0x600).to_string(), "0x800", "arp", "ipv6", "0x88cc"]).to_owned(),
        Kind::ArpOpcode => fixed(one(dice, &["1", "Reply", "Request_Reverse", "11", "65535"])),
        Kind::IpProtocol => fixed(one(dice, &["tcp", "udp", "icmp", "sctp", "89", "255"])),
        Kind::Mac => fixed(one(dice, &["$MAC", "52:54:00:aa:bb:cc", "ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:00"])),
        Kind::MacMask => fixed(one(dice, &["ff:ff:ff:ff:ff:ff", "ff:ff:ff:00:00:00", "80:00:00:00:00:00"])),
        Kind::Ipv4 => fixed(one(dice, &["$IP", "$A", "$A[0]", "$A[@1]", "$A[@3]", "10.0.0.1", "192.0.2.255"])),
        Kind::Ipv4Mask => fixed(one(dice, &["32", "24", "1", "255.255.0.0"])),
        Kind::Ipv6 => fixed(one(dice, &["$SIX", "$SIX[@1]", "fd00::5", "2001:db8::", "::1"])),
        Kind::Ipv6Mask => fixed(one(dice, &["128", "64", "1", "ffff:ffff::"])),
        Kind::Flag => fixed(one(dice, &["true", "no"])),
        Kind::TcpFlags => fixed(one(dice, &["SYN/ALL", "SYN,ACK/SYN", "NONE/SYN,FIN", "ALL/ALL"])),
        Kind::States => fixed(one(dice, &["NEW", "ESTABLISHED,RELATED", "INVALID", "NONE"])),
        Kind::SetName => fixed(SETS[usize::from(layer == Layer::Ipv6)]),
        Kind::SetDirections => fixed(one(dice, &["src", "dst,src", "src,src,dst"])),
        Kind::Comment => fixed(one(dice, &["plain", "two words", "tick `x` and $(y)", "&quot; -j ACCEPT", "ends in \\", "-j", "\u{e9}"])),
    }
}

fn priority(dice: &mut Dice) -> String {
    one(dice, &["-1000", "-500", "-1", "0", "1", "500", "1000"]).to_owned()
}

fn pick(dice: &mut Dice, end: usize) -> usize {
    usize::try_from(dice.below(end as u64)).expect("it is below a length")
}

fn one<T: Copy>(dice: &mut Dice, list: &[T]) -> T {
    list[pick(dice, list.len())]
}

/// The trees have to be what they are said to be.
#[test]
fn trees_have_rules_of_every_protocol_and_are_without_fault() {
    let mut dice = Dice::new();
    let mut text = String::new();
    for quirks in [Quirks::Fixed, Quirks::Libvirt] {
        for _ in 0..20 {
            let reading = Reading { quirks, ..Reading::default() };
            let files = state(&mut dice, reading);
            let computed = compute(&files, reading);
            assert!(!computed.has_errors(), "{files:#?}\n{:#?}", computed.diagnostics);
            assert_eq!(computed.compiled.objects.len(), 2, "{files:#?}");
            text.extend(files.into_iter().map(|(_, file)| file));
        }
    }
    for (protocol, _) in Protocol::ELEMENTS {
        assert!(text.contains(&format!("<{protocol}")), "no `{protocol}`");
    }
}
