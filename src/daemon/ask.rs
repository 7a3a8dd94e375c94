//! The other end of the daemon's sockets: how a command asks the running daemon.
//!
//! Blocking, one question a connection. Which socket a question goes to follows from who may ask it; see [`super::control`].

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::control::{Answer, PRIVATE, PUBLIC, Question, VERSION};
use super::status::{self, Status};
use crate::backend::namespace::NamespaceId;
use crate::store::Store;

/// How long a daemon may have its lock before it listens.
const LONGEST_BIRTH: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The running daemon of the namespace whose record this is, to be asked; `None` where there is none.
///
/// One that starts listens a moment after it has its lock; of one that was killed while it started a tool, the tool's process may hold the lock for a moment.
/// Blocking.
///
/// # Errors
/// When there is one and it does not listen.
pub fn daemon(store: &Store) -> anyhow::Result<Option<UnixStream>> {
    let path = store.path().join(PRIVATE);
    let started = Instant::now();
    while store.daemon()?.is_some() {
        match UnixStream::connect(&path) {
            Ok(stream) => return Ok(Some(stream)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) && started.elapsed() < LONGEST_BIRTH =>
            {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(error) => return Err(error).with_context(|| format!("the daemon does not answer on {}", path.display())),
        }
    }
    Ok(None)
}

/// Has the daemon do a pass; waits for the end of it.
///
/// # Errors
/// When the answer is not one.
pub fn apply(daemon: UnixStream, question: &Question) -> anyhow::Result<Answer> {
    let line = Lines::of(daemon, question)?.next().context("the daemon stopped before it answered")??;
    let answer: Answer = serde_json::from_str(&line).context("the daemon's answer is not one")?;
    if answer.v != VERSION {
        bail!("the running daemon speaks version {} of the control protocol, this program version {VERSION}: restart it", answer.v);
    }
    Ok(answer)
}

/// What the daemon of this namespace knows: once, or again whenever it changes, until the daemon ends.
#[derive(Debug)]
pub struct Statuses {
    lines: Lines,
    namespace: NamespaceId,
}

/// How often a daemon is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// Once.
    Now,
    /// Now and whenever it changes.
    Always,
}

impl Statuses {
    /// Connects to the daemon of `namespace`: as root at its own socket, else at the one that a group may use.
    ///
    /// # Errors
    /// When no daemon answers there, and what could be done about it.
    pub fn ask(run_dir: &Path, namespace: &NamespaceId, telling: Telling) -> anyhow::Result<Self> {
        let own = run_dir.join(namespace.as_str()).join(PRIVATE);
        let public = run_dir.join(PUBLIC);
        let stream = match UnixStream::connect(&own) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                UnixStream::connect(&public).map_err(|error| match error.kind() {
                    ErrorKind::PermissionDenied => anyhow::anyhow!(
                        "you may not ask the daemon at {}: be root, or of the group that `socket_group` in the configuration names",
                        public.display()
                    ),
                    _ => nobody(run_dir),
                })?
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Err(nobody(run_dir)),
            Err(error) => return Err(error).with_context(|| format!("cannot ask the daemon at {}", own.display())),
        };
        let question = match telling {
            Telling::Now => Question::Status { v: VERSION },
            Telling::Always => Question::Watch { v: VERSION },
        };
        Ok(Self { lines: Lines::of(stream, &question)?, namespace: namespace.clone() })
    }

    fn read(&self, line: &str) -> anyhow::Result<Status> {
        let known = serde_json::from_str(line).ok().filter(|status: &Status| status.v == status::VERSION);
        let status = known.context("the running daemon is of another version than this program: restart it")?;
        if status.daemon.namespace != self.namespace.as_str() {
            bail!(
                "the daemon that answers keeps another network namespace ({}); the one of this namespace, if there is one, answers root only",
                status.daemon.namespace
            );
        }
        Ok(status)
    }
}

impl Iterator for Statuses {
    type Item = anyhow::Result<Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        Some(line.and_then(|line| self.read(&line)))
    }
}

fn nobody(run_dir: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "no daemon keeps this network namespace (nobody answers in {}): start it with `systemctl start bridgeward`, or `bridgeward run`",
        run_dir.display()
    )
}

/// The lines of an answer.
#[derive(Debug)]
struct Lines(BufReader<UnixStream>);

impl Lines {
    fn of(mut stream: UnixStream, question: &Question) -> anyhow::Result<Self> {
        let mut text = serde_json::to_string(question)?;
        text.push('\n');
        stream.write_all(text.as_bytes())?;
        Ok(Self(BufReader::new(stream)))
    }

    fn next(&mut self) -> Option<anyhow::Result<String>> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error.into())),
        }
    }
}
