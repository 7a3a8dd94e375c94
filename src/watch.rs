//! A doorbell for the state directory: something in it changed, look again.
//!
//! It rings, it does not report: inotify misses files written right after their directory was made, and a directory that
//! was swapped goes on ringing under its old name (notify 8.2, measured). So whoever hears the bell reads everything again, and calls
//! [`Watch::refresh`], which compares the directories by device, inode and birth with those that are being listened to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::load;

/// Directories deeper than this below a state directory are not listened to; the periodic pass still reads them.
const MAX_DEPTH: usize = 16;

/// The watched state.
pub struct Watch {
    watcher: RecommendedWatcher,
    paths: Vec<PathBuf>,
    /// What there was at the last refresh.
    present: Present,
    /// Those of its directories that the kernel tells of.
    listening: BTreeMap<PathBuf, Identity>,
}

/// The directories that there are.
#[derive(Default, PartialEq, Eq)]
struct Present {
    directories: BTreeMap<PathBuf, Identity>,
    /// True where there are more, too deep or unreadable.
    more: bool,
}

/// What tells a directory from another one that took its name: device, inode and, where the file system keeps it, the time of its birth. ext4 gives the inode of a
/// directory that was removed to the next that is made.
type Identity = (u64, u64, Option<SystemTime>);

impl Watch {
    /// Listens to these directories and files, which need not exist yet, and rings `bell` when one of them may have changed.
    ///
    /// # Errors
    /// When the kernel gives out no inotify instance (`fs.inotify.max_user_instances`).
    pub fn new(paths: &[PathBuf], bell: Arc<Notify>) -> notify::Result<Self> {
        let paths = load::absolute(paths);
        let concerns = paths.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| rings(&event, &concerns)) {
                bell.notify_one();
            }
        })?;
        let mut watch = Self { watcher, paths, present: Present::default(), listening: BTreeMap::new() };
        watch.refresh();
        Ok(watch)
    }

    /// Listens to the directories as they are now; true when they are others than before, or one of them is listened to only now: then something may have been missed.
    pub fn refresh(&mut self) -> bool {
        let mut present = Present::default();
        for path in &self.paths {
            note_ancestor(path, &mut present);
            note_tree(path, 0, &mut present);
        }
        let before = std::mem::replace(&mut self.present, present);
        let mut news = self.present != before;
        let gone: Vec<PathBuf> = self
            .listening
            .extract_if(.., |path, identity| self.present.directories.get(path) != Some(identity))
            .map(|(path, _)| path)
            .collect();
        for path in gone {
            // A directory that is gone has taken its watch with it; then there is nothing to remove.
            let _ = self.watcher.unwatch(&path);
        }
        for (path, identity) in &self.present.directories {
            if self.listening.contains_key(path) {
                continue;
            }
            match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.listening.insert(path.clone(), *identity);
                    news = true;
                }
                // It vanished meanwhile, or the kernel refuses: tried again at the next refresh, and told of once.
                Err(error) if before.directories.get(path) != Some(identity) => {
                    tracing::warn!(path = %path.display(), %error, "cannot listen to this directory; changes in it are seen at the next poll");
                }
                Err(_) => {}
            }
        }
        news
    }

    /// Whether every directory was listened to at the last [refresh](Self::refresh), and is known to be the one that is.
    pub fn hears_everything(&self) -> bool {
        let known = |(_, _, born): &Identity| born.is_some();
        !self.present.more && self.listening.len() == self.present.directories.len() && self.listening.values().all(known)
    }
}

/// The nearest existing directory above a path: it sees the path being made, renamed or removed.
fn note_ancestor(path: &Path, present: &mut Present) {
    for ancestor in path.ancestors().skip(1) {
        if let Some(identity) = directory(ancestor) {
            present.directories.insert(ancestor.to_path_buf(), identity);
            return;
        }
    }
}

fn note_tree(path: &Path, depth: usize, present: &mut Present) {
    let Some(identity) = directory(path) else { return };
    present.directories.insert(path.to_path_buf(), identity);
    let entries = if depth == MAX_DEPTH { None } else { fs::read_dir(path).ok() };
    let Some(entries) = entries else {
        present.more = true;
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        note_tree(&entry.path(), depth + 1, present);
    }
}

fn directory(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    metadata.is_dir().then(|| (metadata.dev(), metadata.ino(), metadata.created().ok()))
}

/// Whether an event may concern the state. Our own reads ring inotify too (`Access(Open)`); they must not wake us, or we
/// would never sleep.
fn rings(event: &notify::Event, paths: &[PathBuf]) -> bool {
    if let EventKind::Access(kind) = event.kind
        && kind != AccessKind::Close(AccessMode::Write)
    {
        return false;
    }
    // An overflow names no path: anything may have happened.
    event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|changed| concerns(changed, paths))
}

fn concerns(changed: &Path, paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| path.starts_with(changed) || (changed.starts_with(path) && !scratch(changed)))
}

/// Files that editors keep beside the real one.
fn scratch(path: &Path) -> bool {
    let swap = path.extension().is_some_and(|extension| extension == "swp");
    swap || path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with('.') || name.ends_with('~'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    struct World {
        root: tempfile::TempDir,
        bell: Arc<Notify>,
        watch: Watch,
    }

    impl World {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("state")).unwrap();
            let bell = Arc::new(Notify::new());
            let watch = Watch::new(&[root.path().join("state")], Arc::clone(&bell)).unwrap();
            Self { root, bell, watch }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.root.path().join(name)
        }

        async fn rang(&self) -> bool {
            tokio::time::timeout(Duration::from_secs(5), self.bell.notified()).await.is_ok()
        }

        async fn silent(&self) -> bool {
            tokio::time::timeout(Duration::from_millis(200), self.bell.notified()).await.is_err()
        }
    }

    #[tokio::test]
    async fn a_new_file_rings_and_reading_it_does_not() {
        let world = World::new();
        fs::write(world.path("state/a.xml"), "<network/>").unwrap();
        assert!(world.rang().await);
        while !world.silent().await {}
        // Who may write it decides whether it is read.
        fs::set_permissions(world.path("state/a.xml"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(world.rang().await);
        while !world.silent().await {}
        fs::read(world.path("state/a.xml")).unwrap();
        assert_eq!(fs::read_dir(world.path("state")).unwrap().count(), 1);
        assert!(world.silent().await);
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_and_made_again_is_listened_to_again() {
        let mut world = World::new();
        fs::remove_dir(world.path("state")).unwrap();
        assert!(world.rang().await);
        assert!(world.watch.refresh());
        fs::create_dir(world.path("state")).unwrap();
        assert!(world.rang().await);
        assert!(world.watch.refresh());
        while !world.silent().await {}
        fs::write(world.path("state/a.xml"), "").unwrap();
        assert!(world.rang().await);
    }

    #[tokio::test]
    async fn what_lies_too_deep_is_not_heard_and_that_is_known() {
        let mut world = World::new();
        assert!(world.watch.hears_everything());
        let deep = (0..MAX_DEPTH).fold(world.path("state"), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        assert!(world.watch.refresh());
        assert!(!world.watch.hears_everything());
        fs::remove_dir(&deep).unwrap();
        assert!(world.watch.refresh());
        assert!(world.watch.hears_everything());
    }

    #[tokio::test]
    async fn a_directory_that_is_made_again_before_anybody_looks_is_listened_to_again() {
        let mut world = World::new();
        fs::remove_dir(world.path("state")).unwrap();
        fs::create_dir(world.path("state")).unwrap();
        assert!(world.watch.refresh());
        while !world.silent().await {}
        fs::write(world.path("state/a.xml"), "").unwrap();
        assert!(world.rang().await);
    }

    #[tokio::test]
    async fn a_directory_that_is_swapped_for_another_is_noticed() {
        let mut world = World::new();
        fs::create_dir(world.path("next")).unwrap();
        fs::rename(world.path("state"), world.path("old")).unwrap();
        fs::rename(world.path("next"), world.path("state")).unwrap();
        assert!(world.rang().await);
        assert!(world.watch.refresh());
        while !world.silent().await {}
        fs::write(world.path("old/a.xml"), "").unwrap();
        assert!(world.silent().await);
        fs::write(world.path("state/a.xml"), "").unwrap();
        assert!(world.rang().await);
    }

    #[tokio::test]
    async fn a_new_subdirectory_is_heard_after_a_refresh_and_scratch_files_never() {
        let mut world = World::new();
        fs::create_dir(world.path("state/more")).unwrap();
        assert!(world.rang().await);
        assert!(world.watch.refresh());
        while !world.silent().await {}
        fs::write(world.path("state/more/.a.xml.swp"), "").unwrap();
        assert!(world.silent().await);
        fs::write(world.path("state/more/a.xml"), "").unwrap();
        assert!(world.rang().await);
    }
}
