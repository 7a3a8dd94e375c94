//! The names of chains: which ones libvirt's layout uses and what they belong to (nwfilter.md 3.1, networks.md 3.1).
//!
//! Device names and filter chain labels go in, checked chain names come out; and the other way round, an observed name is told to
//! belong to a given device. A name is never split at its dashes to find the device: both halves may contain them, so the device is always the
//! caller's.

use super::{ChainName, Family, Table};
use crate::addr::DeviceName;

/// filter, from INPUT: packets from networks to the host.
pub const LIBVIRT_INP: &str = "LIBVIRT_INP";
/// filter, from OUTPUT: packets from the host to networks.
pub const LIBVIRT_OUT: &str = "LIBVIRT_OUT";
/// filter, from FORWARD: packets that leave a network.
pub const LIBVIRT_FWO: &str = "LIBVIRT_FWO";
/// filter, from FORWARD: packets into a network.
pub const LIBVIRT_FWI: &str = "LIBVIRT_FWI";
/// filter, from FORWARD: packets within one network.
pub const LIBVIRT_FWX: &str = "LIBVIRT_FWX";
/// nat and mangle, from POSTROUTING.
pub const LIBVIRT_PRT: &str = "LIBVIRT_PRT";
/// filter, from FORWARD: goes to the chain of the guest that sends.
pub const GUEST_IN: &str = "libvirt-in";
/// filter, from FORWARD: goes to the chain of the guest that receives.
pub const GUEST_OUT: &str = "libvirt-out";
/// filter, from FORWARD: accepts what a filtered guest sent and nothing dropped.
pub const GUEST_IN_POST: &str = "libvirt-in-post";
/// filter, from INPUT: goes to the chain of the guest that sends to the host.
pub const GUEST_HOST_IN: &str = "libvirt-host-in";

/// All base chains, those of networks first.
pub const BASE_CHAINS: [&str; 10] =
    [LIBVIRT_INP, LIBVIRT_OUT, LIBVIRT_FWO, LIBVIRT_FWI, LIBVIRT_FWX, LIBVIRT_PRT, GUEST_IN, GUEST_OUT, GUEST_IN_POST, GUEST_HOST_IN];

/// The longest name that a rule may jump to, in bytes: iptables 1.8.9 and ebtables-nft 1.8.9 refuse 29 ("must be under 29 chars").
pub const LONGEST: usize = 28;

/// Which way the frames of an ebtables chain go, seen from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// `I`: sent by the guest.
    FromGuest,
    /// `O`: sent to the guest.
    ToGuest,
}

/// Which packets see a guest's chain of iptables or ip6tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// `FI`: forwarded from the guest.
    FromGuest,
    /// `FO`: forwarded to the guest.
    ToGuest,
    /// `HI`: from the guest to the host itself.
    ToHost,
}

/// What a chain of one guest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GuestChain<'a> {
    /// `libvirt-I-IF`: all frames of one side.
    Root(Side),
    /// `I-IF-LABEL`: the frames of one filter chain.
    Sub(Side, &'a str),
    /// `FI-IF`: packets in iptables or ip6tables.
    Ip(Path),
}

/// Whether a guest's chain is in force or being built by libvirt, which then renames it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// `I`, `O`: in force.
    Final,
    /// `J`, `P`: libvirtd is at work on this device.
    Temporary,
}

/// A sub-chain's name that the tools could not jump to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chain name `{name}` has {} bytes, the tools take at most {LONGEST}", .name.len())]
pub struct NameTooLong {
    /// The name in full.
    pub name: String,
}

/// The ebtables root chain of a guest: `libvirt-I-IF`, at most 25 bytes.
pub fn bridge_root(side: Side, device: &DeviceName) -> ChainName {
    ChainName::new(&format!("libvirt-{}-{device}", side.letter()))
}

/// The ebtables sub-chain of a guest for one filter chain: `I-IF-LABEL`.
///
/// # Errors
/// The name is longer than [`LONGEST`], so device and label together have more than 25 bytes.
pub fn bridge_sub_chain(side: Side, device: &DeviceName, label: &str) -> Result<ChainName, NameTooLong> {
    let name = format!("{}-{device}-{label}", side.letter());
    if name.len() > LONGEST { Err(NameTooLong { name }) } else { Ok(ChainName::new(&name)) }
}

/// A guest's chain in iptables or ip6tables: `FI-IF`, at most 18 bytes.
pub fn ip_chain(path: Path, device: &DeviceName) -> ChainName {
    ChainName::new(&format!("{}-{device}", path.letters()))
}

/// What `name` is to the guest on `device`, and whether it is in force; `None` when it is no chain of that guest.
///
/// A sub-chain counts only if its label is one that libvirt allows (it begins with mac, vlan, stp, arp, rarp, ipv4 or ipv6), so the
/// chains of a device `a-arp` are not taken for those of `a`, unless its own labels make them read both ways (`I-a-arp-mac`): ask
/// for the longest device first.
pub fn guest_of<'a>(name: &'a str, device: &DeviceName) -> Option<(GuestChain<'a>, Stage)> {
    let (kind, rest) = name.strip_prefix("libvirt-").unwrap_or(name).split_once('-')?;
    let tail = rest.strip_prefix(device.as_str())?;
    if name.starts_with("libvirt-") {
        let (side, stage) = side_of(kind)?;
        return tail.is_empty().then_some((GuestChain::Root(side), stage));
    }
    if let Some((path, stage)) = path_of(kind) {
        return tail.is_empty().then_some((GuestChain::Ip(path), stage));
    }
    let (side, stage) = side_of(kind)?;
    let label = tail.strip_prefix('-').filter(|label| is_label(label))?;
    Some((GuestChain::Sub(side, label), stage))
}

/// True for a name under which libvirt builds a chain before it takes effect: `libvirt-J-`, `libvirt-P-`, `J-`, `P-`, `FJ-`, `FP-`, `HJ-`.
pub fn is_temporary(name: &str) -> bool {
    let Some((kind, rest)) = name.strip_prefix("libvirt-").unwrap_or(name).split_once('-') else { return false };
    let in_ip_form = !name.starts_with("libvirt-") && path_of(kind).is_some_and(|(_, stage)| stage == Stage::Temporary);
    !rest.is_empty() && (in_ip_form || side_of(kind).is_some_and(|(_, stage)| stage == Stage::Temporary))
}

/// True for every name that libvirt may give a chain, whoever made it: `LIBVIRT_*`, `libvirt-*` and the guests' letters.
pub fn in_libvirt_name_space(name: &str) -> bool {
    if name.starts_with("LIBVIRT_") || name.starts_with("libvirt-") {
        return true;
    }
    let Some((kind, rest)) = name.split_once('-') else { return false };
    !rest.is_empty() && (side_of(kind).is_some() || path_of(kind).is_some())
}

/// True for the chains that the kernel itself calls.
pub fn is_builtin(family: Family, table: Table, name: &str) -> bool {
    let names: &[&str] = match (family, table) {
        (_, Table::Filter) | (Family::Ipv4 | Family::Ipv6, Table::Security) => &["INPUT", "FORWARD", "OUTPUT"],
        (Family::Bridge, Table::Nat) => &["PREROUTING", "OUTPUT", "POSTROUTING"],
        (_, Table::Nat) => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        (Family::Ipv4 | Family::Ipv6, Table::Mangle) => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        (Family::Ipv4 | Family::Ipv6, Table::Raw) => &["PREROUTING", "OUTPUT"],
        (Family::Bridge, Table::Broute) => &["BROUTING"],
        _ => &[],
    };
    names.contains(&name)
}

impl Side {
    /// `I` or `O`.
    pub fn letter(self) -> char {
        match self {
            Self::FromGuest => 'I',
            Self::ToGuest => 'O',
        }
    }
}

impl Path {
    /// `FI`, `FO` or `HI`.
    pub fn letters(self) -> &'static str {
        match self {
            Self::FromGuest => "FI",
            Self::ToGuest => "FO",
            Self::ToHost => "HI",
        }
    }
}

fn side_of(letter: &str) -> Option<(Side, Stage)> {
    match letter {
        "I" => Some((Side::FromGuest, Stage::Final)),
        "J" => Some((Side::FromGuest, Stage::Temporary)),
        "O" => Some((Side::ToGuest, Stage::Final)),
        "P" => Some((Side::ToGuest, Stage::Temporary)),
        _ => None,
    }
}

fn path_of(letters: &str) -> Option<(Path, Stage)> {
    match letters {
        "FI" => Some((Path::FromGuest, Stage::Final)),
        "FJ" => Some((Path::FromGuest, Stage::Temporary)),
        "FO" => Some((Path::ToGuest, Stage::Final)),
        "FP" => Some((Path::ToGuest, Stage::Temporary)),
        "HI" => Some((Path::ToHost, Stage::Final)),
        "HJ" => Some((Path::ToHost, Stage::Temporary)),
        _ => None,
    }
}

/// True for a filter chain's name other than `root` (nwfilter.md 1.2).
fn is_label(label: &str) -> bool {
    ["mac", "vlan", "stp", "arp", "rarp", "ipv4", "ipv6"].iter().any(|prefix| label.starts_with(prefix))
}
