//! The daemon's sockets: `apply` asks it for a pass, so that two processes never pull the rules to different states, and `status` what it knows.
//!
//! One protocol, JSON lines, versioned. It is spoken at two places. `control.sock` lies in the record's directory of each network namespace (mode 0700), so only
//! root reaches it. `bridgeward.sock` lies in the run directory itself, mode 0660, for root and one group; a peer that is not root, which the kernel tells
//! (`SO_PEERCRED`), may ask for the status and for nothing else. There is one such place and there may be a daemon in each of several namespaces: it belongs to
//! the one that came first, for as long as that lives.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::unistd::Group;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::status::Status;
use crate::compile::Layout;
use crate::config::name::{LayoutName, QuirksName};
use crate::diagnostic::{self, Severity, Style};
use crate::load;
use crate::model::Quirks;
use crate::reconcile::Failure;
use crate::reconcile::compute::Computed;
use crate::reconcile::report::Report;
use crate::store::{Store, plan_file};

/// In the record's directory.
pub(super) const PRIVATE: &str = "control.sock";
/// In the run directory.
pub(super) const PUBLIC: &str = "bridgeward.sock";
pub(super) const VERSION: u32 = 1;
/// Longest question: a plan, every line break and quote of it escaped once more.
const LONGEST: u64 = 2 * plan_file::LIMIT;
/// How long whoever connects may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many talk to one socket at the same time; more wait to be accepted.
const MOST_AT_ONCE: usize = 32;

/// What can be asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Do a pass now, if this is the state you keep. Answered by an [`Answer`].
    Apply {
        /// Protocol version.
        v: u32,
        /// The state that `apply` was told to apply, as absolute paths.
        state: Vec<PathBuf>,
        /// The quirks that it was told to use.
        quirks: QuirksName,
        /// The layout that it was told to use.
        layout: LayoutName,
        /// Put the new rules on trial for so long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm: Option<Duration>,
    },
    /// Carry out this plan, or nothing.
    CarryOut {
        /// Protocol version.
        v: u32,
        /// The text of the plan file.
        plan: String,
        /// Put the new rules on trial for so long.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm: Option<Duration>,
    },
    /// Keep the rules on trial.
    Confirm {
        /// Protocol version.
        v: u32,
    },
    /// What do you know? Answered by a [`Status`].
    Status {
        /// Protocol version.
        v: u32,
    },
    /// What do you know, now and whenever it changes? Answered by one [`Status`] after another, each on a line.
    Watch {
        /// Protocol version.
        v: u32,
    },
    /// Drop the addresses that were learned for this guest.
    Forget {
        /// Protocol version.
        v: u32,
        /// The guest's host-side device.
        device: String,
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

/// A question that waits for its answer by the daemon's loop.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub question: Question,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// Where questions go: to the daemon's loop, or to what it published last.
#[derive(Debug, Clone)]
pub struct Desk {
    /// To the loop.
    pub asks: mpsc::Sender<Ask>,
    /// What it published.
    pub status: watch::Receiver<Arc<Status>>,
}

/// A listening socket; it is closed and removed when dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
    /// Held while a public socket is ours.
    _claim: Option<File>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        // A socket that is left behind is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The sockets of one daemon; closed and removed when dropped.
#[derive(Debug)]
pub struct Sockets {
    _private: Socket,
    _public: Option<Socket>,
}

impl Sockets {
    /// Listens at both places. Call it only while holding the daemon's lock. Without the public one, which is said in the log, everything else goes on.
    ///
    /// # Errors
    /// When the private socket cannot be made.
    pub fn open(store: &Store, group: Option<&str>, desk: &Desk) -> anyhow::Result<Self> {
        let private = listen(store.path(), desk.clone())?;
        let public = listen_publicly(store.run_dir(), group, desk.clone()).unwrap_or_else(|error| {
            tracing::error!("only root can ask for the status: {error:#}");
            None
        });
        Ok(Self { _private: private, _public: public })
    }
}

/// Listens in the record's directory.
fn listen(directory: &Path, desk: Desk) -> anyhow::Result<Socket> {
    let path = directory.join(PRIVATE);
    // Whoever holds the lock is the only daemon: a socket that is there belongs to a dead one.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
    Ok(Socket { path, task: tokio::spawn(accept(listener, desk)), _claim: None })
}

/// Listens in the run directory for root and, if one is named, for a group; `None` when a daemon of another namespace does.
fn listen_publicly(run_dir: &Path, group: Option<&str>, desk: Desk) -> anyhow::Result<Option<Socket>> {
    let claim = File::open(run_dir).with_context(|| format!("cannot open {}", run_dir.display()))?;
    // A lock on the directory itself: it needs no file, and ends with its holder.
    match claim.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            tracing::info!("the daemon of another network namespace has {PUBLIC}: here, root may ask for the status");
            return Ok(None);
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", run_dir.display())),
    }
    let path = run_dir.join(PUBLIC);
    // Made under another name, so that nobody can connect before it is decided who may.
    let temporary = run_dir.join(format!("{PUBLIC}.new"));
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary).with_context(|| format!("cannot listen on {}", path.display()))?;
    let open = || {
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o660))?;
        if let Some(name) = group {
            let group = Group::from_name(name)?.with_context(|| format!("there is no group `{name}` (`socket_group`)"))?;
            chown(&temporary, None, Some(group.gid.as_raw()))
                .with_context(|| format!("the socket cannot be given to group `{name}`: let the unit have `SupplementaryGroups={name}`"))?;
        }
        std::fs::rename(&temporary, &path).with_context(|| format!("cannot listen on {}", path.display()))
    };
    if let Err(error) = open() {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(Some(Socket { path, task: tokio::spawn(accept(listener, desk)), _claim: Some(claim) }))
}

async fn accept(listener: UnixListener, desk: Desk) {
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: at once it would be the same.
                tracing::debug!(%error, "a question could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let desk = desk.clone();
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = converse(stream, desk).await {
                tracing::debug!("a question came to nothing: {error:#}");
            }
        });
    }
}

async fn converse(stream: UnixStream, mut desk: Desk) -> anyhow::Result<()> {
    let peer = stream.peer_cred().context("who asks is not known")?.uid();
    let is_root = peer == 0 || peer == rustix::process::geteuid().as_raw();
    let (read, mut write) = stream.into_split();
    let mut read = tokio::io::BufReader::new(read.take(LONGEST));
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, read.read_line(&mut line)).await.context("nothing was asked")??;
    let question: Question = match serde_json::from_str(&line) {
        Ok(question) => question,
        Err(error) => return say(&mut write, &Answer::refused(&format!("not a question: {error}"))).await,
    };
    if question.version() != VERSION {
        let reason = format!("this daemon speaks version {VERSION} of the protocol, not {}", question.version());
        return say(&mut write, &Answer::refused(&reason)).await;
    }
    match question {
        Question::Status { .. } => {
            let status = Arc::clone(&desk.status.borrow());
            say(&mut write, &*status).await
        }
        Question::Watch { .. } => loop {
            let status = Arc::clone(&desk.status.borrow_and_update());
            say(&mut write, &*status).await?;
            let mut rest = [0; 64];
            tokio::select! {
                changed = desk.status.changed() => changed.context("the daemon stops")?,
                // Nothing more is asked: this is the end of whoever watches.
                _ = read.read(&mut rest) => return Ok(()),
            }
        },
        Question::Apply { .. } | Question::CarryOut { .. } | Question::Confirm { .. } | Question::Forget { .. } if !is_root => {
            say(&mut write, &Answer::refused("only root may have rules changed")).await
        }
        Question::Apply { .. } | Question::CarryOut { .. } | Question::Confirm { .. } | Question::Forget { .. } => {
            let (reply, answer) = oneshot::channel();
            desk.asks.send(Ask { question, reply }).await.context("the daemon stops")?;
            say(&mut write, &answer.await.context("the daemon stops")?).await
        }
    }
}

async fn say(write: &mut (impl AsyncWrite + Unpin), what: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(what)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    Ok(())
}

impl Question {
    /// The version of the protocol that it is asked in.
    fn version(&self) -> u32 {
        let (Self::Apply { v, .. }
        | Self::CarryOut { v, .. }
        | Self::Confirm { v }
        | Self::Forget { v, .. }
        | Self::Status { v }
        | Self::Watch { v }) = self;
        *v
    }

    /// A pass over this state.
    pub fn apply(state: &[PathBuf], quirks: Quirks, layout: Layout, confirm: Option<Duration>) -> Self {
        Self::Apply { v: VERSION, state: load::absolute(state), quirks: quirks.into(), layout: layout.into(), confirm }
    }

    /// The plan in a file of this text.
    pub fn carry_out(plan: String, confirm: Option<Duration>) -> Self {
        Self::CarryOut { v: VERSION, plan, confirm }
    }

    /// What is on trial is to stay.
    pub fn confirm() -> Self {
        Self::Confirm { v: VERSION }
    }

    /// Forgetting what was learned for the guest with this device.
    pub fn forget(device: &str) -> Self {
        Self::Forget { v: VERSION, device: device.to_owned() }
    }
}

/// What there is to say where nothing can be forgotten.
pub fn nothing_learned(device: &str) -> String {
    format!("nothing is learned for an interface `{device}`; `bridgeward interface list` shows those that there are")
}

/// What there is to say of addresses that were forgotten.
pub fn forgotten(device: &str, addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    match &addresses[..] {
        [] => format!("{device}: no address was known\n"),
        _ => format!("{device}: forgot {}\n", addresses.join(", ")),
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
                let unmet = report.prerequisites.iter().map(|finding| format!("prerequisite: {}\n", finding.line()));
                let messages = messages + &unmet.collect::<String>();
                let exit = u8::from(!report.is_done() || computed.has_errors());
                Self { v: VERSION, exit, data: report.text(), messages }
            }
        }
    }

    /// An answer in these words.
    pub fn said(exit: u8, data: &str, messages: &str) -> Self {
        Self { v: VERSION, exit, data: data.to_owned(), messages: messages.to_owned() }
    }

    /// No pass was made.
    pub fn refused(reason: &str) -> Self {
        Self { v: VERSION, exit: 2, data: String::new(), messages: format!("error: {reason}\n") }
    }
}
