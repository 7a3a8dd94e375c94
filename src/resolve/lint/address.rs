//! Addresses that two guests share, that no network has, or that two networks have.
//!
//! What goes in are the interfaces as written, also those that are held or have no filter, and the networks that have rules.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::NetworkPolicy;
use super::Remarks;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::interface::Interface;
use crate::model::network::NetworkAddress;
use crate::source::{Span, Spanned};

/// How many subnets are shown beside an address that is in none.
const SHOWN: usize = 3;

/// Reports Ethernet and IP addresses that different guests have.
pub(super) fn duplicates(interfaces: &[&Interface], remarks: &mut Remarks) {
    let macs = interfaces.iter().filter_map(|&interface| Some((interface.mac?.value, (interface, interface.mac?.span))));
    for (mac, (first, first_place), (_, place)) in shared(macs, are_different) {
        remarks.add("duplicate-mac", place, |code| {
            Diagnostic::warning(code, format!("two guests have the Ethernet address `{mac}`"), place, "used again here")
                .also(first_place, format!("{} has it here", name(first)))
                .help("give one of the two another address: bridges and switches cannot tell them apart")
        });
    }
    let addresses =
        interfaces.iter().flat_map(|&interface| addresses(interface).into_iter().map(move |it| (it.value, (interface, it.span))));
    for (address, (first, first_place), (_, place)) in shared(addresses, |one, other| are_different(one, other) && may_meet(one, other)) {
        remarks.add("duplicate-address", place, |code| {
            Diagnostic::warning(code, format!("two guests have the address `{address}`"), place, "used again here")
                .also(first_place, format!("{} has it here", name(first)))
                .help("give one of the two another address, unless they hand it over to each other")
        });
    }
}

/// Reports addresses that are in no subnet of the interface's network, or of any network where the interface names none.
///
/// Without a named network that is only a note: the guest may be on a bridge that none of the files is about.
pub(super) fn outside_networks(interfaces: &[&Interface], networks: &[NetworkPolicy], remarks: &mut Remarks) {
    let by_name: BTreeMap<&str, &NetworkPolicy> = networks.iter().map(|network| (&*network.name, network)).collect();
    let mut known: BTreeMap<Option<&str>, [Subnets<'_>; 2]> = BTreeMap::new();
    for interface in interfaces {
        let named = interface.network.as_ref().map(|network| &*network.value);
        let families = known.entry(named).or_insert_with(|| match named {
            Some(name) => Subnets::of(by_name.get(name).copied()),
            None => Subnets::of(networks),
        });
        for address in addresses(interface).into_iter().filter(|address| !is_everywhere(address.value)) {
            let subnets = &families[usize::from(address.value.is_ipv6())];
            if subnets.written.is_empty() || subnets.contain(address.value) {
                continue;
            }
            let severity = if named.is_some() { Severity::Warning } else { Severity::Note };
            remarks.add("address-outside-network", address.span, |code| outside(code, address, named, severity, &subnets.written));
        }
    }
}

/// The subnets of one family that an address may be in.
struct Subnets<'a> {
    /// As written, in order.
    written: Vec<&'a NetworkAddress>,
    /// Sorted, none within another.
    joined: Vec<IpNet>,
}

impl<'a> Subnets<'a> {
    /// Those of some networks: of IPv4, and of IPv6.
    fn of(networks: impl IntoIterator<Item = &'a NetworkPolicy>) -> [Self; 2] {
        let (ipv4, ipv6) = networks.into_iter().flat_map(|network| &network.addresses).partition(|subnet| subnet.address.addr().is_ipv4());
        [ipv4, ipv6].map(|written: Vec<&NetworkAddress>| {
            let mut joined = IpNet::aggregate(&written.iter().map(|subnet| subnet.address.trunc()).collect());
            joined.sort_by_key(IpNet::network);
            Self { written, joined }
        })
    }

    fn contain(&self, address: IpAddr) -> bool {
        let behind = self.joined.partition_point(|subnet| subnet.network() <= address);
        behind > 0 && self.joined[behind - 1].contains(&address)
    }
}

/// Reports subnets of different networks that overlap.
pub(super) fn overlaps(networks: &[NetworkPolicy], remarks: &mut Remarks) {
    let mut subnets: Vec<Subnet> = Vec::new();
    for (network, policy) in networks.iter().enumerate() {
        subnets.extend(policy.addresses.iter().map(|it| Subnet { net: it.address.trunc(), span: it.span, network, foreign: None }));
    }
    subnets.sort_by_key(|subnet| (subnet.net.addr(), subnet.net.prefix_len(), subnet.span));
    // Two subnets are apart or one holds the other: those that are open here hold each other.
    let mut open: Vec<Subnet> = Vec::new();
    for mut subnet in subnets {
        while open.last().is_some_and(|outer| !outer.net.contains(&subnet.net)) {
            open.pop();
        }
        subnet.foreign = open.last().and_then(|last| if last.network == subnet.network { last.foreign } else { Some(open.len() - 1) });
        if let Some(outer) = subnet.foreign.map(|at| &open[at]) {
            remarks.add("overlapping-subnets", subnet.span, |code| {
                let [one, other] = [outer, &subnet].map(|subnet| &networks[subnet.network].name);
                let message = format!("networks `{one}` and `{other}` have subnets that overlap");
                Diagnostic::warning(code, message, subnet.span, format!("`{}`", subnet.net))
                    .also(outer.span, format!("`{}`", outer.net))
                    .help("the host can route an address to one of them only: give every network a subnet of its own")
            });
        }
        open.push(subnet);
    }
}

/// A subnet of one of the networks.
struct Subnet {
    net: IpNet,
    span: Span,
    /// Which network.
    network: usize,
    /// Where the nearest subnet of another network stands among those that hold this one: thousands of one network may stand between.
    foreign: Option<usize>,
}

type Place<'a> = (&'a Interface, Span);

/// Every holder of a key that another holder, who came first, has too.
fn shared<'a, K: Ord + Copy>(
    holders: impl Iterator<Item = (K, Place<'a>)>,
    clash: impl Fn(&Interface, &Interface) -> bool,
) -> Vec<(K, Place<'a>, Place<'a>)> {
    let mut holders: Vec<(K, Place<'a>)> = holders.collect();
    // Those of one key keep their order.
    holders.sort_by_key(|(key, _)| *key);
    let mut again = Vec::new();
    for same in holders.chunk_by(|(one, _), (other, _)| one == other) {
        let (key, first) = same[0];
        again.extend(same[1..].iter().filter(|(_, place)| clash(first.0, place.0)).map(|&(_, place)| (key, first, place)));
    }
    again
}

/// True when two documents are surely about two guests: their owners differ, or for want of one their devices.
fn are_different(one: &Interface, other: &Interface) -> bool {
    let differ = |a: Option<&str>, b: Option<&str>| a.zip(b).map(|(a, b)| a != b);
    let device = |interface: &Interface| interface.device.as_ref().map(|device| device.value.as_str().to_owned());
    let devices = differ(device(one).as_deref(), device(other).as_deref());
    if devices == Some(false) {
        return false;
    }
    match (one.owner_uuid, other.owner_uuid) {
        (Some(one), Some(other)) => one != other,
        _ => differ(one.owner.as_deref(), other.owner.as_deref()).or(devices).unwrap_or(false),
    }
}

/// False when the two are plugged into different networks, where one address may well exist twice.
fn may_meet(one: &Interface, other: &Interface) -> bool {
    one.network.as_ref().zip(other.network.as_ref()).is_none_or(|(one, other)| one.value == other.value)
}

/// The addresses that the interface's parameters or itself give the guest; what both say is one address.
fn addresses(interface: &Interface) -> Vec<Spanned<IpAddr>> {
    let parameters = interface.filter.iter().flat_map(|reference| &reference.parameters);
    let of_guest = parameters.filter(|parameter| matches!(&*parameter.name.value, "IP" | "IPV6"));
    let mut all: Vec<_> =
        of_guest.filter_map(|parameter| Some(Spanned::new(parameter.value.value.parse().ok()?, parameter.value.span))).collect();
    if !interface.addresses.is_empty() {
        let given: HashSet<IpAddr> = all.iter().map(|address| address.value).collect();
        all.extend(interface.addresses.iter().filter(|address| !given.contains(&address.value)));
    }
    all
}

/// Link-local and unspecified addresses need no network.
fn is_everywhere(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    link_local || address.is_unspecified() || address.is_multicast() || address.is_loopback()
}

fn outside(
    code: &'static str,
    address: Spanned<IpAddr>,
    named: Option<&str>,
    severity: Severity,
    subnets: &[&NetworkAddress],
) -> Diagnostic {
    let message = match named {
        Some(network) => format!("address `{}` is outside network `{network}`", address.value),
        None => format!("address `{}` is in no network", address.value),
    };
    let mut diagnostic = Diagnostic::warning(code, message, address.span, "expected an address of a subnet");
    diagnostic.severity = severity;
    let shown = subnets
        .iter()
        .take(SHOWN)
        .fold(diagnostic, |diagnostic, subnet| diagnostic.also(subnet.span, format!("for example of `{}`", subnet.address.trunc())));
    shown.help("mend the address, or add an `<ip>` to the network")
}

/// The guest, or the device, for a label.
fn name(interface: &Interface) -> String {
    match (&interface.owner, &interface.device) {
        (Some(owner), _) => format!("guest `{owner}`"),
        (None, Some(device)) => format!("interface `{}`", device.value),
        (None, None) => "another interface".into(),
    }
}
