//! DHCPv6: the addresses that a message is about.
//!
//! Bytes of a UDP payload in, a [`Message`] out. Relayed messages travel between servers and never reach a guest's tap.

use std::net::Ipv6Addr;

use dhcproto::Decoder;
use dhcproto::error::DecodeError;
use dhcproto::v6::{MessageType, OptionCode};

use super::frame::Malformed;

/// The UDP port of servers and relays.
pub const SERVER: u16 = 547;
/// The UDP port of clients.
pub const CLIENT: u16 = 546;

/// So many addresses of one message are looked at.
const MOST_ADDRESSES: usize = 16;

/// A message between a client and a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// The addresses that it is about, with the seconds that they are valid; all ones is for ever, 0 is no longer.
    pub addresses: Vec<(Ipv6Addr, u32)>,
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The server gives the addresses, or answers a release.
    Reply,
    /// The client gives its addresses back.
    Release,
    /// The client found its addresses in use.
    Decline,
    /// Anything that changes nothing.
    Other,
}

/// The fields before the options of an association: identifier and two times, or identifier alone.
const LASTING: usize = 12;
const TEMPORARY: usize = 4;

/// Reads a UDP payload.
///
/// Options are walked here and not by dhcproto: version 0.15 decodes all of them, and subtracts from the lengths of some (status codes,
/// vendor options) before it looks at them, so that a hostile message ends a debug build.
///
/// # Errors
/// When it is not DHCPv6, or an option is longer than what it stands in.
pub fn decode(payload: &[u8]) -> Result<Message, Malformed> {
    read(payload).map_err(|_| Malformed)
}

fn read(payload: &[u8]) -> Result<Message, DecodeError> {
    let mut decoder = Decoder::new(payload);
    let kind = match MessageType::from(decoder.read_u8()?) {
        MessageType::Reply => Kind::Reply,
        MessageType::Release => Kind::Release,
        MessageType::Decline => Kind::Decline,
        _ => Kind::Other,
    };
    let _transaction = decoder.read::<3>()?;
    let mut addresses = Vec::new();
    while let Some((code, value)) = next_option(&mut decoder)? {
        let fields = match code {
            OptionCode::IANA => LASTING,
            OptionCode::IATA => TEMPORARY,
            _ => continue,
        };
        let mut inner = Decoder::new(value);
        inner.read_slice(fields)?;
        while let Some((code, value)) = next_option(&mut inner)? {
            if code == OptionCode::IAAddr && addresses.len() < MOST_ADDRESSES {
                addresses.push(address(value)?);
            }
        }
    }
    Ok(Message { kind, addresses })
}

/// The next option: a code, a length and as many bytes; `None` at the end.
fn next_option<'a>(decoder: &mut Decoder<'a>) -> Result<Option<(OptionCode, &'a [u8])>, DecodeError> {
    if decoder.buffer().is_empty() {
        return Ok(None);
    }
    let code = OptionCode::from(decoder.read_u16()?);
    let length = decoder.read_u16()?;
    Ok(Some((code, decoder.read_slice(length.into())?)))
}

/// An address with its preferred and its valid lifetime.
fn address(value: &[u8]) -> Result<(Ipv6Addr, u32), DecodeError> {
    let mut decoder = Decoder::new(value);
    let address = Ipv6Addr::from(decoder.read::<16>()?);
    let _preferred = decoder.read_u32()?;
    Ok((address, decoder.read_u32()?))
}
