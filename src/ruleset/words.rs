//! Typed rules out, in the words that `*-restore` reads; the only place where a rule becomes text.

use super::Family;
use super::rule::Rule;

/// Everything after `-A CHAIN `, quoted so that the tool reads back exactly this rule; never contains a line break.
pub fn rule(family: Family, rule: &Rule, out: &mut String) {
    let _ = (family, rule, out);
}
