//! What bridgeward remembers beside the kernel: the record of installed rules, and the locks that keep one writer.
//!
//! All of it lies in `<run dir>/<network namespace>/` and dies with the boot. Losing it costs the memory of what was ours, never a
//! rule: see design section 4, "the record". [`learned`] is kept apart, over boots. [`document`] is the record as text, [`directory`] keeps others out, [`lock`] keeps one writer, [`trial`]
//! has the rules that wait for a confirmation, [`plan_file`] plans that wait for somebody to carry them out.

mod directory;
mod document;
mod header;
pub mod learned;
mod lock;
pub mod plan_file;
pub mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use lock::{RunLock, WriteLock};

use crate::backend::namespace::{Identity, NamespaceId};
use crate::compile::{Key, ObjectRules};
use crate::model::Object;
use crate::plan::direct::Possession;
use crate::ruleset::ChainId;
use directory::Stamp;
use document::Page;

/// Where the record lies unless the configuration says otherwise.
pub const DEFAULT_RUN_DIR: &str = "/run/bridgeward";

/// What is installed; and what a commit was about to install, which is read only beside the very record that it was written for.
const RECORD: &str = "record.json";
const INTENT: &str = "intent.json";

/// What we have installed, as of the last verified pass, and what we were about to install.
///
/// Before a commit, [`Record::intent`] is set and the record saved; after the verifying observation the intent becomes the record. So a kill at any moment leaves
/// files that name everything of ours that can be in the kernel: the old objects, the new ones, or some of each. The alternative, one file that is
/// rewritten after the commit, loses the new objects in a crash between the two, and with them the right to remove their rules. The intent is a file of its
/// own because it is as short as the change, and is written while a packet may be waiting for the rule; the record is as long as all the rules.
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
    /// The rules; their places say something only beside the files that they were made from, and are `None` after a load.
    pub rules: Arc<ObjectRules>,
    /// `file:line` of the element that defined it.
    pub source: Option<Arc<str>>,
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
    /// What lay there when it was last read or written.
    known: Mutex<Option<Disk>>,
}

/// The two files, in memory; valid while their stamps are.
#[derive(Debug, Clone)]
struct Disk {
    stamps: [Option<Stamp>; 2],
    record: Option<Page>,
    intent: Option<Page>,
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
        Ok(Self { identity, path, directory, known: Mutex::new(None) })
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
        let (reason, at) = match self.peek()? {
            Stored::Corrupt { reason, at } => (reason, at),
            sound => return Ok(sound),
        };
        let name = if at.ends_with(INTENT) { INTENT } else { RECORD };
        let name = directory::move_aside(&self.directory, name).map_err(|source| self.failure("move aside", name, source))?;
        Ok(Stored::Corrupt { reason, at: self.path.join(name) })
    }

    /// As [`Store::load`]; where the record says of an object what `fresh` says, it has these rules and no second copy of them.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load_beside(&self, fresh: &BTreeMap<Object, Arc<ObjectRules>>) -> Result<Stored, StoreFailure> {
        let stored = self.load()?;
        let mut known = self.known();
        let Some(disk) = known.as_mut().filter(|_| matches!(stored, Stored::Found(_))) else { return Ok(stored) };
        let shared: usize = disk.record.iter_mut().chain(&mut disk.intent).map(|page| page.share(fresh)).sum();
        Ok(if shared > 0 { disk.stored() } else { stored })
    }

    /// Reads the record and touches nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn peek(&self) -> Result<Stored, StoreFailure> {
        let mut known = self.known();
        let stamps = self.stamps()?;
        if let Some(disk) = known.as_ref().filter(|disk| disk.stamps == stamps) {
            return Ok(disk.stored());
        }
        *known = None;
        let mut pages = [None, None];
        for (page, name) in pages.iter_mut().zip([RECORD, INTENT]) {
            let Some(bytes) = directory::read(&self.directory, name).map_err(|source| self.failure("read", name, source))? else {
                continue;
            };
            match document::read(&bytes, &self.identity) {
                Ok(Some(found)) => *page = Some(found),
                Ok(None) if name == RECORD => return Ok(Stored::OtherBoot),
                Ok(None) => {}
                Err(reason) => return Ok(Stored::Corrupt { reason, at: self.path.join(name) }),
            }
        }
        let [record, intent] = pages;
        let disk = known.insert(Disk { stamps, record, intent });
        Ok(disk.stored())
    }

    /// Replaces the record on disk, so that a crash leaves the old one or the new one; when this returns it is on stable storage. Call it with the
    /// [`WriteLock`] held. What did not change is not written again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, record: &Record) -> Result<Saved, StoreFailure> {
        let stamps = self.stamps()?;
        if self.known().as_ref().is_none_or(|disk| disk.stamps != stamps) {
            // Whatever is wrong with the old files, the new ones mend it.
            let _ = self.load();
        }
        let mut known = self.known();
        let disk = known.take().unwrap_or(Disk { stamps: [None, None], record: None, intent: None });
        let serial = disk.record.as_ref().map_or(0, |page| page.serial);
        let same = |page: &Page| page.made == record.made && same_objects(&page.objects, &record.objects);
        let intended = record.intent.as_ref();
        let mut next = disk.clone();
        let stays = match (&disk.record, intended) {
            // While something is intended, its file says what is ours in built-in chains.
            (Some(page), Some(_)) => same(page),
            (Some(page), None) => same(page) && page.direct == record.direct,
            (None, Some(_)) => record.made.is_empty() && record.objects.is_empty(),
            (None, None) => false,
        };
        if stays {
            // The same rules, of which there need not be two copies.
            next.record.iter_mut().for_each(|page| page.objects.clone_from(&record.objects));
        } else {
            // Beside this number no older intent says anything.
            let serial = disk.intent.as_ref().map_or(0, |page| page.serial).max(serial) + 1;
            let Record { made, objects, direct, .. } = record.clone();
            next.record = Some(Page { serial, made, objects, direct });
        }
        let serial = next.record.as_ref().map_or(0, |page| page.serial);
        next.intent = intended.map(|Intent { made, objects }| {
            let (made, objects, direct) = (made.clone(), objects.clone(), record.direct.clone());
            Page { serial, made, objects, direct }
        });
        let intent_stays = next.intent == disk.intent && (next.intent.is_some() || disk.stamps[1].is_none());
        // A crash may come between the two files. An intent is there before the record that it stands beside, so that no claim is lost; one that is
        // over goes after the record that ends it, which by its number it no longer belongs to.
        if !intent_stays && next.intent.is_some() {
            self.put(INTENT, next.intent.as_ref())?;
        }
        if !stays {
            self.put(RECORD, next.record.as_ref())?;
        }
        if !intent_stays && next.intent.is_none() {
            self.put(INTENT, None)?;
        }
        next.stamps = self.stamps()?;
        *known = Some(next);
        Ok(if stays && intent_stays { Saved::Unchanged } else { Saved::Written })
    }

    fn put(&self, name: &str, page: Option<&Page>) -> Result<(), StoreFailure> {
        match page {
            Some(page) => directory::replace_with(&self.directory, name, |file| document::write(page, &self.identity, file)),
            None => directory::remove(&self.directory, name),
        }
        .map_err(|source| self.failure("write", name, source))
    }

    fn stamps(&self) -> Result<[Option<Stamp>; 2], StoreFailure> {
        let stamp = |name| directory::stamp(&self.directory, name).map_err(|source| self.failure("look at", name, source));
        Ok([stamp(RECORD)?, stamp(INTENT)?])
    }

    /// No code panics while it holds this lock, and what it guards is only believed while the files agree.
    fn known(&self) -> MutexGuard<'_, Option<Disk>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, verb: &'static str, name: &str, source: io::Error) -> StoreFailure {
        StoreFailure::Io { verb, path: self.path.join(name), source }
    }
}

/// Whether two files would say the same of these objects.
fn same_objects(one: &BTreeMap<Object, RecordedObject>, other: &BTreeMap<Object, RecordedObject>) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|((one, ours), (two, theirs))| one == two && ours.says_the_same(theirs))
}

impl RecordedObject {
    /// Whether both say the same to who reads them from disk: places are not written there.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.source == other.source && self.has(&other.rules)
    }

    /// Whether its rules read the same from disk as these.
    fn has(&self, rules: &Arc<ObjectRules>) -> bool {
        Arc::ptr_eq(&self.rules, rules) || self.rules.keys == rules.keys && self.rules.says_the_same(rules)
    }
}

impl Page {
    /// Takes the rules of `fresh` instead of its own where they say the same; the number of objects that it did so for.
    fn share(&mut self, fresh: &BTreeMap<Object, Arc<ObjectRules>>) -> usize {
        let mut shared = 0;
        for (object, recorded) in &mut self.objects {
            let other = fresh.get(object).filter(|rules| !Arc::ptr_eq(rules, &recorded.rules) && recorded.has(rules));
            if let Some(rules) = other {
                recorded.rules = Arc::clone(rules);
                shared += 1;
            }
        }
        shared
    }
}

impl Disk {
    fn stored(&self) -> Stored {
        // One that is older than the record was done with, and a crash came before it was removed; one that is younger than a record that is lost
        // says too little.
        let belongs = |intent: &Page| match &self.record {
            Some(record) => intent.serial >= record.serial,
            None => intent.serial == 0,
        };
        let intent = self.intent.clone().filter(belongs);
        let Page { made, objects, direct, .. } = match (&self.record, &intent) {
            (None, None) => return Stored::Absent,
            (record, _) => record.clone().unwrap_or_default(),
        };
        let mut record = Record { made, objects, direct, intent: None };
        if let Some(Page { made, objects, direct, .. }) = intent {
            record.direct = direct;
            record.intent = Some(Intent { made, objects });
        }
        Stored::Found(record)
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
                Arc::make_mut(&mut recorded.rules).keys.extend(before.rules.keys.iter().cloned());
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
