//! `purge`: everything of ours out of the kernel.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Exit;
use super::options::Purge;
use super::settings::{Settings, block_on};
use crate::reconcile::compute::Computed;
use crate::store::Store;

/// How long a daemon may take to stop.
const STOP_WAIT: Duration = Duration::from_secs(30);

pub fn purge(settings: &Settings, options: &Purge) -> anyhow::Result<Exit> {
    let store = settings.store()?;
    if let Some(pid) = store.daemon()? {
        if !options.stop {
            bail!("bridgeward runs as process {pid} and would put everything back: stop it first, or say `purge --stop`");
        }
        stop(&store, pid)?;
    }
    block_on(async {
        // The record knows what is ours. What the state names is ours too, which counts when the record was lost.
        let computed = settings.compute(&settings.config.state).await.unwrap_or_else(|error| {
            settings.output.message(&format!("note: {error:#}; removing what the record names"));
            Computed::default()
        });
        let (report, left) = settings.reconciler().await?.purge(&computed).await?;
        settings.output.text(&report.text())?;
        report.remarks.iter().for_each(|remark| settings.output.message(&format!("note: {}", remark.message)));
        if !left.is_empty() {
            let names: Vec<String> = left.iter().map(|chain| format!("{} {} {}", chain.family, chain.table, chain.chain)).collect();
            settings.output.message(&format!("note: still in use by others, so they stay: {}", names.join(", ")));
        }
        Ok(if report.is_done() { Exit::Done } else { Exit::Attention })
    })
}

fn stop(store: &Store, pid: u32) -> anyhow::Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("the daemon's process id is not one")?;
    kill_process(process, Signal::TERM).with_context(|| format!("cannot stop process {pid}"))?;
    let started = Instant::now();
    while store.daemon()?.is_some() {
        if started.elapsed() > STOP_WAIT {
            bail!("process {pid} did not stop within {STOP_WAIT:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
