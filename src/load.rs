//! State files in: paths from the command line or the configuration to texts, and to faults for what cannot be one.
//!
//! Only names ending in `.xml` are read, each inode once. Nothing is parsed here, no file is ever written, and nothing that could
//! block (a FIFO, a device) is opened. [`find`] decides which files there are, [`read`] makes a text of one, [`trust`] knows whose files may decide
//! the rules, [`hearing`] which need not be looked at while nothing is heard.

mod find;
mod hearing;
mod read;
mod trust;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::diagnostic::Diagnostic;
use crate::parse::{Broken, BrokenKind, Parsed};
use crate::source::{FileId, SourceFile, Sources, Span};

use find::Limits;
use read::Content;
use trust::Trust;

pub use trust::Exposed;

/// The most bytes in one file: what libvirt writes is kilobytes, a thousand guests in one file are half of it, and the time that a hostile one takes grows with its size.
pub const FILE_LIMIT: u64 = 2 << 20;

/// The most bytes in all files.
const TOTAL_LIMIT: usize = 256 << 20;

/// The code of a file, or directory, that strangers may write.
pub const EXPOSED: &str = "exposed-file";

/// What the state directories hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Texts, sorted by path.
    pub files: Vec<LoadedFile>,
    /// Files that are there and have no readable text, sorted by path.
    pub faults: Vec<Fault>,
    /// What is read and might better not be as it is, sorted by path.
    pub remarks: Vec<Fault>,
    /// True where whoever listens to all the directories hears of every change since: each file is a settled one with one name, in a file system of this host alone.
    pub audible: bool,
}

/// One readable file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// The path as the user gave it, with what lies below a given directory appended.
    pub path: Arc<str>,
    /// The whole text, a byte order mark removed.
    pub text: Arc<str>,
    /// Which file on disk it was.
    pub stamp: Stamp,
}

/// What tells one state of a file on disk from another. Two reads with equal stamps may still differ within one clock tick: compare texts to be sure, or see
/// that the stamp is [settled](Stamp::settled).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The device it is on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Its last change of content.
    pub modified: SystemTime,
    /// Its last change of anything, in seconds and nanoseconds since 1970; nobody can set it back.
    pub changed: (i64, i64),
    /// True for a file without a second name: one is changed through the other where nobody may be listening.
    pub only_name: bool,
    /// True when that was long enough before the file was read that a later change would show.
    pub settled: bool,
    /// A hash of its bytes, for comparing with a state of it that is no longer in memory; stable within one build of bridgeward only.
    pub hash: u64,
}

/// A file without a readable text: what it defines is unknown, so nothing absent may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path as shown.
    pub path: Arc<str>,
    /// Stable, kebab-case, as in a diagnostic.
    pub code: &'static str,
    /// One lower-case sentence.
    pub message: String,
    /// What stands there, or what was expected.
    pub label: String,
    /// How to mend it.
    pub help: &'static str,
    /// The text as far as it can be shown, and the bytes of it that are at fault; `None` where there is no text.
    pub excerpt: Option<Excerpt>,
}

/// The showable form of a text that is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The text with replacement characters.
    pub text: Arc<str>,
    /// The first byte at fault in it, counted from 0.
    pub at: u32,
    /// How many bytes are at fault.
    pub length: u32,
}

/// Why the state as a whole is not known: never to be taken for "empty".
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// A given path does not exist, or it or a directory below it cannot be opened or listed.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is more than bridgeward is willing to read.
    #[error("{path}: {excess}; is this the state directory?", path = .path.display())]
    TooMuch {
        /// Where the limit was passed.
        path: PathBuf,
        /// Which limit.
        excess: String,
    },
    /// A directory that somebody could fill who should not decide the rules.
    #[error("{path} {reason}, so nothing in it is read", path = .path.display())]
    Exposed {
        /// The directory: a given one, one below it, or one on the way to it.
        path: PathBuf,
        /// Who could, as the end of a sentence.
        reason: String,
        /// How to mend it.
        help: &'static str,
    },
}

/// Reads every state file below `paths`: directories recursively, files as they are whatever their name.
///
/// # Errors
/// When a given path, or a directory below it, cannot be read or is open to strangers, or when there is too much.
pub fn load(paths: &[PathBuf]) -> Result<Loaded, LoadFailure> {
    load_as(paths, &Loaded::default(), Exposed::Refused)
}

/// As [`load`], for a command that only prints: what strangers may write is read, with a remark.
///
/// # Errors
/// When a given path, or a directory below it, cannot be read, or when there is too much.
pub fn load_to_show(paths: &[PathBuf]) -> Result<Loaded, LoadFailure> {
    load_as(paths, &Loaded::default(), Exposed::Told)
}

/// As [`load`]; files of an earlier load that lie there unchanged are looked at and not opened.
///
/// # Errors
/// As [`load`].
pub fn load_again(paths: &[PathBuf], before: &Loaded) -> Result<Loaded, LoadFailure> {
    load_as(paths, before, Exposed::Refused)
}

fn load_as(paths: &[PathBuf], before: &Loaded, exposed: Exposed) -> Result<Loaded, LoadFailure> {
    let mut loaded = Loaded::default();
    let mut seen = HashSet::new();
    let mut total = 0;
    let listed = find::files(paths, Limits::default(), &Trust::of_process(exposed))?;
    loaded.audible = listed.audible;
    for (directory, group) in listed.group_writable {
        loaded.remarks.push(read::group_writable("directory", group).at(directory.to_string_lossy().into()));
    }
    for (directory, exposure) in listed.exposed {
        loaded.remarks.push(read::exposed("this directory", &exposure).at(directory.to_string_lossy().into()));
    }
    let mut known = before.files.iter().peekable();
    for mut found in listed.files {
        // Mostly the same files in the same order.
        let same = known.next_if(|known| known.path.as_bytes() == found.path.as_os_str().as_bytes());
        let path = same.map_or_else(|| found.path.to_string_lossy().into(), |same| Arc::clone(&same.path));
        let before = same.or_else(|| before.file(&path));
        match read::read(&mut found, before, &mut seen) {
            Content::Text(text, stamp, remarks) => {
                total += text.len();
                loaded.remarks.extend(remarks.into_iter().map(|remark| remark.at(Arc::clone(&path))));
                let file = LoadedFile { path, text, stamp };
                loaded.audible &= hearing::tells(&found, &file);
                loaded.files.push(file);
            }
            Content::Fault(reason) => {
                loaded.audible = false;
                let fault = reason.at(path);
                total += fault.excerpt.as_ref().map_or(0, |excerpt| excerpt.text.len());
                loaded.faults.push(fault);
            }
            Content::Absent if found.given => {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                return Err(LoadFailure::Unreadable { path: found.path, source });
            }
            // Where a link leads to nothing, something may appear unheard.
            Content::Absent => loaded.audible = false,
            Content::Duplicate => {}
        }
        if total > TOTAL_LIMIT {
            return Err(LoadFailure::TooMuch {
                path: found.path,
                excess: format!("more than {} MiB of files up to here", TOTAL_LIMIT >> 20),
            });
        }
    }
    loaded.files.sort_by(|a, b| a.path.cmp(&b.path));
    loaded.faults.sort_by(|a, b| a.path.cmp(&b.path));
    loaded.remarks.sort_by(|a, b| a.path.cmp(&b.path));
    sum_up(&mut loaded.remarks);
    Ok(loaded)
}

/// A checkout made under `umask 0` is exposed in every file: said once.
fn sum_up(remarks: &mut Vec<Fault>) {
    let mut exposed = 0;
    remarks.retain(|remark| {
        exposed += usize::from(remark.code == EXPOSED);
        remark.code != EXPOSED || exposed == 1
    });
    if exposed > 1
        && let Some(first) = remarks.iter_mut().find(|remark| remark.code == EXPOSED)
    {
        first.message = format!("{}; as open are {} more files or directories", first.message, exposed - 1);
    }
}

/// What is wrong with the owner or the mode of a file that decides what we do, its way included; `None` where only those can write it who may.
pub fn exposure(path: &Path) -> Option<String> {
    let trust = Trust::of_process(Exposed::Refused);
    let of_itself = std::fs::metadata(path).ok().and_then(|metadata| trust.judge(&metadata)).map(|exposure| (path.to_owned(), exposure));
    let (path, exposure) = of_itself.or_else(|| trust.judge_way(path))?;
    Some(format!("{} {}\n  help: {}", path.display(), exposure.reason(), exposure.help()))
}

/// The same paths whatever the working directory becomes; nothing is looked up and no link is followed.
pub fn absolute(paths: &[PathBuf]) -> Vec<PathBuf> {
    paths.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect()
}

/// Whether a file of this name is a state file: `*.xml`, but no dot file and nothing that an editor left. Editors' other leavings (`x.xml~`, `x.xml.swp`,
/// `#x.xml#`, `sedXXXXXX`), package managers' (`x.xml.dpkg-new`) and libvirt's (`x.xml.new`) do not end in `.xml`.
pub fn is_state_file(path: &Path) -> bool {
    let Some(name) = path.file_name() else { return false };
    let name = name.as_encoded_bytes();
    name.ends_with(b".xml") && !name.starts_with(b".") && !name.starts_with(b"#")
}

impl Stamp {
    /// The stamp of a text that lies on no disk (yet).
    pub const OF_NO_FILE: Self =
        Self { device: 0, inode: 0, size: 0, modified: SystemTime::UNIX_EPOCH, changed: (0, 0), only_name: true, settled: false, hash: 0 };
}

impl Loaded {
    /// Whether the other has the same files with the same texts, faults and remarks.
    pub fn says_the_same(&self, other: &Self) -> bool {
        // Mostly one text that both hold; `==` would read it.
        let equal = |one: &Arc<str>, other: &Arc<str>| Arc::ptr_eq(one, other) || one == other;
        let same = |(one, other): (&LoadedFile, &LoadedFile)| equal(&one.path, &other.path) && equal(&one.text, &other.text);
        let same_files = self.files.len() == other.files.len() && self.files.iter().zip(&other.files).all(same);
        same_files && self.faults == other.faults && self.remarks == other.remarks
    }

    fn file(&self, path: &str) -> Option<&LoadedFile> {
        self.files.binary_search_by(|file| (*file.path).cmp(path)).ok().map(|at| &self.files[at])
    }
}

impl Fault {
    /// Adds the file to `sources`; the answer is what parsing it would give: one broken document and one diagnostic.
    pub fn enter(&self, file: FileId, sources: &mut Sources) -> Parsed {
        let (text, at, length) =
            self.excerpt.as_ref().map_or(("".into(), 0, 0), |excerpt| (Arc::clone(&excerpt.text), excerpt.at, excerpt.length));
        sources.enter(file, Arc::new(SourceFile::new(Arc::clone(&self.path), text)));
        let span = Span { file, start: at, end: at + length };
        Parsed {
            broken: vec![Broken { what: BrokenKind::Unknown, span }],
            diagnostics: vec![Diagnostic::error(self.code, self.message.clone(), span, self.label.clone()).help(self.help)],
            ..Parsed::default()
        }
    }

    /// As [`Fault::enter`], for a remark: a warning that breaks nothing.
    pub fn enter_remark(&self, file: FileId, sources: &mut Sources) -> Parsed {
        sources.enter(file, Arc::new(SourceFile::new(Arc::clone(&self.path), "")));
        let warning =
            Diagnostic::warning(self.code, self.message.clone(), Span { file, start: 0, end: 0 }, self.label.clone()).help(self.help);
        Parsed { diagnostics: vec![warning], ..Parsed::default() }
    }
}

#[cfg(test)]
mod tests;
