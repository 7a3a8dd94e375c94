//! `status`: what the running daemon knows, for people and for machines.
//!
//! What is wrong comes first, each with where it is and how to mend it; then what happened. Times are told as how long ago, because what was a minute ago and what
//! was last week should not look alike.

use std::fmt::Write as _;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::Exit;
use super::options::{Format, Status as Options};
use super::settings::Settings;
use crate::backend::namespace;
use crate::config::name::Mode;
use crate::daemon::ask::{Statuses, Telling};
use crate::daemon::history::{Author, Drift, Outcome};
use crate::daemon::status::{Held, Listening, Moment, ObjectStatus, Prerequisite, State, Status, Weight};
use crate::diagnostic::{Style, several, visible};
use crate::output::Output;
use crate::reconcile::report::MOST_HELD;

/// Drift and learned addresses told in full; the document has more.
const MOST_LINES: usize = 10;
/// Rules told of one time of drift.
const MOST_RULES: usize = 5;
/// How often a page is drawn anew though nothing happened, and how often it is looked whether a daemon that went has come back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Home, and clear the screen.
const REDRAW: &str = "\x1b[H\x1b[2J";

pub fn status(settings: &Settings, options: &Options) -> anyhow::Result<Exit> {
    let namespace = namespace::identity()?.namespace;
    let ask = |telling| Statuses::ask(&settings.config.run_dir, &namespace, telling);
    if options.watch {
        return watch(settings.output, options.format, || ask(Telling::Always));
    }
    let status = ask(Telling::Now)?.next().context("the daemon stopped before it answered")??;
    settings.output.text(&shown(&status, options.format, Telling::Now, settings.output.data)?)?;
    Ok(if status.needs_person() { Exit::Attention } else { Exit::Done })
}

/// Shows the status whenever it changes, until somebody ends it. A daemon that goes away is waited for: it may be restarting.
fn watch(output: Output, format: Format, ask: impl Fn() -> anyhow::Result<Statuses>) -> anyhow::Result<Exit> {
    let page = output.is_terminal && format == Format::Text;
    let mut statuses = follow(ask()?);
    let mut last = None;
    loop {
        match heard(&statuses, page) {
            Ok(status) => last = Some(status?),
            // Nothing happened, but what is told as how long ago is longer ago now.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                output.message("the daemon went away; waiting for it to come back (ctrl-c ends this)");
                statuses = loop {
                    std::thread::sleep(LOOK_AGAIN);
                    if let Ok(again) = ask() {
                        break follow(again);
                    }
                };
                continue;
            }
        }
        let Some(status) = &last else { continue };
        let text = shown(status, format, Telling::Always, output.data)?;
        let text = output.shown(&text);
        let text = if page { format!("{REDRAW}{text}") } else { text.into_owned() };
        if !output.data_wanted(&text)? {
            return Ok(Exit::Done);
        }
    }
}

/// Reads on beside what shows it.
fn follow(mut statuses: Statuses) -> Receiver<anyhow::Result<Status>> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || statuses.all(|status| tell.send(status).is_ok()));
    told
}

/// The next status; for a page, a second at most is waited for it.
fn heard(statuses: &Receiver<anyhow::Result<Status>>, page: bool) -> Result<anyhow::Result<Status>, RecvTimeoutError> {
    if page { statuses.recv_timeout(LOOK_AGAIN) } else { statuses.recv().map_err(|_| RecvTimeoutError::Disconnected) }
}

fn shown(status: &Status, format: Format, telling: Telling, style: Style) -> anyhow::Result<String> {
    Ok(match format {
        // One after another, so that a reader can tell them apart by lines.
        Format::Json if telling == Telling::Always => visible::visible_json(&serde_json::to_string(status)?).into_owned() + "\n",
        Format::Json => visible::json(status),
        Format::Text => text(status, SystemTime::now(), style),
    })
}

/// The whole page.
fn text(status: &Status, now: SystemTime, style: Style) -> String {
    let ago = |moment: Moment| lasted(now.duration_since(moment.0).unwrap_or_default());
    let mut out = String::new();
    let daemon = &status.daemon;
    let state: Vec<String> = daemon.state.iter().map(|path| path.display().to_string()).collect();
    let well = match () {
        () if status.needs_person() => bold("something needs a person", "31", style),
        () if status.passes.is_empty() => bold("the first pass has not ended yet", "33", style),
        () => bold("the rules are as they should be", "32", style),
    };
    let _ = writeln!(
        out,
        "{well}: bridgeward {} (process {}), up {}, {} {}",
        daemon.version,
        daemon.pid,
        ago(daemon.started),
        match daemon.mode {
            Mode::Enforce => "keeps",
            Mode::Observe => "only observes",
            Mode::Plan => "only plans for",
        },
        state.join(", ")
    );
    wrong(&mut out, status, style);
    host(&mut out, status, style);
    let _ = writeln!(out, "\n{}: {}", several(status.objects.len(), "object"), counts(&status.objects));
    match status.passes.first() {
        None => out.push_str("last pass: none has ended yet\n"),
        Some(pass) => {
            let done = match pass.outcome {
                Outcome::InSync => "in sync".to_owned(),
                Outcome::Applied => format!("{} added, {} removed", several(pass.inserted, "rule"), pass.deleted),
                Outcome::Repaired => format!("drift repaired, {} added, {} removed", several(pass.inserted, "rule"), pass.deleted),
                Outcome::Seen => "differences that the mode leaves".to_owned(),
                Outcome::Unfinished => "not all of it stayed".to_owned(),
                Outcome::Failed => "failed".to_owned(),
            };
            let _ = writeln!(out, "last pass: {} ago ({}): {done}, {} ms", ago(pass.begun), pass.cause, pass.took_ms);
        }
    }
    drift(&mut out, &status.drift, ago);
    if !status.learned.is_empty() {
        let noun = if status.learned.len() == 1 { "address" } else { "addresses" };
        let _ = writeln!(out, "learned: {} {noun}", status.learned.len());
        for learned in status.learned.iter().take(MOST_LINES) {
            let until = learned
                .until
                .map_or_else(String::new, |until| format!(", for another {}", lasted(until.0.duration_since(now).unwrap_or_default())));
            let _ = writeln!(out, "  {} {} ({}{until})", learned.object, learned.address, learned.source);
        }
        more(&mut out, status.learned.len(), MOST_LINES);
    }
    let Listening { taps, frames, malformed, surplus } = status.listening;
    if taps > 0 || frames > 0 {
        let _ = writeln!(
            out,
            "listening: {}; {} heard, {malformed} malformed, {surplus} from guests that send too many",
            several(taps, "tap"),
            several(usize::try_from(frames).unwrap_or(usize::MAX), "frame")
        );
    }
    out
}

/// What needs a person.
fn wrong(out: &mut String, status: &Status, style: Style) {
    let head = |out: &mut String, words: &str| {
        let _ = writeln!(out, "\n{}", bold(words, "31", style));
    };
    if !status.trouble.is_empty() {
        head(out, "trouble with the host");
        status.trouble.iter().for_each(|trouble| indent(out, trouble));
    }
    if !status.fights.is_empty() {
        head(out, "somebody keeps undoing our rules: find out who and stop it, or leave those rules to it");
        for fight in &status.fights {
            let _ = writeln!(
                out,
                "  {}: by {}; repaired {} times, the next repair waits {}{}",
                fight.chain,
                authors(&fight.by),
                fight.repairs,
                lasted(Duration::from_millis(fight.pause_ms)),
                if fight.open { "; until then packets pass that its rules should stop" } else { "" }
            );
        }
    }
    if !status.stuck.is_empty() {
        head(
            out,
            "rules that do not stay as written: they are left alone, all others are kept; please report them with the tool's version",
        );
        for stuck in &status.stuck {
            let whose = stuck.object.as_ref().map_or_else(String::new, |object| format!("{object}: "));
            let _ = writeln!(out, "  {whose}{} {} {}: `{}`", stuck.family, stuck.table, stuck.chain, stuck.rule);
        }
    }
    if !status.faults.is_empty() {
        head(out, "faults in the state files: `bridgeward check` shows them with the lines");
        for fault in &status.faults {
            let _ = writeln!(out, "  {}: error[{}]: {}", fault.place, fault.code, fault.message);
            if let Some(help) = &fault.help {
                let _ = writeln!(out, "    help: {help}");
            }
        }
    }
    let held: Vec<(&ObjectStatus, &Held)> = status.objects.iter().filter_map(|object| Some((object, object.held.as_ref()?))).collect();
    if !held.is_empty() {
        head(out, "not as their files say");
        for (object, held) in held.iter().take(MOST_HELD) {
            let _ = writeln!(out, "  {}: {}; {}", object.object, held.message, held.keeping);
            if let Some(place) = &held.place {
                let _ = writeln!(out, "    --> {place}");
            }
        }
        if let Some(more) = held.len().checked_sub(MOST_HELD).filter(|more| *more > 0) {
            let _ = writeln!(out, "  {more} more, which `status --format json` names");
        }
    }
}

/// What the host is not like, and what a plan cannot mend.
fn host(out: &mut String, status: &Status, style: Style) {
    if !status.prerequisites.is_empty() {
        let _ = writeln!(out, "\n{}", bold("the host", "33", style));
        status.prerequisites.iter().for_each(|unmet| prerequisite(out, unmet));
    }
    if !status.remarks.is_empty() {
        let _ = writeln!(out, "\n{}", bold("remarks", "33", style));
        status.remarks.iter().for_each(|remark| indent(out, &remark.message));
    }
}

fn prerequisite(out: &mut String, unmet: &Prerequisite) {
    let word = match (unmet.mended, unmet.severity) {
        (true, _) => "mended",
        (false, Weight::Error) => "error",
        (false, Weight::Warning) => "warning",
        (false, Weight::Note) => "note",
    };
    indent(out, &format!("{word}[{}]: {}", unmet.code, unmet.message));
    if let Some((first, others)) = unmet.concerns.split_first() {
        let others = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let _ = writeln!(out, "    concerns {first}{others}");
    }
}

fn drift(out: &mut String, drift: &[Drift], ago: impl Fn(Moment) -> String) {
    if drift.is_empty() {
        out.push_str("drift: none since the daemon came up\n");
        return;
    }
    let _ = writeln!(out, "drift: {}", several(drift.len(), "time"));
    for once in drift.iter().take(MOST_LINES) {
        let end = once.repaired_after_ms.map_or_else(|| "not repaired".to_owned(), |after| format!("repaired after {after} ms"));
        let rules = several(once.rules.len() + once.more, "rule");
        let _ = writeln!(out, "  {} ago by {}: {rules}, {end}", ago(once.seen), authors(&once.by));
        for edit in once.rules.iter().take(MOST_RULES) {
            let whose = edit.object.as_ref().map_or_else(String::new, |object| format!("  # {object}"));
            let _ = writeln!(out, "    {}{whose}", edit.rule);
        }
        let more = once.rules.len().saturating_sub(MOST_RULES) + once.more;
        if more > 0 {
            let _ = writeln!(out, "    and {more} more");
        }
    }
    more(out, drift.len(), MOST_LINES);
}

fn more(out: &mut String, all: usize, shown: usize) {
    if let Some(more) = all.checked_sub(shown).filter(|more| *more > 0) {
        let _ = writeln!(out, "  and {more} more: --format json has all");
    }
}

fn authors(by: &[Author]) -> String {
    match by {
        [] => "somebody that the kernel does not name".to_owned(),
        by => by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// `7 in force, 1 held`.
fn counts(objects: &[ObjectStatus]) -> String {
    let count = |state| objects.iter().filter(|object| object.state == state).count();
    let counts = State::ALL.into_iter().map(|state| (state.word().replace('-', " "), count(state)));
    let told: Vec<String> = counts.filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}")).collect();
    if told.is_empty() { "the state names none".to_owned() } else { told.join(", ") }
}

/// A time as people say it: its two largest units.
fn lasted(time: Duration) -> String {
    let whole = if time < Duration::from_secs(10) {
        Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(0))
    } else {
        Duration::from_secs(time.as_secs())
    };
    humantime::format_duration(whole).to_string().split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn indent(out: &mut String, text: &str) {
    text.lines().for_each(|line| {
        let _ = writeln!(out, "  {line}");
    });
}

fn bold(words: &str, color: &str, style: Style) -> String {
    match style {
        Style::Colored => format!("\x1b[1;{color}m{words}\x1b[0m"),
        Style::Plain => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day on which a file broke and somebody flushed.
    const DOCUMENT: &str = include_str!("../daemon/status/example.json");

    #[test]
    fn what_is_wrong_comes_first_and_then_what_happened() {
        let status: Status = serde_json::from_str(DOCUMENT).expect("a status");
        let now = humantime::parse_rfc3339("2026-11-24T12:00:00Z").expect("a time");
        assert_eq!(
            text(&status, now, Style::Plain),
            "something needs a person: bridgeward 0.1.0 (process 812), up 2h, keeps /etc/bridgeward/state

trouble with the host
  `ip6tables` is not installed: no such program in PATH

somebody keeps undoing our rules: find out who and stop it, or leave those rules to it
  iptables filter FO-vnet1: by puppet[99]; repaired 7 times, the next repair waits 1s 600ms; until then packets pass that its rules should stop

rules that do not stay as written: they are left alone, all others are kept; please report them with the tool's version
  interface `vnet1`: iptables filter FO-vnet1: `-p tcp -j ACCEPT`

faults in the state files: `bridgeward check` shows them with the lines
  vnet0.xml:3:9: error[xml-syntax]: the file ends inside `<filterbinding>`
    help: close it

not as their files say
  interface `vnet0`: the file that defined it is broken; its last good rules stay in force
    --> vnet0.xml:3:9

the host
  error[bridge-nf-call-iptables]: bridged frames pass iptables by
    concerns interface `vnet0` and 1 more

remarks
  a rule in LIBVIRT_INP is not ours and cannot be read

2 objects: 1 in force, 1 held
last pass: 1s 500ms ago (poll): in sync, 15 ms
drift: 1 time
  2m ago by iptables[3246]: 7 rules, repaired after 61 ms
    + iptables filter -A LIBVIRT_FWO -i br-lab -j REJECT  # network `lab`
    and 6 more
learned: 1 address
  interface `vnet1` 10.0.0.7 (lease from 10.0.0.1, for another 30m)
listening: 2 taps; 120 frames heard, 3 malformed, 40 from guests that send too many
"
        );
    }

    #[test]
    fn the_document_reads_back_as_it_was_written() {
        let status: Status = serde_json::from_str(DOCUMENT).expect("a status");
        let again = serde_json::to_value(&status).expect("it can be written");
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(DOCUMENT).expect("JSON"));
    }
}
