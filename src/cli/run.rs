//! `run`: the daemon, with its log and its lock.

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::Exit;
use super::options::{Global, Run};
use super::settings::{Settings, block_on};
use crate::daemon::{Daemon, Orders};
use crate::diagnostic::Style;
use crate::output::Output;

pub fn run(global: &Global, output: Output, options: &Run) -> anyhow::Result<Exit> {
    log(global, output)?;
    let settings = Settings::of(global, output)?;
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
        state: config.state.clone(),
        quirks: config.quirks,
        strict: config.strict,
        scope: config.scope,
        hooks: config.hooks,
        layout: config.layout,
        poll: options.poll.unwrap_or(config.poll),
        settle: config.settle,
    }
}

/// `-v` shows what is done step by step; `RUST_LOG` has the last word.
fn log(global: &Global, output: Output) -> anyhow::Result<()> {
    let level = match global.verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env().context("RUST_LOG")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(output.messages == Style::Colored)
        .with_target(false)
        .init();
    Ok(())
}
