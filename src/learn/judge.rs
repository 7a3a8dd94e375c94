//! What one frame is evidence of, for one guest: the rules of believing, in both quirks modes.
//!
//! Reference: nwfilter.md 5.2 and 5.3 for `libvirt`. In `fixed` quirks a guest in mode `any` is believed only what it says itself (a
//! neighbour that forges a DHCP answer cannot give it an address), and one in mode `dhcp` only its servers. Pure; remembers nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::dhcp::{self, Kind};
use super::dhcpv6;
use super::frame::{Content, Utterance};
use crate::addr::Mac;
use crate::model::Quirks;
use crate::model::learned::{Method, Source, Until};

/// libvirt looks for ended leases at least this often, in seconds; until then they count.
const LIBVIRT_LOOKS: u64 = 10;
/// libvirt decodes no DHCP packet of fewer bytes, all headers counted.
const LIBVIRT_SHORTEST: usize = 258;
/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 14 + 20 + 8;
/// A lease of so many seconds is for ever.
const INFINITE: u32 = u32::MAX;

/// What follows from one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The guest has this address.
    Claim {
        /// The address.
        address: IpAddr,
        /// How it is known.
        source: Source,
        /// Until when.
        until: Until,
        /// What to do with an address that is known already.
        known: Known,
    },
    /// The guest no longer has this address.
    End {
        /// The address.
        address: IpAddr,
    },
    /// The guest asks a server for this address.
    Asks {
        /// Its number for the exchange.
        transaction: u32,
        /// The address.
        address: Ipv4Addr,
    },
    /// A server does not give what was asked for.
    Refused {
        /// The number of that exchange.
        transaction: u32,
    },
}

/// What a claim does when there is something already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The first address of a family stays, and no other comes.
    FirstStays,
    /// The new end counts.
    Renew,
    /// The new end counts if it is later.
    Extend,
}

/// Judges a frame heard on the tap of the guest with this Ethernet address. `now` is in seconds since 1970.
pub fn judge(frame: &Utterance, mac: Mac, method: &Method, quirks: Quirks, now: u64) -> Vec<Verdict> {
    let from_guest = frame.source == mac;
    let verdict = match (quirks, method) {
        (Quirks::Fixed, Method::Any) if from_guest => first_use(&frame.content, mac),
        (Quirks::Libvirt, Method::Any) => libvirt_any(frame, mac),
        (Quirks::Fixed, Method::Dhcp(servers)) => match &frame.content {
            Content::Ipv4 { dhcp: Some(message), .. } if message.client == mac && from_guest => from_client(message),
            Content::Ipv4 { dhcp: Some(message), source } if message.client == mac && is_for(frame, mac) => {
                if servers.is_empty() || servers.contains(source) { from_server(message, *source, now) } else { None }
            }
            Content::Dhcpv6 { message, source } => return dhcpv6(message, *source, frame, mac, now),
            _ => None,
        },
        (Quirks::Libvirt, Method::Dhcp(_)) => libvirt_dhcp(frame, mac, now),
        (Quirks::Fixed, Method::Any) => None,
    };
    verdict.into_iter().collect()
}

/// Whether a frame that others sent is for the guest.
fn is_for(frame: &Utterance, mac: Mac) -> bool {
    frame.destination == mac || frame.destination == Mac::BROADCAST
}

/// `fixed`, `any`: the first address that the guest itself uses.
fn first_use(content: &Content, mac: Mac) -> Option<Verdict> {
    let address = match *content {
        // An ARP probe has no sender address: it looks, and does not use.
        Content::Arp { mac: sender_mac, sender } if sender_mac == mac => ipv4(sender)?,
        Content::Ipv4 { source, .. } => ipv4(source)?,
        // Duplicate address detection: the target is the address that the guest is about to use.
        Content::Neighbour { source, target } => ipv6(if source.is_unspecified() { target } else { source })?,
        Content::Arp { .. } | Content::Dhcpv6 { .. } => return None,
    };
    Some(Verdict::Claim { address, source: Source::Use, until: Until::Forever, known: Known::FirstStays })
}

/// `fixed`, `dhcp`: what the client says about its own addresses.
fn from_client(message: &dhcp::Message) -> Option<Verdict> {
    match message.kind {
        Kind::Release => Some(Verdict::End { address: ipv4(message.has)? }),
        Kind::Decline => Some(Verdict::End { address: ipv4(message.wanted?)? }),
        Kind::Request => {
            let address = message.wanted.unwrap_or(message.has);
            (!address.is_unspecified()).then_some(Verdict::Asks { transaction: message.transaction, address })
        }
        _ => None,
    }
}

/// `fixed`, `dhcp`: what a server says that is believed. An acknowledgement without a lease time answers a question about settings.
fn from_server(message: &dhcp::Message, server: Ipv4Addr, now: u64) -> Option<Verdict> {
    match message.kind {
        Kind::Ack if message.reply => {
            let until = end(message.lease?, now);
            Some(Verdict::Claim { address: ipv4(message.given)?, source: Source::Lease(server.into()), until, known: Known::Renew })
        }
        Kind::Nak if message.reply => Some(Verdict::Refused { transaction: message.transaction }),
        _ => None,
    }
}

/// `fixed`, `dhcp`, for IPv6. Which servers may speak is not named anywhere: `DHCPSERVER` is a list of IPv4 addresses.
fn dhcpv6(message: &dhcpv6::Message, server: Ipv6Addr, frame: &Utterance, mac: Mac, now: u64) -> Vec<Verdict> {
    let from_guest = frame.source == mac;
    let verdict = |&(address, valid): &(Ipv6Addr, u32)| {
        let address = ipv6(address)?;
        match message.kind {
            dhcpv6::Kind::Reply if !from_guest && frame.destination == mac && valid > 0 => {
                let source = Source::Lease(server.into());
                Some(Verdict::Claim { address, source, until: end(valid, now), known: Known::Renew })
            }
            dhcpv6::Kind::Reply if !from_guest && frame.destination == mac => Some(Verdict::End { address }),
            dhcpv6::Kind::Release | dhcpv6::Kind::Decline if from_guest => Some(Verdict::End { address }),
            _ => None,
        }
    };
    message.addresses.iter().filter_map(verdict).collect()
}

/// `libvirt`, `any`: an IPv4 source, or what a server offers or acknowledges. ARP is not looked at.
fn libvirt_any(frame: &Utterance, mac: Mac) -> Option<Verdict> {
    let Content::Ipv4 { source, dhcp } = frame.content else { return None };
    let address = match dhcp {
        _ if frame.source == mac => source,
        Some(message) if message.reply && message.client == mac && is_for(frame, mac) => match message.kind {
            Kind::Offer | Kind::Ack => message.given,
            _ => return None,
        },
        _ => return None,
    };
    let usable = !address.is_unspecified() && address < Ipv4Addr::new(224, 0, 0, 0);
    usable.then_some(Verdict::Claim { address: address.into(), source: Source::Use, until: Until::Forever, known: Known::FirstStays })
}

/// `libvirt`, `dhcp`: acknowledgements of any server; a release counts for `yiaddr`, which clients leave empty; a declination only from
/// the server's side; a lease without end, or without a time, ends at the next look (rows 34 of nwfilter.md section 8, and 5.3).
fn libvirt_dhcp(frame: &Utterance, mac: Mac, now: u64) -> Option<Verdict> {
    let Content::Ipv4 { source, dhcp: Some(message) } = frame.content else { return None };
    if message.client != mac || message.length + HEADERS <= LIBVIRT_SHORTEST {
        return None;
    }
    let from_guest = frame.source == mac;
    let address: IpAddr = message.given.into();
    match message.kind {
        Kind::Ack if !from_guest && is_for(frame, mac) => {
            let seconds = message.lease.filter(|lease| *lease != INFINITE).map_or(0, u64::from);
            let until = Until::Second(now + seconds.max(LIBVIRT_LOOKS));
            Some(Verdict::Claim { address, source: Source::Lease(source.into()), until, known: Known::Extend })
        }
        Kind::Release if from_guest => Some(Verdict::End { address }),
        Kind::Decline if !from_guest => Some(Verdict::End { address }),
        _ => None,
    }
}

fn end(seconds: u32, now: u64) -> Until {
    if seconds == INFINITE { Until::Forever } else { Until::Second(now.saturating_add(seconds.into())) }
}

/// An address that a host can have for good: not this network's, loopback, link-local, multicast, reserved or broadcast.
fn ipv4(address: Ipv4Addr) -> Option<IpAddr> {
    let first = address.octets()[0];
    let usable = first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local();
    usable.then_some(address.into())
}

/// The same of IPv6. Filters name link-local addresses themselves: every interface has one.
fn ipv6(address: Ipv6Addr) -> Option<IpAddr> {
    let usable = !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_unicast_link_local()
        && address.to_ipv4_mapped().is_none();
    usable.then_some(address.into())
}

#[cfg(test)]
mod tests;
