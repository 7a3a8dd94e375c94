//! Plan files on disk: written whole or not at all, read with a limit.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::directory;

/// The most bytes of a plan; one for a thousand guests is a tenth of it.
pub const LIMIT: u64 = 128 << 20;

/// Puts a plan in place of what was there.
///
/// # Errors
/// When the directory is not there or takes no file.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| io::Error::other("it does not name a file"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = openat(CWD, parent, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    directory::replace(&directory, name, text.as_bytes())
}

/// The text of a plan.
///
/// # Errors
/// When it cannot be read, is not text, or is larger than [`LIMIT`].
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", LIMIT >> 20)));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_replaces_the_one_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("plan.json");
        for text in ["one", "two"] {
            write(&path, text).expect("the directory takes files");
            assert_eq!(read(&path).expect("it is there"), text);
        }
        assert!(write(&directory.path().join("none/plan.json"), "x").is_err());
    }
}
