//! Notes where libvirt 9.0 makes other rules of a text than `fixed` quirks do.
//!
//! Reference: the rows of nwfilter.md section 8 as design decides them. Only rows that this very rule meets are named, and
//! whatever the quirks, so that `check` tells a migrating operator what will change.

use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::filter::{Action, Attribute, AttributeName, Direction, Layer, Literal, Protocol, Rule, Value};
use crate::parse::report::Report;
use crate::source::Span;

/// Adds a note for each row that `rule` meets.
pub(super) fn report_differences(rule: &Rule, report: &mut Report<'_>) {
    let rows = [
        inout_icmp_type,
        inherited_negation,
        lost_set,
        encapsulated_decimal,
        inherited_arp_mask,
        unshifted_dscp,
        lost_negation,
        lost_range,
        reversed_source_mac,
    ];
    for difference in rows.into_iter().filter_map(|row| row(rule)) {
        report.add(difference.note(report.quirks()));
    }
}

/// A row of section 8 that a rule meets.
struct Difference {
    code: &'static str,
    /// The attribute that decides it.
    span: Span,
    /// What happens in `libvirt` quirks.
    libvirt: &'static str,
    /// What happens in `fixed` quirks.
    fixed: &'static str,
}

impl Difference {
    /// The note: what happens here in the message, what would happen otherwise in the label.
    fn note(self, quirks: Quirks) -> Diagnostic {
        let (here, other) = match quirks {
            Quirks::Fixed => (self.fixed, format!("with libvirt 9.0 {}", self.libvirt)),
            Quirks::Libvirt => (self.libvirt, format!("with `fixed` quirks {}", self.fixed)),
        };
        Diagnostic::note(self.code, here, self.span, other)
    }
}

/// Row 5: `inout` with an ICMP type.
fn inout_icmp_type(rule: &Rule) -> Option<Difference> {
    let icmp = matches!(rule.protocol, Protocol::Icmp | Protocol::Icmpv6) && rule.direction == Direction::InOut;
    let kind = attribute(rule, AttributeName::Type).filter(|_| icmp)?;
    Some(Difference {
        code: "inout-icmp-type",
        span: kind.span,
        libvirt: "an `inout` rule with an ICMP type vanishes",
        fixed: "an `inout` rule with an ICMP type counts in both directions",
    })
}

/// Row 6: destination ports take over the negation of the source port.
fn inherited_negation(rule: &Rule) -> Option<Difference> {
    use Protocol as P;
    let inherits = matches!(rule.protocol, P::Tcp | P::Udp | P::Sctp | P::TcpIpv6 | P::UdpIpv6 | P::SctpIpv6);
    let destination = attribute(rule, AttributeName::DstPortStart).filter(|_| inherits)?;
    let source_negated = attribute(rule, AttributeName::SrcPortStart).is_some_and(|source| source.negated);
    (destination.negated != source_negated).then_some(Difference {
        code: "inherited-port-negation",
        span: destination.span,
        libvirt: "a destination port is negated exactly when the source port is",
        fixed: "a destination port is negated by its own element's `match`",
    })
}

/// Row 7: a set on anything but `all` and `all-ipv6`. Without directions libvirt refuses the rule when it applies it.
fn lost_set(rule: &Rule) -> Option<Difference> {
    let works = matches!(rule.protocol, Protocol::All | Protocol::AllIpv6);
    let set = attribute(rule, AttributeName::IpSet).filter(|_| !works)?;
    attribute(rule, AttributeName::IpSetFlags)?;
    Some(Difference {
        code: "lost-set-match",
        span: set.span,
        libvirt: "an `ipset` is dropped on protocols other than `all`, which widens the rule",
        fixed: "an `ipset` is matched on every protocol",
    })
}

/// Row 8: a literal encapsulated protocol is written in decimal and read in hexadecimal; a variable is passed on as it is.
fn encapsulated_decimal(rule: &Rule) -> Option<Difference> {
    let protocol = attribute(rule, AttributeName::EncapProtocol).filter(|attribute| is_literal(attribute))?;
    Some(Difference {
        code: "misread-encap-protocol",
        span: protocol.span,
        libvirt: "`encap-protocol` is written in decimal and read in hexadecimal, and so hardly ever matches",
        fixed: "`encap-protocol` is the number it says",
    })
}

/// Row 9: the destination address takes over the mask of the source address.
fn inherited_arp_mask(rule: &Rule) -> Option<Difference> {
    let destination = attribute(rule, AttributeName::ArpDstIpAddr)?;
    let mask = attribute(rule, AttributeName::ArpSrcIpMask).filter(|_| rule.has(AttributeName::ArpSrcIpAddr))?;
    // A source mask of 32 bits is what the destination would have had anyway.
    let differs = attribute(rule, AttributeName::ArpDstIpMask).is_none() && mask.value != Value::Literal(Literal::Prefix(32));
    differs.then_some(Difference {
        code: "inherited-arp-mask",
        span: destination.span,
        libvirt: "`arpdstipaddr` without a mask is matched under `arpsrcipmask`",
        fixed: "`arpdstipaddr` without a mask is one address",
    })
}

/// Row 10: layer-2 `dscp` is compared with the whole octet.
fn unshifted_dscp(rule: &Rule) -> Option<Difference> {
    let dscp = attribute(rule, AttributeName::Dscp).filter(|_| rule.protocol.layer() == Layer::Link)?;
    Some(Difference {
        code: "unshifted-dscp",
        span: dscp.span,
        libvirt: "layer-2 `dscp` is compared with the whole type-of-service octet",
        fixed: "layer-2 `dscp` is compared with the six DSCP bits",
    })
}

/// Negated states and sets, where libvirt looks at no `match` (nwfilter.md 2.3).
fn lost_negation(rule: &Rule) -> Option<Difference> {
    let negated = |name| attribute(rule, name).filter(|attribute| attribute.negated);
    let lost = negated(AttributeName::State).or_else(|| negated(AttributeName::IpSet))?;
    Some(Difference {
        code: "lost-negation",
        span: lost.span,
        libvirt: "`state` and `ipset` are never negated",
        fixed: "`state` and `ipset` are negated by their own element's `match`",
    })
}

/// A range of addresses beside an address of the same end (nwfilter.md 2.6).
fn lost_range(rule: &Rule) -> Option<Difference> {
    let pairs = [(AttributeName::SrcIpFrom, AttributeName::SrcIpAddr), (AttributeName::DstIpFrom, AttributeName::DstIpAddr)];
    let (range, _) = pairs.into_iter().find(|&(range, address)| rule.has(range) && rule.has(address))?;
    Some(Difference {
        code: "lost-address-range",
        span: attribute(rule, range)?.span,
        libvirt: "a range of addresses is ignored beside an address, which widens the rule",
        fixed: "a range of addresses counts beside an address",
    })
}

/// A source Ethernet address that the rule of the other direction cannot look at (nwfilter.md 2.7). Replies to what it let in need not be looked at again.
fn reversed_source_mac(rule: &Rule) -> Option<Difference> {
    let mac = attribute(rule, AttributeName::SrcMacAddr).filter(|_| rule.protocol.layer() != Layer::Link)?;
    // Without any of these libvirt makes no rule of the other direction either.
    let looks_at_more = rule.attributes.iter().any(|other| {
        use AttributeName as A;
        !matches!(other.name, A::SrcMacAddr | A::State | A::IpSet | A::IpSetFlags | A::Comment | A::ConnLimitAbove)
    });
    let one_way =
        rule.direction == Direction::InOut || [AttributeName::Type, AttributeName::ConnLimitAbove].iter().any(|&name| rule.has(name));
    let replies = rule.action == Action::Accept && rule.state_match;
    (looks_at_more && !one_way && !replies).then_some(Difference {
        code: "reversed-source-mac",
        span: mac.span,
        libvirt: "packets of the other direction are judged without their Ethernet address",
        fixed: "packets of the other direction are left to other rules",
    })
}

fn attribute(rule: &Rule, name: AttributeName) -> Option<&Attribute> {
    rule.attributes.iter().find(|attribute| attribute.name == name)
}

fn is_literal(attribute: &Attribute) -> bool {
    matches!(attribute.value, Value::Literal(_))
}
