//! The law of restore input: whatever XML goes in, every line that comes out parses back to exactly what was meant, and nothing else comes out.
//!
//! Pure, so that the fuzzer (`fuzz/fuzz_targets/xml.rs`) judges by the same function as the tests. It panics where the law is broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridgeward::backend::fake::Fake;
use bridgeward::diagnostic::{Style, render};
use bridgeward::load::{Loaded, LoadedFile, Stamp};
use bridgeward::model::learned::Learned;
use bridgeward::plan::desire::{self, Choices, Installed};
use bridgeward::plan::script::{self, Script};
use bridgeward::plan::{self, Change, Desired, Plan, TableEdits};
use bridgeward::reconcile::compute::{self, Computed, Reading};
use bridgeward::ruleset::{Family, LiveRule, Observation, Observed, save};

/// Files as if they had been read from a directory.
pub fn loaded(files: &[(&str, &str)]) -> Loaded {
    let stamp = Stamp::OF_NO_FILE;
    let file = |&(path, text): &(&str, &str)| LoadedFile { path: Arc::from(path), text: Arc::from(text), stamp };
    Loaded { files: files.iter().map(file).collect(), ..Loaded::default() }
}

/// Judges everything that is made of these files on a host without any rules; returns it for more to be asked of it.
pub fn judge(files: &[(&str, &str)], reading: Reading) -> (Computed, Desired) {
    judge_loaded(&loaded(files), reading)
}

/// The same for files that were loaded.
pub fn judge_loaded(loaded: &Loaded, reading: Reading) -> (Computed, Desired) {
    let computed = compute::check(loaded, &[], &Learned::default(), reading);
    for diagnostic in &computed.diagnostics {
        assert!(!render(diagnostic, &computed.sources, Style::Plain).is_empty());
    }
    let empty = Observed { families: Family::ALL.map(|family| (family, Observation::Read(BTreeMap::new()))).into() };
    let (resolved, compiled) = (&computed.resolved, &computed.compiled);
    let (desired, _) = desire::desire(resolved, compiled, &BTreeMap::new(), &Installed::default(), &empty, Choices::default());
    let plan = plan::plan(&desired, &empty).expect("all families can be read");
    let kernel = Fake::default();
    for (family, tables) in plan.phases.iter().flat_map(|phase| &phase.families) {
        let script = script::script(*family, tables);
        judge_script(*family, tables, &script);
        kernel.feed(*family, &script.text).unwrap_or_else(|refusal| panic!("{refusal}\n{}", script.text));
    }
    judge_result(&kernel, &plan, empty);
    (computed, desired)
}

/// Every line says what its edit says, by the reader of the tools' own output.
fn judge_script(family: Family, tables: &[TableEdits], script: &Script) {
    assert_eq!(script.text.lines().count(), script.origins.len(), "a value added a line:\n{}", script.text);
    let mut meant: usize = 0;
    let mut before = "";
    for (line, origin) in script.text.split_terminator('\n').zip(&script.origins) {
        let above = std::mem::replace(&mut before, line);
        assert!(!line.chars().any(char::is_control), "a control character in {line:?}");
        let Some((table, edit)) = *origin else {
            let known = tables.iter().any(|table| line == format!("*{}", table.table));
            // Large input for ebtables begins with `-Z`, which it reads faster (see `plan::script`).
            let zeroes = line == "-Z" && above.starts_with('*') && family == Family::Bridge;
            assert!(known || line == "COMMIT" || zeroes, "a line from nowhere: {line:?}");
            continue;
        };
        meant += 1;
        let change = &tables[table].edits[edit].change;
        let mut words = line.splitn(3, ' ');
        let (command, chain, rest) = (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
        let named = command.strip_prefix(':').unwrap_or(chain);
        assert_eq!(named, change.chain().as_str(), "{line:?}");
        let rule = match change {
            Change::Insert { rule, at, .. } if command == "-I" => {
                let (position, rule_text) = rest.split_once(' ').expect("an insertion has a position");
                assert_eq!(position, at.to_string(), "{line:?}");
                Some((rule, rule_text))
            }
            Change::Insert { rule, .. } if command == "-A" => Some((rule, rest)),
            Change::DeleteRule { rule, .. } if command == "-D" => Some((rule, rest)),
            Change::NewChain(_) | Change::SetPolicy { .. } | Change::DeleteChain(_) | Change::DeleteAt { .. } => None,
            other => panic!("{line:?} is not {other:?}"),
        };
        if let Some((rule, text)) = rule {
            assert_eq!(save::parse_rule(family, text), LiveRule::Known(rule.clone()), "{line:?}");
        }
    }
    assert_eq!(meant, tables.iter().map(|table| table.edits.len()).sum::<usize>(), "edits and lines differ:\n{}", script.text);
}

/// The tools, as far as the kernel in memory is like them, make exactly the planned rules of it.
fn judge_result(kernel: &Fake, plan: &Plan, empty: Observed) {
    let mut expected = empty;
    plan::apply(plan, &mut expected);
    for (family, read) in &expected.families {
        let Observation::Read(expected) = read else { unreachable!("an empty family was read") };
        let found = save::parse(*family, &kernel.save(*family)).expect("a save can be read");
        for (table, rules) in expected {
            for (name, chain) in &rules.chains {
                let found = found.get(table).and_then(|table| table.chains.get(name)).map(|chain| &chain.rules);
                assert_eq!(found, Some(&chain.rules), "{family} {table} {name}");
            }
        }
        let count = |tables: &BTreeMap<_, bridgeward::ruleset::TableRules>| {
            tables.values().flat_map(|table| table.chains.values()).map(|chain| chain.rules.len()).sum::<usize>()
        };
        assert_eq!(count(&found), count(expected), "{family} holds rules that nobody meant");
    }
}

#[test]
fn the_example_state_and_the_faulty_corpus_keep_the_law() {
    use std::path::Path;

    use bridgeward::model::Quirks;

    let mut judged = 0;
    for directory in ["state/networks", "state/filters", "state/guests", "reconcile-tests/invalid", "reconcile-tests/lint"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        for entry in std::fs::read_dir(directory).expect("the directory exists") {
            let path = entry.expect("it can be listed").path();
            if path.extension().is_none_or(|extension| extension != "xml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("the corpus is UTF-8");
            for quirks in [Quirks::Fixed, Quirks::Libvirt] {
                judge(&[("state.xml", &text)], Reading { quirks, ..Reading::default() });
            }
            judged += 1;
        }
    }
    assert!(judged > 100, "only {judged} files were judged");
}
