//! How much all guests together may become: a few kilobytes of XML can ask for more rules than any memory holds.
//!
//! Three limits, in rules: [`RULE_LIMIT`] for a guest, the same for all guests of one file together (of which each costs [`LEAST`] at least, for its
//! chains and hooks), and [`TOTAL_LIMIT`] for everything. Guests are
//! served by device, and what large ones may take ends at half of the total, so that a guest of ordinary size never goes without for their sake.
//! Looking at list elements that make no rule is paid for as well, four for a rule: long lists of one repeated value make few rules but much work. So are
//! variables that nothing gives a value to, and the way to them.

use std::collections::BTreeMap;

use super::includes::RULE_LIMIT;
use crate::source::FileId;

/// How many rules all guests together may have: 36,000 guests with `clean-traffic`.
pub(super) const TOTAL_LIMIT: u64 = 1 << 20;

/// A guest with at most so many rules is of ordinary size.
const ORDINARY: u64 = 1_024;

/// What a guest costs its file however few rules it has: a file holds four thousand guests.
const LEAST: u64 = 16;

/// How many list elements may be looked at for one rule.
pub(super) const STEPS_PER_RULE: u64 = 4;

/// How many places around a rule may be searched for a variable for as much as one list element costs; real filters have two or three.
pub(super) const SCOPES_PER_STEP: u64 = 16;

/// What is spent already.
#[derive(Debug, Default)]
pub(super) struct Budget {
    total: u64,
    files: BTreeMap<FileId, u64>,
}

/// What was spent for one guest, or up to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Of [`TOTAL_LIMIT`].
    rules: u64,
    /// Of what its file may have; never less.
    of_file: u64,
}

impl Share {
    /// What was spent since an earlier moment.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self { rules: self.rules.saturating_sub(earlier.rules), of_file: self.of_file.saturating_sub(earlier.of_file) }
    }
}

impl Budget {
    /// How many rules the next guest of this file may have.
    pub(super) fn allowance(&self, file: FileId) -> u64 {
        let of_file = RULE_LIMIT - self.files.get(&file).copied().unwrap_or(0).min(RULE_LIMIT);
        let left = TOTAL_LIMIT.saturating_sub(self.total);
        let of_all = left.saturating_sub(TOTAL_LIMIT / 2).max(left.min(ORDINARY));
        of_file.min(of_all)
    }

    /// What is spent so far, of everything and for one file.
    pub(super) fn spent(&self, file: FileId) -> Share {
        Share { rules: self.total, of_file: self.files.get(&file).copied().unwrap_or(0) }
    }

    /// Spends the share of a guest that was resolved before, if it would become the same with what is left now; false, and nothing spent, if that is not sure.
    pub(super) fn grant(&mut self, file: FileId, share: Share) -> bool {
        // One rule more than it takes: what is looked at is counted in parts of a rule.
        let granted = self.allowance(file) > share.of_file;
        if granted {
            self.total = self.total.saturating_add(share.rules);
            let spent = self.files.entry(file).or_default();
            *spent = spent.saturating_add(share.of_file);
        }
        granted
    }

    /// Notes what a guest became.
    pub(super) fn spend(&mut self, file: FileId, rules: u64) {
        self.total = self.total.saturating_add(rules);
        let spent = self.files.entry(file).or_default();
        *spent = spent.saturating_add(rules.max(LEAST));
    }

    /// Notes that a guest of this file asked for more than it may have: the others in the file are not tried, for trying is work, too.
    pub(super) fn exhaust(&mut self, file: FileId) {
        self.files.insert(file, RULE_LIMIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_of_a_file_share_what_one_may_have() {
        let mut budget = Budget::default();
        budget.spend(FileId(1), 60_000);
        assert_eq!(budget.allowance(FileId(1)), RULE_LIMIT - 60_000);
        assert_eq!(budget.allowance(FileId(2)), RULE_LIMIT);
        for _ in 0..5_536 / LEAST {
            budget.spend(FileId(1), 1);
        }
        assert_eq!(budget.allowance(FileId(1)), 5_536 % LEAST);
        budget.exhaust(FileId(1));
        assert_eq!((budget.allowance(FileId(1)), budget.allowance(FileId(2))), (0, RULE_LIMIT));
    }

    #[test]
    fn a_share_is_granted_as_long_as_it_fits() {
        let mut budget = Budget::default();
        let before = budget.spent(FileId(1));
        budget.spend(FileId(1), 30_000);
        budget.spend(FileId(1), 1);
        let share = budget.spent(FileId(1)).since(before);
        assert!(budget.grant(FileId(1), share));
        assert_eq!(budget.allowance(FileId(1)), RULE_LIMIT - 2 * (30_000 + LEAST));
        assert!(!budget.grant(FileId(1), share), "the file has spent its part");
        assert_eq!(budget.allowance(FileId(1)), RULE_LIMIT - 2 * (30_000 + LEAST), "what is not granted is not spent");
        assert!(budget.grant(FileId(2), share));
    }

    #[test]
    fn large_guests_leave_half_of_everything_to_ordinary_ones() {
        let mut budget = Budget::default();
        for file in 0..8 {
            assert_eq!(budget.allowance(FileId(file)), RULE_LIMIT);
            budget.spend(FileId(file), RULE_LIMIT);
        }
        assert_eq!(budget.allowance(FileId(9)), ORDINARY);
        budget.spend(FileId(9), TOTAL_LIMIT / 2 - 10);
        assert_eq!(budget.allowance(FileId(10)), 10);
    }
}
