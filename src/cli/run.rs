//! `run`: the daemon, with its log and its lock.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::options::{Global, Run};
use super::settings::{Settings, block_on};
use super::{Exit, log};
use crate::backend::namespace;
use crate::daemon::lessons::Lessons;
use crate::daemon::{self, Daemon, Fixed, Orders};
use crate::load;
use crate::output::Output;
use crate::store::learned::LearnedStore;

pub fn run(global: &Global, output: Output, options: &Run) -> anyhow::Result<Exit> {
    let settings = Settings::of(global, output)?;
    log::start(options.log_format.unwrap_or(settings.config.log), global.verbose, output)?;
    let reread = || Settings::of(global, output).map(|settings| orders(&settings, options));
    allow_descriptors();
    share_one_heap();
    block_on(async {
        let hangups = daemon::hangups()?;
        let reconciler = settings.reconciler().await?;
        let _lock = reconciler.store().lock_as_daemon()?;
        let orders = orders(&settings, options);
        let lessons = Lessons::open(learned_store(&settings), orders.quirks);
        Daemon::new(reconciler, lessons, orders)?.run(hangups, reread).await?;
        Ok(Exit::Done)
    })
}

/// Where learned addresses are kept; without it they are learned anew at every start.
fn learned_store(settings: &Settings) -> Option<LearnedStore> {
    let identity = namespace::identity().inspect_err(|failure| tracing::error!("{failure}")).ok()?;
    let store = LearnedStore::open(&settings.config.learned_dir, identity);
    store.inspect_err(|failure| tracing::error!("learned addresses will not survive a restart: {failure}")).ok()
}

/// A guest whose address is being learned takes a descriptor, and a process may have 1,024 unless it asks for more.
fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the number of descriptors stays limited: about a thousand guests can learn at once");
    }
}

/// glibc gives each thread a heap of its own and keeps what was freed in it. A pass walks from thread to thread and leaves holes the size of a rule set
/// behind in each; in one heap the next pass fills them. At 3,000 guests that was a quarter of the daemon's memory.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "there is no safe way to say it; see the argument inside")]
fn share_one_heap() {
    // SAFETY: it takes no pointers and sets one number of the allocator under the allocator's own lock.
    let taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    if taken != 1 {
        tracing::warn!("memory stays divided into a heap for each thread: with thousands of guests the daemon takes more of it");
    }
}

/// Other C libraries have one heap as it is.
#[cfg(not(target_env = "gnu"))]
fn share_one_heap() {}

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
        manage_sysctls: config.manage_sysctls,
        poll: options.poll.unwrap_or(config.poll),
        settle: config.settle,
        socket_group: config.socket_group.clone(),
        metrics: config.metrics.clone(),
        fixed: Fixed { run_dir: config.run_dir.clone(), tools: config.tools.clone(), log: options.log_format.unwrap_or(config.log) },
    }
}
