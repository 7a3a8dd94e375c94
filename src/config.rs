//! `bridgeward.toml`: the settings that are not worth typing twice.
//!
//! Text in, a checked [`Config`] or a diagnostic with a caret out; an unknown key is an error. Every long option of the
//! command line has a key here, and the command line wins.

pub mod key;
pub mod name;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::backend::system::System;
use crate::compile::Layout;
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::plan::{HookPlacement, Scope};
use crate::source::{FileId, Sources, Span};
use key::{Key, settings};
use name::{HooksName, LayoutName, LogName, Mode, QuirksName, ScopeName, named};

/// Where the configuration is looked for unless `--config` or `BRIDGEWARD_CONFIG` says otherwise; it need not exist there.
pub const DEFAULT_PATH: &str = "/etc/bridgeward/bridgeward.toml";

/// Where the state is looked for unless something says otherwise.
pub const DEFAULT_STATE: &str = "/etc/bridgeward/state";

/// What `time_limit` may be: below, busy hosts would be taken for broken ones; above, a stuck tool would stop every repair for as long.
const TIME_LIMITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

settings! {
    /// The content of `bridgeward.toml`; what is absent keeps its default.
    Config, "", TOP {
        /// State directories (read recursively) or single files. libvirt's own directories work as they are:
        /// `/etc/libvirt/qemu`, `/etc/libvirt/nwfilter`, and for what is running now `/run/libvirt/network`.
        state: Vec<PathBuf> = vec![PathBuf::from(DEFAULT_STATE)]; Some(r#"["/etc/bridgeward/state"]"#), "a list of paths", r#"["/srv/state", "/etc/libvirt/nwfilter"]"#;
        /// `fixed`: the rule that the XML says, and an error where libvirt is dangerously lax.
        /// `libvirt`: libvirt 9.0 rule for rule, oddities included.
        #[serde(deserialize_with = "named::<QuirksName, _, _>")]
        quirks: Quirks = Quirks::default(); Some(r#""fixed""#), "`\"fixed\"` or `\"libvirt\"`", r#""libvirt""#;
        /// `shared`: only what the state or our record names is ours; everything else stays, libvirt's names or not.
        /// `exclusive`: everything in libvirt's name space is ours. Not beside a libvirtd that has objects of its own.
        #[serde(deserialize_with = "named::<ScopeName, _, _>")]
        scope: Scope = Scope::default(); Some(r#""shared""#), "`\"shared\"` or `\"exclusive\"`", r#""exclusive""#;
        /// `present`: our jumps have to stand once in their built-in chains, anywhere.
        /// `first`: at the head, in our order.
        #[serde(deserialize_with = "named::<HooksName, _, _>")]
        hooks: HookPlacement = HookPlacement::default(); Some(r#""present""#), "`\"present\"` or `\"first\"`", r#""first""#;
        /// `chains`: the rules of networks in private chains, as libvirt has made them since 5.1.
        /// `classic`: straight in INPUT, OUTPUT, FORWARD and POSTROUTING, the rules that libvirt made up to 5.0.
        /// `classic-document`: there too, the rules that libvirt's description of its firewall lists.
        #[serde(deserialize_with = "named::<LayoutName, _, _>")]
        layout: Layout = Layout::default(); Some(r#""chains""#), "`\"chains\"`, `\"classic\"` or `\"classic-document\"`", r#""classic""#;
        /// Whether warnings count as errors.
        strict: bool = false; Some("false"), "`true` or `false`", "true";
        /// What `run` does about differences. `enforce`: makes the kernel what the files say, and keeps it so. `observe`: says what differs and writes
        /// nothing. `plan`: writes what it would do to `plan_file`, for `bridgeward apply --plan`.
        mode: Mode = Mode::default(); Some(r#""enforce""#), "`\"enforce\"`, `\"observe\"` or `\"plan\"`", r#""observe""#;
        /// Where plans go in mode `plan`; unset: `plan.json` beside the record, below `run_dir`.
        plan_file: Option<PathBuf> = None; None, "a path", r#""/var/lib/bridgeward/plan.json""#;
        /// `true`: switches of the kernel that the rules need (net.ipv4.ip_forward, net.ipv6.conf.*.forwarding, net.bridge.bridge-nf-call-*) are set, and
        /// set again when somebody resets them. They are never set back. `false`: only told of.
        manage_sysctls: bool = false; Some("false"), "`true` or `false`", "true";
        /// The record of installed rules and the locks. It must not survive a reboot.
        run_dir: PathBuf = PathBuf::from("/run/bridgeward"); Some(r#""/run/bridgeward""#), "a path", r#""/run/bridgeward-lab""#;
        /// The group that may ask a running daemon for its status (`bridgeward status`), at `bridgeward.sock` in `run_dir`; without one, only root may. The group
        /// can ask and nothing else. The shipped unit needs `SupplementaryGroups=` with the same name to hand the socket to it.
        socket_group: Option<String> = None; None, "the name of a group", r#""adm""#;
        /// How the daemon's log is written. `auto`: to journald with fields where systemd started it, else text. `text` and `json` go to stderr, `journald` to
        /// the journal.
        log: LogName = LogName::default(); Some(r#""auto""#), "`\"auto\"`, `\"text\"`, `\"json\"` or `\"journald\"`", r#""json""#;
        /// The addresses that `run` has learned from guests whose files give none. It should survive a reboot.
        learned_dir: PathBuf = PathBuf::from("/var/lib/bridgeward"); Some(r#""/var/lib/bridgeward""#), "a path", r#""/srv/learned""#;
        /// How often `run` looks at the kernel and the files although nothing said that they changed. At the files only once a minute where it hears of every
        /// change: none has a second name or is reached through a link, and all lie on a file system of this host alone.
        #[serde(deserialize_with = "duration")]
        poll: Duration = Duration::from_secs(10); Some(r#""10s""#), "a time from `\"100ms\"` to `\"1day\"`", r#""2s""#;
        /// How long `run` waits after the last change of a file before it reads the state.
        #[serde(deserialize_with = "duration")]
        settle: Duration = Duration::from_millis(75); Some(r#""75ms""#), "a time of at most `\"10s\"`", r#""500ms""#;
    } {
        /// The commands to run.
        tools: Tools;
        /// Where metrics go.
        metrics: Metrics;
    }
}

settings! {
    /// The tools by name or path, each used with `-save` and `-restore` appended, and how they are run.
    Tools, "tools", TOOLS {
        /// The tool for IPv4, by name or path; it is used with `-save` and `-restore` appended, too.
        iptables: String = "iptables".into(); Some(r#""iptables""#), "a name or a path", r#""iptables-legacy""#;
        /// The tool for IPv6, likewise.
        ip6tables: String = "ip6tables".into(); Some(r#""ip6tables""#), "a name or a path", r#""ip6tables-legacy""#;
        /// The tool for bridges, likewise.
        ebtables: String = "ebtables".into(); Some(r#""ebtables""#), "a name or a path", r#""/usr/sbin/ebtables-nft""#;
        /// How long a tool may run before it is killed and its run has failed; what is written gets a second more for each 100 kB. A tool that waits for a lock
        /// or reads some ten thousand chains takes long without being stuck.
        #[serde(deserialize_with = "duration")]
        time_limit: Duration = System::DEFAULT_LIMIT; Some(r#""2min""#), "a time from `\"1s\"` to `\"1h\"`", r#""10min""#;
    }
}

settings! {
    /// Where metrics go; nowhere unless something is named.
    Metrics, "metrics", METRICS {
        /// The address to hand out metrics for Prometheus at, below `/metrics`, to whoever reaches it. contrib/prometheus and contrib/grafana have alerts and a
        /// dashboard.
        listen: Option<SocketAddr> = None; None, "an address with a port", r#""127.0.0.1:9876""#;
        /// The file to keep for node_exporter's textfile collector.
        textfile: Option<PathBuf> = None; None, "an absolute path that ends in `.prom`", r#""/var/lib/prometheus/node-exporter/bridgeward.prom""#;
    }
}

/// Every key, in the order in which they are told.
pub fn keys() -> Vec<Key> {
    [TOP, TOOLS, METRICS].concat()
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
    if !TIME_LIMITS.contains(&config.tools.time_limit) {
        return Err(wrong("time_limit", "`time_limit` is out of range".to_owned(), "expected \"1s\" to \"1h\""));
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
        .help("bridgeward.toml(5) explains every key: bridgeward man bridgeward.toml")
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
        assert_eq!(read(&key::shipped(&keys())), Ok(Config::default()));
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
            time_limit = "10min"
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
        assert_eq!(config.tools.time_limit, Duration::from_mins(10));
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

    #[test]
    fn tools_get_a_second_at_least_and_an_hour_at_most() {
        let refused = ("`time_limit` is out of range".to_owned(), "bridgeward.toml:2:1".to_owned());
        for limit in ["999ms", "61min"] {
            assert_eq!(read(&format!("[tools]\ntime_limit = \"{limit}\"\n")).unwrap_err(), refused);
        }
    }
}
