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
/// A sub-chain counts only if its label is one that libvirt allows, so `I-a-b-mac` belongs to the device `a-b` and not to `a`. A device that is
/// itself named like a label (`a-arp`) makes `I-a-arp-mac` read both ways: ask for the longest device first.
pub fn guest_of<'a>(name: &'a str, device: &DeviceName) -> Option<(GuestChain<'a>, Stage)> {
    let (kind, stage, rest) = split(name)?;
    let tail = rest.strip_prefix(device.as_str())?;
    let chain = match kind {
        Kind::Root(side) if tail.is_empty() => GuestChain::Root(side),
        Kind::Sub(side) => GuestChain::Sub(side, tail.strip_prefix('-').filter(|label| is_label(label))?),
        Kind::Ip(path) if tail.is_empty() => GuestChain::Ip(path),
        Kind::Root(_) | Kind::Ip(_) => return None,
    };
    Some((chain, stage))
}

/// True for a name under which libvirt builds a chain before it takes effect: `libvirt-J-`, `libvirt-P-`, `J-`, `P-`, `FJ-`, `FP-`, `HJ-`.
pub fn is_temporary(name: &str) -> bool {
    split(name).is_some_and(|(_, stage, _)| stage == Stage::Temporary)
}

/// True for every name that libvirt may give a chain, whoever made it: `LIBVIRT_*`, `libvirt-*` and the guests' letters.
pub fn in_libvirt_name_space(name: &str) -> bool {
    name.starts_with("LIBVIRT_") || name.starts_with("libvirt-") || split(name).is_some()
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

impl GuestChain<'_> {
    /// Which way it judges: `I`, `O`, `FI`, `FO` or `HI`.
    pub fn letters(self) -> &'static str {
        match self {
            Self::Root(Side::FromGuest) | Self::Sub(Side::FromGuest, _) => "I",
            Self::Root(Side::ToGuest) | Self::Sub(Side::ToGuest, _) => "O",
            Self::Ip(path) => path.letters(),
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

/// What the letters before the device's name say.
enum Kind {
    Root(Side),
    Sub(Side),
    Ip(Path),
}

/// Takes a guest's letters off a name: what is left begins with the device.
fn split(name: &str) -> Option<(Kind, Stage, &str)> {
    let (root, bare) = match name.strip_prefix("libvirt-") {
        Some(bare) => (true, bare),
        None => (false, name),
    };
    let (letters, rest) = bare.split_once('-').filter(|(_, rest)| !rest.is_empty())?;
    let sided = |side| if root { Kind::Root(side) } else { Kind::Sub(side) };
    let (kind, stage) = match letters {
        "I" => (sided(Side::FromGuest), Stage::Final),
        "J" => (sided(Side::FromGuest), Stage::Temporary),
        "O" => (sided(Side::ToGuest), Stage::Final),
        "P" => (sided(Side::ToGuest), Stage::Temporary),
        "FI" if !root => (Kind::Ip(Path::FromGuest), Stage::Final),
        "FJ" if !root => (Kind::Ip(Path::FromGuest), Stage::Temporary),
        "FO" if !root => (Kind::Ip(Path::ToGuest), Stage::Final),
        "FP" if !root => (Kind::Ip(Path::ToGuest), Stage::Temporary),
        "HI" if !root => (Kind::Ip(Path::ToHost), Stage::Final),
        "HJ" if !root => (Kind::Ip(Path::ToHost), Stage::Temporary),
        _ => return None,
    };
    Some((kind, stage, rest))
}

/// True for the name of a filter chain other than `root` (nwfilter.md 1.2).
fn is_label(label: &str) -> bool {
    let prefixed = ["mac", "vlan", "stp", "arp", "rarp", "ipv4", "ipv6"].iter().any(|prefix| label.starts_with(prefix));
    prefixed && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceName {
        DeviceName::new(name).expect("a device name")
    }

    #[test]
    fn built_names_are_recognised() {
        let tap = device("tap-a.1");
        for side in [Side::FromGuest, Side::ToGuest] {
            assert_eq!(guest_of(bridge_root(side, &tap).as_str(), &tap), Some((GuestChain::Root(side), Stage::Final)));
            let name = bridge_sub_chain(side, &tap, "arp-ip").expect("short");
            assert_eq!(guest_of(name.as_str(), &tap), Some((GuestChain::Sub(side, "arp-ip"), Stage::Final)));
        }
        for path in [Path::FromGuest, Path::ToGuest, Path::ToHost] {
            assert_eq!(guest_of(ip_chain(path, &tap).as_str(), &tap), Some((GuestChain::Ip(path), Stage::Final)));
        }
    }

    #[test]
    fn names_are_spelled_as_libvirt_spells_them() {
        let tap = device("vnet0");
        assert_eq!(bridge_root(Side::FromGuest, &tap).as_str(), "libvirt-I-vnet0");
        assert_eq!(bridge_root(Side::ToGuest, &tap).as_str(), "libvirt-O-vnet0");
        assert_eq!(bridge_sub_chain(Side::ToGuest, &tap, "ipv4").expect("short").as_str(), "O-vnet0-ipv4");
        assert_eq!(ip_chain(Path::FromGuest, &tap).as_str(), "FI-vnet0");
        assert_eq!(ip_chain(Path::ToGuest, &tap).as_str(), "FO-vnet0");
        assert_eq!(ip_chain(Path::ToHost, &tap).as_str(), "HI-vnet0");
    }

    #[test]
    fn a_sub_chain_takes_25_bytes_of_device_and_label() {
        let longest = device("fifteen-letters");
        assert_eq!(bridge_sub_chain(Side::FromGuest, &longest, "ipv4-abcde").expect("25 bytes").as_str().len(), LONGEST);
        let error = bridge_sub_chain(Side::FromGuest, &longest, "ipv4-abcdef").expect_err("26 bytes");
        assert_eq!(error.to_string(), "the chain name `I-fifteen-letters-ipv4-abcdef` has 29 bytes, the tools take at most 28");
    }

    #[test]
    fn a_chain_of_another_device_is_not_taken_for_ours() {
        let short = device("a");
        for name in [
            "libvirt-I-a-b",
            "libvirt-I-ab",
            "I-a-b-mac",
            "I-ab-mac",
            "I-a-",
            "I-a",
            "FI-a-b",
            "FI-ab",
            "libvirt-FI-a",
            "X-a-mac",
            "I-a-mac x",
        ] {
            assert_eq!(guest_of(name, &short), None, "{name}");
        }
        assert_eq!(guest_of("I-a-b-mac", &device("a-b")), Some((GuestChain::Sub(Side::FromGuest, "mac"), Stage::Final)));
    }

    #[test]
    fn temporary_names_are_told_from_final_ones() {
        for name in ["libvirt-J-a", "libvirt-P-a", "J-a-mac", "P-a-mac", "FJ-a", "FP-a", "HJ-a"] {
            assert!(is_temporary(name), "{name}");
            assert!(in_libvirt_name_space(name), "{name}");
            assert_eq!(guest_of(name, &device("a")).map(|(_, stage)| stage), Some(Stage::Temporary), "{name}");
        }
        for name in ["libvirt-I-a", "O-a-mac", "FI-a", "FO-a", "HI-a", "libvirt-in", "LIBVIRT_INP", "J-", "J", "libvirt-FJ-a", "DOCKER"] {
            assert!(!is_temporary(name), "{name}");
        }
    }

    #[test]
    fn libvirts_name_space_holds_its_base_chains_and_nothing_else() {
        assert!(BASE_CHAINS.iter().all(|name| in_libvirt_name_space(name)));
        for name in ["INPUT", "DOCKER", "DOCKER-USER", "f2b-sshd", "KUBE-FORWARD", "HO-a", "FI-", "I", "libvirt", "FIa-b", "cali-FORWARD"] {
            assert!(!in_libvirt_name_space(name), "{name}");
        }
    }

    #[test]
    fn built_in_chains_depend_on_the_table() {
        assert!(is_builtin(Family::Ipv4, Table::Nat, "INPUT"));
        assert!(!is_builtin(Family::Bridge, Table::Nat, "INPUT"));
        assert!(!is_builtin(Family::Ipv6, Table::Filter, "PREROUTING"));
        assert!(is_builtin(Family::Bridge, Table::Broute, "BROUTING"));
        assert!(!is_builtin(Family::Bridge, Table::Mangle, "FORWARD"));
    }
}
