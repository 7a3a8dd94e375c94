//! The kernel as bridgeward sees it: observe the rules, commit a restore, nothing else.
//!
//! [`system`] runs the installed tools, [`probe`] finds out which and of what kind they are; [`namespace`] tells which network
//! namespace and which boot their rules belong to, [`links`] which devices exist in it, [`neighbour`] who else runs the tools there, and whether he is at work,
//! [`counters`] what its rules have seen. [`fake`] is a kernel in memory, for tests.

pub mod clock;
pub mod counters;
#[doc(hidden)]
pub mod fake;
pub mod generation;
pub mod host;
pub mod links;
pub mod namespace;
pub mod neighbour;
pub mod probe;
mod process;
mod refusal;
pub mod system;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;

use crate::plan::prerequisite::{Facts, Switches};
use crate::plan::script::Script;
use crate::ruleset::{Family, Observed};

/// Something that holds rules.
pub trait Kernel {
    /// Reads all tables of these families, at the same time. Never fails as a whole: each family says for itself what was wrong.
    fn observe(&self, families: &[Family]) -> impl Future<Output = Observed> + Send;

    /// A number that any change of the rules by anybody moves, and that costs next to nothing to ask; `None` where there is no such number for all
    /// families, so that only reading tells.
    fn generation(&self) -> Option<u32> {
        None
    }

    /// The process ids of the tools that committed since the last call, as the calling process sees them.
    fn writers(&self) -> BTreeSet<u32> {
        BTreeSet::new()
    }

    /// What the rules' working depends on beside them, these switches among it; nothing where it cannot be known.
    fn host(&self, _switches: &BTreeSet<String>) -> impl Future<Output = Facts> + Send {
        std::future::ready(Facts::default())
    }

    /// The values of these switches now; costs next to nothing.
    fn switches(&self, _switches: &BTreeSet<String>) -> Switches {
        Switches::new()
    }

    /// Sets a switch.
    ///
    /// # Errors
    /// When it is not there or we may not.
    fn set_switch(&self, _path: &str, _value: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Feeds one restore to one family's tool.
    ///
    /// # Errors
    /// Tables are committed one by one: on a refusal the tables before the refused one are in, it and those after it are not.
    fn commit(&self, family: Family, script: &Script) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// A restore that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{command}` failed ({status}): {words}")]
pub struct Refusal {
    /// The command as run.
    pub command: String,
    /// Its exit status, or the signal, or `timed out`, for people.
    pub status: String,
    /// Everything it wrote to stderr, trimmed.
    pub words: String,
    /// What that means for us.
    pub kind: RefusalKind,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The tool objects to the input; the line it names, from 1, if it names one.
    Input(Option<usize>),
    /// Somebody holds the xtables lock, or wrote at the same moment: worth a retry.
    Busy,
    /// No privilege, no tool, no kernel support, a timeout: the input is not to blame.
    Environment,
}

impl Refusal {
    /// The tool that refused, without its arguments and where it lies.
    pub fn tool(&self) -> &str {
        let program = self.command.split(' ').next().unwrap_or_default();
        program.rsplit('/').next().unwrap_or(program)
    }
}

impl RefusalKind {
    /// In one word, for counts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Input(_) => "refused",
            Self::Busy => "busy",
            Self::Environment => "host",
        }
    }
}
