//! Rules on trial, on disk: what to go back to unless somebody confirms in time, whoever is still alive then.
//!
//! The file is written before the first rule changes and removed by the confirmation. Time is counted since boot, the time of sleep included, so that no
//! clock that is set can shorten or lengthen a trial; a reboot ends it, since the rules are gone with it.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::document::{Entries, Objects};
use super::{RecordedObject, Store, StoreFailure, directory};
use crate::model::Object;

const FILE: &str = "trial.json";
const VERSION: u32 = 1;

/// Rules that wait for a confirmation, or that did not get one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// When they are taken back, since boot.
    pub deadline: Duration,
    /// When they were taken back, since boot; `None` while they are on trial.
    pub taken_back: Option<Duration>,
    /// The fingerprint of the files that asked for them: as long as these say the same, nobody applies them again unasked.
    pub files: String,
    /// What lived of ours before, by object.
    pub earlier: BTreeMap<Object, RecordedObject>,
}

/// The file; `O` are objects on their way out, or as they came in.
#[derive(Serialize, Deserialize)]
struct Document<O> {
    version: u32,
    boot_id: String,
    deadline: Duration,
    taken_back: Option<Duration>,
    files: String,
    earlier: Earlier<O>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Earlier<O> {
    objects: O,
}

/// The time since boot, that of sleep included.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).expect("the time since boot is not negative")
}

impl Trial {
    /// How long until it has to be decided; `None` when it is.
    pub fn left(&self) -> Option<Duration> {
        self.taken_back.is_none().then(|| self.deadline.saturating_sub(since_boot()))
    }

    /// Whether nobody confirmed in time and nobody has acted on it.
    pub fn is_due(&self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}

impl Store {
    /// The rules on trial. A file of another boot counts for nothing; one that cannot be read says so.
    ///
    /// # Errors
    /// When it is there and cannot be read or understood.
    pub fn trial(&self) -> Result<Option<Trial>, StoreFailure> {
        let Some(bytes) = directory::read(&self.directory, FILE).map_err(|source| self.failure("read", FILE, source))? else {
            return Ok(None);
        };
        let corrupt = |reason: String| self.failure("understand", FILE, std::io::Error::other(reason));
        let document: Document<Entries> = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if document.boot_id != self.identity.boot_id {
            return Ok(None);
        }
        if document.version != VERSION {
            return Err(corrupt(format!("it has version {}, and this bridgeward reads version {VERSION}", document.version)));
        }
        let earlier = document.earlier.objects.parse().map_err(corrupt)?;
        Ok(Some(Trial { deadline: document.deadline, taken_back: document.taken_back, files: document.files, earlier }))
    }

    /// Writes it down; on stable storage when this returns. Call it with the [`super::WriteLock`] held.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_trial(&self, trial: &Trial) -> Result<(), StoreFailure> {
        let document = Document {
            version: VERSION,
            boot_id: self.identity.boot_id.clone(),
            deadline: trial.deadline,
            taken_back: trial.taken_back,
            files: trial.files.clone(),
            earlier: Earlier { objects: Objects(&trial.earlier) },
        };
        let bytes = serde_json::to_vec_pretty(&document).expect("strings, lists and string maps are JSON");
        directory::replace(&self.directory, FILE, &bytes).map_err(|source| self.failure("write", FILE, source))
    }

    /// Forgets it: confirmed, or overtaken. Call it with the [`super::WriteLock`] held.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn end_trial(&self) -> Result<(), StoreFailure> {
        directory::remove(&self.directory, FILE).map_err(|source| self.failure("remove", FILE, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::DeviceName;
    use crate::backend::namespace;

    #[test]
    fn a_trial_is_read_as_it_was_written_until_it_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&directory.path().join("run"), namespace::identity().expect("proc is mounted")).expect("a store");
        assert_eq!(store.trial().expect("it can be read"), None);
        let object = Object::Interface(DeviceName::new("vnet0").expect("a device name"));
        let trial = Trial {
            deadline: since_boot() + Duration::from_mins(1),
            taken_back: None,
            files: "f".into(),
            earlier: BTreeMap::from([(object, RecordedObject::default())]),
        };
        store.save_trial(&trial).expect("it can be written");
        assert_eq!(store.trial().expect("it can be read"), Some(trial.clone()));
        assert!(!trial.is_due() && trial.left().is_some());
        let over = Trial { deadline: Duration::ZERO, ..trial };
        assert!(over.is_due());
        let decided = Trial { taken_back: Some(since_boot()), ..over };
        assert!(!decided.is_due() && decided.left().is_none());
        store.end_trial().expect("it can be removed");
        store.end_trial().expect("nothing to remove is fine");
        assert_eq!(store.trial().expect("it can be read"), None);
    }
}
