//! The hostile corpus: files that want to cost time or memory, to be taken for something else, or to add a line to restore input.
//!
//! `hostile/<fault>.xml` are read as they are, [`large`] makes what is huge or no text. Each is loaded from disk beside a sound network, filter and guest,
//! which must come out as without it; what is said of it is in `hostile/expected.txt`, to be reviewed like code (`UPDATE_EXPECTED=1` rewrites it).
//! How long each takes, and how much memory, `measure.rs` measures: tests do not time.

#[path = "hostile/large.rs"]
mod large;
mod terminal;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bridgeward::compile::ObjectRules;
use bridgeward::load::{self, Loaded};
use bridgeward::model::{Object, Quirks};
use bridgeward::reconcile::compute::{Computed, Reading};

use crate::fixture::{FILTER, NETWORK, guest};
use crate::restore_law;
use crate::world::World;
use large::{Files, Scale};

/// What the names of cases from [`large`] begin with.
const LARGE: &str = "large/";

/// Enough for every limit that is not one of bytes; a debug build takes its time. `measure.rs` measures at full size.
const SCALE: Scale = Scale { million: 220_000, huge: 1 << 20 };

/// What stands beside every hostile file.
fn good() -> Files {
    let files = [("good-lab.xml", NETWORK.to_owned()), ("good-web.xml", FILTER.to_owned()), ("good-vnet0.xml", guest(0, "web"))];
    files.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect()
}

/// All cases by name.
fn corpus() -> BTreeMap<String, Files> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-tests/hostile");
    let paths = fs::read_dir(directory).expect("the corpus is there").map(|entry| entry.expect("it can be listed").path());
    let is_case = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "xml");
    let small = paths.filter(is_case).map(|path| {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        (name, vec![("evil.xml".to_owned(), fs::read(&path).expect("the corpus can be read"))])
    });
    let large = large::cases(SCALE).into_iter().map(|(name, files)| (format!("{LARGE}{name}"), files));
    let mut corpus = BTreeMap::new();
    for (name, files) in small.chain(large) {
        assert!(corpus.insert(name.clone(), files).is_none(), "there are two cases `{name}`");
    }
    corpus
}

fn load(files: &Files) -> Loaded {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).expect("a file can be written");
    }
    load::load(&[directory.path().to_owned()]).expect("the directory can be read")
}

/// The rules of what is sound, places left out: those count files.
fn good_rules(computed: &Computed) -> Vec<(String, ObjectRules)> {
    let is_good = |object: &Object| matches!(object.to_string().as_str(), "network `lab`" | "interface `vnet0`");
    let mut good: Vec<_> = computed
        .compiled
        .objects
        .iter()
        .filter(|(object, _)| is_good(object))
        .map(|(object, rules)| (object.to_string(), ObjectRules::clone(rules)))
        .collect();
    for rules in good.iter_mut().flat_map(|(_, rules)| [&mut rules.chains, &mut rules.shared, &mut rules.direct]) {
        rules.values_mut().flatten().for_each(|placed| placed.place = None);
    }
    good
}

/// What is said about the hostile files: how often each code, the errors first.
fn said(computed: &Computed) -> String {
    let mut counts: BTreeMap<(bool, &str), usize> = BTreeMap::new();
    for diagnostic in &computed.diagnostics {
        let severity = if diagnostic.is_error() { "error" } else { "remark" };
        *counts.entry((severity != "error", diagnostic.code)).or_default() += 1;
    }
    let one = |((remark, code), count): (&(bool, &str), &usize)| {
        let severity = if *remark { "remark" } else { "error" };
        if *count == 1 { format!("{severity}[{code}]") } else { format!("{count} x {severity}[{code}]") }
    };
    if counts.is_empty() { "taken".to_owned() } else { counts.iter().map(one).collect::<Vec<_>>().join(", ") }
}

#[test]
fn each_hostile_file_is_answered_clearly_and_costs_a_sound_guest_nothing() {
    let corpus = corpus();
    assert!(corpus.len() >= 200, "only {} cases", corpus.len());
    let alone = good_rules(&restore_law::judge_loaded(&load(&good()), Reading::default()).0);
    assert_eq!(alone.len(), 2, "a network and a guest");
    let mut shown = String::new();
    for (name, files) in &corpus {
        let loaded = load(&[good(), files.clone()].concat());
        let mut line = format!("{name}:");
        // What is large costs the same in both modes.
        let modes: &[Quirks] = if name.starts_with(LARGE) { &[Quirks::Fixed] } else { &[Quirks::Fixed, Quirks::Libvirt] };
        for &quirks in modes {
            let (computed, _) = restore_law::judge_loaded(&loaded, Reading { quirks, ..Reading::default() });
            assert!(good_rules(&computed) == alone, "{name}: the sound guest does not have its rules");
            let label = if quirks == Quirks::Fixed { "" } else { " | libvirt quirks:" };
            line = format!("{line}{label} {}", said(&computed));
        }
        shown += &line;
        shown.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-tests/hostile/expected.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &shown).expect("the corpus can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let difference = similar::TextDiff::from_lines(&expected, &shown).unified_diff().header("expected", "said").to_string();
    assert!(difference.is_empty(), "{difference}");
}

#[test]
fn with_all_hostile_files_at_once_the_kernel_holds_the_sound_guests_rules_and_closes_the_rest() {
    let world = World::new();
    for (name, bytes) in good() {
        fs::write(world.state().join(name), bytes).expect("the state directory takes files");
    }
    world.apply();
    let sound = |world: &World| {
        let save = world.save_all();
        let ours = save.lines().filter(|line| ["vnet0 ", "vnet0-", "br-lab", "10.40.0.", "fd40:"].iter().any(|mark| line.contains(mark)));
        ours.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = sound(&world);
    // The files of a case stay together; those that would be the same object in two cases are held for it, which is as good a reason.
    for (case, files) in corpus() {
        let directory = world.state().join(&case);
        fs::create_dir_all(&directory).expect("the state directory takes directories");
        for (name, bytes) in files.iter().filter(|(_, bytes)| bytes.len() < 100_000) {
            fs::write(directory.join(name), bytes).expect("the state directory takes files");
        }
    }
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_eq!(sound(&world), before, "{answer}");
    let save = world.save_all();
    assert!(!save.contains("evil"), "a hostile name came into the kernel:\n{save}");
    let devices: BTreeSet<&str> = save.lines().filter_map(|line| line.strip_prefix("-A PREROUTING -i ")?.split(' ').next()).collect();
    assert!(devices.is_subset(&BTreeSet::from(["vnet0", "vnet66"])), "{devices:?}");
}
