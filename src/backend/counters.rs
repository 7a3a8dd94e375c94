//! How many packets and bytes the rules of every chain have seen, summed from what the tools print.
//!
//! Reading only, and for people: no decision hangs on these numbers.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::probe::Variant;
use super::process;
use super::refusal;
use super::system::System;
use crate::ruleset::{ChainId, ChainName, Family, Table};

/// What the rules of one chain have seen; a packet counts at every rule that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Rules in the chain.
    pub rules: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.rules += other.rules;
        self.packets = self.packets.saturating_add(other.packets);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// The counters of every chain that has rules, of all families whose tool is there.
///
/// # Errors
/// What a tool that is there answered instead, in words.
pub async fn counters(system: &System) -> Result<BTreeMap<ChainId, Counters>, String> {
    let mut all = BTreeMap::new();
    for family in Family::ALL {
        let Ok(tool) = system.tools().of(family) else { continue };
        let (suffix, arguments): (&str, &[&str]) = match (family, tool.variant) {
            // `ebtables-legacy-save` finds no table with a monolithic kernel; see `super::system`.
            (Family::Bridge, Variant::Legacy) => ("", &["-t", "nat", "-L", "--Lc"]),
            _ => ("-save", &["-c"]),
        };
        let shown = format!("{}{suffix} {}", tool.command, arguments.join(" "));
        let finished = process::run(&tool.program(suffix), arguments, b"", system.limit()).await;
        let finished = finished.map_err(|failure| format!("`{shown}`: {failure}"))?;
        if !finished.status.success() {
            return Err(format!("`{shown}` failed ({}): {}", refusal::ending(finished.status), refusal::explain(&finished.words)));
        }
        sum(family, &String::from_utf8_lossy(&finished.output), &mut all);
    }
    Ok(all)
}

/// Adds up both forms of output; lines that are neither are passed over.
fn sum(family: Family, text: &str, all: &mut BTreeMap<ChainId, Counters>) {
    let mut table = None;
    let mut listed = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*').or_else(|| line.strip_prefix("Bridge table: ")) {
            table = Table::from_name(name.trim());
        } else if let Some(rest) = line.strip_prefix("Bridge chain: ") {
            listed = rest.split(',').next();
        } else if let Some((chain, packets, bytes)) = saved(line).or_else(|| listing(line, listed))
            && let Some(table) = table
        {
            *all.entry(ChainId { family, table, chain: ChainName::new(chain) }).or_default() += Counters { rules: 1, packets, bytes };
        }
    }
}

/// `[12:3456] -A CHAIN ...`
fn saved(line: &str) -> Option<(&str, u64, u64)> {
    let (counters, rest) = line.strip_prefix('[')?.split_once("] -A ")?;
    let (packets, bytes) = counters.split_once(':')?;
    Some((rest.split(' ').next()?, packets.parse().ok()?, bytes.parse().ok()?))
}

/// `-s 52:54:0:0:0:1 -j ACCEPT , pcnt = 12 -- bcnt = 3456`
fn listing<'a>(line: &str, chain: Option<&'a str>) -> Option<(&'a str, u64, u64)> {
    let (_, counters) = line.rsplit_once(", pcnt = ")?;
    let (packets, bytes) = counters.split_once(" -- bcnt = ")?;
    Some((chain?, packets.trim().parse().ok()?, bytes.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(family: Family, text: &str) -> Vec<(String, Counters)> {
        let mut all = BTreeMap::new();
        sum(family, text, &mut all);
        all.into_iter().map(|(chain, counters)| (format!("{} {}", chain.table, chain.chain), counters)).collect()
    }

    #[test]
    fn the_rules_of_a_chain_are_added_up() {
        let text = "*filter\n:FI-vnet0 - [0:0]\n[2:100] -A FI-vnet0 -j RETURN\n[3:50] -A FI-vnet0 -j DROP\nCOMMIT\n";
        assert_eq!(of(Family::Ipv4, text), [("filter FI-vnet0".to_owned(), Counters { rules: 2, packets: 5, bytes: 150 })]);
    }

    #[test]
    fn a_listing_of_the_legacy_tool_is_understood() {
        let text = "Bridge table: nat\n\nBridge chain: libvirt-I-vnet0, entries: 1, policy: ACCEPT\n-j DROP , pcnt = 7 -- bcnt = 420\n";
        assert_eq!(of(Family::Bridge, text), [("nat libvirt-I-vnet0".to_owned(), Counters { rules: 1, packets: 7, bytes: 420 })]);
    }
}
