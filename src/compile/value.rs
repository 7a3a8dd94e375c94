//! Conditions of a rule as the typed values that rules are made of.
//!
//! What goes in is a condition with a literal that the parser or a variable gave; what comes out fits the tool's option, or is a fault at
//! the condition. Nothing here falls back to a wider match: a value that cannot be used is refused.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::addr::{Mac, PortRange};
use crate::diagnostic::Diagnostic;
use crate::model::filter::Literal;
use crate::resolve::Condition;
use crate::ruleset::rule::{Invertible, MacNet, Range};

/// Why a rule cannot be made; boxed because the good case is the common one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault(Box<Diagnostic>);

/// From which end a rule looks at a conversation (nwfilter.md 2.5 and 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Facing {
    /// Source is the source.
    AsWritten,
    /// Source and destination are swapped.
    Reversed,
}

impl Facing {
    /// The first when the rule stands as written, the second when it is reversed.
    pub(super) fn choose<T>(self, written: T, reversed: T) -> T {
        match self {
            Self::AsWritten => written,
            Self::Reversed => reversed,
        }
    }
}

impl Fault {
    /// The diagnostic as a fault.
    pub(super) fn new(diagnostic: Diagnostic) -> Self {
        Self(Box::new(diagnostic))
    }

    /// A fault at a condition, where `expected` says what should stand there.
    pub(super) fn at(condition: &Condition, code: &'static str, message: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Diagnostic::error(code, message, condition.span, expected))
    }

    /// Adds a second condition.
    pub(super) fn also(self, condition: &Condition, text: impl Into<String>) -> Self {
        Self::new(self.0.also(condition.span, text))
    }

    /// Says how to mend it.
    pub(super) fn help(self, text: impl Into<String>) -> Self {
        Self::new(self.0.help(text))
    }

    /// What to tell people.
    pub(super) fn diagnostic(&self) -> &Diagnostic {
        &self.0
    }
}

/// The condition's number as `N`.
pub(super) fn number<N: TryFrom<u32>>(condition: &Condition) -> Result<N, Fault> {
    let number = condition.number().and_then(|number| N::try_from(number).ok());
    let largest = (1_u64 << (8 * size_of::<N>())) - 1;
    number.ok_or_else(|| unusable(condition, format!("expected a number from 0 to {largest}")))
}

/// The condition's number, up to `max`.
pub(super) fn number_to<N: TryFrom<u32> + Copy + PartialOrd + std::fmt::Display>(condition: &Condition, max: N) -> Result<N, Fault> {
    match number::<N>(condition) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(unusable(condition, format!("expected a number from 0 to {max}"))),
    }
}

/// The condition's Ethernet address.
pub(super) fn mac(condition: &Condition) -> Result<Mac, Fault> {
    match condition.value {
        Literal::Mac(mac) => Ok(mac),
        _ => Err(unusable(condition, "expected an Ethernet address")),
    }
}

/// The condition's IP address of either family.
pub(super) fn address(condition: &Condition) -> Result<IpAddr, Fault> {
    match condition.value {
        Literal::Ipv4(address) => Ok(IpAddr::V4(address)),
        Literal::Ipv6(address) => Ok(IpAddr::V6(address)),
        _ => Err(unusable(condition, "expected an IP address")),
    }
}

/// The condition's IP address under the mask that another condition gives; one address without.
pub(super) fn net(condition: &Condition, mask: Option<&Condition>) -> Result<IpNet, Fault> {
    let address = address(condition)?;
    let Some(mask) = mask else { return Ok(IpNet::from(address)) };
    let Literal::Prefix(prefix) = mask.value else { return Err(unusable(mask, "expected an address mask")) };
    let net = IpNet::new(address, prefix).map_err(|_| unusable(mask, "expected a mask of the address's own family"))?;
    Ok(net.trunc())
}

/// Like [`net`], IPv4 only.
pub(super) fn ipv4_net(condition: &Condition, mask: Option<&Condition>) -> Result<Ipv4Net, Fault> {
    match net(condition, mask)? {
        IpNet::V4(net) => Ok(net),
        IpNet::V6(_) => Err(unusable(condition, "expected an IPv4 address")),
    }
}

/// Like [`net`], IPv6 only.
pub(super) fn ipv6_net(condition: &Condition, mask: Option<&Condition>) -> Result<Ipv6Net, Fault> {
    match net(condition, mask)? {
        IpNet::V6(net) => Ok(net),
        IpNet::V4(_) => Err(unusable(condition, "expected an IPv6 address")),
    }
}

/// The condition's Ethernet address under the mask that another condition gives.
pub(super) fn mac_net(condition: &Condition, mask: Option<&Condition>) -> Result<MacNet, Fault> {
    let address = mac(condition)?;
    Ok(match mask {
        Some(mask) => MacNet::new(address, self::mac(mask)?),
        None => MacNet::host(address),
    })
}

/// Ports from `start` to `end`, as written: a range may descend. Without `end` one port, or the range that a variable brought.
pub(super) fn ports(start: &Condition, end: Option<&Condition>) -> Result<PortRange, Fault> {
    match (&start.value, end) {
        (&Literal::Range(first, last), None) => Ok(PortRange { first, last }),
        (_, None) => number(start).map(PortRange::single),
        (_, Some(end)) => Ok(PortRange { first: number(start)?, last: number(end)? }),
    }
}

/// Ports from `start` to `end`, refused where the range descends, as most tools do (nwfilter.md row 31).
pub(super) fn ascending_ports(start: &Condition, end: Option<&Condition>) -> Result<PortRange, Fault> {
    let range = ports(start, end)?;
    if range.first > range.last { Err(descending(end.unwrap_or(start), range.first)) } else { Ok(range) }
}

/// A range of numbers from `low` to `high`; one number without `high`.
pub(super) fn range<N: TryFrom<u32> + Copy + PartialOrd + std::fmt::Display>(
    low: &Condition,
    high: Option<&Condition>,
) -> Result<Range<N>, Fault> {
    let first = number(low)?;
    let last = high.map_or(Ok(first), number)?;
    match high {
        Some(high) if first > last => Err(descending(high, first)),
        _ => Ok(Range { first, last }),
    }
}

/// The value with the condition's own negation.
pub(super) fn invertible<T>(condition: &Condition, value: T) -> Invertible<T> {
    Invertible::new(condition.negated, value)
}

/// A range whose end lies before its start.
pub(super) fn descending(end: &Condition, first: impl std::fmt::Display) -> Fault {
    Fault::at(end, "descending-range", "the range ends before it begins", format!("expected at least `{first}`")).help("swap the two ends")
}

/// Two attributes of one match of which only one is negated.
pub(super) fn mixed_negation(one: &Condition, other: &Condition) -> Fault {
    let message = "`type` and `code` are one match: both must be negated, or neither";
    Fault::at(other, "mixed-negation", message, "expected the same `match` as beside the type").also(one, "the type")
}

/// A value of the wrong kind or size.
pub(super) fn unusable(condition: &Condition, expected: impl Into<String>) -> Fault {
    Fault::at(condition, "unusable-value", "the rule cannot be made with this value", expected)
}
