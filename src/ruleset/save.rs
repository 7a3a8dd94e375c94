//! `*-save` text, and `ebtables -L` listings, in; typed tables out.
//!
//! What is not a complete answer of the tool is an error, never an empty table: a table without its end, a table that iptables-nft
//! cannot read, a line of another kind. A rule with a single option that [`super::rule`] does not model is kept as text, whole.
//! The rules of chains that are neither built in nor in libvirt's name space are skipped: only what they jump to is noted.

mod bridge;
mod ip;
mod line;
mod listing;
mod name;
mod table;
mod token;

use std::collections::BTreeMap;

use super::rule::Rule;
use super::{Family, LiveRule, Policy, Table, TableRules};
use line::{Line, Lines};
use table::TableReader;

/// Text that is not what the tool prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SaveError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong, lower case.
    pub problem: String,
}

/// Reads the output of `iptables-save`, `ip6tables-save` or `ebtables-save` (with or without `-c`), or, for [`Family::Bridge`], of `ebtables -L`.
///
/// # Errors
/// The first line that the tool does not print, or that says that it could not read a table; the end, where a table is cut short.
pub fn parse(family: Family, text: &str) -> Result<BTreeMap<Table, TableRules>, SaveError> {
    if family == Family::Bridge && listing::is_listing(text) {
        return listing::parse(text);
    }
    let mut tables = BTreeMap::new();
    let mut open: Option<TableReader<'_>> = None;
    let mut last = 0;
    for (number, line) in Lines::new(family, text) {
        last = number;
        let fault = |problem| SaveError { line: number, problem };
        match (line, &mut open) {
            (Line::Unreadable(words), _) => return Err(fault(format!("the tool could not read everything: {words}"))),
            (Line::Table(_), Some(table)) => return Err(fault(format!("table `{}` has no end", table.name()))),
            (Line::Table(name), None) => open = Some(TableReader::new(family, name)),
            (Line::Content(words), Some(table)) => add(table, words).map_err(fault)?,
            (Line::Content(_), None) => return Err(fault("stands outside of a table".to_owned())),
            (Line::End, _) => {
                if let Some(table) = open.take() {
                    table.finish(&mut tables).map_err(fault)?;
                }
            }
            (Line::Note, _) => {}
        }
    }
    match open {
        Some(table) => Err(SaveError { line: last, problem: format!("the text ends inside of table `{}`", table.name()) }),
        None => Ok(tables),
    }
}

/// Reads one rule: everything after `-A CHAIN `.
///
/// Without its table a jump to a chain and one to an unknown extension without options look alike; both are given as a jump. [`parse`] tells them apart.
pub fn parse_rule(family: Family, text: &str) -> LiveRule {
    let rule = match family {
        Family::Ipv4 | Family::Ipv6 => ip::rule(family, text).map(Rule::from),
        Family::Bridge => bridge::rule(text).map(Rule::from),
    };
    rule.map_or_else(|| LiveRule::Unknown(text.into()), LiveRule::Known)
}

/// Adds a chain or a rule.
fn add<'a>(table: &mut TableReader<'a>, line: &'a str) -> Result<(), String> {
    if let Some(declaration) = line.strip_prefix(':') {
        let mut words = declaration.split_ascii_whitespace();
        let name = words.next().ok_or("names no chain")?;
        let policy = match words.next() {
            Some("ACCEPT") => Some(Policy::Accept),
            Some("DROP") => Some(Policy::Drop),
            Some("RETURN") => Some(Policy::Return),
            Some("-") => None,
            _ => return Err(format!("chain `{name}` has no policy that is known")),
        };
        return table.declare(name, policy);
    }
    let (chain, rule) = appended(line).ok_or("is neither a chain nor a rule")?;
    table.append(chain, rule)
}

/// Chain and text of `[1:2] -A CHAIN TEXT`; the counters may be missing.
fn appended(line: &str) -> Option<(&str, &str)> {
    let line = match line.strip_prefix('[') {
        Some(rest) => rest.split_once("] ")?.1,
        None => line,
    };
    let rest = line.strip_prefix("-A ")?;
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

#[cfg(test)]
mod tests;
