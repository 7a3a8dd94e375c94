//! Where libvirt and its XML disagree: every row of docs/quirks.md names its case here, and every case is run in both modes.
//!
//! A case folder `quirks/<case>/` holds the state (`*.xml`; the guest is that of `quirks/guest.xml` unless the case has its own), perhaps
//! `before.xml` (a filter that was in force until then), and the outcome: `rules` where both modes make the same of it, else `fixed.rules`
//! and `libvirt.rules`; `refused`, `fixed.refused` or `libvirt.refused` (code and place) where `check` refuses it. The rules of libvirt
//! mode are what a real libvirtd 9.0 left in the kernel. After a change run the tests once with `UPDATE_EXPECTED=1` and argue with the XML.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::rules;
use crate::world::World;

/// The rows of the list that the sources and the table refer to.
const ROWS: std::ops::RangeInclusive<u32> = 1..=36;

/// Rows that no rule of one host can show; the table says why.
const WITHOUT_A_CASE: [u32; 3] = [23, 33, 36];

const INTO_STRING: &str = "writing to a string cannot fail";

/// A row of the table.
struct Row {
    /// The rows of the list that it is about; none for what the list lacks.
    numbers: Vec<u32>,
    /// What `fixed` makes of it.
    verdict: String,
    /// The case that shows it.
    case: Option<String>,
}

#[test]
fn fixed_quirks_make_what_the_table_says() {
    check_all("fixed");
}

#[test]
fn libvirt_quirks_make_what_libvirt_makes() {
    check_all("libvirt");
}

#[test]
fn every_row_has_its_case_and_every_case_its_row() {
    let rows = table();
    let told: BTreeSet<u32> = rows.iter().flat_map(|row| row.numbers.iter().copied()).collect();
    assert_eq!(told, ROWS.collect(), "the rows that docs/quirks.md tells of");
    let shown: BTreeSet<u32> = rows.iter().filter(|row| row.case.is_some()).flat_map(|row| row.numbers.iter().copied()).collect();
    assert_eq!(told.difference(&shown).copied().collect::<Vec<_>>(), WITHOUT_A_CASE, "the rows that no case shows");
    let mut named: Vec<String> = rows.into_iter().filter_map(|row| row.case).collect();
    named.sort();
    assert_eq!(named, cases(), "left: docs/quirks.md, right: reconcile-tests/quirks");
}

#[test]
fn verdicts_agree_with_the_outcomes() {
    let mut wrong = String::new();
    for Row { verdict, case, .. } in table() {
        let Some(case) = case else { continue };
        let has = |name: &str| folder(&case).join(name).exists();
        let code = verdict.split('`').nth(1).unwrap_or("");
        let refused = |name: &str| {
            let text = fs::read_to_string(folder(&case).join(name)).unwrap_or_default();
            text.lines().any(|line| line.split(' ').next() == Some(code))
        };
        let right = match verdict.split([' ', ':', ',']).next() {
            Some("same") => has("rules"),
            Some("exact") => has("fixed.rules") && (has("libvirt.rules") || has("libvirt.refused")),
            Some("error") if verdict.contains("in both modes") => refused("refused"),
            Some("error") => refused("fixed.refused") && (has("libvirt.rules") || has("libvirt.refused")),
            _ => false,
        };
        if !right {
            writeln!(wrong, "{case}: {verdict}").expect(INTO_STRING);
        }
    }
    assert!(wrong.is_empty(), "docs/quirks.md says what the cases do not show:\n{wrong}");
}

/// Runs every case in one mode, one after another in one world, so that each starts by an exchange of rules.
fn check_all(quirks: &str) {
    let world = World::new();
    world.sh("ipset create tck_test hash:ip");
    let verdicts: BTreeMap<String, String> = table().into_iter().filter_map(|row| Some((row.case?, row.verdict))).collect();
    let faults: String = cases().iter().map(|case| fault(&world, case, quirks, verdicts.get(case).map_or("", String::as_str))).collect();
    assert!(faults.is_empty(), "{faults}");
}

/// What is wrong with a case, empty when it is right.
fn fault(world: &World, case: &str, quirks: &str, verdict: &str) -> String {
    let with = |command: &str, files: &[PathBuf]| {
        let states = files.iter().flat_map(|file| ["--state".to_owned(), file.display().to_string()]);
        let words: Vec<String> = [command, "-v", "--quirks", quirks].map(str::to_owned).into_iter().chain(states).collect();
        world.bridgeward(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let state = state(case);
    let check = with("check", &state);
    let said = format!("{}{}", check.stdout, check.stderr);
    if check.code == Some(1) {
        return compare(case, quirks, "refused", &refusals(&said), &check.to_string());
    }
    let remark = ["with the note `", "with the warning `"].iter().find_map(|words| verdict.split(words).nth(1)?.split('`').next());
    let unsaid = match remark.filter(|code| quirks == "fixed" && !said.contains(&format!("[{code}]"))) {
        Some(code) => format!("{case}: nothing is said of `{code}`\n{check}\n"),
        None => String::new(),
    };
    let before = folder(case).join("before.xml");
    if before.exists() {
        let apply = with("apply", &[before, folder(case).with_file_name("guest.xml")]);
        assert_eq!(apply.code, Some(0), "{case}: {apply}");
    }
    let apply = with("apply", &state);
    if apply.code != Some(0) {
        return format!("{case} is refused with {quirks} quirks:\n{apply}\n");
    }
    let found = save(world);
    let second = with("diff", &state);
    let settled = if second.code == Some(0) { String::new() } else { format!("the second diff of {case} is not empty:\n{second}\n") };
    unsaid + &compare(case, quirks, "rules", &found, &apply.to_string()) + &settled
}

/// Compares with the outcome that both modes share, or with that of this one; or writes it.
fn compare(case: &str, quirks: &str, what: &str, found: &str, answer: &str) -> String {
    let (common, own) = (folder(case).join(what), folder(case).join(format!("{quirks}.{what}")));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let other = folder(case).join(format!("{}.{what}", if quirks == "fixed" { "libvirt" } else { "fixed" }));
        let shared =
            fs::read_to_string(&other).is_ok_and(|text| text == found) || fs::read_to_string(&common).is_ok_and(|text| text == found);
        let _ = fs::remove_file(if shared { &other } else { &own });
        fs::write(if shared { common } else { own }, found).expect("the case takes its outcome");
        return String::new();
    }
    let path = if common.exists() { common } else { own };
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == found { String::new() } else { format!("{}:\n--- expected\n{expected}--- found\n{found}{answer}\n", path.display()) }
}

/// `CODE FILE:LINE:COLUMN` for every error of a `check`.
fn refusals(said: &str) -> String {
    let mut text = String::new();
    let mut lines = said.lines();
    while let Some(line) = lines.next() {
        let Some(code) = line.strip_prefix("error[").and_then(|rest| rest.split(']').next()) else { continue };
        let place = lines.find_map(|line| line.trim_start().strip_prefix("--> ")).unwrap_or("nowhere");
        writeln!(text, "{code} {}", place.rsplit('/').next().unwrap_or(place)).expect(INTO_STRING);
    }
    text
}

/// Every rule, and the ebtables chains whose end returns: what the tools make chains with is not told.
fn save(world: &World) -> String {
    let saved = world.save_all();
    let mut text = String::new();
    for (chain, rules) in rules::normal(rules::parse(&saved)) {
        for rule in rules {
            writeln!(text, "{chain} {rule}").expect(INTO_STRING);
        }
    }
    for line in saved.lines().filter(|line| line.starts_with(':') && line.ends_with(" RETURN")) {
        writeln!(text, "ebtables nat {line}").expect(INTO_STRING);
    }
    text
}

/// The files of a case, and the guest that it shares with others.
fn state(case: &str) -> Vec<PathBuf> {
    let folder = folder(case);
    let entries = fs::read_dir(&folder).expect("the case can be listed").map(|entry| entry.expect("the case can be listed").path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "xml") && !path.ends_with("before.xml")).collect();
    files.sort();
    if !files.iter().any(|file| file.ends_with("guest.xml") || file.ends_with("network.xml")) {
        files.push(folder.with_file_name("guest.xml"));
    }
    files
}

fn cases() -> Vec<String> {
    let entries = fs::read_dir(folder("")).expect("the cases are there").map(|entry| entry.expect("the cases can be listed"));
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-tests/quirks").join(case)
}

/// The rows of docs/quirks.md: `| numbers | libvirt 9.0 | fixed | case |`; a case is a single word in backticks.
fn table() -> Vec<Row> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quirks.md")).expect("the page is there");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(str::trim).collect();
        let [numbers, _, verdict, case] = cells[..] else { return None };
        let numbers = numbers.split(", ").filter_map(|number| number.parse().ok()).collect();
        let case = case.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')).map(str::to_owned);
        (verdict != "`fixed`").then(|| Row { numbers, verdict: verdict.to_owned(), case })
    });
    rows.collect()
}
