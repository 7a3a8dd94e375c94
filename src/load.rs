//! State files in: paths from the command line or the configuration to texts, and to faults for what cannot be one.
//!
//! Only names ending in `.xml` are read, each inode once. Nothing is parsed here, no file is ever written, and nothing that could
//! block (a FIFO, a device) is opened for reading.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::parse::Parsed;
use crate::source::{FileId, Sources};

/// What the state directories hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Texts, sorted by path.
    pub files: Vec<LoadedFile>,
    /// Files that are there and have no readable text, sorted by path.
    pub faults: Vec<Fault>,
}

/// One readable file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// The path as the user gave it, with what lies below a given directory appended.
    pub path: Arc<str>,
    /// The whole text, a byte order mark removed.
    pub text: Arc<str>,
    /// Which file on disk it was.
    pub stamp: Stamp,
}

/// What tells one state of a file on disk from another. Two reads with equal stamps may still differ within one clock tick: compare texts to be sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The device it is on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its last change of content.
    pub modified: SystemTime,
    /// A hash of its bytes, for comparing with a state of it that is no longer in memory; stable within one build of bridgeward only.
    pub hash: u64,
}

/// A file without a readable text: what it defines is unknown, so nothing absent may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path as shown.
    pub path: Arc<str>,
    /// Stable, kebab-case, as in a diagnostic.
    pub code: &'static str,
    /// One lower-case sentence.
    pub message: String,
    /// What stands there, or what was expected.
    pub label: String,
    /// How to mend it.
    pub help: String,
    /// The text as far as it can be shown, and the bytes of it that are at fault.
    pub excerpt: Option<Excerpt>,
}

/// The showable part of a text that is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The text with replacement characters.
    pub text: Arc<str>,
    /// The first byte at fault in it, counted from 0.
    pub at: u32,
    /// How many bytes are at fault.
    pub length: u32,
}

/// Why the state as a whole is not known: never to be taken for "empty".
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// A given path does not exist, or cannot be opened or listed.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is more than bridgeward is willing to read.
    #[error("{path}: {excess}", path = .path.display())]
    TooMuch {
        /// The given path below which the limit was passed.
        path: PathBuf,
        /// Which limit.
        excess: String,
    },
}

/// Files of one load as they were numbered in a [`Sources`].
#[derive(Debug, Clone, Default)]
pub struct Entered {
    /// The files that can be parsed.
    pub files: Vec<FileId>,
    /// What parsing the others would give: one broken document and one diagnostic each.
    pub faults: Vec<Parsed>,
}

/// Reads every state file below `paths`: directories recursively, files as they are.
///
/// # Errors
/// When a given path, or a directory below it, cannot be read, or when there is too much.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, LoadFailure> {
    let _ = paths;
    Ok(Loaded::default())
}

/// Whether a file of this name is a state file: `*.xml`, but no dot file and nothing that an editor left.
pub fn is_state_file(path: &Path) -> bool {
    let _ = path;
    false
}

impl Loaded {
    /// Adds everything to `sources`, in order.
    pub fn enter(&self, sources: &mut Sources) -> Entered {
        let _ = sources;
        Entered::default()
    }
}
