//! The kernel through the installed tools: `*-save` in, `*-restore --noflush` out.
//!
//! One process per family reads all of its tables, one commits. What a tool says on failure is passed on whole; nothing is retried and nothing
//! is decided here.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::generation;
use super::host;
use super::probe::{Tool, Tools, Variant, legacy_tables};
use super::process::{self, Finished, RunFailure};
use super::refusal::{self, Cause};
use super::{Kernel, Refusal, RefusalKind};
use crate::plan::prerequisite::{Facts, Switches};
use crate::plan::script::Script;
use crate::ruleset::{Family, Observation, Observed, Table, save};

/// The kernel of this host.
#[derive(Debug, Clone)]
pub struct System {
    tools: Tools,
    limit: Duration,
    /// Tools that committed and nobody has asked for yet.
    writers: Arc<Mutex<BTreeSet<u32>>>,
}

/// A program with its arguments.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    program: PathBuf,
    arguments: &'static [&'static str],
    /// As people would type it.
    shown: String,
}

impl Kernel for System {
    async fn observe(&self, families: &[Family]) -> Observed {
        let observe =
            async |family: Family| if families.contains(&family) { Some((family, self.observe_family(family).await)) } else { None };
        let (ipv4, ipv6, bridge) = tokio::join!(observe(Family::Ipv4), observe(Family::Ipv6), observe(Family::Bridge));
        Observed { families: [ipv4, ipv6, bridge].into_iter().flatten().collect() }
    }

    fn generation(&self) -> Option<u32> {
        let silent = |tool: &Tool| tool.variant == Variant::Legacy;
        let any_silent = Family::ALL.iter().filter_map(|family| self.tools.of(*family).ok()).any(silent);
        if any_silent { None } else { generation::generation().ok() }
    }

    fn writers(&self) -> BTreeSet<u32> {
        std::mem::take(&mut self.writers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn host(&self, switches: &BTreeSet<String>) -> Facts {
        let tools: Vec<&Tool> = Family::ALL.iter().filter_map(|family| self.tools.of(*family).ok()).collect();
        host::facts(tools.into_iter(), switches).await
    }

    fn switches(&self, switches: &BTreeSet<String>) -> Switches {
        host::switches(switches)
    }

    fn set_switch(&self, path: &str, value: &str) -> io::Result<()> {
        host::set(path, value)
    }

    async fn commit(&self, family: Family, script: &Script) -> Result<(), Refusal> {
        let environment = |command: String, status: &str, words: String| Refusal {
            command,
            status: status.to_owned(),
            words,
            kind: RefusalKind::Environment,
        };
        let tool = match self.tools.of(family) {
            Ok(tool) => tool,
            Err(reason) => return Err(environment(format!("{}-restore", family.tool()), "not run", reason)),
        };
        let call = restore_call(tool);
        // A tool takes about 15 us a line; a second for every 100 kB is a thousand lines a second.
        let limit = self.limit + Duration::from_secs(script.text.len() as u64 / 100_000);
        let finished = process::run(&call.program, call.arguments, script.text.as_bytes(), limit).await;
        // Of one that was killed, a part may be in; it is then taken for somebody else's, which costs a look.
        let id = finished.as_ref().ok().and_then(|finished| finished.id);
        self.writers.lock().unwrap_or_else(PoisonError::into_inner).extend(id);
        match finished {
            Ok(finished) if finished.status.success() => Ok(()),
            Ok(finished) => Err(refuse(call.shown, &finished)),
            Err(failure @ RunFailure::TimedOut(_)) => Err(environment(call.shown, "timed out", failure.to_string())),
            Err(failure) => Err(environment(call.shown, "not run", failure.to_string())),
        }
    }
}

impl System {
    /// The longest a tool may take for a small input unless the configuration says otherwise. `ebtables-save` (1.8.9) compares every chain with every other: of 9,000
    /// chains it takes 2 s, of 27,000 it was seen to take over 30 s on a busy machine.
    pub const DEFAULT_LIMIT: Duration = Duration::from_mins(2);

    /// Uses these tools, none of them for longer than `limit` with a small input.
    pub fn new(tools: Tools, limit: Duration) -> Self {
        Self { tools, limit, writers: Arc::default() }
    }

    /// The longest a tool may take for a small input.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// The tools in use.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    async fn observe_family(&self, family: Family) -> Observation {
        let tool = match self.tools.of(family) {
            Ok(tool) => tool,
            Err(reason) => return Observation::Missing(reason),
        };
        // Without a table there is nothing to run for; older legacy tools then load their modules just to find that out.
        if tool.variant == Variant::Legacy && legacy_tables(family).is_some_and(|tables| tables.is_empty()) {
            return Observation::Read(BTreeMap::new());
        }
        let call = save_call(tool);
        match process::run(&call.program, call.arguments, b"", self.limit).await {
            Ok(finished) => read(family, &call, finished).await,
            Err(failure) => Observation::Unreadable(format!("`{}`: {failure}", call.shown)),
        }
    }
}

/// What a save's end and output amount to. Parsing tens of thousands of rules takes longer than a runtime thread should be held.
async fn read(family: Family, call: &Call, finished: Finished) -> Observation {
    if !finished.status.success() {
        let reason = format!("`{}` failed ({}): {}", call.shown, refusal::ending(finished.status), refusal::explain(&finished.words));
        let missing = refusal::cause(&finished.words) == Some(Cause::Kernel);
        return if missing { Observation::Missing(reason) } else { Observation::Unreadable(reason) };
    }
    let parsed = tokio::task::spawn_blocking(move || {
        let text = String::from_utf8_lossy(&finished.output);
        save::parse(family, &of_concern(family, &text)).map_err(|error| error.to_string())
    });
    match parsed.await {
        Ok(Ok(tables)) => Observation::Read(tables),
        Ok(Err(problem)) => Observation::Unreadable(format!("`{}`: {problem}", call.shown)),
        // Only when the runtime is shutting down: nobody will look at it.
        Err(interrupted) => Observation::Unreadable(format!("`{}`: {interrupted}", call.shown)),
    }
}

/// The output without the remarks about tables that we never use.
///
/// ``# Table `raw' is incompatible, use 'nft' tool.``: the tool met native nf_tables rules, left the table out and exits with 0 (1.8.9). [`save::parse`] refuses
/// such an output, lest the table be taken for empty; somebody else's `raw` need not stop us.
fn of_concern(family: Family, text: &str) -> Cow<'_, str> {
    let used: &[Table] = match family {
        Family::Ipv4 | Family::Ipv6 => &[Table::Filter, Table::Nat, Table::Mangle],
        Family::Bridge => &[Table::Nat],
    };
    let foreign = |line: &str| {
        let remark = line.strip_prefix("# Table `").and_then(|rest| rest.split_once("' is incompatible"));
        remark.is_some_and(|(name, _)| !Table::from_name(name).is_some_and(|table| used.contains(&table)))
    };
    if !text.lines().any(foreign) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.lines().filter(|line| !foreign(line)).flat_map(|line| [line, "\n"]).collect())
}

/// The call that prints the tables of a family.
fn save_call(tool: &Tool) -> Call {
    match (tool.family, tool.variant) {
        // `ebtables-legacy-save` is a script that learns the tables from /proc/modules, so that with a monolithic kernel it prints none and
        // exits with 0 (2.0.11): a listing of the one table that matters instead. `--Lmac2`: addresses without dropped zeros.
        (Family::Bridge, Variant::Legacy) => call(tool, "", &["-t", "nat", "-L", "--Lmac2"]),
        _ => call(tool, "-save", &[]),
    }
}

/// The call that commits.
fn restore_call(tool: &Tool) -> Call {
    match tool.family {
        // `--wait` is for the legacy variant's lock. With a blank: legacy 1.8.9 reads `-w5` as an option `-5`. The nf_tables variant takes and ignores it.
        Family::Ipv4 | Family::Ipv6 => call(tool, "-restore", &["--noflush", "--wait", "5"]),
        // Knows neither `--wait` nor `--concurrent` nor `--test` (1.8.9).
        Family::Bridge => call(tool, "-restore", &["--noflush"]),
    }
}

fn call(tool: &Tool, suffix: &str, arguments: &'static [&'static str]) -> Call {
    let shown = std::iter::once(format!("{}{suffix}", tool.command)).chain(arguments.iter().map(|&word| word.to_owned()));
    Call { program: tool.program(suffix), arguments, shown: shown.collect::<Vec<_>>().join(" ") }
}

fn refuse(command: String, finished: &Finished) -> Refusal {
    // Some complaints of `ebtables-legacy` go to stdout.
    let words =
        if finished.words.is_empty() { String::from_utf8_lossy(&finished.output).trim().to_owned() } else { finished.words.clone() };
    Refusal {
        command,
        status: refusal::ending(finished.status),
        kind: refusal::classify(finished.status, &words),
        words: refusal::explain(&words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::probe::Version;

    fn tool(family: Family, command: &str, variant: Variant) -> Tool {
        let path = PathBuf::from("/usr/sbin").join(command);
        Tool { family, command: command.to_owned(), path, variant, version: Version { major: 1, minor: 8, patch: 9 } }
    }

    #[test]
    fn an_incompatible_table_of_ours_is_not_an_empty_one() {
        let text = "# Table `nat' is incompatible, use 'nft' tool.\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
        assert!(save::parse(Family::Ipv4, &of_concern(Family::Ipv4, text)).is_err());
    }

    #[test]
    fn an_incompatible_table_of_somebody_else_stops_nobody() {
        let text = "# Table `raw' is incompatible, use 'nft' tool.\n*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
        let tables = save::parse(Family::Ipv4, &of_concern(Family::Ipv4, text)).expect("filter is readable");
        assert_eq!(tables.keys().collect::<Vec<_>>(), [&Table::Filter]);
        assert_eq!(of_concern(Family::Bridge, "# Table `filter' is incompatible, use 'nft' tool.\n"), "");
    }

    #[test]
    fn incompatible_base_chains_are_left_to_the_parser() {
        let text = "# Table `nat' contains incompatible base-chains, use 'nft' tool to list them.\n";
        assert_eq!(of_concern(Family::Ipv4, text), text);
    }

    #[test]
    fn the_calls_are_those_of_the_variant() {
        let call = restore_call(&tool(Family::Ipv6, "ip6tables-legacy", Variant::Legacy));
        assert_eq!(call.shown, "ip6tables-legacy-restore --noflush --wait 5");
        assert_eq!(call.program, PathBuf::from("/usr/sbin/ip6tables-legacy-restore"));
        assert_eq!(restore_call(&tool(Family::Bridge, "ebtables", Variant::NfTables)).shown, "ebtables-restore --noflush");
        assert_eq!(save_call(&tool(Family::Ipv4, "iptables", Variant::NfTables)).shown, "iptables-save");
        assert_eq!(save_call(&tool(Family::Bridge, "ebtables-legacy", Variant::Legacy)).shown, "ebtables-legacy -t nat -L --Lmac2");
    }
}
