//! Whether a change of a file would be heard of: inotify tells of all that is done to the names of a directory through this kernel, and of nothing else.
//!
//! So a file with a second name, one that a link leads to and one that another machine can write have to be looked at; the others only when something was heard. Whether
//! anybody listens is not asked here.

use std::path::Path;

use super::LoadedFile;
use super::find::Found;

/// File systems that nobody writes but this kernel, by the numbers that statfs(2) gives: ext2 to ext4, XFS, Btrfs, F2FS, bcachefs, ZFS, tmpfs, and overlayfs, whose layers
/// must not be written beneath it. Rejected: to list those of networks instead; FUSE may be anything, and one that nobody thought of would be trusted.
const LOCAL: [u64; 8] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0xca45_1a4e, 0x2fc1_2fc1, 0x0102_1994, 0x794c_7630];

/// Whether nobody but this kernel writes the file system that holds this directory.
pub(super) fn is_local(directory: &Path) -> bool {
    let kind = rustix::fs::statfs(directory).ok().and_then(|answer| u64::try_from(answer.f_type).ok());
    kind.is_some_and(|kind| LOCAL.contains(&kind))
}

/// Whether a change of this file, which lies in a directory that tells, is heard of, and has not gone unnoticed just before.
pub(super) fn tells(found: &Found, file: &LoadedFile) -> bool {
    !found.link && file.stamp.settled && file.stamp.only_name
}
