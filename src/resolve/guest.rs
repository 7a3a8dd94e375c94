//! One guest interface to its policy: its variables, its filter tree, and whether an address has to be learned first.
//!
//! Reference: nwfilter.md 4.3, 4.5 and 5. In `fixed` quirks `IPV6` is learned as `IP` is. What is wrong with filters themselves is reported by [`super::includes`], once for all guests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::budget::{Budget, TOTAL_LIMIT};
use super::finding::Findings;
use super::includes::{Library, RULE_LIMIT};
use super::interface::Tap;
use super::value;
use super::variables::{Bindings, Expansion, FAULT_LIMIT, Item, Scope};
use super::{Families, GuestPolicy, Learning, Treatment};
use crate::addr::Mac;
use crate::diagnostic::Diagnostic;
use crate::model::filter::{Access, Element, Reference};
use crate::model::interface::Interface;
use crate::model::learned::{Anchor, Claimant, Learned, Method};
use crate::model::{Object, Quirks};
use crate::parse::visit::with_suggestion;
use crate::source::{Span, Spanned};

/// What `CTRL_IP_LEARNING` may say.
enum LearningMode {
    Any,
    Dhcp,
    None,
}

/// Resolves one guest; what is wrong goes to the findings, and `None` comes back.
pub(super) fn resolve(
    tap: &Tap<'_>,
    library: &Library<'_>,
    learned: &Learned,
    quirks: Quirks,
    budget: &mut Budget,
    findings: &mut Findings,
) -> Option<GuestPolicy> {
    let interface = tap.interface;
    let reference = interface.filter.as_ref()?;
    let object = || [Object::Interface(tap.device.clone())];
    let Some(mac) = interface.mac else {
        findings.refuse(object(), missing_mac(interface, reference));
        return None;
    };
    let filter = match library.find(reference) {
        Ok(filter) => filter,
        Err(fault) => {
            refuse_for_filter(object(), reference, &fault, findings);
            return None;
        }
    };
    let allowance = budget.allowance(reference.span.file);
    if allowance == 0 {
        findings.refuse(object(), too_many_guests(reference));
        return None;
    }
    let mut bindings = top_bindings(interface, reference, mac, quirks, findings);
    let (found, _) = findings.count();
    let claimant = |method| Claimant { anchor: anchor(tap), mac: mac.value, filter: Arc::clone(&reference.filter.value), method };
    let start = || Expansion::new(reference.span, quirks, allowance, found);
    let (expansion, mut cost) = expand(library, filter, &bindings, start());
    let mut outcome = treatment(expansion, &bindings, tap, reference, library, claimant, quirks);
    let mut used = None;
    if let Ok(Treatment::Learning(learning)) = &outcome
        && let addresses = learned.addresses(&learning.claimant, quirks)
        && (addresses.iter().any(|address| learning.families.include(*address)) || has_other_family(learning.families, &bindings))
    {
        used = Some(learning.clone());
        bind_learned(&mut bindings, &addresses, learning.families, reference.span);
        let (expansion, again) = expand(library, filter, &bindings, start());
        // The guest has one of the two.
        cost = cost.zip(again).map(|(first, again)| first.max(again));
        outcome = treatment(expansion, &bindings, tap, reference, library, claimant, quirks);
    }
    match cost {
        Some(cost) => budget.spend(reference.span.file, cost),
        None => budget.exhaust(reference.span.file),
    }
    match outcome {
        Ok(treatment) => Some(GuestPolicy {
            device: tap.device.clone(),
            mac: mac.value,
            owner: interface.owner.clone(),
            treatment,
            learned: used,
            place: interface.span,
        }),
        Err(faults) => {
            for fault in faults {
                findings.refuse(object(), fault);
            }
            None
        }
    }
}

/// The variables that the interface gives: its parameters, then its MAC address, then its addresses.
fn top_bindings<'a>(
    interface: &'a Interface,
    reference: &'a Reference,
    mac: Spanned<Mac>,
    quirks: Quirks,
    findings: &mut Findings,
) -> Bindings<'a> {
    let mut bindings = Bindings::of(&reference.parameters);
    bindings.fall_back("MAC", vec![Item { text: mac.value.to_string().into(), span: mac.span }]);
    match quirks {
        Quirks::Fixed => {
            bindings.fall_back("IP", addresses(interface, IpAddr::is_ipv4));
            bindings.fall_back("IPV6", addresses(interface, IpAddr::is_ipv6));
        }
        Quirks::Libvirt => {
            for address in &interface.addresses {
                findings.report(ignored_address(address));
            }
        }
    }
    bindings
}

fn addresses(interface: &Interface, family: impl Fn(&IpAddr) -> bool) -> Vec<Item> {
    let of_family = interface.addresses.iter().filter(|address| family(&address.value));
    of_family.map(|address| Item { text: address.value.to_string().into(), span: address.span }).collect()
}

/// What the filter tree becomes with these variables, and what it costs, unless it exceeds what the guest may have.
fn expand<'a>(library: &Library<'a>, filter: usize, bindings: &Bindings<'a>, mut expansion: Expansion<'a>) -> (Expansion<'a>, Option<u64>) {
    // Broken off or not: what was found is in the expansion.
    let _: ControlFlow<()> = library.walk(filter, &Scope::top(bindings), &mut |rule, scope| expansion.add(rule, scope));
    let cost = if expansion.exceeded.is_some() { None } else { Some(expansion.cost()) };
    (expansion, cost)
}

/// What tells this guest from others with its Ethernet address.
fn anchor(tap: &Tap<'_>) -> Anchor {
    match (tap.interface.owner_uuid, &tap.interface.device) {
        (Some(owner), _) => Anchor::Owner(owner),
        (None, Some(_)) => Anchor::Device(tap.device.clone()),
        (None, None) => Anchor::Address,
    }
}

/// Whether only `IPV6` is unknown: a guest that may never speak IPv6 does not wait for it.
fn has_other_family(families: Families, bindings: &Bindings<'_>) -> bool {
    families == Families::Ipv6 && bindings.get("IP").is_some()
}

/// Gives `IP` and `IPV6` what was learned. A guest of which one of the two is known goes through its filter; the address that it does not
/// have (yet) is the unspecified one, which is what a host without an address sends from, and no other.
fn bind_learned(bindings: &mut Bindings<'_>, addresses: &[IpAddr], families: Families, span: Span) {
    let unspecified: [(&str, IpAddr); 2] = [("IP", Ipv4Addr::UNSPECIFIED.into()), ("IPV6", Ipv6Addr::UNSPECIFIED.into())];
    for (name, unspecified) in unspecified.into_iter().filter(|(_, unspecified)| families.include(*unspecified)) {
        let item = |address: &IpAddr| Item { text: address.to_string().into(), span };
        let mut items: Vec<Item> = addresses.iter().filter(|address| address.is_ipv4() == unspecified.is_ipv4()).map(item).collect();
        if items.is_empty() {
            items.push(item(&unspecified));
        }
        bindings.fall_back(name, items);
    }
}

/// Decides between the filter and the interim rules of learning.
///
/// # Errors
/// Everything that keeps the guest out. While an address is learned libvirt looks at nothing else; `fixed` also reports what no
/// address could mend.
fn treatment(
    expansion: Expansion<'_>,
    bindings: &Bindings<'_>,
    tap: &Tap<'_>,
    reference: &Reference,
    library: &Library<'_>,
    claimant: impl FnOnce(Method) -> Claimant,
    quirks: Quirks,
) -> Result<Treatment, Vec<Diagnostic>> {
    let Expansion { rules, missing, mut faults, exceeded, fault_limit, .. } = expansion;
    if let Some(exceeded) = exceeded {
        faults.push(exceeded);
        return Err(faults);
    }
    if missing.is_empty() {
        return if faults.is_empty() { Ok(Treatment::Filtered(rules)) } else { Err(faults) };
    }
    let families = wanted(missing.keys().copied(), quirks);
    let method = if families.is_some() { method(bindings, quirks).map_err(|fault| vec![*fault])? } else { None };
    match families.zip(method) {
        Some((families, method)) if faults.is_empty() || quirks == Quirks::Libvirt => {
            Ok(Treatment::Learning(Learning { claimant: claimant(method), families }))
        }
        Some(_) => Err(faults),
        None => {
            let shown = missing.iter().take(fault_limit);
            faults.extend(shown.map(|(access, &span)| missing_variable(access, span, bindings, tap, reference, library, quirks)));
            Err(faults)
        }
    }
}

/// Which addresses would make everything complete; `None` when something else is missing, too.
fn wanted<'a>(missing: impl Iterator<Item = &'a Access>, quirks: Quirks) -> Option<Families> {
    let mut wanted = None;
    for access in missing {
        let family = learnable(access, quirks)?;
        wanted = Some(if wanted.is_none_or(|wanted| wanted == family) { family } else { Families::Both });
    }
    wanted
}

/// Learning fills `$IP` on iterator 0, in `fixed` quirks `$IPV6` as well, and nothing else.
fn learnable(access: &Access, quirks: Quirks) -> Option<Families> {
    match (&*access.name, &access.element) {
        ("IP", Element::Iterated(0)) => Some(Families::Ipv4),
        ("IPV6", Element::Iterated(0)) if quirks == Quirks::Fixed => Some(Families::Ipv6),
        _ => None,
    }
}

/// How to learn, as the interface's own parameters say; `None` when it is forbidden.
fn method(bindings: &Bindings<'_>, quirks: Quirks) -> Result<Option<Method>, Box<Diagnostic>> {
    Ok(match learning_mode(bindings)? {
        LearningMode::None => None,
        LearningMode::Any => Some(Method::Any),
        LearningMode::Dhcp => Some(Method::Dhcp(dhcp_servers(bindings, quirks)?)),
    })
}

fn learning_mode(bindings: &Bindings<'_>) -> Result<LearningMode, Box<Diagnostic>> {
    let Some(mode) = bindings.get("CTRL_IP_LEARNING").and_then(<[Item]>::first) else { return Ok(LearningMode::Any) };
    match mode.text.to_ascii_lowercase().as_str() {
        "any" => Ok(LearningMode::Any),
        "dhcp" => Ok(LearningMode::Dhcp),
        "none" => Ok(LearningMode::None),
        _ => {
            let message = format!("`{}` is no way to learn an address", mode.text);
            let fault = Diagnostic::error("unknown-learning-mode", message, mode.span, "expected `any`, `dhcp` or `none`");
            Err(Box::new(with_suggestion(fault, &mode.text, ["any", "dhcp", "none"])))
        }
    }
}

fn dhcp_servers(bindings: &Bindings<'_>, quirks: Quirks) -> Result<Vec<Ipv4Addr>, Box<Diagnostic>> {
    let read = |server: &Item| {
        value::ipv4(&server.text, quirks).map_err(|refusal| {
            let message = format!("`{}` is no DHCP server to learn an address from", server.text);
            let fault = Diagnostic::error("invalid-dhcp-server", message, server.span, refusal.expected);
            Box::new(refusal.help.into_iter().fold(fault, Diagnostic::help))
        })
    };
    bindings.get("DHCPSERVER").unwrap_or_default().iter().map(read).collect()
}

fn refuse_for_filter(object: [Object; 1], reference: &Reference, fault: &Arc<Diagnostic>, findings: &mut Findings) {
    if fault.span() == reference.filter.span {
        findings.refuse(object, Diagnostic::clone(fault));
        return;
    }
    // The filters report it themselves, once.
    for object in object {
        findings.hold(object, fault);
    }
}

fn missing_variable(
    access: &Access,
    span: Span,
    bindings: &Bindings<'_>,
    tap: &Tap<'_>,
    reference: &Reference,
    library: &Library<'_>,
    quirks: Quirks,
) -> Diagnostic {
    let name = &access.name;
    let fault = match access.element {
        Element::Fixed(index) => {
            let message = format!("`{name}` has no element {index} for interface `{}`", tap.device);
            Diagnostic::error("missing-element", message, span, "expected a longer list: its first element is number 0")
        }
        Element::Iterated(_) => {
            let message = format!("`{name}` has no value for interface `{}`", tap.device);
            Diagnostic::error("missing-variable", message, span, "needed here")
        }
    };
    let help = if &**name == "IP" && learnable(access, quirks).is_none() {
        "add a `<parameter>`: an address can be learned only where the filter says plain `$IP` and lacks nothing else".into()
    } else {
        format!("add `<parameter name='{name}' value='...'/>`")
    };
    let fault = fault.also(reference.span, "expected a `<parameter>` in here").help(help);
    library.suggest_variable(fault, name, bindings.names().filter(|known| **known != **name).take(FAULT_LIMIT))
}

fn too_many_guests(reference: &Reference) -> Diagnostic {
    let message = format!("the guests before this one used up the {RULE_LIMIT} rules that one file may have, or the {TOTAL_LIMIT} of all");
    Diagnostic::error("too-many-rules", message, reference.span, "nothing is left for this guest")
        .help("put the definition of each guest into a file of its own, and look which of them needs so many rules")
}

fn missing_mac(interface: &Interface, reference: &Reference) -> Diagnostic {
    Diagnostic::error("missing-mac", "an interface with a filter needs an Ethernet address", interface.span, "expected a `<mac>` in here")
        .also(reference.span, "needed by this filter")
        .help("add `<mac address='...'/>`")
}

fn ignored_address(address: &Spanned<IpAddr>) -> Diagnostic {
    let message = format!("address `{}` is not used for the filter, as in libvirt", address.value);
    let variable = if address.value.is_ipv4() { "IP" } else { "IPV6" };
    Diagnostic::note("ignored-address", message, address.span, format!("in `fixed` quirks this gives `{variable}`"))
        .help(format!("give it as `<parameter name='{variable}' value='{}'/>`", address.value))
}
