//! `docs/` against the program: what is written there is so, and what is so is written there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::World;

const MANIFEST_DIR: &str = env!("CARGO_MANIFEST_DIR");

/// A learned address as `interface list` tells it. No guest of these worlds learns anything; where one does, its keys are compared with these.
pub fn learned_address() -> Value {
    serde_json::json!({ "address": "10.40.0.50", "server": "10.40.0.1", "until": 1_900_000_000 })
}

#[test]
fn json_has_exactly_the_documented_keys() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.write("vnet1.xml", &guest(1, "missing"));
    // A foreign rule that cannot be parsed is a remark.
    world.sh("iptables -N LIBVIRT_INP; iptables -A LIBVIRT_INP -m recent --set --name x -j ACCEPT");
    let commands = ["check", "render", "diff", "filter list", "network list", "interface list", "interface show vnet0"];
    for command in commands {
        let answer = world.bridgeward(&[&command.split(' ').collect::<Vec<_>>()[..], &["--format", "json"]].concat());
        let document: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(document["v"], 1, "{answer}");
        let mut keys = BTreeSet::new();
        collect_keys(&document, "", &mut keys);
        if command == "interface list" {
            collect_keys(&learned_address(), "interfaces[].learned[]", &mut keys);
        }
        assert_eq!(keys, documented_keys(command.trim_end_matches(" vnet0")), "left: `{command}`, right: docs/json.md\n{answer}");
    }
}

/// A daemon that nothing happened to has little to tell, so what it says is taken together with the example that the program's own tests read and write back: it
/// has every key that there is, and no other.
#[test]
fn the_status_has_exactly_the_documented_keys() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("vnet1.xml", &guest(1, "missing"));
    let mut daemon = world.run(&[]);
    daemon.wait_until("the first pass", || world.bridgeward(&["status"]).code == Some(1));
    let answer = world.bridgeward(&["status", "--format", "json"]);
    let document: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer}"));
    let example: Value = serde_json::from_str(include_str!("../src/daemon/status/example.json")).expect("JSON");
    let mut keys = BTreeSet::new();
    collect_keys(&document, "", &mut keys);
    let told = keys.clone();
    collect_keys(&example, "", &mut keys);
    let documented = documented_keys("status");
    assert_eq!(keys, documented, "left: `status`, right: docs/json.md\n{answer}");
    for key in ["objects[].state", "objects[].held.code", "faults[].place.line", "passes[].outcome", "daemon.state[]"] {
        assert!(told.contains(key), "{key} is not told: {answer}");
    }
}

/// The paths of all leaves, and of all lists: `held[]`, `held[].object.kind`.
fn collect_keys(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect_keys(member, &below, keys);
            }
        }
        Value::Array(elements) => {
            keys.insert(format!("{path}[]"));
            for element in elements {
                collect_keys(element, &format!("{path}[]"), keys);
            }
        }
        // `null` stands for an absent object, whose keys other elements show, or for an absent value.
        Value::Null if ["object", "place", "held"].iter().any(|object| path.ends_with(object)) => {}
        _ => drop(keys.insert(path.to_owned())),
    }
}

/// The first column of a command's table.
fn documented_keys(command: &str) -> BTreeSet<String> {
    let text = document("json.md");
    let section = text.split("\n## ").find(|section| section.starts_with(&format!("{command}\n"))).expect("a section for each command");
    let cells = section.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The codes that the sources can give, each with a message and the severities that the invalid corpus shows for it.
#[test]
fn every_code_is_documented() {
    let mut codes: BTreeMap<String, (BTreeSet<String>, String)> = BTreeMap::new();
    let corpus = files(&Path::new(MANIFEST_DIR).join("reconcile-tests/invalid"), "txt");
    for path in corpus {
        let text = fs::read_to_string(path).expect("the corpus can be read");
        for line in text.lines() {
            let Some((head, message)) = line.split_once("]: ") else { continue };
            let Some((severity, code)) = head.split_once('[') else { continue };
            if ["error", "warning", "note"].contains(&severity) {
                let (severities, example) = codes.entry(code.to_owned()).or_insert_with(|| (BTreeSet::new(), message.to_owned()));
                severities.insert(severity.to_owned());
                if message < example.as_str() {
                    message.clone_into(example);
                }
            }
        }
    }
    let mut table = String::from(
        "# Diagnostics\n\n\
         Every kind of fault that the corpus of invalid files shows, by its code. Codes are stable: scripts may rely on them. Messages are\n\
         for people; here is one of each kind. `--strict` makes every warning an error.\n\n\
         This page is written by the tests (`UPDATE_EXPECTED=1`) from `reconcile-tests/invalid`, where each kind has its files.\n\n\
         | code | severity | for example |\n|---|---|---|\n",
    );
    for (code, (severities, example)) in codes {
        let severities: Vec<String> = severities.into_iter().collect();
        let row = ["| `", code.as_str(), "` | ", &severities.join(", "), " | ", &example.replace('|', "\\|"), " |\n"];
        table.extend(row);
    }
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(Path::new(MANIFEST_DIR).join("docs/diagnostics.md"), &table).expect("the document can be written");
    }
    assert_eq!(document("diagnostics.md"), table, "run the tests once with UPDATE_EXPECTED=1");
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(MANIFEST_DIR).join("docs").join(name)).unwrap_or_default()
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    entries.map(|entry| entry.expect("it can be listed").path()).filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
}
