//! Rules that do not stay as written: told from rules that somebody takes away, and left alone for a while.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::report::{self, Stuck};
use crate::compile::ObjectRules;
use crate::model::Object;
use crate::plan::displaced::Placement;
use crate::plan::{Change, Edit, Plan};
use crate::ruleset::{ChainId, Observed};

/// An object whose rules do not stay is left alone for this long, then for twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// But never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is known about an object whose rules do not read back as we wrote them.
#[derive(Debug, Clone)]
pub(super) struct Setback {
    /// The rules that do not stay; others get a new chance.
    pub rules: Arc<ObjectRules>,
    /// One of them.
    pub stuck: Stuck,
    since: Instant,
    pause: Duration,
}

impl Setback {
    /// A first setback, or one more after `before`.
    pub fn new(rules: Arc<ObjectRules>, stuck: Stuck, before: Option<&Self>) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |before| LONGEST_PAUSE.min(before.pause * 2));
        Self { rules, stuck, since: Instant::now(), pause }
    }

    /// Whether the object is still to be left alone.
    pub fn rests(&self) -> bool {
        self.since.elapsed() < self.pause
    }
}

/// A plan that was committed, and how long it left every chain.
pub(super) struct Commit {
    /// The insertions by their hashes: the plan itself would take as much memory as the rules.
    inserted: HashSet<u64>,
    hasher: RandomState,
    lengths: BTreeMap<ChainId, usize>,
    /// Where it put jumps to base chains.
    pub placement: Placement,
}

impl Commit {
    /// Remembers a commit that was made on what `before` shows.
    pub fn new(plan: &Plan, before: &Observed) -> Self {
        let hasher = RandomState::new();
        let mut inserted = HashSet::new();
        let mut lengths: BTreeMap<ChainId, usize> = BTreeMap::new();
        for (family, table, edit) in plan.edits() {
            let id = ChainId { family, table, chain: edit.change.chain().clone() };
            let length = lengths.entry(id).or_insert_with_key(|id| before.rules(id).len());
            match edit.change {
                Change::Insert { .. } => {
                    *length += 1;
                    inserted.insert(hasher.hash_one((family, table, &edit.change)));
                }
                Change::DeleteAt { .. } | Change::DeleteRule { .. } => *length -= 1,
                Change::NewChain(_) | Change::DeleteChain(_) | Change::SetPolicy { .. } => {}
            }
        }
        Self { inserted, hasher, lengths, placement: Placement::of(plan, before) }
    }

    /// The edits of `now` that were made already and do not show, though their chains are as long as we left them: so nobody took the rules away, they
    /// read back as something else.
    pub fn repeated(&self, now: &Plan, observed: &Observed) -> Option<BTreeMap<Option<Object>, Stuck>> {
        let as_left = |family, table, edit: &Edit| {
            let id = ChainId { family, table, chain: edit.change.chain().clone() };
            self.lengths.get(&id) == Some(&observed.rules(&id).len())
        };
        let again: BTreeMap<Option<Object>, Stuck> = now
            .edits()
            .filter(|(_, _, edit)| matches!(edit.change, Change::Insert { .. }))
            .filter(|(family, table, edit)| self.inserted.contains(&self.hasher.hash_one((*family, *table, &edit.change))))
            .filter(|(family, table, edit)| as_left(*family, *table, edit))
            .map(|(family, table, edit)| (edit.object.clone(), report::stuck(family, table, edit)))
            .collect();
        (!again.is_empty()).then_some(again)
    }
}
