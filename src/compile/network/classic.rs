//! A network as libvirt spelled it up to 5.0 (networks.md section 4): straight in INPUT, OUTPUT, FORWARD and POSTROUTING.
//!
//! Where the rules stand decides here: what leaves one network is judged by its block before the block of another says what
//! may enter that one, so the order of blocks in FORWARD is part of the meaning (networks.md 4.4) and the plan keeps it by
//! name. What the era could not say is refused at its place.

use super::{
    Block, Passage, Service, TCP, UDP, accept_answers, accept_crossing, accept_input, accept_inward, accept_output, accept_outward,
    family_of, fill_checksum, keep_source, reject_inward, reject_outward, translate, untranslated,
};
use crate::compile::{Key, Layout, PlacedRule};
use crate::diagnostic::Diagnostic;
use crate::model::network::{Forward, Nat, NetworkAddress};
use crate::resolve::NetworkPolicy;
use crate::ruleset::rule::{IpMatch, IpRule};
use crate::ruleset::{ChainId, ChainName, Family, Table};
use crate::source::Span;

/// Which of the two descriptions of the era is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Actual,
    Document,
}

/// Refuses what a classic layout has no rules for.
///
/// # Errors
/// The first thing that it cannot say.
pub(super) fn judge(policy: &NetworkPolicy, layout: Layout) -> Result<(), Box<Diagnostic>> {
    const HELP: &str = "layout `chains` has it; or change the network";
    if layout == Layout::Chains {
        return Ok(());
    }
    let name = &policy.name;
    let fault = match &policy.forward {
        Forward::Open { span } => {
            let message = format!("network `{name}` is `open`, which the classic layout does not know");
            Diagnostic::error("classic-open", message, *span, "expected no `<forward>`, or mode `nat` or `route`")
        }
        Forward::Nat(nat) if nat.ipv6 => {
            let message = format!("network `{name}` translates IPv6, which the classic layout cannot");
            Diagnostic::error("classic-nat-ipv6", message, nat.span, "expected no `ipv6='yes'`: IPv6 is routed")
        }
        Forward::Nat(nat) if layout == Layout::ClassicDocument && nat.ports != Nat::DEFAULT_PORTS => {
            let message = format!("network `{name}` names ports to translate to, for which `classic-document` has no rule");
            Diagnostic::error("classic-nat-ports", message, nat.span, "expected no `<port>`: its one rule takes every protocol")
        }
        Forward::Nat(_) | Forward::Route { .. } | Forward::Isolated | Forward::External => return Ok(()),
    };
    Err(Box::new(fault.help(HELP)))
}

impl Block<'_> {
    /// What libvirt 1.2.3 made (networks.md 4.1).
    pub(super) fn fill_classic(&mut self) {
        self.fill_built_in(List::Actual);
    }

    /// What the document of that time lists (networks.md 4.2): less in INPUT and OUTPUT, one rule of translation, nothing in
    /// mangle.
    pub(super) fn fill_document(&mut self) {
        self.fill_built_in(List::Document);
    }

    fn fill_built_in(&mut self, list: List) {
        let (policy, family) = (self.policy, self.family);
        let (bridge, place) = (&policy.bridge, policy.place);
        for &service in self.classic_services(list) {
            self.stand(Table::Filter, "INPUT", accept_input(bridge, service), place);
        }
        if (list, family) == (List::Actual, Family::Ipv4) {
            self.stand(Table::Filter, "OUTPUT", accept_output(bridge, (UDP, 68)), place);
            self.stand_checksum();
        }
        for address in policy.addresses.iter().rev().filter(|address| family_of(address) == family) {
            self.stand_subnet(address, list);
        }
        for rule in [accept_crossing(bridge), reject_inward(bridge), reject_outward(bridge)] {
            self.stand(Table::Filter, "FORWARD", rule, place);
        }
    }

    /// One subnet's pair in FORWARD, inward first, and its translation.
    fn stand_subnet(&mut self, address: &NetworkAddress, list: List) {
        let (bridge, device) = (&self.policy.bridge, self.device());
        let (net, place) = (address.address.trunc(), address.span);
        let inward = match self.passage() {
            Passage::Isolated => return,
            Passage::Routed => accept_inward(net, bridge, device),
            Passage::Translated(_) => match list {
                List::Actual => accept_answers(net, bridge, device),
                List::Document => in_old_words(accept_answers(net, bridge, device)),
            },
        };
        self.stand(Table::Filter, "FORWARD", inward, place);
        self.stand(Table::Filter, "FORWARD", accept_outward(net, bridge, device), place);
        if let Passage::Translated(nat) = self.passage() {
            self.rules.keys.insert(Key::Subnet(net));
            let (groups, protocols): (_, &[_]) = match list {
                List::Actual => (untranslated(net), &[Some(TCP), Some(UDP), None]),
                List::Document => (Vec::new(), &[None]),
            };
            for group in groups {
                self.stand(Table::Nat, "POSTROUTING", keep_source(net, group, device), place);
            }
            for &protocol in protocols {
                self.stand(Table::Nat, "POSTROUTING", translate(net, device, protocol, nat), place);
            }
        }
    }

    /// The checksum rule, if the service address has DHCP: unlike today, no other address counts (networks.md 4.1).
    fn stand_checksum(&mut self) {
        if let Some(address) = self.service_address().filter(|address| address.dhcp) {
            self.stand(Table::Mangle, "POSTROUTING", fill_checksum(&self.policy.bridge), address.span);
        }
    }

    /// The ports for INPUT.
    fn classic_services(&self, list: List) -> &'static [Service] {
        match (self.family, list) {
            // The document does not know TFTP.
            (Family::Ipv4, List::Document) => &[(UDP, 53), (TCP, 53), (UDP, 67), (TCP, 67)],
            _ => self.services().0,
        }
    }

    fn stand(&mut self, table: Table, chain: &str, rule: IpRule, place: Span) {
        let id = ChainId { family: self.family, table, chain: ChainName::new(chain) };
        self.rules.direct.entry(id).or_default().push(PlacedRule::ip(self.family, rule, Some(place)));
    }
}

/// `-m state --state` for `-m conntrack --ctstate`.
fn in_old_words(rule: IpRule) -> IpRule {
    let old = |entry| if let IpMatch::ConnectionState(states) = entry { IpMatch::State(states) } else { entry };
    IpRule { matches: rule.matches.into_iter().map(old).collect(), ..rule }
}

#[cfg(test)]
mod tests;
