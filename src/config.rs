//! `bridgeward.toml`: the settings that are not worth typing twice.
//!
//! Text in, a checked [`Config`] or a diagnostic with a caret out; an unknown key is an error. Every long option of the
//! command line has a key here, and the command line wins.

pub mod name;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::compile::Layout;
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::plan::{HookPlacement, Scope};
use crate::source::{FileId, Sources, Span};
use name::{HooksName, LayoutName, LogName, Mode, QuirksName, ScopeName, named};

/// Where the configuration is looked for unless `--config` or `BRIDGEWARD_CONFIG` says otherwise; it need not exist there.
pub const DEFAULT_PATH: &str = "/etc/bridgeward/bridgeward.toml";

/// Where the state is looked for unless something says otherwise.
pub const DEFAULT_STATE: &str = "/etc/bridgeward/state";

/// The content of `bridgeward.toml`; what is absent keeps its default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// State directories or single files.
    pub state: Vec<PathBuf>,
    /// `"fixed"` or `"libvirt"`.
    #[serde(deserialize_with = "named::<QuirksName, _, _>")]
    pub quirks: Quirks,
    /// `"shared"` or `"exclusive"`.
    #[serde(deserialize_with = "named::<ScopeName, _, _>")]
    pub scope: Scope,
    /// `"present"` or `"first"`.
    #[serde(deserialize_with = "named::<HooksName, _, _>")]
    pub hooks: HookPlacement,
    /// `"chains"`, `"classic"` or `"classic-document"`.
    #[serde(deserialize_with = "named::<LayoutName, _, _>")]
    pub layout: Layout,
    /// Warnings count as errors.
    pub strict: bool,
    /// Whether switches of the kernel that rules need (`ip_forward`, `bridge-nf-call-*`) are set, or only told of.
    pub manage_sysctls: bool,
    /// What `run` does about differences.
    pub mode: Mode,
    /// Where `run` writes plans in mode `"plan"`; `None`: `plan.json` beside the record.
    pub plan_file: Option<PathBuf>,
    /// Where the record lives.
    pub run_dir: PathBuf,
    /// The group that may ask a running daemon for its status; root only without one.
    pub socket_group: Option<String>,
    /// How the daemon's log is written.
    pub log: LogName,
    /// Where learned addresses are kept, over reboots.
    pub learned_dir: PathBuf,
    /// How often `run` looks at the kernel although nothing said that it changed; see [`poll`].
    #[serde(deserialize_with = "duration")]
    pub poll: Duration,
    /// How long `run` waits after the last change of a file before it reads the state; at most 10 s.
    #[serde(deserialize_with = "duration")]
    pub settle: Duration,
    /// The commands to run.
    pub tools: Tools,
    /// Where metrics go.
    pub metrics: Metrics,
}

/// Where metrics go; nowhere unless something is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// The address to hand them out at, such as `127.0.0.1:9876`.
    pub listen: Option<SocketAddr>,
    /// The file to keep for `node_exporter`'s textfile collector; its name ends in `.prom`.
    pub textfile: Option<PathBuf>,
}

/// Names or paths of the tools; each is used with `-save` and `-restore` appended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tools {
    /// For IPv4: `iptables`, `iptables-nft`, `iptables-legacy`, or a path.
    pub iptables: String,
    /// For IPv6.
    pub ip6tables: String,
    /// For bridges.
    pub ebtables: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state: vec![PathBuf::from(DEFAULT_STATE)],
            quirks: Quirks::default(),
            scope: Scope::default(),
            hooks: HookPlacement::default(),
            layout: Layout::default(),
            strict: false,
            manage_sysctls: false,
            mode: Mode::default(),
            plan_file: None,
            run_dir: PathBuf::from("/run/bridgeward"),
            socket_group: None,
            log: LogName::default(),
            learned_dir: PathBuf::from("/var/lib/bridgeward"),
            poll: Duration::from_secs(10),
            settle: Duration::from_millis(75),
            tools: Tools::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Default for Tools {
    fn default() -> Self {
        Self { iptables: "iptables".into(), ip6tables: "ip6tables".into(), ebtables: "ebtables".into() }
    }
}

/// Reads the text of one configuration file.
///
/// # Errors
/// The first fault, with its place.
pub fn parse(sources: &Sources, file: FileId) -> Result<Config, Box<Diagnostic>> {
    let text = &sources.file(file).text;
    let config: Config = toml::from_str(text).map_err(|error| Box::new(fault(file, text, &error)))?;
    let whole = Span { file, start: 0, end: u32::try_from(text.len()).unwrap_or(u32::MAX) };
    let wrong = |name, fault: String, expected| Box::new(Diagnostic::error("config-value", fault, key(text, name, whole), expected));
    poll(config.poll).map_err(|fault| wrong("poll", format!("`poll` is {fault}"), "expected \"100ms\" to \"1day\""))?;
    if config.settle > Duration::from_secs(10) {
        return Err(wrong("settle", "`settle` is above 10 s".to_owned(), "expected at most \"10s\""));
    }
    if config.metrics.textfile.as_deref().is_some_and(|path| !is_textfile(path)) {
        let fault = "`textfile` is no file that node_exporter reads".to_owned();
        return Err(wrong("textfile", fault, "expected an absolute path that ends in \".prom\""));
    }
    Ok(config)
}

/// Passes a time that `run` can poll at: a kernel asked more often would do little else, and beyond a day nobody would wait.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn poll(every: Duration) -> Result<Duration, &'static str> {
    match every {
        _ if every < Duration::from_millis(100) => Err("below 100 ms"),
        _ if every > Duration::from_hours(24) => Err("above one day"),
        _ => Ok(every),
    }
}

/// The collector reads what ends in `.prom` in its directory; a relative path would depend on where the daemon was started.
fn is_textfile(path: &Path) -> bool {
    path.is_absolute() && path.extension().is_some_and(|extension| extension == "prom")
}

fn fault(file: FileId, text: &str, error: &toml::de::Error) -> Diagnostic {
    let range = error.span().unwrap_or(0..text.len());
    let position = |at: usize| u32::try_from(at.min(text.len())).unwrap_or(u32::MAX);
    let span = Span { file, start: position(range.start), end: position(range.end) };
    Diagnostic::error("config-syntax", error.message().trim().replace('\n', "; "), span, "")
        .help("the comments of the shipped bridgeward.toml explain every key")
}

/// The line that sets a key, or `otherwise`; no key has the same name in two tables.
fn key(text: &str, name: &str, otherwise: Span) -> Span {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('=')) {
            let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            return Span { file: otherwise.file, start: position(start), end: position(start + line.trim_end().len()) };
        }
        start += line.len();
    }
    otherwise
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|_| serde::de::Error::custom(format!("`{text}` is not a time: write \"10s\" or \"500ms\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, (String, String)> {
        let mut sources = Sources::default();
        let file = sources.add("bridgeward.toml", text);
        parse(&sources, file).map_err(|fault| (fault.message.clone(), sources.position(fault.span()).to_string()))
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(read(""), Ok(Config::default()));
    }

    #[test]
    fn the_shipped_file_says_the_defaults() {
        assert_eq!(read(include_str!("../contrib/bridgeward.toml")), Ok(Config::default()));
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            state = ["/srv/a", "/srv/b"]
            quirks = "libvirt"
            scope = "exclusive"
            hooks = "first"
            layout = "classic-document"
            strict = true
            mode = "plan"
            manage_sysctls = true
            plan_file = "/tmp/plan.json"
            run_dir = "/tmp/r"
            learned_dir = "/tmp/l"
            poll = "2s"
            settle = "200ms"
            socket_group = "adm"
            log = "json"
            [tools]
            iptables = "iptables-legacy"
            [metrics]
            listen = "[::1]:9876"
            textfile = "/srv/bridgeward.prom"
        "#;
        let config = read(text).unwrap();
        assert_eq!(config.quirks, Quirks::Libvirt);
        assert_eq!(config.scope, Scope::Exclusive);
        assert_eq!(config.hooks, HookPlacement::First);
        assert_eq!(config.layout, Layout::ClassicDocument);
        assert_eq!(config.mode, Mode::Plan);
        assert!(config.manage_sysctls);
        assert_eq!(config.plan_file, Some(PathBuf::from("/tmp/plan.json")));
        assert_eq!(config.learned_dir, PathBuf::from("/tmp/l"));
        assert_eq!(config.poll, Duration::from_secs(2));
        assert_eq!(config.tools.iptables, "iptables-legacy");
        assert_eq!(config.tools.ebtables, "ebtables");
        assert_eq!((config.socket_group.as_deref(), config.log), (Some("adm"), LogName::Json));
        assert_eq!(config.metrics.listen.map(|address| address.port()), Some(9876));
        assert_eq!(config.metrics.textfile.as_deref(), Some(Path::new("/srv/bridgeward.prom")));
    }

    #[test]
    fn an_unknown_key_is_an_error_at_its_place() {
        let (message, place) = read("strict = true\nqirks = \"fixed\"\n").unwrap_err();
        assert!(message.contains("unknown field `qirks`"), "{message}");
        assert_eq!(place, "bridgeward.toml:2:1");
    }

    #[test]
    fn a_textfile_that_no_collector_would_read_is_refused() {
        let (message, place) = read("[metrics]\ntextfile = \"metrics.txt\"\n").unwrap_err();
        assert_eq!((message.as_str(), place.as_str()), ("`textfile` is no file that node_exporter reads", "bridgeward.toml:2:1"));
    }

    #[test]
    fn a_time_without_a_unit_is_refused() {
        let (message, place) = read("poll = \"10\"\n").unwrap_err();
        assert!(message.contains("is not a time"), "{message}");
        assert!(place.starts_with("bridgeward.toml:1:"), "{place}");
    }

    #[test]
    fn a_time_that_cannot_be_polled_at_is_refused() {
        assert_eq!(read("poll = \"1ms\"\n").unwrap_err().0, "`poll` is below 100 ms");
        assert_eq!(
            read("strict = true\npoll = \"9years\"\n").unwrap_err(),
            ("`poll` is above one day".to_owned(), "bridgeward.toml:2:1".to_owned())
        );
        assert_eq!(read("settle = \"1min\"\n").unwrap_err().0, "`settle` is above 10 s");
    }
}
