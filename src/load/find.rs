//! Which files there are below the given paths; nothing is opened here but directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::trust::{Exposure, Trust};
use super::{LoadFailure, hearing, is_state_file};

/// A file to read.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The given path, with what lies below it appended.
    pub path: PathBuf,
    /// True for a path that the user named: it must be there.
    pub given: bool,
    /// True for a symbolic link.
    pub link: bool,
    /// What it was when its directory was listed; `None` where that is not known yet. From there it is the quickest: its whole path need not be walked.
    pub looked_at: Option<Box<Metadata>>,
    /// Whose file it may be.
    pub trust: Arc<Trust>,
}

/// What there is below the given paths.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Links last and otherwise by path: of several names of one inode, the first is the one to show. libvirt's `autostart/x.xml` is a link to `x.xml`.
    pub files: Vec<Found>,
    /// Directories that the members of a group may write, with the group.
    pub group_writable: Vec<(PathBuf, u32)>,
    /// Exposed directories, where these are told and not refused.
    pub exposed: BTreeMap<PathBuf, Exposure>,
    /// True where whoever listens to the directories hears of every file that comes, goes or changes under its name here.
    pub audible: bool,
}

/// How much we are willing to list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Files.
    pub files: usize,
    /// Directories inside each other.
    pub depth: usize,
}

struct Search {
    limits: Limits,
    listing: Listed,
    /// Whose files count below the path that is being listed.
    trust: Arc<Trust>,
    /// Directories already listed: a link to one of them, or a loop, adds nothing.
    listed: BTreeSet<(u64, u64)>,
}

/// All state files below `paths`.
pub(super) fn files(paths: &[PathBuf], limits: Limits, trust: &Trust) -> Result<Listed, LoadFailure> {
    let mut search =
        Search { limits, listing: Listed { audible: true, ..Listed::default() }, trust: Arc::new(trust.clone()), listed: BTreeSet::new() };
    for path in paths {
        let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
        search.trust = Arc::new(trust.with_owner_of(&metadata));
        search.judge_way(path)?;
        if metadata.is_dir() {
            search.list(path, &metadata, 0, None)?;
        } else {
            search.listing.audible = false;
            search.add(Found { path: path.clone(), given: true, link: false, looked_at: None, trust: Arc::clone(&search.trust) })?;
        }
    }
    // By bytes, as the result is sorted in the end: comparing paths piece by piece takes longer than to look at all the files.
    search.listing.files.sort_by(|a, b| (a.link, a.path.as_os_str()).cmp(&(b.link, b.path.as_os_str())));
    Ok(search.listing)
}

impl Search {
    /// Adds the state files below a directory. `within` is the exposed directory that it lies in: state files there are refused, and nothing else is anybody's business (a
    /// guest's sockets lie in directories of its user below libvirt's own).
    fn list(
        &mut self,
        directory: &Path,
        metadata: &Metadata,
        depth: usize,
        within: Option<&(PathBuf, Exposure)>,
    ) -> Result<(), LoadFailure> {
        if !self.listed.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let own = self.trust.judge(metadata).map(|exposure| (directory.to_owned(), exposure));
        let within = within.or(own.as_ref());
        if depth == 0 {
            self.refuse(within)?;
        }
        self.listing.group_writable.extend(self.trust.writing_group(metadata).map(|group| (directory.to_owned(), group)));
        if depth > self.limits.depth {
            let excess = format!("more than {} directories inside each other", self.limits.depth);
            return Err(LoadFailure::TooMuch { path: directory.to_owned(), excess });
        }
        self.listing.audible &= hearing::is_local(directory);
        let entries = match fs::read_dir(directory) {
            // Removed between its parent's listing and its own.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => return Ok(()),
            entries => entries.map_err(|source| unreadable(directory, source))?,
        };
        for entry in entries {
            let entry = entry.map_err(|source| unreadable(directory, source))?;
            let path = entry.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let kind = entry.file_type().map_err(|source| unreadable(&path, source))?;
            let target = if kind.is_dir() || kind.is_symlink() { fs::metadata(&path).ok() } else { None };
            match target {
                Some(target) if target.is_dir() => {
                    if kind.is_symlink() {
                        self.listing.audible = false;
                        self.judge_way(&path)?;
                    }
                    self.list(&path, &target, depth + 1, within)?;
                }
                // A dangling link is found missing when it is read.
                _ if is_state_file(&path) => {
                    self.refuse(within)?;
                    let looked_at = if kind.is_file() { entry.metadata().ok().map(Box::new) } else { None };
                    self.add(Found { path, given: false, link: kind.is_symlink(), looked_at, trust: Arc::clone(&self.trust) })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn judge_way(&mut self, path: &Path) -> Result<(), LoadFailure> {
        self.refuse(self.trust.judge_way(path).as_ref())
    }

    /// What lies within an exposed directory is not read, or told.
    fn refuse(&mut self, within: Option<&(PathBuf, Exposure)>) -> Result<(), LoadFailure> {
        let Some((directory, exposure)) = within else { return Ok(()) };
        if !self.trust.only_tells() {
            return Err(LoadFailure::Exposed { path: directory.clone(), reason: exposure.reason(), help: exposure.help() });
        }
        self.listing.exposed.insert(directory.clone(), exposure.clone());
        Ok(())
    }

    fn add(&mut self, found: Found) -> Result<(), LoadFailure> {
        if self.listing.files.len() == self.limits.files {
            let excess = format!("more than {} files", self.limits.files);
            return Err(LoadFailure::TooMuch { path: found.path, excess });
        }
        self.listing.files.push(found);
        Ok(())
    }
}

fn unreadable(path: &Path, source: io::Error) -> LoadFailure {
    LoadFailure::Unreadable { path: path.to_owned(), source }
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 100_000, depth: 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trust::Exposed;
    use super::*;

    fn limited(root: &Path, files_limit: usize, depth: usize) -> Result<Vec<Found>, LoadFailure> {
        files(&[root.to_owned()], Limits { files: files_limit, depth }, &Trust::of_process(Exposed::Refused)).map(|listed| listed.files)
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["a.xml", "b.xml", "c.xml", "not-counted.txt"] {
            fs::write(root.path().join(name), "").expect("a file");
        }
        assert_eq!(limited(root.path(), 3, 9).expect("three fit").len(), 3);
        let failure = limited(root.path(), 2, 9).expect_err("three are too many");
        assert!(failure.to_string().contains("more than 2 files"), "{failure}");
    }

    #[test]
    fn the_depth_of_directories_is_bounded() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("a/b")).expect("directories");
        assert!(limited(root.path(), 9, 2).is_ok());
        let failure = limited(root.path(), 9, 1).expect_err("two levels are too many");
        assert!(failure.to_string().contains("more than 1 directories inside each other"), "{failure}");
    }

    #[test]
    fn a_directory_of_a_stranger_matters_only_for_state_files_in_it() {
        let root = tempfile::tempdir().expect("a directory");
        let sockets = root.path().join("dbus");
        fs::create_dir(&sockets).expect("a directory");
        fs::write(sockets.join("guest.sock"), "").expect("a file");
        std::os::unix::fs::chown(&sockets, Some(1234), None).expect("the tests run as root");
        assert!(limited(root.path(), 9, 9).expect("nothing in it is read").is_empty());
        fs::write(sockets.join("x.xml"), "").expect("a file");
        let failure = limited(root.path(), 9, 9).expect_err("whoever owns the directory decides what is in it");
        assert!(failure.to_string().contains("dbus belongs to user 1234"), "{failure}");
    }
}
