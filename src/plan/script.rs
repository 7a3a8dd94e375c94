//! A plan's edits in the words of `*-restore`; the only way from a plan to a tool.

use std::ops::Range;

use super::TableEdits;
use crate::ruleset::Family;

/// Input of one `*-restore --noflush`, with the edit behind every line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    /// The text: `*table`, one line per edit, `COMMIT`, for every table.
    pub text: String,
    /// For every line, from line 1 at index 0, the table and the edit that it came from: indices into the phase's tables and their edits.
    pub origins: Vec<Option<(usize, usize)>>,
}

/// Spells the edits of one family.
pub fn script(family: Family, tables: &[TableEdits]) -> Script {
    let _ = (family, tables, Range::<usize>::default());
    Script::default()
}
