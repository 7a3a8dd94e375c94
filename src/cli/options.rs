//! The command line: what can be said, and the help for it. `--help`, the man page and the completions come from here.

mod verb;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config;
use crate::config::name::{HooksName, LayoutName, LogName, Mode, QuirksName, ScopeName};
use crate::output::Color;

pub use verb::{
    Define, Edit, FilterShow, FilterVerb, Graph, GraphOption, Import, InterfaceForget, InterfaceShow, InterfaceVerb, List, NetworkShow,
    NetworkVerb, Undefine,
};

/// Keeps the firewall rules of virtual networks and guests exactly as libvirt-style XML in a directory says.
#[derive(Debug, Parser)]
#[command(name = "bridgeward", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten, next_help_heading = "Global options")]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bridgeward check                          is everything in /etc/bridgeward/state right?
  bridgeward diff                           what would change in the kernel, rule by rule?
  sudo bridgeward apply                     change exactly that
  sudo bridgeward run                       keep it so: watch the files and the rules
  bridgeward --state ./state render         the complete rule set, as iptables-restore input

Exit status: 0 done or in sync, 1 something in the state needs a person, 2 trouble with the host.";

/// Options that stand before or after any command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Directory (read recursively) or file with network, filter and interface XML; may be repeated
    ///
    /// Default: `state` in the configuration, else /etc/bridgeward/state.
    #[arg(long, global = true, value_name = "PATH", env = "BRIDGEWARD_STATE", value_delimiter = ':')]
    pub state: Vec<PathBuf>,

    /// Configuration file [default: /etc/bridgeward/bridgeward.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "BRIDGEWARD_CONFIG")]
    pub config: Option<PathBuf>,

    /// Where libvirt's rules differ from what the XML says: the rule the XML means, or libvirt 9.0 bug for bug
    #[arg(long, global = true, value_name = "MODE", value_enum)]
    pub quirks: Option<QuirksName>,

    /// Whose rules are ours: only what the state or our record names, or all of libvirt's name space
    #[arg(long, global = true, value_name = "SCOPE", value_enum)]
    pub scope: Option<ScopeName>,

    /// Where our jumps must stand in built-in chains: once, anywhere, or at the head
    #[arg(long, global = true, value_name = "WHERE", value_enum)]
    pub hooks: Option<HooksName>,

    /// How the rules of networks are spelled: in private chains, or straight in built-in chains as libvirt did up to 5.0
    #[arg(long, global = true, value_name = "LAYOUT", value_enum)]
    pub layout: Option<LayoutName>,

    /// Treat warnings as errors
    #[arg(long, global = true)]
    pub strict: bool,

    /// Where the record of installed rules lives [default: /run/bridgeward]
    #[arg(long, global = true, value_name = "DIR", env = "BRIDGEWARD_RUN_DIR")]
    pub run_dir: Option<PathBuf>,

    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,

    /// Say more: -v what is done, -vv every step
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Parse, validate and resolve every file; show every fault of every file at once
    #[command(after_help = "\
Examples:
  bridgeward check                       the configured state
  bridgeward check ./state               another directory
  bridgeward check lab.xml web.xml       single files (references between them are followed)
  bridgeward check --strict --format json ./state

Exit status: 0 no faults, 1 faults, 2 trouble (a path that cannot be read).")]
    Check(Check),

    /// Print the complete desired rule set as input for iptables-restore, ip6tables-restore and ebtables-restore
    #[command(after_help = "\
Examples:
  bridgeward render                             everything, each family under its own heading
  bridgeward render --family ipv4 | iptables-restore --test
  bridgeward render --explain                   each rule with the file and line it comes from
  bridgeward render --format json

Needs no root and touches nothing. Exit status: 0 done, 1 faults in the state, 2 trouble.")]
    Render(Render),

    /// Show what `apply` would change: a unified diff of rules, each with the XML line it comes from
    #[command(after_help = "\
Examples:
  sudo bridgeward diff                       against the kernel
  sudo bridgeward diff --stat                only how much, per table and chain
  sudo bridgeward diff --format json
  sudo bridgeward diff --out plan.json       keep the plan, for `apply --plan plan.json`
  bridgeward diff --observed saved/          against saved output of iptables-save, ip6tables-save and
                                             ebtables-save or `ebtables -t nat -L`; needs no root

Exit status: 0 in sync, 1 changes or held objects, 2 trouble.")]
    Diff(Diff),

    /// Make the kernel hold exactly the desired rules, changing only what differs
    #[command(after_help = "\
Examples:
  sudo bridgeward apply
  sudo bridgeward apply --dry-run             the same as diff
  sudo bridgeward apply --plan plan.json      exactly this plan of `diff --out`, or nothing if anything moved since
  sudo bridgeward apply --confirm 60s         taken back after a minute unless `bridgeward confirm` is run before
  sudo bridgeward apply --state ./state --quirks libvirt

Beside a running daemon it asks the daemon to do the pass. Rules of others are never touched.
Exit status: 0 done, 1 some object is refused or held, 2 trouble, or a plan that is out of date.")]
    Apply(Apply),

    /// Keep the rules that `apply --confirm` put on trial
    #[command(after_help = "\
Examples:
  sudo bridgeward apply --confirm 60s && sudo bridgeward confirm     once it is certain that one can still get in

Exit status: 0 confirmed, 1 nothing is on trial or it is too late, 2 trouble.")]
    Confirm,

    /// Take rules on trial back when their time is over; `apply --confirm` starts this by itself
    #[command(hide = true)]
    GuardTrial(GuardTrial),

    /// Watch the files and the kernel, and keep them in step until stopped
    #[command(after_help = "\
Examples:
  sudo bridgeward run
  sudo bridgeward run -v --state /srv/state --poll 2s
  sudo bridgeward run --mode observe      say what differs and write nothing
  sudo bridgeward run --mode plan         write what would be done to a file, for `apply --plan`
  sudo systemctl start bridgeward

SIGHUP: read the configuration and do a full pass now. SIGTERM: stop; the rules stay.")]
    Run(Run),

    /// Show what the running daemon knows: what is wrong, objects, drift and who made it, learned addresses
    #[command(after_help = "\
Examples:
  sudo bridgeward status
  sudo bridgeward status --watch                 again whenever something changes; ctrl-c ends it
  bridgeward status --format json | jq -r '.objects[] | select(.state != \"in-force\") | .name'

Asked at /run/bridgeward/bridgeward.sock by the group that `socket_group` in the configuration names, else by root only.
Exit status: 0 the rules are as they should be, 1 something needs a person, 2 no daemon runs in this network namespace.")]
    Status(Status),

    /// Remove everything that bridgeward owns from the kernel, and only that
    #[command(after_help = "\
Examples:
  sudo bridgeward purge
  sudo bridgeward purge --stop        stop the running daemon first

Refused while `bridgeward run` lives, unless --stop is given.
Exit status: 0 done, 1 something had to stay, 2 trouble.")]
    Purge(Purge),

    /// List, show, define, undefine and edit filters; the stock filters are among them
    #[command(after_help = "\
Examples:
  bridgeward filter list                                  every filter, where it is written and who uses it
  bridgeward filter show clean-traffic                    its XML
  bridgeward filter define --dry-run web.xml              which rules would change?
  bridgeward filter edit web                              in $EDITOR, checked before it is written

They read and write the state only, never the kernel: `apply`, or the daemon, does the rest.")]
    Filter {
        /// What to do with filters
        #[command(subcommand)]
        verb: FilterVerb,
    },

    /// List, show, define, undefine and edit networks
    #[command(after_help = "\
Examples:
  bridgeward network list
  bridgeward network define lab.xml
  bridgeward network undefine lab                         refused while an interface is plugged into it

They read and write the state only, never the kernel: `apply`, or the daemon, does the rest.")]
    Network {
        /// What to do with networks
        #[command(subcommand)]
        verb: NetworkVerb,
    },

    /// List guest interfaces, show what guards one and what its rules have seen, and forget the addresses learned for one
    #[command(after_help = "\
Examples:
  bridgeward interface list
  sudo bridgeward interface show vnet0
  sudo bridgeward interface forget vnet0")]
    Interface {
        /// What to do with interfaces
        #[command(subcommand)]
        verb: InterfaceVerb,
    },

    /// Copy the definitions of a libvirt host into the state directory
    #[command(after_help = "\
Examples:
  sudo bridgeward import --dry-run --quirks libvirt      which files would be written?
  sudo bridgeward import --quirks libvirt                from /etc/libvirt and /run/libvirt
  bridgeward import --from backup/libvirt --state ./state

What runs counts: status documents and bindings before definitions. Nothing is written unless the copies have the same
rules as the originals. Exit status: 0 done, 1 refused, 2 trouble.")]
    Import(Import),

    /// Draw networks, guest interfaces with their chains, filters, and what hangs on what
    #[command(after_help = "\
Examples:
  bridgeward graph > host.svg                     everything, for a browser
  bridgeward graph vnet-web                       one interface (or guest, network, filter) and what hangs together with it
  bridgeward graph --format dot | dot -Tpdf > host.pdf
  bridgeward graph --format mermaid               for Markdown pages

Reads the state only. Exit status: 0 done, 1 faults in the state or an unknown name, 2 trouble.")]
    Graph(Graph),

    /// Print the completion script for a shell
    #[command(after_help = "Examples:\n  bridgeward completions bash > /etc/bash_completion.d/bridgeward")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Print a manual page: of the program, of the files in the state directory, or of the configuration
    #[command(after_help = "\
Examples:
  bridgeward man | man -l -
  bridgeward man bridgeward-state | man -l -       what may stand in the state directory
  bridgeward man bridgeward.toml | man -l -        every key of the configuration")]
    Man {
        /// The page
        #[arg(value_enum, default_value_t)]
        page: Page,
    },
}

/// A manual page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Page {
    /// bridgeward(8): the commands and their options
    #[default]
    Bridgeward,
    /// bridgeward-state(5): the state directory
    #[value(alias = "state")]
    BridgewardState,
    /// bridgeward.toml(5): the configuration
    #[value(name = "bridgeward.toml", alias = "toml")]
    BridgewardToml,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Directories or files to check instead of the configured state
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Human text, or one JSON document on stdout
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Render {
    /// Restore input, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub format: RenderFormat,
    /// Only one family
    #[arg(long, value_enum)]
    pub family: Option<FamilyOption>,
    /// Add the XML place of every rule as a comment
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// Human text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Only how many rules change, per table and chain
    #[arg(long)]
    pub stat: bool,
    /// Saved output of a tool, or a directory of such files, to compare with instead of the kernel; may be repeated, one file
    /// per family
    #[arg(long, value_name = "PATH")]
    pub observed: Vec<PathBuf>,
    /// Write the plan to this file as well, for `apply --plan`
    #[arg(long, value_name = "FILE", conflicts_with = "observed")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Apply {
    /// Show the plan and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Carry out exactly this plan of `diff --out` or of a daemon in mode `plan`; refused when files or rules moved since
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub plan: Option<PathBuf>,
    /// Take the new rules back after this time, such as `60s` or `5min`, unless `bridgeward confirm` is run before
    #[arg(long, value_name = "TIME", value_parser = trial, conflicts_with = "dry_run")]
    pub confirm: Option<Duration>,
}

/// What the process that watches over rules on trial has to know, whatever happens to files meanwhile.
#[derive(Debug, Args)]
pub struct GuardTrial {
    /// iptables, ip6tables and ebtables, by name or path
    #[arg(long, num_args = 3, required = true)]
    pub tools: Vec<String>,
    /// How long a tool may run
    #[arg(long, value_parser = humantime::parse_duration, required = true)]
    pub time_limit: Duration,
}

#[derive(Debug, Args)]
pub struct Run {
    /// How often to look at the kernel although nothing said that it changed, such as `10s` or `500ms` [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = poll)]
    pub poll: Option<Duration>,
    /// What to do about differences [default: enforce]
    #[arg(long, value_name = "MODE", value_enum)]
    pub mode: Option<Mode>,
    /// How the log is written [default: `log` in the configuration, else auto]
    #[arg(long, value_name = "FORM", value_enum)]
    pub log_format: Option<LogName>,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Human text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Show it again whenever it changes
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct Purge {
    /// Stop a running daemon first
    #[arg(long)]
    pub stop: bool,
}

fn poll(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    config::poll(every).map_err(|fault| format!("it is {fault}"))
}

fn trial(text: &str) -> Result<Duration, String> {
    let within = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match within {
        _ if within < Duration::from_secs(1) => Err("it is below one second".to_owned()),
        _ if within > Duration::from_hours(24) => Err("it is above one day".to_owned()),
        _ => Ok(within),
    }
}

/// How a command prints its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For machines: one versioned document
    Json,
}

/// How `render` prints its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum RenderFormat {
    /// Input of the tools' restore commands
    #[default]
    Restore,
    /// One versioned document
    Json,
}

/// One of the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FamilyOption {
    /// iptables
    Ipv4,
    /// ip6tables
    Ipv6,
    /// ebtables
    Bridge,
}
