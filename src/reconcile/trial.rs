//! Rules on trial: applied now, taken back unless somebody confirms in time, and then not applied again unasked.
//!
//! Everything follows from one file ([`crate::store::trial`]), which every pass of every bridgeward reads with the lock held; so it does not matter who
//! takes rules back: the daemon, the guard (a process that does nothing else, see [`Guard`]), or, if both were killed, whoever starts next.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use super::compute::Computed;
use super::knowledge::Look;
use super::report::{Report, TrialState};
use super::{Failure, Pass, Reconciler, memory};
use crate::backend::Kernel;
use crate::compile::{Compiled, ObjectRules};
use crate::model::Object;
use crate::plan::earlier;
use crate::plan::sealed;
use crate::store::trial::{Trial, since_boot};
use crate::store::{RecordedObject, Stored};

/// Why a pass is made, as far as rules on trial care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urge {
    /// To keep things as they are meant to be: never against a trial.
    Keep,
    /// Somebody said so.
    Apply,
    /// Somebody said so, and wants it undone after this time unless they say so again.
    Try(Duration),
}

/// What became of a confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The rules stay.
    Confirmed,
    /// They were taken back so long ago.
    TooLate(Duration),
    /// Nothing was on trial.
    Nothing,
}

/// What a guard prints once it watches.
pub const ON_GUARD: &[u8; 9] = b"on guard\n";

/// How long a guard may take until then; it opens one file.
const GUARD_WAIT: Duration = Duration::from_secs(10);

/// How to start the process that takes rules back if nobody confirms and whoever put them on trial is dead: this program, with these arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard(pub Vec<OsString>);

impl Guard {
    /// Starts it, apart from our terminal, and waits for its word that it watches; its end is nobody's to wait for.
    ///
    /// # Errors
    /// When it cannot be started, or ends or hangs before it watches: then nothing may be put on trial.
    pub async fn start(&self) -> io::Result<()> {
        // Not the path that we were started by: an upgrade may have replaced it meanwhile.
        let mut guard = tokio::process::Command::new("/proc/self/exe")
            .args(&self.0)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut said = guard.stdout.take().expect("its output was asked for");
        let mut word = [0; ON_GUARD.len()];
        match tokio::time::timeout(GUARD_WAIT, said.read_exact(&mut word)).await {
            Ok(Ok(_)) if word == *ON_GUARD => Ok(()),
            Ok(_) => Err(io::Error::other("it ended before it watched")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it does not say that it watches")),
        }
    }
}

impl<K: Kernel> Reconciler<K> {
    /// Rules on trial get this guard.
    #[must_use]
    pub fn guarded_by(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// One pass: afterwards the kernel holds what `computed` says, as far as its tools take it, unless a trial forbids that.
    ///
    /// # Errors
    /// When the host, and no object of the state, is at fault.
    pub async fn pass(&mut self, computed: &Computed) -> Result<Report, Failure> {
        self.urged(computed, Urge::Keep).await
    }

    /// Like [`Reconciler::pass`], because somebody said so.
    ///
    /// # Errors
    /// As [`Reconciler::pass`]; while other rules are on trial.
    pub async fn urged(&mut self, computed: &Computed, urge: Urge) -> Result<Report, Failure> {
        let asked = Instant::now();
        let _lock = self.lock()?;
        let lock_wait = asked.elapsed();
        let taken_back = self.settle_trial().await?;
        let trial = self.store.trial()?;
        let same_files = |trial: &Trial| trial.files == sealed::texts(&computed.sources);
        let outcome = match (&trial, urge) {
            (Some(trial), Urge::Keep) if trial.taken_back.is_some() && same_files(trial) => {
                let earlier = trial.earlier.iter().map(|(object, known)| (object.clone(), known.rules.clone()));
                self.enforce(&only(earlier.collect()), Look::Always, None).await
            }
            // Whatever the files say by now is not what is tried out.
            (Some(trial), Urge::Keep) if trial.taken_back.is_none() && !same_files(trial) => {
                let Stored::Found(record) = self.store.load()? else { return self.enforce(computed, Look::Always, None).await };
                self.enforce(&only(memory::installed(&record).objects), Look::Always, None).await
            }
            (Some(trial), Urge::Keep) if trial.taken_back.is_none() => self.enforce(computed, Look::Always, None).await,
            (_, urge) => {
                self.clear_way().await?;
                let (look, within) = match urge {
                    Urge::Keep => (Look::UnlessKnown, None),
                    Urge::Apply => (Look::Always, None),
                    Urge::Try(within) => (Look::Always, Some(within)),
                };
                self.enforce(computed, look, within).await
            }
        };
        let mut report = outcome?;
        report.trial = self.trial_state()?;
        report.lock_wait = lock_wait;
        Ok(match taken_back {
            Some(before) => before.then(report),
            None => report,
        })
    }

    /// Takes back what nobody confirmed in time; `None` when there is nothing of the kind.
    ///
    /// # Errors
    /// As [`Reconciler::pass`].
    pub async fn take_back_if_due(&mut self) -> Result<Option<Report>, Failure> {
        let _lock = self.lock()?;
        self.settle_trial().await
    }

    /// Keeps the rules on trial.
    ///
    /// # Errors
    /// When the trial cannot be read or ended; when it is too late and the rules cannot be taken back.
    pub async fn confirm(&mut self) -> Result<Confirmation, Failure> {
        let _lock = self.lock()?;
        self.settle_trial().await?;
        let Some(trial) = self.store.trial()? else { return Ok(Confirmation::Nothing) };
        if let Some(taken_back) = trial.taken_back {
            return Ok(Confirmation::TooLate(since_boot().saturating_sub(taken_back)));
        }
        self.store.end_trial()?;
        Ok(Confirmation::Confirmed)
    }

    /// How things stand.
    ///
    /// # Errors
    /// When the trial cannot be read.
    pub fn trial_state(&self) -> Result<Option<TrialState>, Failure> {
        Ok(self.store.trial()?.map(|trial| match trial.taken_back {
            Some(taken_back) => TrialState::TakenBack { ago: since_boot().saturating_sub(taken_back) },
            None => TrialState::OnTrial { left: trial.left().unwrap_or_default() },
        }))
    }

    /// Makes room for what somebody wants applied: a trial under way is in its way, one that is over is forgotten.
    pub(super) async fn clear_way(&mut self) -> Result<(), Failure> {
        self.settle_trial().await?;
        if let Some(left) = self.store.trial()?.and_then(|trial| trial.left()) {
            return Err(Failure::OnTrial(left));
        }
        Ok(self.store.end_trial()?)
    }

    /// Writes down what lives now, and lets somebody watch over it, before the first rule of a trial changes.
    pub(super) async fn begin_trial(&self, pass: &mut Pass<'_>) -> Result<(), Failure> {
        let Some(within) = pass.within.take() else { return Ok(()) };
        let recorded = memory::installed(&pass.record).objects;
        let source = |object: &Object| pass.record.last_good(object).and_then(|known| known.source.clone());
        let earlier = earlier::earlier(&pass.desired, &pass.seen.observed, &recorded).into_iter();
        let earlier = earlier.map(|(object, rules)| (object.clone(), RecordedObject { rules, source: source(&object) })).collect();
        let files = sealed::texts(&pass.computed.sources);
        self.store.save_trial(&Trial { deadline: since_boot() + within, taken_back: None, files, earlier })?;
        if let Some(guard) = &self.guard
            && let Err(error) = guard.start().await
        {
            self.store.end_trial()?;
            return Err(Failure::Unguarded(error));
        }
        Ok(())
    }

    /// Takes back what is due. A kill in between leaves it due, and the next one does it again.
    async fn settle_trial(&mut self) -> Result<Option<Report>, Failure> {
        let Some(trial) = self.store.trial()?.filter(Trial::is_due) else { return Ok(None) };
        tracing::warn!("nobody confirmed in time: the earlier rules come back");
        let earlier = trial.earlier.iter().map(|(object, known)| (object.clone(), known.rules.clone()));
        let mut report = self.enforce(&only(earlier.collect()), Look::Always, None).await?;
        self.store.save_trial(&Trial { taken_back: Some(since_boot()), ..trial })?;
        report.trial = self.trial_state()?;
        Ok(Some(report))
    }
}

impl std::fmt::Display for Confirmation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Confirmed => f.write_str("confirmed: the rules stay"),
            Self::TooLate(ago) => {
                write!(f, "too late: the earlier rules came back {} ago; apply the new ones again to try again", seconds(*ago))
            }
            Self::Nothing => f.write_str("nothing is on trial"),
        }
    }
}

/// These rules and nothing else, as if files said so.
fn only(objects: BTreeMap<Object, Arc<ObjectRules>>) -> Computed {
    Computed { compiled: Compiled { objects, ..Compiled::default() }, ..Computed::default() }
}

/// A time in whole seconds, rounded up, as people say it.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}
