//! DHCP for IPv4: the parts of a message that say which address is whose, and for how long.
//!
//! Bytes of a UDP payload in, a [`Message`] out. Whom it concerns and whether it is believed is [`super::judge`]'s.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, HType, MessageType, Opcode, OptionCode, borrowed};

use super::frame::Malformed;
use crate::addr::Mac;

/// The UDP port of servers and relays.
pub const SERVER: u16 = 67;
/// The UDP port of clients.
pub const CLIENT: u16 = 68;

/// What stands between the fixed fields and the options.
const MAGIC_AT: usize = 236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// A message between a client on Ethernet and a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// True where its header says that a server wrote it.
    pub reply: bool,
    /// The client's number for this exchange.
    pub transaction: u32,
    /// `chaddr`: the client.
    pub client: Mac,
    /// `ciaddr`: the address that the client has.
    pub has: Ipv4Addr,
    /// `yiaddr`: the address that the server gives.
    pub given: Ipv4Addr,
    /// Option 50: the address that the client asks for, or turns down.
    pub wanted: Option<Ipv4Addr>,
    /// Option 51: seconds; all ones is for ever.
    pub lease: Option<u32>,
    /// Bytes of the payload, for libvirt's limits.
    pub length: usize,
}

/// What a message is for (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server would give this address.
    Offer,
    /// The client takes an offer, or wants to keep an address.
    Request,
    /// The client found its address in use.
    Decline,
    /// The server gives the address.
    Ack,
    /// The server does not give the address that was asked for.
    Nak,
    /// The client gives its address back.
    Release,
    /// Anything that changes nothing.
    Other,
}

/// Reads a UDP payload.
///
/// Of the options only those that count are decoded: dhcproto 0.15 asserts the lengths of some others (FQDN, bulk lease queries), so that a
/// hostile message ends a debug build. For the same reason the hardware address is not asked for before its length is known.
///
/// # Errors
/// When it is not DHCP over Ethernet, or an option that counts has a wrong length or stands there twice.
pub fn decode(payload: &[u8]) -> Result<Message, Malformed> {
    // It has all the fixed fields, or is none.
    let message = borrowed::Message::new(payload).map_err(|_| Malformed)?;
    if payload.get(MAGIC_AT..).is_none_or(|rest| !rest.starts_with(&MAGIC)) || message.htype() != HType::Eth || message.hlen() != 6 {
        return Err(Malformed);
    }
    let client = Mac(message.chaddr().try_into().map_err(|_| Malformed)?);
    let (mut kind, mut wanted, mut lease) = (None, None, None);
    for option in message.opts() {
        let length = match option.code() {
            OptionCode::MessageType => 1,
            OptionCode::RequestedIpAddress | OptionCode::AddressLeaseTime => 4,
            _ => continue,
        };
        if option.len() != length {
            return Err(Malformed);
        }
        match option.into_option() {
            Ok(DhcpOption::MessageType(found)) => once(&mut kind, found)?,
            Ok(DhcpOption::RequestedIpAddress(found)) => once(&mut wanted, found)?,
            Ok(DhcpOption::AddressLeaseTime(found)) => once(&mut lease, found)?,
            _ => return Err(Malformed),
        }
    }
    Ok(Message {
        kind: Kind::of(kind.ok_or(Malformed)?),
        reply: message.opcode() == Opcode::BootReply,
        transaction: message.xid(),
        client,
        has: message.ciaddr(),
        given: message.yiaddr(),
        wanted,
        lease,
        length: payload.len(),
    })
}

fn once<T>(slot: &mut Option<T>, found: T) -> Result<(), Malformed> {
    if slot.replace(found).is_some() { Err(Malformed) } else { Ok(()) }
}

impl Kind {
    fn of(kind: MessageType) -> Self {
        match kind {
            MessageType::Offer => Self::Offer,
            MessageType::Request => Self::Request,
            MessageType::Decline => Self::Decline,
            MessageType::Ack => Self::Ack,
            MessageType::Nak => Self::Nak,
            MessageType::Release => Self::Release,
            _ => Self::Other,
        }
    }
}
