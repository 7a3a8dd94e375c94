//! The words that stand for numbers in attribute values, and the loose word lists of `state` and `flags`.
//!
//! Reference: nwfilter.md 2.2 and 2.6. Words may be in any case. In a list they are separated by commas or blanks, or by nothing:
//! no word begins another one, so the text still reads in one way only.

use super::literal::Refusal;
use crate::model::attribute::{ARP_OPCODES, IP_PROTOCOLS};
use crate::model::filter::{Literal, States};
use crate::parse::value::is_c_blank;

/// `protocolid` and `encap-protocol`.
const ETHERNET_TYPES: [(&str, u32); 5] = [("arp", 0x806), ("rarp", 0x8035), ("ipv4", 0x800), ("ipv6", 0x86dd), ("vlan", 0x8100)];

/// The bits of `flags`, as the TCP header has them.
const TCP_FLAGS: [(&str, u8); 8] = [("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32), ("ALL", 63), ("NONE", 0)];

/// `state`; NONE is kept beside the others, since it overrides them only in the end.
const STATES: [(&str, States); 5] = [
    ("NEW", States { new: true, ..NO_STATE }),
    ("ESTABLISHED", States { established: true, ..NO_STATE }),
    ("RELATED", States { related: true, ..NO_STATE }),
    ("INVALID", States { invalid: true, ..NO_STATE }),
    ("NONE", States { none: true, ..NO_STATE }),
];

const NO_STATE: States = States { new: false, established: false, related: false, invalid: false, none: false };

/// The number of a known Ethernet type.
pub(super) fn ethernet_type(text: &str) -> Option<u32> {
    number_of(text, &ETHERNET_TYPES)
}

/// The number of a known ARP opcode.
pub(super) fn arp_opcode(text: &str) -> Option<u32> {
    number_of(text, &ARP_OPCODES)
}

/// The number of a known IP protocol.
pub(super) fn ip_protocol(text: &str) -> Option<u32> {
    number_of(text, &IP_PROTOCOLS)
}

/// What to say when a text is neither a known Ethernet type nor a number of one.
pub(super) fn unknown_ethernet_type(min: u32) -> Refusal {
    let expected = format!("expected a number from {min} to 65535 (decimal or with `0x`), {}", listed(&ETHERNET_TYPES));
    Refusal::new("unknown-ethernet-type", expected).words(&ETHERNET_TYPES)
}

/// What to say when a text is neither a known ARP opcode nor a number of one.
pub(super) fn unknown_arp_opcode() -> Refusal {
    let expected = format!("expected a number from 0 to 65535 (decimal or with `0x`), {}", listed(&ARP_OPCODES));
    Refusal::new("unknown-arp-opcode", expected).words(&ARP_OPCODES)
}

/// What to say when a text is neither a known IP protocol nor a number of one.
pub(super) fn unknown_ip_protocol() -> Refusal {
    let expected = format!("expected a number from 0 to 255 (decimal or with `0x`), {}", listed(&IP_PROTOCOLS));
    Refusal::new("unknown-ip-protocol", expected).words(&IP_PROTOCOLS)
}

/// Reads `MASK/FLAGS`; an empty side is no flag.
pub(super) fn tcp_flags(text: &str) -> Result<Literal, Refusal> {
    let side = |text: &str| words(text, &TCP_FLAGS).map(|found| found.fold(0, |bits, flag| bits | flag));
    text.split_once('/').and_then(|(mask, set)| Some(Literal::TcpFlags(side(mask)?, side(set)?))).ok_or_else(|| {
        Refusal::new("invalid-tcp-flags", "expected `MASK/FLAGS`, each a list of FIN, SYN, RST, PSH, ACK, URG, ALL or NONE")
            .help("`SYN,ACK/SYN` looks at SYN and ACK and wants SYN set and ACK not")
    })
}

/// Reads a list of connection states; an empty one is no state.
pub(super) fn states(text: &str) -> Result<Literal, Refusal> {
    words(text, &STATES)
        .map(|found| Literal::States(found.fold(NO_STATE, States::union)))
        .ok_or_else(|| Refusal::new("invalid-state", "expected a list of NEW, ESTABLISHED, RELATED, INVALID or NONE"))
}

/// Looks a word up, in any case.
fn number_of(text: &str, known: &[(&str, u32)]) -> Option<u32> {
    known.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|&(_, number)| number)
}

/// The meanings of all words in a loose list; `None` when something in it is no known word.
fn words<T: Copy>(text: &str, known: &'static [(&str, T)]) -> Option<impl Iterator<Item = T> + use<T>> {
    let is_separator = |c: char| c == ',' || is_c_blank(c);
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(is_separator);
    while !rest.is_empty() {
        let begins = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        let &(word, meaning) = known.iter().find(|(word, _)| begins(word))?;
        found.push(meaning);
        rest = rest[word.len()..].trim_start_matches(is_separator);
    }
    Some(found.into_iter())
}

/// The end of "expected a number": the words that stand for some.
fn listed(known: &[(&str, u32)]) -> String {
    let words: Vec<String> = known.iter().map(|(word, _)| format!("`{word}`")).collect();
    format!("or one of {}", words.join(", "))
}
