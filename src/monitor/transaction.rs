//! What the kernel announces of an nf_tables transaction: its number, who made it, and which of our tables' chains it touched.
//!
//! A transaction is one message per rule, chain and table, in any number of datagrams, and last the one with its number. Of all but the last only
//! the names of table and chain are read: a commit of 20,000 rules is 5 MB.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_core::{NetlinkBuffer, NlasIterator};

use crate::backend::generation::{self, Writer};
use crate::ruleset::{ChainId, ChainName, Family, Table};

/// `NFNL_SUBSYS_NFTABLES`
const NF_TABLES: u16 = 10;
/// `nlmsghdr`, `nfgenmsg`
const HEADERS: usize = 16 + 4;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`
const TABLE: u16 = 1;
/// Of one table so many chains are told apart; a thousand guests have a tenth of that.
const MOST_CHAINS: usize = 1 << 16;

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its number.
    pub generation: u32,
    /// The process that made it, as far as the kernel says.
    pub writer: Option<Writer>,
    /// What it touched of the tables that we write.
    pub touched: Touched,
}

/// Chains that were touched, by table; `None` for a table of which too many were. Tables that we never write are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    tables: BTreeMap<(Family, Table), Option<BTreeSet<ChainName>>>,
}

/// Puts transactions together from datagrams.
#[derive(Debug, Default)]
pub struct Reader {
    touched: Touched,
}

impl Touched {
    /// True when nothing was touched that could be ours.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// True when not all touched chains are known.
    pub fn is_vague(&self) -> bool {
        self.tables.values().any(Option::is_none)
    }

    /// The touched chains, as far as they are known.
    pub fn chains(&self) -> impl Iterator<Item = ChainId> {
        let known = self.tables.iter().filter_map(|(table, chains)| Some((*table, chains.as_ref()?)));
        known.flat_map(|((family, table), chains)| chains.iter().map(move |chain| ChainId { family, table, chain: chain.clone() }))
    }

    /// Notes a chain, or without one a table: a table that goes takes its chains with it, and says so of each.
    pub fn note(&mut self, family: Family, table: Table, chain: Option<ChainName>) {
        let chains = self.tables.entry((family, table)).or_insert_with(|| Some(BTreeSet::new()));
        match (chain, chains.as_mut()) {
            (Some(_), Some(known)) if known.len() == MOST_CHAINS => *chains = None,
            (Some(chain), Some(known)) => drop(known.insert(chain)),
            _ => {}
        }
    }
}

impl Reader {
    /// Reads one datagram; gives the transactions that end in it, first to last.
    pub fn read(&mut self, datagram: &[u8]) -> Vec<Transaction> {
        let mut ended = Vec::new();
        let mut rest = datagram;
        while let Ok(head) = NetlinkBuffer::new_checked(rest) {
            let message = &rest[..head.length() as usize];
            match generation::generations(message).pop() {
                Some(found) => {
                    ended.push(Transaction { generation: found.id, writer: found.writer, touched: std::mem::take(&mut self.touched) });
                }
                None => self.note(head.message_type(), message),
            }
            rest = rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
        }
        ended
    }

    fn note(&mut self, kind: u16, message: &[u8]) {
        let Some(subject) = Subject::of(kind) else { return };
        let (Some(family), Some(attributes)) = (message.get(16).and_then(|family| family_of(*family)), message.get(HEADERS..)) else {
            return;
        };
        let (mut table, mut chain) = (None, None);
        for attribute in NlasIterator::new(attributes).map_while(Result::ok) {
            let name = || attribute.value().strip_suffix(b"\0").and_then(|name| std::str::from_utf8(name).ok());
            match attribute.kind() {
                TABLE => table = name().and_then(Table::from_name),
                kind if Some(kind) == subject.chain() => chain = name().map(ChainName::new),
                _ => {}
            }
            if table.is_some() && (chain.is_some() || subject == Subject::Table) {
                break;
            }
        }
        if let Some(table) = table.filter(|table| ours(family, *table)) {
            self.touched.note(family, table, chain);
        }
    }
}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Table,
    Chain,
    Rule,
}

impl Subject {
    /// `None` for what is neither, such as sets and their elements.
    fn of(kind: u16) -> Option<Self> {
        if kind >> 8 != NF_TABLES {
            return None;
        }
        match kind & 0xff {
            // NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE
            0 | 2 => Some(Self::Table),
            // NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN
            3 | 5 => Some(Self::Chain),
            // NFT_MSG_NEWRULE, NFT_MSG_DELRULE
            6 | 8 => Some(Self::Rule),
            _ => None,
        }
    }

    /// The attribute that names the chain.
    fn chain(self) -> Option<u16> {
        match self {
            Self::Table => None,
            // NFTA_CHAIN_NAME
            Self::Chain => Some(3),
            // NFTA_RULE_CHAIN
            Self::Rule => Some(2),
        }
    }
}

fn family_of(number: u8) -> Option<Family> {
    match i32::from(number) {
        libc::AF_INET => Some(Family::Ipv4),
        libc::AF_INET6 => Some(Family::Ipv6),
        libc::AF_BRIDGE => Some(Family::Bridge),
        _ => None,
    }
}

/// The tables that we write.
fn ours(family: Family, table: Table) -> bool {
    match family {
        Family::Ipv4 | Family::Ipv6 => matches!(table, Table::Filter | Table::Nat | Table::Mangle),
        Family::Bridge => table == Table::Nat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of the kernel with name attributes.
    fn message(kind: u16, family: u8, names: &[(u16, &str)]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        for (attribute, name) in names {
            let length = u16::try_from(4 + name.len() + 1).expect("short");
            body.extend(length.to_ne_bytes());
            body.extend(attribute.to_ne_bytes());
            body.extend(name.as_bytes());
            body.push(0);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(16 + body.len()).expect("short");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend((NF_TABLES << 8 | kind).to_ne_bytes());
        bytes.resize(16, 0);
        bytes.extend(body);
        bytes
    }

    fn id(family: Family, table: Table, chain: &str) -> ChainId {
        ChainId { family, table, chain: ChainName::new(chain) }
    }

    #[test]
    fn rules_and_chains_touch_their_chain_and_a_table_is_touched_with_them() {
        let mut reader = Reader::default();
        let rule = message(8, 2, &[(1, "filter"), (2, "FO-vnet0")]);
        let chain = message(3, 7, &[(1, "nat"), (3, "I-vnet0-mac")]);
        let table = message(2, 10, &[(1, "mangle")]);
        assert_eq!(reader.read(&[rule, chain, table].concat()), []);
        let touched = &reader.touched;
        let expected = [id(Family::Ipv4, Table::Filter, "FO-vnet0"), id(Family::Bridge, Table::Nat, "I-vnet0-mac")];
        assert_eq!(touched.chains().collect::<Vec<_>>(), expected);
        assert!(!touched.is_vague() && !touched.is_empty());
    }

    #[test]
    fn tables_that_we_never_write_are_nobodys_concern() {
        let mut reader = Reader::default();
        for (family, table) in [(1, "firewalld"), (2, "kube-proxy"), (2, "raw"), (7, "filter"), (5, "filter")] {
            reader.read(&message(6, family, &[(1, table), (2, "INPUT")]));
        }
        // A set, an element of one, and something that is no rule at all.
        reader.read(&message(9, 2, &[(1, "filter"), (2, "blocked")]));
        reader.read(&[0xff; 64]);
        assert!(reader.touched.is_empty());
    }

    #[test]
    fn of_very_many_chains_only_the_table_is_known() {
        let mut touched = Touched::default();
        for number in 0..=MOST_CHAINS {
            touched.note(Family::Ipv4, Table::Filter, Some(ChainName::new(&format!("chain{number}"))));
        }
        assert!(touched.is_vague() && touched.chains().next().is_none());
    }
}
