//! What the XML means, in the default quirks mode: rules written by hand from the XML, one row of docs/quirks.md or one tricky
//! combination in each case.
//!
//! A case folder holds `state/`, whose `case.xml` says in a comment what is meant, and `expected.rules`. These files are not what
//! the program once gave: whoever changes one argues with the XML.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rules;
use crate::world::World;

#[test]
fn the_kernel_holds_what_the_xml_means() {
    let world = World::new();
    world.sh("ipset create tck_test hash:ip");
    let mut cases: Vec<PathBuf> = folders().collect();
    cases.sort();
    assert!(cases.len() >= 20, "cases were lost: {cases:?}");
    let faults: String = cases.iter().map(|case| fault(&world, case)).collect();
    assert!(faults.is_empty(), "{faults}");
}

/// What is wrong with a case, empty when it is right; every case follows upon the last, so each starts by an exchange of rules.
fn fault(world: &World, case: &Path) -> String {
    let name = case.display();
    let state = case.join("state").display().to_string();
    let apply = world.bridgeward(&["apply", "--state", &state]);
    if apply.code != Some(0) {
        return format!("{name} is refused:\n{apply}\n");
    }
    let expected = fs::read_to_string(case.join("expected.rules")).expect("every case has expected rules");
    let wanted = rules::normal(rules::parse(&expected));
    let found = rules::normal(rules::parse(&world.save_all()));
    let difference = rules::difference(&wanted, &found);
    if !difference.is_empty() {
        return format!("{name}:\n{difference}\n{apply}\n");
    }
    let second = world.bridgeward(&["diff", "--state", &state]);
    if second.code == Some(0) { String::new() } else { format!("the second diff of {name} is not empty:\n{second}\n") }
}

fn folders() -> impl Iterator<Item = PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-tests/cases-fixed");
    let entries = fs::read_dir(root).expect("the folder is readable");
    entries.map(|entry| entry.expect("the folder is readable").path()).filter(|path| path.is_dir())
}
