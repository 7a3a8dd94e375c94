//! `run`: the daemon, with its log and its lock.

use super::options::{Global, Run};
use super::settings::{Settings, block_on};
use super::{Exit, log};
use crate::daemon::{Daemon, Fixed, Orders};
use crate::load;
use crate::output::Output;

pub fn run(global: &Global, output: Output, options: &Run) -> anyhow::Result<Exit> {
    let settings = Settings::of(global, output)?;
    log::start(options.log_format.unwrap_or(settings.config.log), global.verbose, output)?;
    let reread = || Settings::of(global, output).map(|settings| orders(&settings, options));
    block_on(async {
        let reconciler = settings.reconciler().await?;
        let _lock = reconciler.store().lock_as_daemon()?;
        Daemon::new(reconciler, orders(&settings, options))?.run(reread).await?;
        Ok(Exit::Done)
    })
}

fn orders(settings: &Settings, options: &Run) -> Orders {
    let config = &settings.config;
    Orders {
        // Whatever directory somebody runs `apply --plan` in, it means the same files.
        state: load::absolute(&config.state),
        quirks: config.quirks,
        strict: config.strict,
        mode: options.mode.unwrap_or(config.mode),
        plan_file: config.plan_file.clone(),
        scope: config.scope,
        hooks: config.hooks,
        layout: config.layout,
        poll: options.poll.unwrap_or(config.poll),
        settle: config.settle,
        socket_group: config.socket_group.clone(),
        metrics: config.metrics.clone(),
        fixed: Fixed { run_dir: config.run_dir.clone(), tools: config.tools.clone(), log: options.log_format.unwrap_or(config.log) },
    }
}
