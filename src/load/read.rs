//! One file to its text, or to the reason why it has none.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::find::Found;
use super::trust::{Exposure, Trust};
use super::{EXPOSED, Excerpt, FILE_LIMIT, Fault, LoadedFile, Stamp};

/// Longer than the tick of any file system's clock (FAT: two seconds), so that two changes this far apart have different times.
const TICK: Duration = Duration::from_secs(3);

/// What reading a file gave.
#[derive(Debug)]
pub(super) enum Content {
    /// Its text, and what is to be said of who may write it.
    Text(Arc<str>, Stamp, Vec<Reason>),
    /// It is there, and has no text.
    Fault(Reason),
    /// It is not there (any more).
    Absent,
    /// It was read under another name.
    Duplicate,
}

/// A [`Fault`] without its path.
#[derive(Debug)]
pub(super) struct Reason {
    code: &'static str,
    message: String,
    label: String,
    help: &'static str,
    excerpt: Option<Excerpt>,
}

/// Reads the file, unless `seen` has its inode or somebody may write it whom `trust` does not trust; of a link the way to its target is judged, too. The text of
/// one that is as it was `before` is taken from memory, and judged all the same.
pub(super) fn read(found: &mut Found, before: Option<&LoadedFile>, seen: &mut HashSet<(u64, u64)>) -> Content {
    let looked_at = found.looked_at.take();
    let Found { path, link, trust, .. } = &*found;
    // Looked at before it is opened: opening alone wakes the writer of a FIFO and rewinds a tape.
    let looked_at = looked_at.map_or_else(|| fs::metadata(path), |metadata| Ok(*metadata));
    if let (Some(before), Ok(metadata)) = (before, &looked_at)
        && before.stamp.settled
        && metadata.is_file()
        && before.stamp == (Stamp { settled: true, ..Stamp::new(metadata, before.stamp.hash) })
    {
        if !seen.insert((metadata.dev(), metadata.ino())) {
            return Content::Duplicate;
        }
        return match judge(path, metadata, trust, *link) {
            Ok(remarks) => Content::Text(Arc::clone(&before.text), before.stamp, remarks),
            Err(exposed) => Content::Fault(exposed),
        };
    }
    let opened = looked_at.and_then(|metadata| if metadata.is_file() { open(path).map(Some) } else { Ok(None) });
    let (mut file, metadata) = match opened.and_then(|file| file.map(|file| file.metadata().map(|metadata| (file, metadata))).transpose()) {
        Ok(Some((file, metadata))) if metadata.is_file() => (file, metadata),
        Ok(_) => return Content::Fault(not_regular()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::Absent,
        Err(error) => return Content::Fault(unreadable(&error)),
    };
    if !seen.insert((metadata.dev(), metadata.ino())) {
        return Content::Duplicate;
    }
    let remarks = match judge(path, &metadata, trust, *link) {
        Ok(remarks) => remarks,
        Err(exposed) => return Content::Fault(exposed),
    };
    let mut stamp = Stamp::new(&metadata, 0);
    let mut bytes = Vec::new();
    // By what is read, not by the size: the file may be growing.
    if let Err(error) = Read::by_ref(&mut file).take(FILE_LIMIT + 1).read_to_end(&mut bytes) {
        return Content::Fault(unreadable(&error));
    }
    if bytes.len() as u64 > FILE_LIMIT {
        return Content::Fault(too_large());
    }
    stamp.hash = hash(&bytes);
    match decode(&bytes) {
        Ok(text) => Content::Text(text.into(), stamp, remarks),
        Err(reason) => Content::Fault(reason),
    }
}

/// What is to be said of who may write a file; why it is not read where it, or the way to it, is in the wrong hands.
fn judge(path: &Path, metadata: &Metadata, trust: &Trust, link: bool) -> Result<Vec<Reason>, Reason> {
    // Of what is read or was: a name can mean another file a moment later.
    let of_itself = trust.judge(metadata).map(|exposure| exposed("this file", &exposure));
    let of_way = || if link { trust.judge_way(path) } else { None };
    let exposed = of_itself.or_else(|| {
        of_way().map(|(directory, exposure)| exposed(&format!("{}, through which this link leads,", directory.display()), &exposure))
    });
    match exposed {
        Some(exposed) if !trust.only_tells() => Err(exposed),
        exposed => Ok(exposed.into_iter().chain(trust.writing_group(metadata).map(|group| group_writable("file", group))).collect()),
    }
}

impl Stamp {
    /// The stamp of a file that is about to be read.
    fn new(metadata: &Metadata, hash: u64) -> Self {
        let age = u64::try_from(metadata.ctime()).ok().and_then(|seconds| {
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            SystemTime::now().duration_since(changed).ok()
        });
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            only_name: metadata.nlink() == 1,
            settled: age.is_some_and(|age| age > TICK),
            hash,
        }
    }
}

/// Never blocks, even if the file was replaced by a FIFO since it was looked at.
fn open(path: &Path) -> io::Result<File> {
    // std adds O_CLOEXEC.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

fn decode(bytes: &[u8]) -> Result<&str, Reason> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(utf16());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn not_regular() -> Reason {
    Reason {
        code: "not-a-regular-file",
        message: "this is not a regular file".to_owned(),
        label: "expected a file with XML in it".to_owned(),
        help: "remove it, or rename it so that it does not end in `.xml`",
        excerpt: None,
    }
}

/// A fault where rules are made of it, else a remark.
pub(super) fn exposed(what: &str, exposure: &Exposure) -> Reason {
    Reason {
        code: EXPOSED,
        message: format!("{what} {}", exposure.reason()),
        label: "expected a file that only root or the owner of the state directory can write".to_owned(),
        help: exposure.help(),
        excerpt: None,
    }
}

/// A remark: a group of administrators is often meant to write the state.
pub(super) fn group_writable(what: &str, group: u32) -> Reason {
    Reason {
        code: "group-writable",
        message: format!("the members of group {group} can write this {what}"),
        label: "whoever writes it decides the rules".to_owned(),
        help: "`chmod g-w` it unless they are meant to, or give it to group root",
        excerpt: None,
    }
}

fn unreadable(error: &io::Error) -> Reason {
    Reason {
        code: "unreadable-file",
        message: format!("the file cannot be read: {error}"),
        label: "expected a readable file".to_owned(),
        help: "make it readable for the user that bridgeward runs as, or remove it",
        excerpt: None,
    }
}

fn too_large() -> Reason {
    Reason {
        code: "file-too-large",
        message: format!("the file is larger than {} MiB", FILE_LIMIT >> 20),
        label: "expected one definition, a few kilobytes".to_owned(),
        help: "put each definition into a file of its own",
        excerpt: None,
    }
}

fn utf16() -> Reason {
    Reason {
        code: "utf-16-file",
        message: "the file is in UTF-16".to_owned(),
        label: "expected UTF-8".to_owned(),
        help: "save it as UTF-8, for example with `iconv -f UTF-16 -t UTF-8`",
        excerpt: None,
    }
}

fn not_utf8(bytes: &[u8], at: usize) -> Reason {
    let replacement = char::REPLACEMENT_CHARACTER.len_utf8();
    let excerpt = Excerpt {
        text: String::from_utf8_lossy(bytes).into(),
        at: u32::try_from(at).expect("a file has at most 2 MiB"),
        length: u32::try_from(replacement).expect("a character has at most 4 bytes"),
    };
    Reason {
        code: "not-utf-8",
        message: "the file is not in UTF-8".to_owned(),
        label: format!("byte 0x{:02x} cannot stand here", bytes[at]),
        help: "save it as UTF-8, for example with `iconv -f ISO-8859-1 -t UTF-8`",
        excerpt: Some(excerpt),
    }
}

impl Reason {
    /// The fault of the file at `path`.
    pub(super) fn at(self, path: Arc<str>) -> Fault {
        Fault { path, code: self.code, message: self.message, label: self.label, help: self.help, excerpt: self.excerpt }
    }
}
