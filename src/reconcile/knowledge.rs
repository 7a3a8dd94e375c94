//! What is known of the kernel's rules without reading them: what a pass read last, and the generation that it read them at.
//!
//! To read everything takes as long as there are rules; a change takes as long as it is. So while the generation stands where it stood, the next pass plans from
//! what the last one read, and reads only after it has committed, to verify: what is believed is never believed for longer than one commit. Nothing is known
//!
//! * where the kernel has no generation that covers all families: legacy tools do not move it;
//! * unless all families could be read: a tool that comes, or becomes able to read a table, moves nothing;
//! * while a libvirtd writes a guest, or a rule does not stay as written: those are judged by looking again;
//! * for whoever asks for a look at the kernel ([`Look::Always`]): a start, a person, a trial, a plan on paper, the full look of every minute.
//!
//! It is used once: the pass that plans from it either finds nothing to do, and keeps it, or has to read afterwards, whatever becomes of its commit. What rules depend
//! on besides (the record, switches of the host, addresses learned) is not in here, and is read in every pass.

use crate::ruleset::{Observation, Observed};

use super::report::Report;

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
    observed: Observed,
}

impl Knowledge {
    /// Keeps what a pass read last, if that is all there is to know.
    pub fn keep(&mut self, observed: Observed, report: &Report) {
        let whole = observed.families.values().all(|family| matches!(family, Observation::Read(_)));
        let settled = report.verified && report.stuck.is_empty() && report.parked.is_empty();
        self.0 = report.generation.filter(|_| whole && settled).map(|generation| Seen { generation, observed });
    }

    /// Hands out the rules of this generation, and forgets them; `None` where they are not known.
    pub fn take(&mut self, generation: Option<u32>) -> Option<Observed> {
        self.0.take().filter(|seen| Some(seen.generation) == generation).map(|seen| seen.observed)
    }

    /// Has the next pass read everything.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}
