//! A directory that only we (or root) can write, and files that change whole or not at all.
//!
//! Every name is resolved relative to an open directory and never through a symbolic link, so that what was checked is what is used.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::StoreFailure;

/// The directory of a namespace: nobody else so much as looks into it.
const PRIVATE: Mode = Mode::RWXU;
/// The directory of all namespaces: others get through to the socket in it that is made for them, and cannot list it.
const PASSABLE: Mode = Mode::RWXU.union(Mode::XGRP).union(Mode::XOTH);

/// Opens `run_dir/name`, making what is missing of the two, after checking both.
pub(super) fn open(run_dir: &Path, name: &str) -> Result<OwnedFd, StoreFailure> {
    let outer = enter(fs::CWD, run_dir, run_dir, PASSABLE)?;
    enter(&outer, Path::new(name), &run_dir.join(name), PRIVATE)
}

/// All bytes of a file; `None` if there is none.
pub(super) fn read(directory: &OwnedFd, name: &str) -> io::Result<Option<Vec<u8>>> {
    read_at_most(directory, name, u64::MAX)
}

/// All bytes of a file that should have no more than so many; `None` if there is none.
///
/// # Errors
/// `FileTooLarge` when it has more.
pub(super) fn read_at_most(directory: &OwnedFd, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match fs::openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => file?,
    };
    let file = File::from(file);
    if file.metadata()?.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", limit >> 20)));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// What tells one state of a file from another: every [`replace`] makes a new inode, and whoever writes into a file moves its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The state of a file; `None` if there is none.
pub(super) fn stamp(directory: &OwnedFd, name: &str) -> io::Result<Option<Stamp>> {
    let status = match fs::openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => File::from(file?).metadata()?,
    };
    Ok(Some(Stamp {
        inode: status.ino(),
        size: status.size(),
        modified: (status.mtime(), status.mtime_nsec()),
        changed: (status.ctime(), status.ctime_nsec()),
    }))
}

/// Puts a file with these bytes in place of another; see [`replace_with`].
pub(super) fn replace(directory: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    replace_with(directory, name, |file| file.write_all(bytes))
}

/// Puts a file with what `fill` writes in place of another, so that a reader and a crash see the old one or the new one.
pub(super) fn replace_with(directory: &OwnedFd, name: &str, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let temporary = format!("{name}.new");
    // One that a kill left behind; the write lock keeps out anybody who would be using it.
    let _ = fs::unlinkat(directory, &temporary, AtFlags::empty());
    let replaced = write(directory, &temporary, fill).and_then(|()| Ok(fs::renameat(directory, &temporary, directory, name)?));
    if replaced.is_err() {
        let _ = fs::unlinkat(directory, &temporary, AtFlags::empty());
    }
    replaced?;
    Ok(fs::fsync(directory)?)
}

/// Removes a file if it is there; gone for good when this returns.
pub(super) fn remove(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match fs::unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        removed => removed?,
    }
    Ok(fs::fsync(directory)?)
}

/// Renames a file to the first free of `name.corrupt-1`, `name.corrupt-2`, ... and returns that name.
pub(super) fn move_aside(directory: &OwnedFd, name: &str) -> io::Result<String> {
    for number in 1_u32.. {
        let aside = format!("{name}.corrupt-{number}");
        match fs::renameat_with(directory, name, directory, &aside, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            renamed => return renamed.map(|()| aside).map_err(io::Error::from),
        }
    }
    Err(Errno::EXIST.into())
}

fn write(directory: &OwnedFd, name: &str, fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = BufWriter::with_capacity(64 << 10, File::from(fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?));
    fill(&mut file)?;
    file.into_inner()?.sync_all()
}

fn enter(parent: impl std::os::fd::AsFd, name: &Path, shown: &Path, mode: Mode) -> Result<OwnedFd, StoreFailure> {
    let failure = |verb: &'static str, errno: Errno| StoreFailure::Io { verb, path: shown.to_owned(), source: errno.into() };
    match fs::mkdirat(&parent, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(failure("create", errno)),
    }
    let directory = match fs::openat(&parent, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    {
        // With O_DIRECTORY a link is "not a directory" (Linux), without "too many links".
        Err(Errno::NOTDIR | Errno::LOOP) => return Err(not_safe(shown, "it is a symbolic link or a file, not a directory".to_owned())),
        opened => opened.map_err(|errno| failure("open", errno))?,
    };
    let status = fs::fstat(&directory).map_err(|errno| failure("look at", errno))?;
    let own = rustix::process::geteuid().as_raw();
    if status.st_uid != own && status.st_uid != 0 {
        return Err(not_safe(shown, format!("it belongs to user {}", status.st_uid)));
    }
    let found = Mode::from_raw_mode(status.st_mode);
    if found.intersects(Mode::WGRP | Mode::WOTH) {
        return Err(not_safe(shown, format!("others can write to it (mode {:03o})", found.as_raw_mode() & 0o777)));
    }
    Ok(directory)
}

fn not_safe(path: &Path, reason: String) -> StoreFailure {
    StoreFailure::Unsafe { path: PathBuf::from(path), reason }
}
