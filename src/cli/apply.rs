//! `apply`: one pass, here or by the running daemon.

use super::Exit;
use super::options::{Apply, Diff, Format};
use super::progress;
use super::settings::{Settings, block_on};
use crate::daemon::ask;
use crate::daemon::control::Question;
use crate::reconcile::park::LOOK_AGAIN;

pub fn apply(settings: &Settings, options: &Apply) -> anyhow::Result<Exit> {
    if options.dry_run {
        return super::diff::diff(settings, &Diff { format: Format::Text, stat: false, observed: Vec::new() });
    }
    let store = settings.store()?;
    if store.daemon()?.is_some() {
        return ask(settings, store.path());
    }
    block_on(async {
        let computed = settings.compute(&settings.config.state).await?;
        settings.show(&computed);
        let mut reconciler = settings.reconciler().await?;
        let step = progress::step("comparing with the kernel and writing what differs");
        let mut report = reconciler.pass(&computed).await?;
        while !report.parked.is_empty() {
            // A libvirtd is writing these guests: it is given the time that it gets, which the reconciler bounds.
            tokio::time::sleep(LOOK_AGAIN).await;
            let next = reconciler.pass(&computed).await?;
            report = report.then(next);
        }
        drop(step);
        report.warnings.iter().for_each(|warning| settings.output.message(&format!("warning: {warning}")));
        report.remarks.iter().for_each(|remark| settings.output.message(&format!("note: {}", remark.message)));
        settings.output.data(&report.text())?;
        Ok(if report.is_clean() && !computed.has_errors() { Exit::Done } else { Exit::Attention })
    })
}

fn ask(settings: &Settings, directory: &std::path::Path) -> anyhow::Result<Exit> {
    let step = progress::step("the daemon makes a pass");
    let answer = ask::apply(directory, &Question::apply(&settings.config.state, settings.config.quirks, settings.config.layout))?;
    drop(step);
    if !answer.messages.is_empty() {
        settings.output.message(answer.messages.trim_end());
    }
    settings.output.data(&answer.data)?;
    Ok(match answer.exit {
        0 => Exit::Done,
        1 => Exit::Attention,
        _ => Exit::Trouble,
    })
}
