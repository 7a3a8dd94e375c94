//! The daemon's socket: `apply` asks it for a pass, so that two processes never pull the rules to different states.
//!
//! One JSON line each way, versioned. The socket lies in the record's directory (mode 0700), so only who may write rules reaches it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use crate::compile::Layout;
use crate::config::name::{LayoutName, QuirksName};
use crate::diagnostic::{self, Severity, Style};
use crate::load;
use crate::model::Quirks;
use crate::reconcile::Failure;
use crate::reconcile::compute::Computed;
use crate::reconcile::report::Report;

const NAME: &str = "control.sock";
const VERSION: u32 = 1;
/// Longest question; a list of paths fits many times over.
const LONGEST: u64 = 1 << 20;

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Question {
    /// Do a pass now, if this is the state you keep.
    Apply {
        /// Protocol version.
        v: u32,
        /// The state that `apply` was told to apply, as absolute paths.
        state: Vec<PathBuf>,
        /// The quirks that it was told to use.
        quirks: QuirksName,
        /// The layout that it was told to use.
        layout: LayoutName,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Protocol version.
    pub v: u32,
    /// The exit status that `apply` ends with.
    pub exit: u8,
    /// For stdout.
    pub data: String,
    /// For stderr.
    pub messages: String,
}

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub question: Question,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// The listening socket; removed when dropped.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that is left behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens in the record's directory and hands every question to the daemon's loop. Call it only while holding the daemon's lock.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(directory: &Path, asks: mpsc::Sender<Ask>) -> anyhow::Result<Socket> {
    let path = directory.join(NAME);
    // Whoever holds the lock is the only daemon: a socket that is there belongs to a dead one.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asks = asks.clone();
            tokio::spawn(async move {
                if let Err(error) = converse(stream, asks).await {
                    tracing::debug!("a question on the control socket came to nothing: {error:#}");
                }
            });
        }
    });
    Ok(Socket(path))
}

async fn converse(stream: tokio::net::UnixStream, asks: mpsc::Sender<Ask>) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let bounded = tokio::io::AsyncReadExt::take(read, LONGEST);
    tokio::io::BufReader::new(bounded).read_line(&mut line).await?;
    let question: Question = serde_json::from_str(&line).context("not a question")?;
    let (reply, answer) = oneshot::channel();
    asks.send(Ask { question, reply }).await.context("the daemon stops")?;
    let mut text = serde_json::to_string(&answer.await.context("the daemon stops")?)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    Ok(())
}

/// Asks the daemon that listens in `directory`. Blocking, until its pass is done.
///
/// # Errors
/// When nobody listens there, or the answer is not one.
pub fn ask(directory: &Path, question: &Question) -> anyhow::Result<Answer> {
    let path = directory.join(NAME);
    let mut stream = UnixStream::connect(&path).with_context(|| format!("the daemon does not answer on {}", path.display()))?;
    let mut text = serde_json::to_string(question)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Answer = serde_json::from_str(&line).context("the daemon stopped before it answered")?;
    if answer.v != VERSION {
        bail!("the running daemon speaks version {} of the control protocol, this program version {VERSION}: restart it", answer.v);
    }
    Ok(answer)
}

impl Question {
    /// A pass over this state.
    pub fn apply(state: &[PathBuf], quirks: Quirks, layout: Layout) -> Self {
        Self::Apply { v: VERSION, state: load::absolute(state), quirks: quirks.into(), layout: layout.into() }
    }
}

impl Answer {
    /// What a pass came to.
    pub fn new(unreadable: Option<String>, computed: &Computed, outcome: Result<Report, Failure>) -> Self {
        let messages: String = computed
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity <= Severity::Warning)
            .map(|diagnostic| diagnostic::render(diagnostic, &computed.sources, Style::Plain) + "\n")
            .collect();
        let trouble = |reason: String| Self { v: VERSION, exit: 2, data: String::new(), messages: format!("{messages}error: {reason}\n") };
        match (unreadable, outcome) {
            (Some(reason), _) => trouble(reason),
            (None, Err(failure)) => trouble(failure.to_string()),
            (None, Ok(report)) => {
                let exit = u8::from(!report.is_clean() || computed.has_errors());
                Self { v: VERSION, exit, data: report.text(), messages }
            }
        }
    }

    /// No pass was made.
    pub fn refused(reason: &str) -> Self {
        Self { v: VERSION, exit: 2, data: String::new(), messages: format!("error: {reason}\n") }
    }
}
