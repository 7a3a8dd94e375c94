//! What is known of the kernel's rules without reading them: what a pass read last, and the generation that it read them at.
//!
//! To read everything takes as long as there are rules; a change takes as long as it is. So while the generation stands where it stood, the next pass plans from
//! what the last one read, and reads only after it has committed, to verify: what is believed is never believed for longer than one commit. Nothing is known
//!
//! * where the kernel has no generation that covers all families: legacy tools do not move it;
//! * unless all families could be read: a tool that comes, or becomes able to read a table, moves nothing;
//! * while a libvirtd writes a guest, or a rule does not stay as written: those are judged by looking again;
//! * for whoever asks for a look at the kernel ([`Look::Always`]): a start, a person, a trial, a plan on paper, the full look of every minute. A command that makes
//!   one pass may have that look taken while it reads the files ([`Knowledge::look_ahead`]).
//!
//! It is used once: the pass that plans from it either finds nothing to do, and keeps it, or has to read afterwards, whatever becomes of its commit. What rules depend
//! on besides (the record, switches of the host, addresses learned) is not in here, and is read in every pass.
//!
//! Nearly every chain is one object's and holds what that object wants. Such chains are not kept as they were read but as the object's rules, which are in memory
//! anyhow; and where the object still wants the very same rules (the same allocation, as [`super::cache`] hands it out), nothing looks at them again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::report::Report;
use crate::compile::ObjectRules;
use crate::model::Object;
use crate::plan::Desired;
use crate::ruleset::{ChainRules, Family, LiveRule, Observation, Observed};

/// The rules of objects, shared with whoever made them.
pub(super) type Rules = BTreeMap<Object, Arc<ObjectRules>>;

/// Whether a pass has to read the kernel's rules before it plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// It has to.
    Always,
    /// Only if they may be others than those that were read last.
    UnlessKnown,
}

/// The rules as they were read last; nothing at first.
#[derive(Debug, Default)]
pub(super) struct Knowledge(Option<Seen>);

#[derive(Debug)]
struct Seen {
    generation: u32,
    known: Known,
}

/// The rules in the kernel, in two halves.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Objects whose own chains are there exactly as these rules want them.
    pub settled: Rules,
    /// Everything else.
    pub observed: Observed,
    /// True for what was read for the next pass and no other ([`Knowledge::look_ahead`]): as good as what it would read itself.
    pub ahead: bool,
}

impl Knowledge {
    /// Keeps what a pass saw last, if that is all there is to know. `seen` is what `desired` was found in.
    pub fn keep(&mut self, mut seen: Known, desired: &Desired, report: &Report) {
        let whole = seen.observed.families.values().all(|family| matches!(family, Observation::Read(_)));
        let calm = report.verified && report.stuck.is_empty() && report.parked.is_empty();
        let Some(generation) = report.generation.filter(|_| whole && calm) else { return self.forget() };
        for (object, rules) in &desired.objects {
            let settled = seen.settled.contains_key(object) || desired.is_frozen(object);
            if !settled && take_out(&mut seen.observed, rules) {
                seen.settled.insert(object.clone(), Arc::clone(rules));
            }
        }
        seen.ahead = false;
        self.0 = Some(Seen { generation, known: seen });
    }

    /// Keeps for the next pass what was read since this generation began.
    pub fn look_ahead(&mut self, generation: u32, observed: Observed) {
        self.0 = Some(Seen { generation, known: Known { observed, ahead: true, ..Known::default() } });
    }

    /// Hands out the rules of this generation, and forgets them; `None` where they are not known, or where `look` wants them read and they were not read for this pass.
    pub fn take(&mut self, generation: Option<u32>, look: Look) -> Option<Known> {
        let seen = self.0.take().filter(|seen| Some(seen.generation) == generation)?;
        Some(seen.known).filter(|known| known.ahead || look == Look::UnlessKnown)
    }

    /// Has the next pass read everything.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

impl Known {
    /// Leaves only those objects settled that want these very rules; the chains of all others are looked at like everybody's.
    pub fn unsettle(&mut self, wanted: &Rules) {
        let observed = &mut self.observed;
        self.settled.retain(|object, rules| {
            let same = wanted.get(object).is_some_and(|wanted| Arc::ptr_eq(wanted, rules));
            if !same {
                put_back(observed, rules);
            }
            same
        });
    }
}

/// Takes an object's own chains out of what was observed, all or none: false when one of them is not there.
fn take_out(observed: &mut Observed, rules: &ObjectRules) -> bool {
    let whole = rules.chains.iter().all(|(id, placed)| {
        let Some(Observation::Read(tables)) = observed.families.get(&id.family) else { return false };
        tables.get(&id.table).and_then(|table| table.chains.get(&id.chain)).is_some_and(|live| live.rules.len() == placed.len())
    });
    if whole {
        for id in rules.chains.keys() {
            if let Some(Observation::Read(tables)) = observed.families.get_mut(&id.family)
                && let Some(table) = tables.get_mut(&id.table)
            {
                table.chains.remove(&id.chain);
            }
        }
    }
    whole
}

/// Puts an object's own chains back, as they read.
fn put_back(observed: &mut Observed, rules: &ObjectRules) {
    for (id, placed) in &rules.chains {
        let Some(Observation::Read(tables)) = observed.families.get_mut(&id.family) else { continue };
        let policy = (id.family == Family::Bridge).then(|| rules.end(id));
        let live = placed.iter().map(|placed| LiveRule::Known(placed.rule.clone())).collect();
        tables.entry(id.table).or_default().chains.insert(id.chain.clone(), ChainRules { policy, rules: live });
    }
}
