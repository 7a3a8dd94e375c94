//! The generation of the kernel's nf_tables rules: a number that grows by one with every transaction of anybody in this network namespace.
//!
//! Asking costs microseconds where reading the rules costs milliseconds (kernel 6.18). Legacy tools do not move it.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN`
const NEW_GENERATION: u16 = (10 << 8) | 15;

/// One transaction: its number, and who made it as far as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub id: u32,
    /// The process that wrote.
    pub writer: Option<Writer>,
}

/// A process that wrote rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// Its id in the kernel's first process namespace.
    pub pid: u32,
    /// Its name, at most 15 bytes.
    pub command: String,
}

/// The generation now.
///
/// # Errors
/// When the kernel has no nf_tables, or we may not ask.
pub fn generation() -> io::Result<u32> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(&question(), &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    generations(&answer).last().map(|generation| generation.id).ok_or_else(|| io::Error::other("the kernel names no generation"))
}

fn question() -> Vec<u8> {
    let request = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0);
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(NetfilterMessage::new(header, request)));
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The transactions that a datagram announces, first to last. Only headers are looked at of everything else in it: a commit of 20,000 rules is 5 MB.
pub fn generations(datagram: &[u8]) -> Vec<Generation> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Ok(head) = NetlinkBuffer::new_checked(rest) {
        let length = head.length() as usize;
        if head.message_type() == NEW_GENERATION
            && let Ok(message) = NetlinkMessage::<NetfilterMessage>::deserialize(&rest[..length])
        {
            found.extend(decode(message.payload));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn decode(payload: NetlinkPayload<NetfilterMessage>) -> Option<Generation> {
    let NetlinkPayload::InnerMessage(message) = payload else { return None };
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(GenMessage { attributes })) = message.inner else { return None };
    let (mut id, mut pid, mut name) = (None, None, None);
    for attribute in attributes {
        match attribute {
            GenAttribute::Id(value) => id = Some(value),
            GenAttribute::ProcPid(value) => pid = Some(value),
            GenAttribute::ProcName(value) => name = Some(value),
            _ => {}
        }
    }
    Some(Generation { id: id?, writer: pid.zip(name).map(|(pid, command)| Writer { pid, command }) })
}

impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.command, self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_or_foreign_datagram_announces_nothing() {
        let question = question();
        assert_eq!(generations(&question), []);
        assert_eq!(generations(&question[..question.len() - 1]), []);
        assert_eq!(generations(&[]), []);
        assert_eq!(generations(&[0xff; 64]), []);
    }
}
