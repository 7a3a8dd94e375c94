//! `apply`: one pass, here or by the running daemon; a plan that somebody looked at; rules on trial.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::Exit;
use super::options::{Apply, Diff, Format};
use super::progress;
use super::settings::{Settings, block_on};
use crate::daemon::ask;
use crate::daemon::control::{Answer, Question};
use crate::load;
use crate::plan::sealed::PlanFile;
use crate::reconcile::compute::Computed;
use crate::reconcile::park::LOOK_AGAIN;
use crate::reconcile::report::Report;
use crate::reconcile::trial::Urge;
use crate::store::plan_file;

pub fn apply(settings: &Settings, options: &Apply) -> anyhow::Result<Exit> {
    if options.dry_run {
        return super::diff::diff(settings, &Diff { format: Format::Text, stat: false, observed: Vec::new(), out: None });
    }
    let plan = options.plan.as_deref().map(read_plan).transpose()?;
    let store = settings.store()?;
    if let Some(daemon) = ask::daemon(&store)? {
        return ask(settings, daemon, plan, options.confirm);
    }
    let urge = options.confirm.map_or(Urge::Apply, Urge::Try);
    match plan {
        Some((file, _)) => carry_out(settings, &file, urge),
        None => pass(settings, urge),
    }
}

fn pass(settings: &Settings, urge: Urge) -> anyhow::Result<Exit> {
    block_on(async {
        let (computed, reconciler) = settings.compute_and_look(&settings.config.state).await?;
        settings.show(&computed);
        settings.show_empty(&computed, &settings.config.state);
        let step = progress::step("comparing with the kernel and writing what differs");
        let mut reconciler = reconciler.await?;
        let mut report = reconciler.urged(&computed, urge).await?;
        while !report.parked.is_empty() {
            // A libvirtd is writing these guests: it is given the time that it gets, which the reconciler bounds.
            tokio::time::sleep(LOOK_AGAIN).await;
            let next = reconciler.pass(&computed).await?;
            report = report.then(next);
        }
        drop(step);
        tell(settings, &computed, &report)
    })
}

fn carry_out(settings: &Settings, file: &PlanFile, urge: Urge) -> anyhow::Result<Exit> {
    block_on(async {
        let (computed, reconciler) = settings.compute_and_look(&load::absolute(&settings.config.state)).await?;
        settings.show(&computed);
        let report = reconciler.await?.carry_out(file, &computed, settings.terms(), urge).await?;
        tell(settings, &computed, &report)
    })
}

fn tell(settings: &Settings, computed: &Computed, report: &Report) -> anyhow::Result<Exit> {
    report.warnings.iter().for_each(|warning| settings.output.message(&format!("warning: {warning}")));
    report.remarks.iter().for_each(|remark| settings.output.message(&format!("note: {}", remark.message)));
    settings.show_prerequisites(report);
    settings.output.text(&report.text())?;
    Ok(if report.is_done() && !computed.has_errors() { Exit::Done } else { Exit::Attention })
}

/// The plan, and its text for the daemon.
fn read_plan(path: &Path) -> anyhow::Result<(PlanFile, String)> {
    let text = plan_file::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = PlanFile::read(&text).with_context(|| format!("{} cannot be used", path.display()))?;
    Ok((file, text))
}

fn ask(settings: &Settings, daemon: UnixStream, plan: Option<(PlanFile, String)>, confirm: Option<Duration>) -> anyhow::Result<Exit> {
    let question = match plan {
        Some((_, text)) => Question::carry_out(text, confirm),
        None => Question::apply(&settings.config.state, settings.config.quirks, settings.config.layout, confirm),
    };
    let step = progress::step("the daemon makes a pass");
    let answer = ask::apply(daemon, &question);
    drop(step);
    if confirm.is_some() {
        // The daemon's own guard may die with the daemon's service; one of ours does not.
        block_on(async { settings.guard().start().await.context("cannot start a second guard of the rules on trial") })?;
    }
    relay(settings, &answer?)
}

/// Says what the daemon answered, and ends as it says.
pub fn relay(settings: &Settings, answer: &Answer) -> anyhow::Result<Exit> {
    if !answer.messages.is_empty() {
        settings.output.message(answer.messages.trim_end());
    }
    settings.output.text(&answer.data)?;
    Ok(match answer.exit {
        0 => Exit::Done,
        1 => Exit::Attention,
        _ => Exit::Trouble,
    })
}
