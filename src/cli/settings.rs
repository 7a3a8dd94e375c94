//! Command line, environment, configuration file and defaults, in this order, made one; and what most commands do with them.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::options::Global;
use super::progress;
use crate::backend::probe::{self, Commands};
use crate::backend::system::System;
use crate::backend::{clock, links, namespace};
use crate::config::name::{HooksName, ScopeName};
use crate::config::{self, Config};
use crate::diagnostic::{self, Severity};
use crate::load::{self, Exposed, LoadFailure, Loaded};
use crate::model::learned::Learned;
use crate::output::Output;
use crate::reconcile::Reconciler;
use crate::reconcile::compute::{self, Computed, Documents, Reading};
use crate::reconcile::look::Terms;
use crate::reconcile::report::Report;
use crate::reconcile::trial::Guard;
use crate::resolve::Link;
use crate::source::Sources;
use crate::store::{Store, learned};

const RESOLVING: &str = "reading and resolving the state";

/// Where `make install` puts the example.
const EXAMPLE: &str = "/usr/share/doc/bridgeward/state";

/// What a command works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The configuration with the command line laid over it.
    pub config: Config,
    /// Where it says things.
    pub output: Output,
    /// The least severity of diagnostics that is shown unasked.
    pub least: Severity,
    /// What becomes of state files that strangers may write.
    exposed: Exposed,
}

impl Settings {
    /// Reads the configuration file and lays the command line over it.
    ///
    /// # Errors
    /// When the file was asked for and cannot be read, or is wrong.
    pub fn of(global: &Global, output: Output) -> anyhow::Result<Self> {
        Ok(Self::over(read_config(global.config.as_deref(), output, Exposed::Refused)?, global, output))
    }

    /// As [`Settings::of`], for a command that only prints and starts no program: what strangers may write is read, with a warning.
    ///
    /// # Errors
    /// As [`Settings::of`].
    pub fn to_show(global: &Global, output: Output) -> anyhow::Result<Self> {
        Ok(Self::over(read_config(global.config.as_deref(), output, Exposed::Told)?, global, output).showing())
    }

    /// The same for a command that starts programs: the configuration, which names them, has to be safe, and the state need not be.
    pub fn showing(self) -> Self {
        Self { exposed: Exposed::Told, ..self }
    }

    /// Lays the command line over a configuration.
    pub fn over(mut config: Config, global: &Global, output: Output) -> Self {
        if !global.state.is_empty() {
            config.state.clone_from(&global.state);
        }
        config.quirks = global.quirks.map_or(config.quirks, Into::into);
        config.scope = global.scope.map_or(config.scope, Into::into);
        config.hooks = global.hooks.map_or(config.hooks, Into::into);
        config.layout = global.layout.map_or(config.layout, Into::into);
        config.strict |= global.strict;
        if let Some(run_dir) = &global.run_dir {
            config.run_dir.clone_from(run_dir);
        }
        let least = if global.verbose > 0 { Severity::Note } else { Severity::Warning };
        Self { config, output, least, exposed: Exposed::Refused }
    }

    /// How the files are to be read.
    pub fn reading(&self) -> Reading {
        Reading { quirks: self.config.quirks, strict: self.config.strict, layout: self.config.layout }
    }

    /// Reads the state at `paths`, and the host's devices where they can be had (without them an interface without a target is matched to nothing).
    ///
    /// # Errors
    /// When a path is missing or unreadable: that is never taken for an empty state.
    pub async fn compute(&self, paths: &[PathBuf]) -> anyhow::Result<Computed> {
        let _step = progress::step(RESOLVING);
        Ok(compute::compute(&self.load_paths(paths)?, &self.links().await, &self.learned(), self.reading()))
    }

    /// Like [`Settings::compute`], while the tools read the rules: both together take as long as the longer one. The reconciler is to be waited for.
    ///
    /// # Errors
    /// As [`Settings::compute`]; the reconciler as [`Settings::reconciler`].
    pub async fn compute_and_look(
        &self,
        paths: &[PathBuf],
    ) -> anyhow::Result<(Computed, impl Future<Output = anyhow::Result<Reconciler<System>>> + use<>)> {
        let looking = self.reconciler().await.map(|mut reconciler| {
            tokio::spawn(async move {
                reconciler.look_ahead().await;
                reconciler
            })
        });
        // What is wrong with the files comes first.
        let computed = self.compute(paths).await?;
        Ok((computed, async { Ok(looking?.await?) }))
    }

    /// Like [`Settings::compute`], with remarks on what is hardly meant.
    ///
    /// # Errors
    /// As [`Settings::compute`].
    pub async fn check(&self, paths: &[PathBuf]) -> anyhow::Result<Computed> {
        let _step = progress::step(RESOLVING);
        Ok(compute::check(&self.load_paths(paths)?, &self.links().await, &self.learned(), self.reading()))
    }

    /// Reads the configured state as far as single files go.
    ///
    /// # Errors
    /// As [`Settings::compute`].
    pub fn read(&self) -> anyhow::Result<Documents> {
        Ok(compute::read(&self.load()?, self.reading()))
    }

    /// The files of the configured state.
    ///
    /// # Errors
    /// As [`Settings::compute`].
    pub fn load(&self) -> anyhow::Result<Loaded> {
        self.load_paths(&self.config.state)
    }

    fn load_paths(&self, paths: &[PathBuf]) -> anyhow::Result<Loaded> {
        let load = match self.exposed {
            Exposed::Refused => load::load,
            Exposed::Told => load::load_to_show,
        };
        load(paths).map_err(with_help)
    }

    /// The devices of this network namespace.
    pub async fn links(&self) -> Vec<Link> {
        links::links().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "interfaces without a target are matched to no device");
            Vec::new()
        })
    }

    /// The addresses that were learned and count now. Where they cannot be read, the guests that need them get the rules of those that have none.
    pub fn learned(&self) -> Learned {
        let known = namespace::identity().map_err(|failure| failure.to_string());
        let known = known.and_then(|identity| learned::peek(&self.config.learned_dir, &identity));
        let learned = known.unwrap_or_else(|reason| {
            self.output.message(&format!("warning: learned addresses are not known here: {reason}"));
            Learned::default()
        });
        learned.at(clock::now())
    }

    /// Prints what there is to say about the files.
    pub fn show(&self, computed: &Computed) {
        self.output.diagnostics(&computed.diagnostics, &computed.sources, self.least);
    }

    /// Says how to begin, where `paths` hold no state file yet.
    pub fn show_empty(&self, computed: &Computed, paths: &[PathBuf]) {
        if computed.counts.files == 0 {
            let places: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            self.output.message(&format!(
                "note: no file that ends in `.xml` in {}\n  help: {EXAMPLE} is an example to begin with; `bridgeward man bridgeward-state` says what goes into a file",
                places.join(", ")
            ));
        }
    }

    /// The tools of this host.
    pub async fn system(&self) -> System {
        let tools = &self.config.tools;
        let commands = Commands { ipv4: tools.iptables.clone(), ipv6: tools.ip6tables.clone(), bridge: tools.ebtables.clone() };
        System::new(probe::probe(&commands).await, tools.time_limit)
    }

    /// The record of this network namespace.
    ///
    /// # Errors
    /// When its directory cannot be made or is not safe.
    pub fn store(&self) -> anyhow::Result<Store> {
        let identity = namespace::identity()?;
        Store::open(&self.config.run_dir, identity).context("the record of installed rules is needed to tell ours from others'")
    }

    /// Everything that changes rules.
    ///
    /// # Errors
    /// As [`Settings::store`].
    pub async fn reconciler(&self) -> anyhow::Result<Reconciler<System>> {
        let reconciler = Reconciler::new(self.system().await, self.store()?, self.config.scope, self.config.hooks);
        let mut reconciler = reconciler.guarded_by(self.guard());
        reconciler.manage_sysctls(self.config.manage_sysctls);
        Ok(reconciler)
    }

    /// Prints what the host has to be like for the rules to work, and is not.
    pub fn show_prerequisites(&self, report: &Report) {
        report.prerequisites.iter().for_each(|finding| self.output.message(&format!("prerequisite: {}", finding.line())));
    }

    /// What a plan follows from beside files and rules.
    pub fn terms(&self) -> Terms<'_> {
        Terms { state: &self.config.state, reading: self.reading() }
    }

    /// The process that watches over rules on trial. It reads no configuration, which may be broken when it is needed.
    pub fn guard(&self) -> Guard {
        let config = &self.config;
        let words = ["guard-trial", "--scope", &ScopeName::from(config.scope).to_string()].map(OsString::from);
        let mut arguments = Vec::from(words);
        arguments.extend(["--hooks", &HooksName::from(config.hooks).to_string(), "--run-dir"].map(OsString::from));
        arguments.extend(load::absolute(std::slice::from_ref(&config.run_dir)).into_iter().map(PathBuf::into_os_string));
        let tools = &config.tools;
        arguments.extend(["--tools", &tools.iptables, &tools.ip6tables, &tools.ebtables].map(OsString::from));
        arguments.extend(["--time-limit".to_owned(), format!("{}ms", tools.time_limit.as_millis())].map(OsString::from));
        Guard(arguments)
    }
}

/// Runs asynchronous work to its end. Two workers: while one parses what a tool printed, the other feeds the next.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // A thousand taps are opened and closed on these, 32 at a time; without a bound a busy host leaves far more threads idle.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).max_blocking_threads(64).enable_all().build().context("no asynchronous runtime")?;
    runtime.block_on(work)
}

/// A failure to read the state, with what the operator can do about it.
fn with_help(failure: LoadFailure) -> anyhow::Error {
    let help = match &failure {
        LoadFailure::Unreadable { source, .. } if source.kind() == ErrorKind::NotFound => {
            "create it, or name another place with --state PATH"
        }
        LoadFailure::Unreadable { source, .. } if source.kind() == ErrorKind::PermissionDenied => "run this as root",
        LoadFailure::Exposed { help, .. } => help,
        LoadFailure::Unreadable { .. } | LoadFailure::TooMuch { .. } => return failure.into(),
    };
    anyhow!("{failure}\n  help: {help}")
}

fn read_config(path: Option<&Path>, output: Output, exposed: Exposed) -> anyhow::Result<Config> {
    let asked = path.is_some();
    let path = path.unwrap_or(Path::new(config::DEFAULT_PATH));
    let text = match std::fs::read_to_string(path) {
        Err(error) if !asked && error.kind() == ErrorKind::NotFound => return Ok(Config::default()),
        outcome => outcome.with_context(|| format!("cannot read the configuration {}", path.display()))?,
    };
    // It names the programs that we run.
    if let Some(reason) = load::exposure(path) {
        match exposed {
            Exposed::Refused => bail!("the configuration is not used: {reason}"),
            Exposed::Told => output.message(&format!("warning: the configuration, which `apply` would refuse: {reason}")),
        }
    }
    let mut sources = Sources::default();
    let file = sources.add(path.display().to_string(), text);
    match config::parse(&sources, file) {
        Ok(config) => Ok(config),
        Err(fault) => {
            output.message(&diagnostic::render(&fault, &sources, output.messages));
            bail!("the configuration {} is wrong; nothing was done", path.display())
        }
    }
}
