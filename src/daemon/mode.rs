//! What a pass of the daemon may do: enforce, or only look and say, or write what it would do on paper; and what somebody told it to do, which it does in
//! every mode.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use super::control::Answer;
use super::journal::Cause;
use crate::backend::Kernel;
use crate::config::name::Mode;
use crate::plan::sealed::PlanFile;
use crate::reconcile::Failure;
use crate::reconcile::compute::Reading;
use crate::reconcile::look::{Preview, Terms, now};
use crate::reconcile::report::{Report, TrialState};
use crate::reconcile::trial::{Confirmation, Urge};
use crate::store::plan_file;

/// What a pass is to do.
#[derive(Debug)]
pub(super) enum Task {
    /// What the mode says.
    Keep,
    /// `apply` was run.
    Apply(Urge),
    /// `apply --plan` was run.
    CarryOut(Box<PlanFile>, Urge),
}

/// What the daemon remembers of trials and plans.
#[derive(Debug, Default)]
pub(super) struct Paperwork {
    /// When rules on trial are taken back.
    pub due: Option<Instant>,
    /// The plan that was written last, and where.
    written: Option<(PathBuf, PlanFile)>,
}

/// As a question or an answer on the control socket carries it.
pub(super) fn urge(confirm: Option<Duration>) -> Urge {
    confirm.map_or(Urge::Apply, Urge::Try)
}

impl<K: Kernel> Daemon<K> {
    /// Does it, with what was read last; `unreadable` says why that is not what the files say now.
    pub(super) async fn execute(&mut self, task: Task, unreadable: Option<&String>) -> Result<Report, Failure> {
        // What is on paper is overtaken by what somebody says: the next poll looks, whatever is verified now.
        let overtaken = self.orders.mode == Mode::Plan && !matches!(task, Task::Keep);
        let mut outcome = self.act(task, unreadable).await;
        if let Ok(report) = &mut outcome
            && overtaken
        {
            report.generation = None;
        }
        self.note_trial(&outcome);
        outcome
    }

    async fn act(&mut self, task: Task, unreadable: Option<&String>) -> Result<Report, Failure> {
        match (task, self.orders.mode) {
            (Task::Apply(urge), _) => self.reconciler.urged(&self.computed, urge).await,
            (Task::CarryOut(..), _) if unreadable.is_some() => Err(Failure::Moved(unreadable.cloned().into_iter().collect())),
            (Task::CarryOut(file, urge), _) => {
                let terms = Terms { state: &self.orders.state, reading: self.reading() };
                self.reconciler.carry_out(&file, &self.computed, terms, urge).await
            }
            (Task::Keep, Mode::Enforce) => self.reconciler.pass(&self.computed).await,
            (Task::Keep, mode) => {
                if let Some(taken_back) = self.reconciler.take_back_if_due().await? {
                    // What this leaves is looked at in the next pass.
                    return Ok(Report { generation: None, ..taken_back });
                }
                let preview = self.reconciler.look(&self.computed).await?;
                let mut report = preview.report.clone();
                if mode == Mode::Plan
                    && let Err(reason) = self.write_plan(&preview)
                {
                    report.warnings.push(reason);
                }
                Ok(report)
            }
        }
    }

    /// Notes when rules on trial come back.
    fn note_trial(&mut self, outcome: &Result<Report, Failure>) {
        let state = match outcome {
            Ok(report) => report.trial,
            Err(_) => self.reconciler.trial_state().ok().flatten(),
        };
        self.paperwork.due = match state {
            Some(TrialState::OnTrial { left }) => Some(Instant::now() + left),
            Some(TrialState::TakenBack { .. }) | None => None,
        };
    }

    /// Keeps what is on trial.
    pub(super) async fn confirm(&mut self) -> Answer {
        match self.reconciler.confirm().await {
            Ok(Confirmation::Confirmed) => {
                tracing::info!("{}", Confirmation::Confirmed);
                // What changed in the files meanwhile was left alone.
                self.bell.notify_one();
                self.paperwork.due = None;
                Answer::said(0, &format!("{}\n", Confirmation::Confirmed), "")
            }
            Ok(other) => Answer::said(1, "", &format!("{other}\n")),
            Err(failure) => Answer::refused(&failure.to_string()),
        }
    }

    /// Carries out a plan that somebody looked at.
    pub(super) async fn carry_out(&mut self, plan: &str, confirm: Option<Duration>) -> Answer {
        match PlanFile::read(plan) {
            Ok(file) => self.pass_for(Cause::Asked, Task::CarryOut(Box::new(file), urge(confirm))).await,
            Err(reason) => Answer::refused(&reason.to_string()),
        }
    }

    pub(super) fn reading(&self) -> Reading {
        Reading { quirks: self.orders.quirks, strict: self.orders.strict, layout: self.orders.layout }
    }

    /// Writes a plan where it says something else than the one before.
    fn write_plan(&mut self, preview: &Preview) -> Result<(), String> {
        let path = self.orders.plan_file.clone().unwrap_or_else(|| self.reconciler.store().path().join("plan.json"));
        let terms = Terms { state: &self.orders.state, reading: self.reading() };
        let file = self.reconciler.seal(preview, &self.computed, terms, now());
        let known = |(before, written): &(PathBuf, PlanFile)| *before == path && written.says_the_same(&file) && path.exists();
        if self.paperwork.written.as_ref().is_some_and(known) {
            return Ok(());
        }
        self.paperwork.written = None;
        plan_file::write(&path, &file.write()).map_err(|error| format!("cannot write the plan to {}: {error}", path.display()))?;
        tracing::info!(path = %path.display(), edits = preview.plan.edits().count(), "plan written");
        self.paperwork.written = Some((path, file));
        Ok(())
    }
}
