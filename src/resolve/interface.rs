//! Guest interfaces of all files to the taps that have them.
//!
//! Reference: nwfilter.md section 7, design section 3. Several documents may tell of one interface: libvirt itself writes a domain, its
//! status and a binding. The nearest to the kernel counts; whatever else claims a device twice is refused at both places. An
//! interface without a device is matched to a tap by its address; one that matches none has no rules.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::finding::{Findings, groups};
use super::{Link, LinkKind};
use crate::addr::{DeviceName, Mac};
use crate::diagnostic::Diagnostic;
use crate::model::Object;
use crate::model::filter::Reference;
use crate::model::interface::{Document, Interface};
use crate::model::network::{Forward, Network};
use crate::parse::Parsed;
use crate::source::Span;

/// An interface with the device it is, given or found.
#[derive(Debug, Clone)]
pub(super) struct Tap<'a> {
    /// Its host-side device.
    pub device: DeviceName,
    /// The document that counts.
    pub interface: &'a Interface,
}

/// The taps that are not held, with and without a filter, by device.
pub(super) fn settle<'a>(documents: &[&'a Parsed], networks: &[&'a Network], links: &[Link], findings: &mut Findings) -> Vec<Tap<'a>> {
    let mut interfaces: Vec<&Interface> = documents.iter().flat_map(|document| &document.interfaces).collect();
    interfaces.sort_by_key(|interface| interface.span);
    let interfaces = drop_stopped(interfaces);
    let candidates = Candidates::among(links, networks);
    let bound = bound_guests(&interfaces);
    let taps: Vec<Tap> = interfaces.into_iter().filter_map(|interface| locate(interface, &candidates, &bound, findings)).collect();
    let taps = drop_superseded(taps);
    refuse_shared_devices(&taps, findings);
    refuse_shared_owners(&taps, findings);
    refuse_bridges(&taps, networks, findings);
    let mut taps: Vec<Tap> = taps.into_iter().filter(|tap| !findings.is_held(&Object::Interface(tap.device.clone()))).collect();
    taps.sort_by(|a, b| a.device.cmp(&b.device));
    taps
}

/// What interfaces that name no device are matched by, whether or not a device has it now.
pub(super) fn sought(documents: &[&Parsed]) -> BTreeSet<[u8; 5]> {
    let interfaces = documents.iter().flat_map(|document| &document.interfaces);
    interfaces.filter(|interface| interface.device.is_none()).filter_map(|interface| Some(interface.mac.as_ref()?.value.tail())).collect()
}

/// A running guest is what its status says: the domain's interfaces are those of its next start.
fn drop_stopped(interfaces: Vec<&Interface>) -> Vec<&Interface> {
    let running: BTreeSet<Uuid> = interfaces
        .iter()
        .filter(|interface| interface.document == Document::DomainStatus)
        .filter_map(|interface| interface.owner_uuid)
        .collect();
    let stopped = |interface: &Interface| {
        interface.document == Document::Domain && interface.owner_uuid.is_some_and(|owner| running.contains(&owner))
    };
    interfaces.into_iter().filter(|interface| !stopped(interface)).collect()
}

/// Guests that a binding names with its device, by owner and address: their domain need not be matched to a tap.
fn bound_guests(interfaces: &[&Interface]) -> BTreeSet<(Uuid, Mac)> {
    interfaces
        .iter()
        .filter(|interface| matches!(interface.document, Document::Binding | Document::BindingStatus))
        .filter_map(|interface| Some((interface.owner_uuid?, interface.mac?.value)))
        .collect()
}

/// The devices that could be a tap, by the last five bytes of their addresses: libvirt and QEMU change the first one only.
struct Candidates<'l> {
    by_tail: BTreeMap<[u8; 5], Vec<&'l DeviceName>>,
}

impl<'l> Candidates<'l> {
    fn among(links: &'l [Link], networks: &[&Network]) -> Self {
        let bridges: BTreeSet<&DeviceName> = networks.iter().filter_map(|network| Some(&network.bridge.as_ref()?.value)).collect();
        let mut by_tail: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for link in links.iter().filter(|link| link.kind == LinkKind::Other && !bridges.contains(&link.device)) {
            by_tail.entry(link.mac.tail()).or_default().push(&link.device);
        }
        for devices in by_tail.values_mut() {
            devices.sort();
        }
        Self { by_tail }
    }

    fn of(&self, mac: Mac) -> &[&'l DeviceName] {
        self.by_tail.get(&mac.tail()).map_or(&[], Vec::as_slice)
    }
}

/// The device of an interface, as written or as found; an interface without either has nothing that rules could name.
fn locate<'a>(
    interface: &'a Interface,
    candidates: &Candidates<'_>,
    bound: &BTreeSet<(Uuid, Mac)>,
    findings: &mut Findings,
) -> Option<Tap<'a>> {
    if let Some(device) = &interface.device {
        return Some(Tap { device: device.value.clone(), interface });
    }
    let filter = interface.filter.as_ref()?;
    let Some(mac) = interface.mac else {
        findings.report(no_tap(interface, filter, "expected a `<target dev>` or a `<mac>` in here".into()));
        return None;
    };
    if interface.owner_uuid.is_some_and(|owner| bound.contains(&(owner, mac.value))) {
        return None;
    }
    let label = match candidates.of(mac.value) {
        [device] => return Some(Tap { device: (*device).clone(), interface }),
        [] => format!("no device has the address of `{}`", mac.value),
        several => {
            let names: Vec<String> = several.iter().map(|device| format!("`{device}`")).collect();
            format!("{} have the address of `{}`", names.join(", "), mac.value)
        }
    };
    findings.report(no_tap(interface, filter, label));
    None
}

fn no_tap(interface: &Interface, filter: &Reference, label: String) -> Diagnostic {
    let message = match &interface.owner {
        Some(owner) => format!("an interface of `{owner}` has no device and no rules"),
        None => "an interface has no device and no rules".into(),
    };
    let place = interface.mac.map_or(interface.span, |mac| mac.span);
    Diagnostic::warning("no-tap", message, place, label)
        .also(filter.span, "this filter is not applied")
        .help("name the device with `<target dev='...'/>`")
}

/// Of several documents about one interface of one guest, the one nearest to the kernel.
fn drop_superseded(taps: Vec<Tap<'_>>) -> Vec<Tap<'_>> {
    let mut nearest: BTreeMap<(DeviceName, Uuid), u8> = BTreeMap::new();
    for tap in &taps {
        if let (Some(owner), Some(nearness)) = (tap.interface.owner_uuid, nearness(tap.interface.document)) {
            let known = nearest.entry((tap.device.clone(), owner)).or_default();
            *known = nearness.max(*known);
        }
    }
    let counts = |tap: &Tap| match (tap.interface.owner_uuid, nearness(tap.interface.document)) {
        (Some(owner), Some(nearness)) => nearest[&(tap.device.clone(), owner)] == nearness,
        _ => true,
    };
    taps.into_iter().filter(counts).collect()
}

/// How near a document is to what runs; `None` for an `<interface>`, which no other document knows of.
fn nearness(document: Document) -> Option<u8> {
    match document {
        Document::Interface => None,
        Document::Domain => Some(0),
        Document::DomainStatus => Some(1),
        Document::Binding => Some(2),
        Document::BindingStatus => Some(3),
    }
}

fn refuse_shared_devices(taps: &[Tap<'_>], findings: &mut Findings) {
    let taps: Vec<&Tap> = taps.iter().collect();
    for group in groups(&taps, |tap| Some(&tap.device)) {
        for again in &group[1..] {
            let message = format!("device `{}` is given to two guest interfaces", again.device);
            let fault = Diagnostic::error("duplicate-device", message, place(again), "given again here")
                .also(place(group[0]), "first given here")
                .help("remove one of the two files, or give its interface another device");
            findings.refuse([Object::Interface(again.device.clone())], fault);
        }
    }
}

/// Two files that both define one guest, by its name or its UUID, contradict each other: all its interfaces are held.
fn refuse_shared_owners(taps: &[Tap<'_>], findings: &mut Findings) {
    let domains: Vec<&Tap> =
        taps.iter().filter(|tap| matches!(tap.interface.document, Document::Domain | Document::DomainStatus)).collect();
    refuse_split_owners(&groups(&domains, |tap| tap.interface.owner.as_ref()), findings);
    refuse_split_owners(&groups(&domains, |tap| tap.interface.owner_uuid), findings);
}

fn refuse_split_owners(owners: &[Vec<&Tap<'_>>], findings: &mut Findings) {
    for group in owners {
        let first = group[0];
        // One place for every further file; a guest with many interfaces in one file is as it should be.
        let mut files = BTreeSet::from([first.interface.span.file]);
        let others: Vec<_> = group.iter().filter(|tap| files.insert(tap.interface.span.file)).collect();
        for (rank, again) in others.into_iter().enumerate() {
            let name = again.interface.owner.as_deref().unwrap_or("?");
            let message = format!("guest `{name}` is defined in two files");
            let fault = Diagnostic::error("duplicate-guest", message, again.interface.span, "defined again here")
                .also(first.interface.span, "first defined here")
                .help("remove one of the two files, or give its guest another name and UUID");
            // They come by place: of all that hold the guest the first is kept.
            if rank == 0 {
                for tap in group {
                    findings.hold(Object::Interface(tap.device.clone()), &fault);
                }
            }
            findings.report(fault);
        }
    }
}

fn refuse_bridges(taps: &[Tap<'_>], networks: &[&Network], findings: &mut Findings) {
    let bridges: BTreeMap<&DeviceName, (&Network, Span)> =
        networks.iter().filter_map(|network| network.bridge.as_ref().map(|bridge| (&bridge.value, (*network, bridge.span)))).collect();
    for tap in taps {
        let Some(&(network, span)) = bridges.get(&tap.device) else { continue };
        let message = format!("device `{}` is given to a guest interface and to network `{}`", tap.device, network.name.value);
        let fault = Diagnostic::error("bridge-as-tap", message, place(tap), "expected the guest's own device")
            .also(span, "this is the network's bridge")
            .help("name the tap, which is a port of the bridge");
        // An external network has no rules that could be held.
        let network = (network.forward != Forward::External).then(|| Object::Network(network.name.value.clone()));
        findings.refuse(network.into_iter().chain([Object::Interface(tap.device.clone())]), fault);
    }
}

/// Where a tap's device was written, or what it was found for.
fn place(tap: &Tap<'_>) -> Span {
    tap.interface.device.as_ref().map_or(tap.interface.span, |device| device.span)
}
