//! Who may write what we read: whoever can write a state file, or put one into a state directory, decides who reaches whom.
//!
//! Judged as sshd judges `authorized_keys`, with two differences: what only prints reads everything and warns, for a checkout that everybody may write harms nobody who looks at it; and the operator who names a directory has thereby named its owner, so files of that
//! owner count like root's. Only root is this strict: nobody else can change the kernel's rules, and the modes of a checkout or a build are not those
//! of a host. Rejected: a remark instead of a refusal where rules are made (a log that nobody reads against rules that anybody writes), and a refusal of all links out
//! of the directory (`/nix/store` and the volumes of containers are such links); what a link leads to is judged instead, with the way there.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// In such a directory nobody can rename or remove what belongs to others.
const STICKY: u32 = 0o1000;

/// Whose files may decide the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trust {
    /// False for a process that cannot change rules: then everybody is trusted.
    strict: bool,
    /// What becomes of what is exposed.
    exposed: Exposed,
    owners: BTreeSet<u32>,
    /// Our own group, whose members we are one of.
    group: u32,
}

/// What is done about what strangers may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposed {
    /// It is not read: rules are made of what is.
    Refused,
    /// It is read with a warning, for a command that only prints.
    Told,
}

/// What is wrong with the owner or the mode of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Exposure {
    /// It belongs to a user who is neither root, nor ours, nor the owner of the state directory.
    Stranger(u32),
    /// Everybody may write it.
    Everybody,
}

impl Trust {
    /// Trusts root and the user of this process.
    pub(super) fn of_process(exposed: Exposed) -> Self {
        let user = geteuid();
        Self { strict: user.is_root(), exposed, owners: BTreeSet::from([0, user.as_raw()]), group: getegid().as_raw() }
    }

    /// Trusts the owner of what the operator named, too.
    pub(super) fn with_owner_of(&self, named: &Metadata) -> Self {
        let mut trust = self.clone();
        trust.owners.insert(named.uid());
        trust
    }

    /// Whether what is exposed is read all the same, with a warning.
    pub(super) fn only_tells(&self) -> bool {
        self.exposed == Exposed::Told
    }

    /// What is wrong with a file or directory, if anything.
    pub(super) fn judge(&self, metadata: &Metadata) -> Option<Exposure> {
        if !self.strict {
            return None;
        }
        if !self.owners.contains(&metadata.uid()) {
            return Some(Exposure::Stranger(metadata.uid()));
        }
        (metadata.mode() & OTHERS_WRITE != 0).then_some(Exposure::Everybody)
    }

    /// The group whose members may write it, where that is neither root's nor ours: often meant, and worth a remark.
    pub(super) fn writing_group(&self, metadata: &Metadata) -> Option<u32> {
        let group = metadata.gid();
        let told = self.strict && metadata.mode() & GROUP_WRITES != 0 && group != 0 && group != self.group;
        told.then_some(group)
    }

    /// The first directory on the real way to `path`, the root of the file system first, in which a stranger could put something else in its place.
    pub(super) fn judge_way(&self, path: &Path) -> Option<(PathBuf, Exposure)> {
        if !self.strict {
            return None;
        }
        let real = fs::canonicalize(path).ok()?;
        let above: Vec<&Path> = real.ancestors().skip(1).collect();
        above.into_iter().rev().find_map(|directory| {
            let metadata = fs::metadata(directory).ok()?;
            match self.judge(&metadata)? {
                Exposure::Everybody if metadata.mode() & STICKY != 0 => None,
                exposure => Some((directory.to_owned(), exposure)),
            }
        })
    }
}

impl Exposure {
    /// As the end of a sentence that begins with what is exposed.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Stranger(user) => format!("belongs to user {user}, and not to root or to the owner of the state directory"),
            Self::Everybody => "can be written by everybody".to_owned(),
        }
    }

    /// The command that mends it.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Stranger(_) => "see what it says, then `chown root` it: whoever writes it decides the rules",
            Self::Everybody => "see what it says, then `chmod o-w` it: whoever writes it decides the rules",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};

    use tempfile::TempDir;

    use super::*;

    fn root() -> Trust {
        Trust { strict: true, exposed: Exposed::Refused, owners: BTreeSet::from([0]), group: 0 }
    }

    /// A file of this mode and these owners in a directory of its own; giving files away needs root, as all the tests do.
    fn file(mode: u32, user: u32, group: u32) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x.xml");
        fs::write(&path, "").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        chown(&path, Some(user), Some(group)).expect("the tests run as root");
        (directory, path)
    }

    fn judge(trust: &Trust, mode: u32, user: u32, group: u32) -> (Option<Exposure>, Option<u32>) {
        let (_directory, path) = file(mode, user, group);
        let metadata = fs::metadata(path).expect("it is there");
        (trust.judge(&metadata), trust.writing_group(&metadata))
    }

    #[test]
    fn strangers_and_everybody_are_refused_and_groups_told() {
        assert_eq!(judge(&root(), 0o644, 0, 0), (None, None));
        assert_eq!(judge(&root(), 0o664, 0, 0), (None, None));
        assert_eq!(judge(&root(), 0o664, 0, 1234), (None, Some(1234)));
        assert_eq!(judge(&root(), 0o644, 1234, 0), (Some(Exposure::Stranger(1234)), None));
        assert_eq!(judge(&root(), 0o646, 0, 0), (Some(Exposure::Everybody), None));
    }

    #[test]
    fn the_owner_of_what_was_named_is_no_stranger() {
        let (_directory, named) = file(0o700, 1234, 1234);
        let trust = root().with_owner_of(&fs::metadata(named).expect("it is there"));
        assert_eq!(judge(&trust, 0o644, 1234, 1234), (None, None));
        assert_eq!(judge(&trust, 0o644, 1235, 1234), (Some(Exposure::Stranger(1235)), None));
    }

    #[test]
    fn who_cannot_change_rules_is_not_strict() {
        let user = Trust { strict: false, exposed: Exposed::Refused, owners: BTreeSet::from([1000]), group: 1000 };
        assert_eq!(judge(&user, 0o666, 1234, 1234), (None, None));
    }

    #[test]
    fn the_way_is_judged_and_a_sticky_directory_on_it_is_safe() {
        let (directory, path) = file(0o644, 0, 0);
        assert_eq!(root().judge_way(&path), None, "the temporary directory is sticky");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("it is ours");
        assert_eq!(root().judge_way(&path), Some((fs::canonicalize(directory.path()).expect("it is there"), Exposure::Everybody)));
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).expect("it is ours");
        assert_eq!(root().judge_way(&path), None);
    }
}
