//! One run of one tool: arguments and input in; exit status and everything it printed out.
//!
//! No tool can hang us: its input is a file in memory, of which it reads as much as it likes, and a limit in time ends with the death of the tool and of
//! what it started. A file and not a pipe also because of ebtables-restore, which commits at the end of its input, `COMMIT` or not (1.8.9): were we killed
//! while we write into a pipe, it would take the half that it has for the whole.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// A tool that ran to its end, well or badly.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its process id.
    pub id: Option<u32>,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed; tools print foreign rules byte by byte, so this need not be UTF-8.
    pub output: Vec<u8>,
    /// What it complained about, trimmed.
    pub words: String,
}

/// A tool that did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunFailure {
    /// It could not be started, or its pipes broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took too long and was killed.
    #[error("no answer after {} s; `time_limit` in the configuration allows a slow host more", .0.as_secs())]
    TimedOut(Duration),
}

/// Runs `program` to its end, at most for `limit`.
pub(super) async fn run(program: &Path, arguments: &[&str], input: &[u8], limit: Duration) -> Result<Finished, RunFailure> {
    let mut child = Command::new(program)
        .args(arguments)
        // The messages are read by `super::refusal`, which knows them in English.
        .env("LC_ALL", "C")
        .stdin(file_of(input)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group: a Ctrl-C on our terminal must not tear a commit, and `ebtables-legacy-save` is a script with children.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    if let Ok(finished) = tokio::time::timeout(limit, listen(&mut child)).await {
        return Ok(finished?);
    }
    kill(&child);
    Err(RunFailure::TimedOut(limit))
}

/// The file that the shell would run for `command`: itself if it is a path, else the first executable of that name in `PATH`.
pub(super) fn find_program(command: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(is_program);
    }
    let path = std::env::var_os("PATH")?;
    // An entry that depends on where we were started would let that directory's owner be root.
    std::env::split_paths(&path).filter(|directory| directory.is_absolute()).map(|directory| directory.join(command)).find(is_program)
}

/// A file without a name that holds the whole input, read from its start.
fn file_of(input: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("bridgeward-input", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file.into())
}

async fn listen(child: &mut Child) -> io::Result<Finished> {
    let id = child.id();
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let (mut output, mut words) = (Vec::new(), Vec::new());
    tokio::try_join!(stdout.read_to_end(&mut output), stderr.read_to_end(&mut words))?;
    let status = child.wait().await?;
    Ok(Finished { id, status, output, words: String::from_utf8_lossy(&words).trim().to_owned() })
}

/// Kills the tool and what it started. Not waited for: a process stuck inside the kernel would take us with it; the runtime reaps it.
fn kill(child: &Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        // Fails only when the group is gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    fn shell(script: &str, input: &[u8], limit: Duration) -> Result<Finished, RunFailure> {
        block_on(run(Path::new("/bin/sh"), &["-c", script], input, limit))
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn input_larger_than_a_pipe_comes_back_whole() {
        let input = vec![b'x'; 3 << 20];
        assert_eq!(shell("cat", &input, LONG).expect("cat runs").output, input);
    }

    #[test]
    fn a_tool_that_reads_nothing_is_judged_by_its_status_and_words() {
        let finished = shell("echo no >&2; exit 4", &vec![b'x'; 3 << 20], LONG).expect("it runs");
        assert_eq!((finished.status.code(), finished.words.as_str()), (Some(4), "no"));
    }

    #[test]
    fn a_tool_that_hangs_is_killed_with_its_children() {
        let marker = tempfile::tempdir().expect("a directory");
        let file = marker.path().join("late");
        let script = format!("(sleep 1; touch {}) & wait", file.display());
        let failure = shell(&script, b"", Duration::from_millis(200)).expect_err("it hangs");
        assert!(matches!(failure, RunFailure::TimedOut(_)), "{failure}");
        std::thread::sleep(Duration::from_millis(1300));
        assert!(!file.exists(), "the child of the killed tool went on");
    }

    #[test]
    fn messages_are_asked_for_in_english() {
        assert_eq!(shell("printf %s \"$LC_ALL\"", b"", LONG).expect("it runs").output, b"C");
    }

    #[test]
    fn a_program_is_found_by_name_or_by_path_and_must_be_executable() {
        assert!(find_program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find_program("/bin/sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(find_program("/etc/passwd"), None);
        assert_eq!(find_program("no-such-tool-anywhere"), None);
    }
}
