//! The verbs of filters, networks and interfaces, with their options.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// What can be done with filters.
#[derive(Debug, Subcommand)]
pub enum FilterVerb {
    /// List every filter with its UUID, its place and what uses it
    #[command(after_help = "\
Examples:
  bridgeward filter list
  bridgeward filter list --format json | jq -r '.filters[] | select(.used_by.interfaces == []) | .name'

Exit status: 0 done, 1 some filter is broken, 2 trouble.")]
    List(List),

    /// Print the XML of a filter, or a picture of what it includes and in which order its rules are looked at
    #[command(after_help = "\
Examples:
  bridgeward filter show clean-traffic
  bridgeward filter show clean-traffic --graph svg > clean-traffic.svg
  bridgeward filter show web --graph mermaid          for Markdown pages

Exit status: 0 done, 1 there is no such filter or it is broken, 2 trouble.")]
    Show(FilterShow),

    /// Put a filter into the state, once the whole state is sound with it
    #[command(after_help = "\
Examples:
  bridgeward filter define web.xml
  bridgeward filter define --dry-run web.xml          which rules of which guests would change?
  bridgeward filter show clean-traffic | sed s/-650/-640/ | bridgeward filter define -     replaces the stock filter

The file that defines the name now is replaced; a new filter gets filters/NAME.xml in the first state directory. Without
a <uuid> it keeps that of its name or gets a new one. Exit status: 0 done, 1 refused, 2 trouble.")]
    Define(Define),

    /// Take a filter out of the state, unless something uses it
    #[command(after_help = "\
Examples:
  bridgeward filter undefine web
  bridgeward filter undefine --dry-run web

Exit status: 0 done, 1 refused, 2 trouble.")]
    Undefine(Undefine),

    /// Edit a filter in $VISUAL or $EDITOR; a stock filter becomes a file that replaces it
    #[command(after_help = "\
Examples:
  bridgeward filter edit web
  EDITOR=nano bridgeward filter edit --dry-run clean-traffic

What is at fault is shown with carets and can be edited again. Exit status: 0 done or unchanged, 1 refused, 2 trouble.")]
    Edit(Edit),
}

/// What can be done with networks.
#[derive(Debug, Subcommand)]
pub enum NetworkVerb {
    /// List every network with its UUID, its bridge, its addresses and what is plugged into it
    #[command(after_help = "\
Examples:
  bridgeward network list
  bridgeward network list --format json | jq -r '.networks[].bridge'

Exit status: 0 done, 1 some network is broken, 2 trouble.")]
    List(List),

    /// Print the XML of a network
    #[command(after_help = "\
Examples:
  bridgeward network show default

Exit status: 0 done, 1 there is no such network or it is broken, 2 trouble.")]
    Show(NetworkShow),

    /// Put a network into the state, once the whole state is sound with it
    #[command(after_help = "\
Examples:
  bridgeward network define lab.xml
  virsh net-dumpxml default | bridgeward network define --dry-run -

The file that defines the name now is replaced; a new network gets networks/NAME.xml in the first state directory. Without
a <uuid> it keeps that of its name or gets a new one. Exit status: 0 done, 1 refused, 2 trouble.")]
    Define(Define),

    /// Take a network out of the state, unless an interface is plugged into it
    #[command(after_help = "\
Examples:
  bridgeward network undefine lab
  bridgeward network undefine --dry-run lab

Exit status: 0 done, 1 refused, 2 trouble.")]
    Undefine(Undefine),

    /// Edit a network in $VISUAL or $EDITOR
    #[command(after_help = "\
Examples:
  bridgeward network edit lab

What is at fault is shown with carets and can be edited again. Exit status: 0 done or unchanged, 1 refused, 2 trouble.")]
    Edit(Edit),
}

/// What can be done with guest interfaces.
#[derive(Debug, Subcommand)]
pub enum InterfaceVerb {
    /// List every guest interface with its filter and its addresses
    #[command(after_help = "\
Examples:
  bridgeward interface list
  bridgeward interface list --format json | jq -r '.interfaces[] | select(.state == \"unfiltered\") | .device'

Exit status: 0 done, 1 some interface is held, 2 trouble.")]
    List(List),

    /// Show one guest interface: what guards it, its chains, and what their live rules have seen
    #[command(after_help = "\
Examples:
  sudo bridgeward interface show vnet0
  sudo bridgeward interface show vnet0 --format json | jq '[.chains[].packets] | add'

Without root the counters are left out. Exit status: 0 done, 1 there is no such interface or it is held, 2 trouble.")]
    Show(InterfaceShow),

    /// Drop the addresses that were learned for a guest interface: it is closed until it is learned anew
    #[command(after_help = "\
Examples:
  sudo bridgeward interface forget vnet0

Beside a running daemon the daemon does it, and takes away the rules at once.
Exit status: 0 done, 1 nothing is learned for this interface, 2 trouble.")]
    Forget(InterfaceForget),
}

#[derive(Debug, Args)]
pub struct InterfaceForget {
    /// The interface's host-side device
    #[arg(value_name = "DEVICE")]
    pub device: String,
}

#[derive(Debug, Args)]
pub struct List {
    /// Human text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct FilterShow {
    /// The filter's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Print a picture in place of the XML
    #[arg(long, value_name = "NOTATION", value_enum)]
    pub graph: Option<GraphOption>,
}

#[derive(Debug, Args)]
pub struct NetworkShow {
    /// The network's name
    #[arg(value_name = "NAME")]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct InterfaceShow {
    /// The interface's host-side device
    #[arg(value_name = "DEVICE")]
    pub device: String,
    /// Human text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Define {
    /// The file with the definition, `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Show the rules that would come and go, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Undefine {
    /// The name of what is to go
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Show the rules that would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Edit {
    /// The name of what is to be edited
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Show the rules that would come and go, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Import {
    /// Directory or file to copy from; may be repeated [default: libvirt's own directories]
    #[arg(long, value_name = "PATH")]
    pub from: Vec<PathBuf>,
    /// Take networks that do not run, too: they will have rules
    #[arg(long)]
    pub all: bool,
    /// Overwrite files that are there and say something else
    #[arg(long)]
    pub replace: bool,
    /// Name the files that would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Graph {
    /// Networks, guests, interfaces or filters to draw with what hangs together with them [default: everything]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The language of the picture
    #[arg(long, value_name = "NOTATION", value_enum, default_value_t)]
    pub format: GraphOption,
}

/// A language for pictures; see [`crate::graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum GraphOption {
    /// A picture that browsers show
    #[default]
    Svg,
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
}
