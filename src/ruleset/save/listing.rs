//! `ebtables -L` in; typed tables out.
//!
//! The options that add line numbers (`--Ln`) and counters (`--Lc`) are understood. A chain's head tells how many rules follow, so a
//! listing that was cut short is noticed.

use std::collections::BTreeMap;

use super::SaveError;
use super::table::TableReader;
use crate::ruleset::{Family, Policy, Table, TableRules};

const TABLE: &str = "Bridge table: ";
const CHAIN: &str = "Bridge chain: ";

/// True for text that `ebtables -L` may have printed.
pub(super) fn is_listing(text: &str) -> bool {
    text.trim_start().starts_with(TABLE)
}

/// Reads a listing of one or several tables.
pub(super) fn parse(text: &str) -> Result<BTreeMap<Table, TableRules>, SaveError> {
    let mut tables = BTreeMap::new();
    let mut open: Option<(TableReader<'_>, Head<'_>)> = None;
    let mut count = 0;
    for (index, line) in text.lines().enumerate() {
        count = index + 1;
        let fault = |problem: String| SaveError { line: count, problem };
        if let Some(name) = line.strip_prefix(TABLE) {
            if let Some((table, head)) = open.take() {
                head.check().and_then(|()| table.finish(&mut tables)).map_err(fault)?;
            }
            let rest = text.lines().skip(count);
            let table = declared(name, rest).map_err(fault)?;
            open = Some((table, Head { name: "", missing: 0 }));
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        let (table, head) = open.as_mut().ok_or_else(|| fault("stands outside of a table".to_owned()))?;
        if let Some((next, _)) = head_of(line) {
            head.check().map_err(fault)?;
            *head = next;
            continue;
        }
        head.missing =
            head.missing.checked_sub(1).ok_or_else(|| fault(format!("chain `{}` has more rules than its head says", head.name)))?;
        table.append(head.name, rule_text(line)).map_err(fault)?;
    }
    if let Some((table, head)) = open {
        head.check().and_then(|()| table.finish(&mut tables)).map_err(|problem| SaveError { line: count, problem })?;
    }
    Ok(tables)
}

/// The head of a chain, and how many of its rules have not been seen.
struct Head<'a> {
    name: &'a str,
    missing: usize,
}

impl Head<'_> {
    fn check(&self) -> Result<(), String> {
        match self.missing {
            0 => Ok(()),
            missing => Err(format!("the rules of chain `{}` end {missing} too early", self.name)),
        }
    }
}

/// The table with all its chains: rules may jump to chains that are listed after them.
fn declared<'a>(name: &'a str, rest: impl Iterator<Item = &'a str>) -> Result<TableReader<'a>, String> {
    let mut table = TableReader::new(Family::Bridge, name.trim_end());
    for line in rest.take_while(|line| !line.starts_with(TABLE)).filter(|line| line.starts_with(CHAIN)) {
        let (head, policy) = head_of(line).ok_or_else(|| format!("not the head of a chain: `{line}`"))?;
        // ebtables-nft 1.8.9 lists every user chain with RETURN, whatever becomes of a frame at its end.
        table.declare(head.name, Some(policy).filter(|policy| *policy != Policy::Return))?;
    }
    Ok(table)
}

/// Reads `Bridge chain: NAME, entries: N, policy: P`.
fn head_of(line: &str) -> Option<(Head<'_>, Policy)> {
    let (name, rest) = line.strip_prefix(CHAIN)?.split_once(", entries: ")?;
    let (entries, policy) = rest.split_once(", policy: ")?;
    let policy = match policy.trim_end() {
        "ACCEPT" => Policy::Accept,
        "DROP" => Policy::Drop,
        "RETURN" => Policy::Return,
        _ => return None,
    };
    Some((Head { name, missing: entries.parse().ok()? }, policy))
}

/// The rule without its number (`12 ` from ebtables-nft, `12. ` from ebtables-legacy) and counters.
fn rule_text(line: &str) -> &str {
    let rule = line.split_once(", pcnt = ").map_or(line, |(rule, _)| rule).trim();
    let numbered = rule.trim_start_matches(|c: char| c.is_ascii_digit());
    if numbered.len() == rule.len() { rule } else { numbered.strip_prefix('.').unwrap_or(numbered).trim_start() }
}
