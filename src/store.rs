//! What bridgeward remembers beside the kernel: the record of installed rules, and the locks that keep one writer.
//!
//! All of it lies in `<run dir>/<network namespace>/` and dies with the boot. Losing it costs the memory of what was ours, never a
//! rule: see design section 4, "the record". [`learned`] is kept apart, over boots. [`document`] is the record as text, [`directory`] keeps others out, [`lock`] keeps one writer, [`trial`]
//! has the rules that wait for a confirmation, [`plan_file`] plans that wait for somebody to carry them out.

mod directory;
mod document;
pub mod learned;
mod lock;
pub mod plan_file;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use lock::{RunLock, WriteLock};

use crate::backend::namespace::{Identity, NamespaceId};
use crate::compile::{Key, ObjectRules};
use crate::model::Object;
use crate::plan::direct::Possession;
use crate::ruleset::ChainId;

/// Where the record lies unless the configuration says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/bridgeward";

const RECORD: &str = "record.json";

/// What we have installed, as of the last verified pass, and what we were about to install.
///
/// Before a commit, [`Record::intent`] is set and the record saved; after the verifying observation the intent becomes the record. So a kill at any moment leaves
/// a file that names everything of ours that can be in the kernel: the old objects, the new ones, or some of each. The alternative, one file that is
/// rewritten after the commit, loses the new objects in a crash between the two, and with them the right to remove their rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Base chains that we made.
    pub made: BTreeSet<ChainId>,
    /// The last good rules of every object.
    pub objects: BTreeMap<Object, RecordedObject>,
    /// What is ours straight in built-in chains: by count, since nothing else tells (see [`Possession`]). Apart from the
    /// objects, because it is what was found to live and not what is wanted.
    pub direct: BTreeMap<ChainId, Possession>,
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
    /// One that cannot be read.
    Corrupt {
        /// Why.
        reason: String,
        /// Where it is now.
        at: PathBuf,
    },
    /// One of an earlier boot, or of another namespace: its rules are gone.
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
    directory: OwnedFd,
}

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
        source: io::Error,
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
    #[error("another bridgeward is writing: {path} stayed locked for {waited:?}", path = .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: std::time::Duration,
    },
    /// Another daemon runs in this network namespace.
    #[error("bridgeward already runs in this network namespace{process}", process = .pid.map_or_else(String::new, |pid| format!(" as process {pid}")))]
    Running {
        /// Its process id, unless it was about to write it down.
        pid: Option<u32>,
    },
}

impl Store {
    /// Opens the directory of this namespace below `run_dir`; makes both where they are missing, modes 0711 and 0700. What lies above `run_dir` must exist.
    ///
    /// # Errors
    /// When they cannot be made, or could be written by somebody else.
    pub fn open(run_dir: &Path, identity: Identity) -> Result<Self, StoreFailure> {
        let path = run_dir.join(identity.namespace.as_str());
        let directory = directory::open(run_dir, identity.namespace.as_str())?;
        Ok(Self { identity, path, directory })
    }

    /// Makes the directory anew if somebody removed it; true when it was. Nothing can be written to a removed directory, and every lock in it is lost.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn reopen_if_removed(&mut self) -> Result<bool, StoreFailure> {
        if rustix::fs::fstat(&self.directory).is_ok_and(|status| status.st_nlink > 0) {
            return Ok(false);
        }
        self.directory = directory::open(self.run_dir(), self.identity.namespace.as_str())?;
        Ok(true)
    }

    /// The network namespace that is meant.
    pub fn namespace(&self) -> &NamespaceId {
        &self.identity.namespace
    }

    /// The directory of all namespaces.
    pub fn run_dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The boot and the namespace that it is for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory, for the daemon's other files (its control socket).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the record; one that is corrupt is moved aside.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is corrupt and cannot be moved aside.
    pub fn load(&self) -> Result<Stored, StoreFailure> {
        let reason = match self.peek()? {
            Stored::Corrupt { reason, .. } => reason,
            sound => return Ok(sound),
        };
        let name = directory::move_aside(&self.directory, RECORD).map_err(|source| self.failure("move aside", RECORD, source))?;
        Ok(Stored::Corrupt { reason, at: self.path.join(name) })
    }

    /// Reads the record and touches nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn peek(&self) -> Result<Stored, StoreFailure> {
        let Some(bytes) = directory::read(&self.directory, RECORD).map_err(|source| self.failure("read", RECORD, source))? else {
            return Ok(Stored::Absent);
        };
        match document::read(&bytes, &self.identity) {
            Ok(Some(record)) => Ok(Stored::Found(record)),
            Ok(None) => Ok(Stored::OtherBoot),
            Err(reason) => Ok(Stored::Corrupt { reason, at: self.path.join(RECORD) }),
        }
    }

    /// Replaces the record on disk, whole or not at all; when this returns it is on stable storage. Call it with the [`WriteLock`] held.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, record: &Record) -> Result<Saved, StoreFailure> {
        let bytes = document::write(record, &self.identity);
        // Whatever is wrong with the old file, the new one mends it.
        if directory::read(&self.directory, RECORD).is_ok_and(|old| old.is_some_and(|old| old == bytes)) {
            return Ok(Saved::Unchanged);
        }
        directory::replace(&self.directory, RECORD, &bytes).map_err(|source| self.failure("write", RECORD, source))?;
        Ok(Saved::Written)
    }

    fn failure(&self, verb: &'static str, name: &str, source: io::Error) -> StoreFailure {
        StoreFailure::Io { verb, path: self.path.join(name), source }
    }
}

impl Record {
    /// Adds what the next commit will make. What an earlier intent named stays claimed: that commit may have gone in and only a verified record, with no
    /// intent, ends the claim.
    pub fn intend(&mut self, next: Intent) {
        let mut earlier = self.intent.take().unwrap_or_default();
        earlier.made.extend(next.made);
        for (object, mut recorded) in next.objects {
            if let Some(before) = earlier.objects.remove(&object) {
                recorded.rules.keys.extend(before.rules.keys);
            }
            earlier.objects.insert(object, recorded);
        }
        self.intent = Some(earlier);
    }

    /// Everything that tells our rules in shared chains from others': of the last verified state and of the intent.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.all_objects().flat_map(|object| object.rules.keys.iter().cloned()).collect()
    }

    /// Base chains that we made or were about to make.
    pub fn made(&self) -> BTreeSet<ChainId> {
        let intended = self.intent.iter().flat_map(|intent| &intent.made);
        self.made.iter().chain(intended).cloned().collect()
    }

    /// An object's last good rules: the verified ones, else those of an interrupted commit. Verified first, for the tool may have refused the others.
    pub fn last_good(&self, object: &Object) -> Option<&RecordedObject> {
        self.objects.get(object).or_else(|| self.intent.as_ref()?.objects.get(object))
    }

    fn all_objects(&self) -> impl Iterator<Item = &RecordedObject> {
        self.objects.values().chain(self.intent.iter().flat_map(|intent| intent.objects.values()))
    }
}

#[cfg(test)]
mod tests;
