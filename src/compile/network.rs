//! A virtual network (networks.md section 3) into its blocks in libvirt's seven network chains; [`classic`] spells it
//! without them.
//!
//! libvirt inserts every rule at the head of its chain; the blocks here are written in the order that results, first to last, so
//! later addresses come first. Guests change nothing. Nothing here looks at other networks.

mod classic;

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Key, Layout, ObjectRules, PlacedRule};
use crate::addr::{DeviceName, PortRange};
use crate::diagnostic::Diagnostic;
use crate::model::network::{Forward, Nat, NetworkAddress};
use crate::resolve::NetworkPolicy;
use crate::ruleset::rule::{ConnectionStates, Invertible, IpMatch, IpRule, IpTarget};
use crate::ruleset::{ChainId, ChainName, Family, Table, chain_name};
use crate::source::Span;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A port of the host that guests may use: protocol and number.
type Service = (u8, u16);

/// Compiles one network; an open one wants no rules.
///
/// # Errors
/// What the network asks for and the layout has no rules for.
pub fn compile(policy: &NetworkPolicy, layout: Layout) -> Result<ObjectRules, Box<Diagnostic>> {
    let fill = |mut block: Block<'_>| match layout {
        Layout::Chains => block.fill(),
        Layout::Classic => block.fill_classic(),
        Layout::ClassicDocument => block.fill_document(),
    };
    classic::judge(policy, layout)?;
    let mut rules = ObjectRules::default();
    rules.keys.insert(Key::Bridge(policy.bridge.clone()));
    if matches!(policy.forward, Forward::Open { .. } | Forward::External) {
        return Ok(rules);
    }
    // IPv4 rules are there even for a network without any IPv4 address (networks.md 3.3, steps 1 and 3).
    fill(Block { policy, family: Family::Ipv4, rules: &mut rules });
    if policy.ipv6 || policy.addresses.iter().any(|address| family_of(address) == Family::Ipv6) {
        fill(Block { policy, family: Family::Ipv6, rules: &mut rules });
    }
    Ok(rules)
}

/// Everything that one network has in one family.
struct Block<'a> {
    policy: &'a NetworkPolicy,
    family: Family,
    rules: &'a mut ObjectRules,
}

/// How packets of one subnet cross the host.
enum Passage<'a> {
    /// Not at all.
    Isolated,
    /// In both directions, unchanged.
    Routed,
    /// Out under the host's address, and in only what answers.
    Translated(&'a Nat),
}

impl<'a> Block<'a> {
    /// Fills the chains in the order of networks.md 3.4.
    fn fill(&mut self) {
        let (policy, family) = (self.policy, self.family);
        let place = policy.place;
        let (inputs, outputs) = self.services();
        for &service in inputs {
            self.add(Table::Filter, chain_name::LIBVIRT_INP, accept_input(&policy.bridge, service), place);
        }
        for &service in outputs {
            self.add(Table::Filter, chain_name::LIBVIRT_OUT, accept_output(&policy.bridge, service), place);
        }
        self.add(Table::Filter, chain_name::LIBVIRT_FWX, accept_crossing(&policy.bridge), place);
        for address in policy.addresses.iter().rev().filter(|address| family_of(address) == family) {
            self.fill_subnet(address);
        }
        self.add(Table::Filter, chain_name::LIBVIRT_FWI, reject_inward(&policy.bridge), place);
        self.add(Table::Filter, chain_name::LIBVIRT_FWO, reject_outward(&policy.bridge), place);
        self.fill_checksum();
    }

    /// One subnet's rules in FWI, FWO and nat PRT.
    fn fill_subnet(&mut self, address: &NetworkAddress) {
        let (bridge, device) = (&self.policy.bridge, self.device());
        let (net, place) = (address.address.trunc(), address.span);
        match self.passage() {
            Passage::Isolated => {}
            Passage::Routed => {
                self.add(Table::Filter, chain_name::LIBVIRT_FWI, accept_inward(net, bridge, device), place);
                self.add(Table::Filter, chain_name::LIBVIRT_FWO, accept_outward(net, bridge, device), place);
            }
            Passage::Translated(nat) => {
                self.add(Table::Filter, chain_name::LIBVIRT_FWI, accept_answers(net, bridge, device), place);
                self.add(Table::Filter, chain_name::LIBVIRT_FWO, accept_outward(net, bridge, device), place);
                self.fill_translation(net, device, nat, place);
            }
        }
    }

    /// One subnet's rules in nat PRT: what keeps its source address, then tcp, udp and the rest.
    fn fill_translation(&mut self, net: IpNet, device: Option<&DeviceName>, nat: &Nat, place: Span) {
        self.rules.keys.insert(Key::Subnet(net));
        for group in untranslated(net) {
            self.add(Table::Nat, chain_name::LIBVIRT_PRT, keep_source(net, group, device), place);
        }
        for protocol in [Some(TCP), Some(UDP), None] {
            self.add(Table::Nat, chain_name::LIBVIRT_PRT, translate(net, device, protocol, nat), place);
        }
    }

    /// The checksum rule, if any IPv4 address has DHCP, wherever it stands.
    fn fill_checksum(&mut self) {
        let served = self.policy.addresses.iter().find(|address| address.dhcp && family_of(address) == Family::Ipv4);
        if let (Family::Ipv4, Some(address)) = (self.family, served) {
            self.add(Table::Mangle, chain_name::LIBVIRT_PRT, fill_checksum(&self.policy.bridge), address.span);
        }
    }

    /// The ports for LIBVIRT_INP and LIBVIRT_OUT, whether or not DHCP or DNS is configured (networks.md 3.5).
    fn services(&self) -> (&'static [Service], &'static [Service]) {
        const INPUT: &[Service] = &[(UDP, 69), (UDP, 53), (TCP, 53), (UDP, 67), (TCP, 67)];
        const OUTPUT: &[Service] = &[(UDP, 69), (UDP, 53), (TCP, 53), (UDP, 68), (TCP, 68)];
        const INPUT_IPV6: &[Service] = &[(UDP, 547), (UDP, 53), (TCP, 53)];
        const OUTPUT_IPV6: &[Service] = &[(UDP, 546), (UDP, 53), (TCP, 53)];
        let addressed = self.policy.addresses.iter().any(|address| family_of(address) == Family::Ipv6);
        match self.family {
            Family::Ipv6 if addressed => (INPUT_IPV6, OUTPUT_IPV6),
            Family::Ipv6 => (&[], &[]),
            _ if self.serves_tftp() => (INPUT, OUTPUT),
            _ => (&INPUT[1..], &OUTPUT[1..]),
        }
    }

    /// Only the first IPv4 address that has DHCP or TFTP decides (networks.md 2.3, the service address).
    fn serves_tftp(&self) -> bool {
        self.service_address().is_some_and(|address| address.tftp)
    }

    fn service_address(&self) -> Option<&'a NetworkAddress> {
        let mut candidates = self.policy.addresses.iter().filter(|address| family_of(address) == Family::Ipv4);
        candidates.find(|address| address.dhcp || address.tftp)
    }

    fn passage(&self) -> Passage<'a> {
        match &self.policy.forward {
            Forward::Nat(nat) if self.family == Family::Ipv4 || nat.ipv6 => Passage::Translated(nat),
            Forward::Nat(_) | Forward::Route { .. } => Passage::Routed,
            Forward::Isolated | Forward::Open { .. } | Forward::External => Passage::Isolated,
        }
    }

    /// DEV of networks.md 2.3.
    fn device(&self) -> Option<&'a DeviceName> {
        match &self.policy.forward {
            Forward::Nat(nat) => nat.device.as_ref().map(|device| &device.value),
            Forward::Route { device, .. } => device.as_ref().map(|device| &device.value),
            Forward::Isolated | Forward::Open { .. } | Forward::External => None,
        }
    }

    fn add(&mut self, table: Table, chain: &str, rule: IpRule, place: Span) {
        let id = ChainId { family: self.family, table, chain: ChainName::new(chain) };
        self.rules.shared.entry(id).or_default().push(PlacedRule::ip(self.family, rule, Some(place)));
    }
}

/// `-i BR -p P -m P --dport N -j ACCEPT`
fn accept_input(bridge: &DeviceName, service: Service) -> IpRule {
    IpRule { in_device: Some(Invertible::is(bridge.clone())), ..serve(service, IpTarget::Accept) }
}

/// `-o BR -p P -m P --dport N -j ACCEPT`
fn accept_output(bridge: &DeviceName, service: Service) -> IpRule {
    IpRule { out_device: Some(Invertible::is(bridge.clone())), ..serve(service, IpTarget::Accept) }
}

/// `-i BR -o BR -j ACCEPT`
fn accept_crossing(bridge: &DeviceName) -> IpRule {
    let bridge = Some(Invertible::is(bridge.clone()));
    IpRule { in_device: bridge.clone(), out_device: bridge, ..IpRule::new(IpTarget::Accept) }
}

/// `-o BR -j REJECT`
fn reject_inward(bridge: &DeviceName) -> IpRule {
    IpRule { out_device: Some(Invertible::is(bridge.clone())), ..IpRule::new(IpTarget::Reject) }
}

/// `-i BR -j REJECT`
fn reject_outward(bridge: &DeviceName) -> IpRule {
    IpRule { in_device: Some(Invertible::is(bridge.clone())), ..IpRule::new(IpTarget::Reject) }
}

/// `-s NET -i BR [-o DEV] -j ACCEPT`
fn accept_outward(net: IpNet, bridge: &DeviceName, device: Option<&DeviceName>) -> IpRule {
    IpRule {
        source: Some(Invertible::is(net)),
        in_device: Some(Invertible::is(bridge.clone())),
        out_device: device.cloned().map(Invertible::is),
        ..IpRule::new(IpTarget::Accept)
    }
}

/// `-d NET [-i DEV] -o BR -j ACCEPT`
fn accept_inward(net: IpNet, bridge: &DeviceName, device: Option<&DeviceName>) -> IpRule {
    IpRule {
        destination: Some(Invertible::is(net)),
        in_device: device.cloned().map(Invertible::is),
        out_device: Some(Invertible::is(bridge.clone())),
        ..IpRule::new(IpTarget::Accept)
    }
}

/// `-d NET [-i DEV] -o BR -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`
fn accept_answers(net: IpNet, bridge: &DeviceName, device: Option<&DeviceName>) -> IpRule {
    let states = ConnectionStates { related: true, established: true, ..ConnectionStates::default() };
    IpRule { matches: vec![IpMatch::ConnectionState(Invertible::is(states))], ..accept_inward(net, bridge, device) }
}

/// `-s NET -d GROUP [-o DEV] -j RETURN`
fn keep_source(net: IpNet, group: IpNet, device: Option<&DeviceName>) -> IpRule {
    IpRule {
        source: Some(Invertible::is(net)),
        destination: Some(Invertible::is(group)),
        out_device: device.cloned().map(Invertible::is),
        ..IpRule::new(IpTarget::Return)
    }
}

/// `-s NET ! -d NET [-o DEV] [-p P] -j MASQUERADE [--to-ports P1-P2]`, or `-j SNAT --to-source A1-A2[:P1-P2]`
fn translate(net: IpNet, device: Option<&DeviceName>, protocol: Option<u8>, nat: &Nat) -> IpRule {
    // A rule without a protocol cannot name ports; NAT addresses never apply to IPv6 (networks.md 9, traps 7 and 8).
    let ports = protocol.map(|_| nat.ports);
    let target = match (net, nat.addresses) {
        (IpNet::V4(_), Some((first, last))) => IpTarget::SourceNat { first, last, ports },
        _ => IpTarget::Masquerade(ports),
    };
    IpRule {
        source: Some(Invertible::is(net)),
        destination: Some(Invertible::new(true, net)),
        out_device: device.cloned().map(Invertible::is),
        protocol: protocol.map(Invertible::is),
        ..IpRule::new(target)
    }
}

/// `-o BR -p udp -m udp --dport 68 -j CHECKSUM --checksum-fill`
fn fill_checksum(bridge: &DeviceName) -> IpRule {
    IpRule { out_device: Some(Invertible::is(bridge.clone())), ..serve((UDP, 68), IpTarget::ChecksumFill) }
}

/// `-p P -m P --dport N -j TARGET`
fn serve((protocol, port): Service, target: IpTarget) -> IpRule {
    let port = IpMatch::DestinationPort(Invertible::is(PortRange::single(port)));
    IpRule { protocol: Some(Invertible::is(protocol)), matches: vec![port], ..IpRule::new(target) }
}

/// Where packets go with their own source address: local multicast and, in IPv4, broadcast.
fn untranslated(net: IpNet) -> Vec<IpNet> {
    let ipv4 = |address: [u8; 4], prefix| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(address), prefix));
    match net {
        IpNet::V4(_) => vec![ipv4([224, 0, 0, 0], 24), ipv4([255; 4], 32)],
        IpNet::V6(_) => vec![IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16))],
    }
}

fn family_of(address: &NetworkAddress) -> Family {
    match address.address {
        IpNet::V4(_) => Family::Ipv4,
        IpNet::V6(_) => Family::Ipv6,
    }
}

#[cfg(test)]
mod tests;
