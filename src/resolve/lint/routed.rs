//! Filters that look as if they guarded a guest from outside, on networks whose guests are reached from outside.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{GuestPolicy, NetworkPolicy, PolicyRule, Resolved, Treatment};
use super::Remarks;
use crate::diagnostic::Diagnostic;
use crate::model::filter::{Action, Direction, Layer};
use crate::model::interface::Interface;
use crate::model::network::Forward;
use crate::source::Span;

/// Notes, once a filter, that what this host routes to a guest does not meet the filter's `in` rules above layer 2: they look at bridged packets
/// (quirks row 26). Networks of mode `route` and `open` are those that others send to through this host.
pub(super) fn unmet_drops(interfaces: &[&Interface], resolved: &Resolved, remarks: &mut Remarks) {
    let routed = |network: &&NetworkPolicy| matches!(network.forward, Forward::Route { .. } | Forward::Open { .. });
    let routed: BTreeMap<&str, &NetworkPolicy> = resolved.networks.iter().filter(routed).map(|network| (&*network.name, network)).collect();
    let guests: BTreeMap<Span, &GuestPolicy> = resolved.guests.iter().map(|guest| (guest.place, &**guest)).collect();
    let mut told = BTreeSet::new();
    for interface in interfaces {
        let (Some(filter), Some(network)) = (&interface.filter, &interface.network) else { continue };
        let Some(network) = routed.get(&*network.value) else { continue };
        let Some(Treatment::Filtered(rules)) = guests.get(&interface.span).map(|guest| &guest.treatment) else { continue };
        let Some(rule) = rules.iter().find(|rule| drops_above_link(rule)).filter(|_| told.insert(&filter.filter.value)) else { continue };
        let (filter, network) = (&filter.filter, &network.name);
        remarks.add("routed-past-filter", filter.span, |code| {
            let message = format!("what this host routes into network `{network}` does not meet the `in` rules of `{}`", filter.value);
            Diagnostic::note(code, message, filter.span, "above layer 2, they judge what other guests send")
                .also(rule.place, "for example this rule")
                .help("say it with `<ip>` or `<ipv6>`, which ebtables looks at, or in a rule of your own in FORWARD")
        });
    }
}

fn drops_above_link(rule: &PolicyRule) -> bool {
    matches!(rule.action, Action::Drop | Action::Reject)
        && matches!(rule.direction, Direction::In | Direction::InOut)
        && rule.protocol.layer() != Layer::Link
}
