//! One frame off a tap to what it says about addresses, whoever sent it.
//!
//! Bytes in, an [`Utterance`] out. No input panics; what claims to be ARP, IP or DHCP and is not is [`Malformed`], everything else that
//! teaches nothing is `None`. Frames may be cut off at the end (the capture's snap length) and carry VLAN tags:
//! how many may stand there is [`super::filter`]'s to say.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::Icmpv6PayloadSlice;
use etherparse::{ArpHardwareId, ArpPacketSlice, EtherType, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice, UdpSlice};

use super::{dhcp, dhcpv6};
use crate::addr::Mac;

/// What one frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Utterance {
    /// The Ethernet source.
    pub source: Mac,
    /// The Ethernet destination.
    pub destination: Mac,
    /// What it is about.
    pub content: Content,
}

/// What a frame is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// ARP for IPv4 over Ethernet: the sender's addresses.
    Arp {
        /// The sender's hardware address.
        mac: Mac,
        /// The sender's protocol address; unspecified in a probe.
        sender: Ipv4Addr,
    },
    /// An IPv4 packet.
    Ipv4 {
        /// Its source.
        source: Ipv4Addr,
        /// What it carries, if that is DHCP.
        dhcp: Option<dhcp::Message>,
    },
    /// A neighbour solicitation.
    Neighbour {
        /// The packet's source; unspecified where the sender looks whether somebody else has the target.
        source: Ipv6Addr,
        /// Whom it looks for.
        target: Ipv6Addr,
    },
    /// DHCPv6.
    Dhcpv6 {
        /// The packet's source.
        source: Ipv6Addr,
        /// The message.
        message: dhcpv6::Message,
    },
}

/// A frame that is not what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Reads one Ethernet frame; `None` where it has nothing to say about addresses.
///
/// # Errors
/// When a header or a message contradicts itself or ends too early.
pub fn decode(bytes: &[u8]) -> Result<Option<Utterance>, Malformed> {
    let packet = LaxSlicedPacket::from_ethernet(bytes).map_err(|_| Malformed)?;
    let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link else { return Ok(None) };
    let content = match &packet.net {
        Some(LaxNetSlice::Arp(message)) => arp(message)?,
        Some(LaxNetSlice::Ipv4(ip)) => {
            // A broken transport header does not hide who sent the packet.
            let dhcp = match &packet.transport {
                Some(TransportSlice::Udp(udp)) => dhcp_over(udp)?,
                _ => None,
            };
            Some(Content::Ipv4 { source: ip.header().source_addr(), dhcp })
        }
        Some(LaxNetSlice::Ipv6(ip)) => ipv6(ip.header().source_addr(), packet.transport.as_ref())?,
        None if packet.stop_err.is_some() => return Err(Malformed),
        None => None,
    };
    let (source, destination) = (Mac(ethernet.source()), Mac(ethernet.destination()));
    Ok(content.map(|content| Utterance { source, destination, content }))
}

fn arp(message: &ArpPacketSlice<'_>) -> Result<Option<Content>, Malformed> {
    if message.hw_addr_type() != ArpHardwareId::ETHERNET || message.proto_addr_type() != EtherType::IPV4 {
        return Ok(None);
    }
    let mac = Mac(message.sender_hw_addr().try_into().map_err(|_| Malformed)?);
    let sender: [u8; 4] = message.sender_protocol_addr().try_into().map_err(|_| Malformed)?;
    Ok(Some(Content::Arp { mac, sender: sender.into() }))
}

fn dhcp_over(udp: &UdpSlice<'_>) -> Result<Option<dhcp::Message>, Malformed> {
    match (udp.source_port(), udp.destination_port()) {
        (dhcp::CLIENT, dhcp::SERVER) | (dhcp::SERVER, dhcp::CLIENT) => dhcp::decode(udp.payload()).map(Some),
        _ => Ok(None),
    }
}

fn ipv6(source: Ipv6Addr, transport: Option<&TransportSlice<'_>>) -> Result<Option<Content>, Malformed> {
    match transport {
        Some(TransportSlice::Icmpv6(icmp)) => match icmp.payload_slice() {
            Ok(Icmpv6PayloadSlice::NeighborSolicitation(question)) => {
                Ok(Some(Content::Neighbour { source, target: question.target_address() }))
            }
            Ok(_) => Ok(None),
            Err(_) => Err(Malformed),
        },
        Some(TransportSlice::Udp(udp)) => match (udp.source_port(), udp.destination_port()) {
            (dhcpv6::CLIENT, dhcpv6::SERVER) | (dhcpv6::SERVER, dhcpv6::CLIENT) => {
                Ok(Some(Content::Dhcpv6 { source, message: dhcpv6::decode(udp.payload())? }))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
