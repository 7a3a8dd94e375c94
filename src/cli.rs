//! The command line: which command was meant, with which settings, and which exit status its outcome is.
//!
//! One file per command below [`options`]; the mapping from outcomes to exit statuses is here and nowhere else.

#[cfg(test)]
mod agreement;
mod apply;
mod check;
mod confirm;
mod define;
mod definition;
mod diff;
mod edit;
mod filter;
mod forget;
mod graph;
mod import;
mod interface;
mod log;
mod man;
mod network;
mod options;
mod progress;
mod proposal;
mod purge;
mod render;
mod run;
mod settings;
mod status;
mod table;
mod undefine;

use std::path::Path;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::config::Config;
use crate::output::Output;
use definition::Kind;
use options::{Command, FilterVerb, Global, InterfaceVerb, NetworkVerb, Options};
use settings::Settings;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// 0: done, or in sync.
    Done,
    /// 1: something in the state, or a difference, needs a person.
    Attention,
    /// 2: trouble with the host; also what an `Err` becomes.
    Trouble,
}

/// Runs the program with the arguments and the environment of the process.
pub fn run() -> ExitCode {
    let options = Options::try_parse().unwrap_or_else(|fault| advised(fault).exit());
    let output = Output::new(options.global.color, std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()));
    let outcome = dispatch(&options, output);
    let exit = outcome.unwrap_or_else(|error| {
        output.error(&causes(&error));
        Exit::Trouble
    });
    match exit {
        Exit::Done => ExitCode::SUCCESS,
        Exit::Attention => ExitCode::from(1),
        Exit::Trouble => ExitCode::from(2),
    }
}

/// Adds what a person meant who wrote `diff ./state`: only `check` takes paths.
fn advised(mut fault: clap::Error) -> clap::Error {
    if fault.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = fault.get(ContextKind::InvalidArg)
        && Path::new(word).exists()
    {
        let advice = StyledStr::from(format!("the state is named with `--state {word}`"));
        fault.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![advice]));
    }
    fault
}

/// What failed and why, from the outside in; a cause that the message before it already names is not told twice.
fn causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

fn dispatch(options: &Options, output: Output) -> anyhow::Result<Exit> {
    match &options.command {
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Options::command(), "bridgeward", &mut text);
            output.data(&String::from_utf8_lossy(&text))?;
            Ok(Exit::Done)
        }
        Command::Man { page } => {
            output.data(&String::from_utf8_lossy(&man::man(*page, &Options::command())?))?;
            Ok(Exit::Done)
        }
        Command::Check(check) => check::check(&Settings::to_show(&options.global, output)?, check),
        Command::Render(render) => render::render(&Settings::to_show(&options.global, output)?, render),
        Command::Diff(diff) => diff::diff(&Settings::of(&options.global, output)?.showing(), diff),
        Command::Apply(apply) => apply::apply(&Settings::of(&options.global, output)?, apply),
        Command::Confirm => confirm::confirm(&Settings::of(&options.global, output)?),
        Command::GuardTrial(guard) => confirm::guard(Settings::over(Config::default(), &options.global, output), guard),
        Command::Purge(purge) => purge::purge(&Settings::of(&options.global, output)?, purge),
        Command::Filter { verb } => filter_verb(&options.global, output, verb),
        Command::Network { verb } => network_verb(&options.global, output, verb),
        Command::Interface { verb } => interface_verb(&options.global, output, verb),
        Command::Status(status) => status::status(&Settings::of(&options.global, output)?, status),
        Command::Import(import) => import::import(&Settings::of(&options.global, output)?, import),
        Command::Graph(graph) => graph::graph(&Settings::to_show(&options.global, output)?, graph),
        Command::Run(run) => run::run(&options.global, output, run),
    }
}

fn filter_verb(global: &Global, output: Output, verb: &FilterVerb) -> anyhow::Result<Exit> {
    let (settings, shown) = (|| Settings::of(global, output), || Settings::to_show(global, output));
    match verb {
        FilterVerb::List(list) => filter::list(&shown()?, list),
        FilterVerb::Show(show) => filter::show(&shown()?, show),
        FilterVerb::Define(options) => define::define(&settings()?, Kind::Filter, options),
        FilterVerb::Undefine(options) => undefine::undefine(&settings()?, Kind::Filter, options),
        FilterVerb::Edit(options) => edit::edit(&settings()?, Kind::Filter, options),
    }
}

fn network_verb(global: &Global, output: Output, verb: &NetworkVerb) -> anyhow::Result<Exit> {
    let (settings, shown) = (|| Settings::of(global, output), || Settings::to_show(global, output));
    match verb {
        NetworkVerb::List(list) => network::list(&shown()?, list),
        NetworkVerb::Show(show) => network::show(&shown()?, show),
        NetworkVerb::Define(options) => define::define(&settings()?, Kind::Network, options),
        NetworkVerb::Undefine(options) => undefine::undefine(&settings()?, Kind::Network, options),
        NetworkVerb::Edit(options) => edit::edit(&settings()?, Kind::Network, options),
    }
}

fn interface_verb(global: &Global, output: Output, verb: &InterfaceVerb) -> anyhow::Result<Exit> {
    let settings = || Settings::of(global, output);
    match verb {
        InterfaceVerb::List(list) => interface::list(&Settings::to_show(global, output)?, list),
        InterfaceVerb::Show(show) => interface::show(&settings()?.showing(), show),
        InterfaceVerb::Forget(options) => forget::forget(&settings()?, options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("no such thing");
        let outer = anyhow::Error::new(cause()).context("cannot read x");
        assert_eq!(causes(&outer), "cannot read x: no such thing");
        let told = anyhow::Error::new(cause()).context("cannot read x: no such thing").context("bad luck");
        assert_eq!(causes(&told), "bad luck: cannot read x: no such thing");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
