//! A packet's way through a rule set in memory: bridged from a guest to a guest, through what ebtables and iptables say about it.
//!
//! Only the matches that the tests' own rules use are understood; any other makes a rule match nothing, in every state alike.

use bridgeward::addr::{DeviceName, Mac};
use bridgeward::ruleset::rule::{BridgeMatch, BridgeRule, BridgeTarget, EtherType, Invertible, IpMatch, IpRule, IpTarget, MacNet, Rule};
use bridgeward::ruleset::{ChainName, Family, LiveRule, Observation, Observed, Policy, Table, TableRules};

/// A packet.
#[derive(Debug, Clone)]
pub struct Packet {
    from: Option<DeviceName>,
    to: Option<DeviceName>,
    ether_type: u16,
    protocol: u8,
    source: Mac,
}

enum Verdict {
    Accept,
    Drop,
    /// On to the next rule of the caller.
    Return,
}

impl Packet {
    /// Every kind of packet between these guests and the outside.
    pub fn all(guests: &[&str]) -> Vec<Self> {
        let ends: Vec<Option<DeviceName>> = guests.iter().map(|name| DeviceName::new(name)).chain([None]).collect();
        let mut packets = Vec::new();
        for from in &ends {
            for to in ends.iter().filter(|to| *to != from) {
                for (ether_type, protocol) in [(0x0800, 6), (0x0800, 17), (0x86dd, 6), (0x0806, 0)] {
                    for last in [1, 2] {
                        let source = Mac([2, 0, 0, 0, 0, last]);
                        packets.push(Self { from: from.clone(), to: to.clone(), ether_type, protocol, source });
                    }
                }
            }
        }
        packets
    }

    fn family(&self) -> Option<Family> {
        match self.ether_type {
            0x0800 => Some(Family::Ipv4),
            0x86dd => Some(Family::Ipv6),
            _ => None,
        }
    }
}

/// Whether the packet gets from one end to the other.
pub fn passes(state: &Observed, packet: &Packet) -> bool {
    let through = |family: Family, table: Table, chain: &str| {
        let Some(Observation::Read(tables)) = state.families.get(&family) else { return true };
        tables.get(&table).is_none_or(|rules| !matches!(walk(rules, family, &ChainName::new(chain), packet), Verdict::Drop))
    };
    through(Family::Bridge, Table::Nat, "PREROUTING")
        && packet.family().is_none_or(|family| through(family, Table::Filter, "FORWARD"))
        && through(Family::Bridge, Table::Nat, "POSTROUTING")
}

fn walk(table: &TableRules, family: Family, chain: &ChainName, packet: &Packet) -> Verdict {
    let Some(rules) = table.chains.get(chain) else { return Verdict::Return };
    for rule in &rules.rules {
        let LiveRule::Known(rule) = rule else { continue };
        let verdict = match rule {
            Rule::Bridge(rule) if bridge_matches(rule, packet) => match &rule.target {
                BridgeTarget::Accept => Verdict::Accept,
                BridgeTarget::Drop => Verdict::Drop,
                BridgeTarget::Return => return Verdict::Return,
                BridgeTarget::Continue => continue,
                BridgeTarget::Jump(chain) => walk(table, family, chain, packet),
            },
            Rule::Ip(rule) if ip_matches(rule, packet) => match &rule.target {
                IpTarget::Accept => Verdict::Accept,
                IpTarget::Drop | IpTarget::Reject => Verdict::Drop,
                IpTarget::Return => return Verdict::Return,
                IpTarget::Jump(chain) => walk(table, family, chain, packet),
                IpTarget::Goto(chain) => return walk(table, family, chain, packet),
                IpTarget::Masquerade(_) | IpTarget::SourceNat { .. } | IpTarget::ChecksumFill => continue,
            },
            Rule::Bridge(_) | Rule::Ip(_) => continue,
        };
        if !matches!(verdict, Verdict::Return) {
            return verdict;
        }
    }
    let user_chain = family == Family::Bridge && !matches!(chain.as_str(), "PREROUTING" | "POSTROUTING");
    match rules.policy {
        Some(Policy::Drop) => Verdict::Drop,
        // A chain of ebtables accepts at its end.
        None if user_chain => Verdict::Accept,
        Some(Policy::Accept) if family == Family::Bridge => Verdict::Accept,
        _ => Verdict::Return,
    }
}

fn holds<T>(wanted: Option<&Invertible<T>>, found: impl Fn(&T) -> bool) -> bool {
    wanted.is_none_or(|wanted| found(&wanted.value) != wanted.inverted)
}

fn bridge_matches(rule: &BridgeRule, packet: &Packet) -> bool {
    let within = |net: &MacNet| MacNet::new(packet.source, net.mask) == *net;
    holds(rule.in_device.as_ref(), |device| packet.from.as_ref() == Some(device))
        && holds(rule.out_device.as_ref(), |device| packet.to.as_ref() == Some(device))
        && holds(rule.protocol.as_ref(), |protocol| *protocol == EtherType::Type(packet.ether_type))
        && holds(rule.source.as_ref(), within)
        && rule.destination.is_none()
        && rule.matches.iter().all(|one: &BridgeMatch| matches!(one, BridgeMatch::VlanId(vlan) if vlan.inverted))
}

fn ip_matches(rule: &IpRule, packet: &Packet) -> bool {
    // Bridged packets come in and go out by the bridge, which is that of the first network.
    let bridge = |device: &DeviceName| device.as_str() == "virbr0";
    let one = |one: &IpMatch| match one {
        IpMatch::PhysdevIn(device) => holds(Some(device), |device| packet.from.as_ref() == Some(device)),
        IpMatch::PhysdevOut(device) => holds(Some(device), |device| packet.to.as_ref() == Some(device)),
        IpMatch::PhysdevIsBridged(bridged) => holds(Some(bridged), |()| true),
        IpMatch::Transport => true,
        _ => false,
    };
    holds(rule.in_device.as_ref(), bridge)
        && holds(rule.out_device.as_ref(), bridge)
        && holds(rule.protocol.as_ref(), |protocol| *protocol == packet.protocol)
        && rule.source.is_none()
        && rule.destination.is_none()
        && rule.matches.iter().all(one)
}
