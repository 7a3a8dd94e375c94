//! One file of a state directory, written: whole or not at all, and only over what the writer has seen.
//!
//! What goes in is a path and a text; what comes out is a file with the mode and the owner of the one before it. The text is never
//! judged here. The temporary file is a dot file, which no reader of a state directory looks at.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// What a file said when the decision to change it was made; `None` for no file.
pub type Seen<'a> = Option<&'a str>;

/// Why a file was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum WriteFailure {
    /// Somebody else wrote, made or removed it meanwhile.
    #[error("{path} was changed by somebody else meanwhile; nothing was written", path = .0.display())]
    Changed(PathBuf),
    /// The file system says no.
    #[error("cannot {verb} {path}: {source}", path = .path.display())]
    Io {
        /// `write`, `remove`, ...
        verb: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Keeps other bridgewards from writing below a directory, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _directory: File,
}

/// Waits until nobody else holds the lock of `directory`.
///
/// # Errors
/// When the directory cannot be opened.
pub fn lock(directory: &Path) -> Result<Lock, WriteFailure> {
    let locked = File::open(directory).and_then(|file| {
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    });
    locked.map(|directory| Lock { _directory: directory }).map_err(failure("lock", directory))
}

/// Puts `text` into the file at `path`, on stable storage when this returns. A symbolic link stays one: what it leads to is written.
///
/// # Errors
/// When the file no longer says what was `seen`, or cannot be written; then it is as it was.
pub fn replace(path: &Path, text: &str, seen: Seen<'_>) -> Result<(), WriteFailure> {
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        found => found.map_err(failure("find", path))?,
    };
    let directory = target.parent().unwrap_or(Path::new("/"));
    if seen.is_none() {
        fs::create_dir_all(directory).map_err(failure("create", directory))?;
    }
    let before = fs::metadata(&target).ok();
    let temporary = temporary(&target);
    // One that a kill left behind; the lock keeps out anybody who would be using it.
    let _ = fs::remove_file(&temporary);
    let replaced = write(&temporary, text, before.as_ref()).map_err(failure("write", &temporary)).and_then(|()| {
        check(&target, seen)?;
        fs::rename(&temporary, &target).map_err(failure("write", &target))
    });
    if replaced.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    replaced?;
    sync(directory)
}

/// Removes the file at `path`; of a symbolic link, the link.
///
/// # Errors
/// When the file no longer says what was `seen`, or cannot be removed.
pub fn remove(path: &Path, seen: &str) -> Result<(), WriteFailure> {
    check(path, Some(seen))?;
    fs::remove_file(path).map_err(failure("remove", path))?;
    sync(path.parent().unwrap_or(Path::new("/")))
}

fn check(path: &Path, seen: Seen<'_>) -> Result<(), WriteFailure> {
    let now = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        read => Some(read.map_err(failure("read", path))?),
    };
    let strip = |bytes: &[u8]| bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).to_vec();
    let same = now.as_deref().map(strip) == seen.map(|text| text.as_bytes().to_vec());
    if same { Ok(()) } else { Err(WriteFailure::Changed(path.to_owned())) }
}

/// A new file with the owner and mode of `before`; without one, as the process makes files.
fn write(path: &Path, text: &str, before: Option<&Metadata>) -> io::Result<()> {
    // Private until its mode is set: the file before it may have been.
    let mode = if before.is_some() { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW).open(path)?;
    file.write_all(text.as_bytes())?;
    if let Some(before) = before {
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(before.mode() & 0o7777))?;
    }
    file.sync_all()
}

fn temporary(target: &Path) -> PathBuf {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    target.with_file_name(format!(".{name}.bridgeward-new"))
}

fn sync(directory: &Path) -> Result<(), WriteFailure> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failure("write", directory))
}

fn failure(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteFailure {
    let path = path.to_owned();
    move |source| WriteFailure::Io { verb, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_mode_and_a_link_stays_a_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("a.xml"), directory.path().join("b.xml"));
        fs::write(&file, "old").expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("our file");
        std::os::unix::fs::symlink("a.xml", &link).expect("a link");
        replace(&link, "new", Some("old")).expect("nobody else writes");
        assert_eq!(fs::read_to_string(&file).expect("text"), "new");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(fs::read_dir(directory.path()).expect("ours").count(), 2, "nothing is left over");
    }

    #[test]
    fn what_somebody_else_changed_meanwhile_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("below/a.xml");
        replace(&file, "first", None).expect("the folder is made");
        for seen in [None, Some("other")] {
            assert!(matches!(replace(&file, "second", seen), Err(WriteFailure::Changed(_))), "{seen:?}");
        }
        assert!(matches!(remove(&file, "other"), Err(WriteFailure::Changed(_))));
        assert_eq!(fs::read_to_string(&file).expect("text"), "first");
        remove(&file, "first").expect("nobody else writes");
        assert!(!file.exists());
    }
}
