//! A plan on paper: what will be done, and everything that it was made from, so that it can be looked at now and carried out later or not at all.
//!
//! Same input, same plan: so a plan need not be trusted, it is made again from what is there and compared. [`Bound`] holds fingerprints of the input, by
//! name, only to be able to say *what* moved; the edits in the file are for people and for that comparison, and never reach a tool.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Desired, Plan};
use crate::compile::ObjectRules;
use crate::compile::hooks::base_chains;
use crate::ruleset::{ChainId, ChainRules, Family, LiveRule, Observation, Observed, words};
use crate::source::Sources;

/// Of the shape of the file.
const VERSION: u32 = 1;

/// Where the names of the stock filters begin, which change with the program only.
const STOCK: &str = "<stock>/";

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanFile {
    /// The version of this shape: 1.
    pub v: u32,
    /// When it was made, RFC 3339 in UTC.
    pub made: String,
    /// What it was made from.
    pub bound_to: Bound,
    /// The plan, in the shape of `diff --format json`.
    pub plan: Value,
    /// The same as a unified diff, line by line.
    pub text: Vec<String>,
}

/// Everything that a plan follows from, as fingerprints by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bound {
    /// The boot and the network namespace whose rules were looked at.
    pub host: BTreeMap<String, String>,
    /// Options and keys of the configuration, the program's version among them; the values themselves.
    pub settings: BTreeMap<String, String>,
    /// State files by path.
    pub files: BTreeMap<String, String>,
    /// What every object wants, which also follows from learned addresses and the host's devices.
    pub objects: BTreeMap<String, String>,
    /// Live chains that hold rules of ours, and those that the plan touches, as `iptables filter FORWARD`. One that is not there is not here.
    pub chains: BTreeMap<String, String>,
}

/// A file that is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read as one.
    #[error("it is not a plan of bridgeward: {0}")]
    NotAPlan(String),
    /// Of another version.
    #[error("it has version {0}, and this bridgeward reads version {VERSION}: make it again")]
    Version(u32),
}

#[derive(Deserialize)]
struct Header {
    v: u32,
}

impl PlanFile {
    /// Puts a plan on paper. `document` is its JSON form, `text` its diff.
    pub fn new(made: String, bound_to: Bound, document: &str, text: &str) -> Self {
        let plan = serde_json::from_str(document).expect("what we print is JSON");
        Self { v: VERSION, made, bound_to, plan, text: text.lines().map(str::to_owned).collect() }
    }

    /// Reads what [`PlanFile::write`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(text: &str) -> Result<Self, Unusable> {
        let not_a_plan = |error: serde_json::Error| Unusable::NotAPlan(error.to_string());
        let header: Header = serde_json::from_str(text).map_err(not_a_plan)?;
        if header.v != VERSION {
            return Err(Unusable::Version(header.v));
        }
        serde_json::from_str(text).map_err(not_a_plan)
    }

    /// The file's text.
    pub fn write(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings, numbers and lists have a JSON form");
        text.push('\n');
        text
    }

    /// Whether both say the same, whenever they were made.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.bound_to == other.bound_to && self.plan == other.plan
    }

    /// What is no longer as it was when this plan was made, one clause each; empty when it may be carried out. `document` is the JSON form of the plan that
    /// would be made now.
    pub fn moved(&self, now: &Bound, document: &str) -> Vec<String> {
        let then = &self.bound_to;
        let mut moved = Vec::new();
        for (key, value) in differences(&then.host, &now.host) {
            moved.push(match key {
                "boot" => "the host has been rebooted".to_owned(),
                _ => format!("it was made in another network namespace ({})", value.0.unwrap_or_default()),
            });
        }
        for (key, (then, now)) in differences(&then.settings, &now.settings) {
            moved.push(format!("setting `{key}` was {} and is {}", then.unwrap_or("not there"), now.unwrap_or("not there")));
        }
        moved.extend(changes("file", &then.files, &now.files));
        if moved.is_empty() {
            let objects = changes("what is wanted for", &then.objects, &now.objects);
            moved.extend(objects.map(|change| format!("{change}, though no file did: a learned address or a device of the host")));
        }
        moved.extend(changes("chain", &then.chains, &now.chains));
        let plan: Value = serde_json::from_str(document).expect("what we print is JSON");
        if moved.is_empty() && plan["phases"] != self.plan["phases"] {
            moved.push(
                "the same files and rules would now give another plan: the record of installed rules changed, or the plan was edited"
                    .into(),
            );
        }
        moved
    }
}

impl Bound {
    /// Fingerprints everything that `plan` follows from.
    pub fn new(
        host: BTreeMap<String, String>,
        settings: BTreeMap<String, String>,
        sources: &Sources,
        desired: &Desired,
        plan: &Plan,
        observed: &Observed,
    ) -> Self {
        let files = sources.files().filter(|(_, file)| !file.path.starts_with(STOCK));
        let objects = desired.objects.iter().map(|(object, rules)| (object.to_string(), wishes(rules)));
        let chains = concerned(desired, plan).into_iter().filter_map(|id| Some((name(&id), chain(id.family, live(observed, &id)?))));
        Self {
            host,
            settings,
            files: files.map(|(_, file)| (file.path.to_string(), fingerprint(&file.text))).collect(),
            objects: objects.collect(),
            chains: chains.collect(),
        }
    }
}

/// One fingerprint of all state files, whatever they are called.
pub fn texts(sources: &Sources) -> String {
    let files = sources.files().filter(|(_, file)| !file.path.starts_with(STOCK));
    let mut prints: Vec<String> = files.map(|(_, file)| fingerprint(&file.text)).collect();
    prints.sort();
    fingerprint(&prints.concat())
}

/// SHA-1, cut to 122 bits. It tells changes apart and defends against nobody: whoever may write rules may write them without a plan, and two state files
/// forged to be alike here still give two plans, which are compared whole.
fn fingerprint(text: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string()
}

/// Every chain that the plan depends on, once.
fn concerned(desired: &Desired, plan: &Plan) -> Vec<ChainId> {
    let mut chains: Vec<ChainId> = desired.objects.values().flat_map(|rules| rules.blocks().map(|(id, _)| id.clone())).collect();
    for base in base_chains(&desired.objects) {
        chains.push(ChainId { chain: base.parent, ..base.id.clone() });
        chains.push(base.id);
    }
    chains.extend(desired.direct.keys().chain(&desired.made).cloned());
    chains.extend(plan.edits().map(|(family, table, edit)| ChainId { family, table, chain: edit.change.chain().clone() }));
    chains.sort();
    chains.dedup();
    chains
}

fn live<'o>(observed: &'o Observed, id: &ChainId) -> Option<&'o ChainRules> {
    let Some(Observation::Read(tables)) = observed.families.get(&id.family) else { return None };
    tables.get(&id.table)?.chains.get(&id.chain)
}

fn name(id: &ChainId) -> String {
    format!("{} {} {}", id.family, id.table, id.chain)
}

/// The rules of a live chain; counters are not part of them.
fn chain(family: Family, chain: &ChainRules) -> String {
    let mut text = format!("{:?}\n", chain.policy);
    for rule in &chain.rules {
        match rule {
            LiveRule::Known(rule) => words::rule(family, rule, &mut text),
            LiveRule::Unknown(words) => text.push_str(words),
        }
        text.push('\n');
    }
    fingerprint(&text)
}

fn wishes(rules: &ObjectRules) -> String {
    let mut text = String::new();
    for (id, placed) in rules.blocks() {
        text.extend([name(id).as_str(), if rules.returning.contains(id) { " RETURN\n" } else { "\n" }]);
        for placed in placed {
            words::rule(id.family, &placed.rule, &mut text);
            text.push('\n');
        }
    }
    fingerprint(&text)
}

type Sides<'a> = (Option<&'a str>, Option<&'a str>);

/// The keys whose values differ, with both values.
fn differences<'a>(then: &'a BTreeMap<String, String>, now: &'a BTreeMap<String, String>) -> impl Iterator<Item = (&'a str, Sides<'a>)> {
    let gone = then.iter().map(|(key, value)| (key.as_str(), (Some(value.as_str()), now.get(key).map(String::as_str))));
    let new = now.iter().filter(|(key, _)| !then.contains_key(*key)).map(|(key, value)| (key.as_str(), (None, Some(value.as_str()))));
    gone.chain(new).filter(|(_, (then, now))| then != now)
}

fn changes<'a>(
    what: &'a str,
    then: &'a BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = String> + use<'a> {
    differences(then, now).map(move |(key, sides)| {
        let how = match sides {
            (Some(_), None) => "is gone",
            (None, _) => "is new",
            (Some(_), Some(_)) => "changed",
        };
        format!("{what} {key} {how}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: &str = r#"{"phases": []}"#;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn file(bound: Bound) -> PlanFile {
        PlanFile::new("2026-01-01T00:00:00Z".into(), bound, NOTHING, "--- a\n+++ b\n")
    }

    #[test]
    fn what_moved_is_named() {
        let then = Bound {
            host: map(&[("boot", "1")]),
            settings: map(&[("quirks", "fixed")]),
            files: map(&[("a.xml", "1"), ("b.xml", "1")]),
            chains: map(&[("iptables filter FORWARD", "1")]),
            ..Bound::default()
        };
        let now = Bound {
            host: map(&[("boot", "2")]),
            settings: map(&[("quirks", "libvirt")]),
            files: map(&[("b.xml", "2"), ("c.xml", "1")]),
            chains: map(&[("iptables filter FORWARD", "2")]),
            ..Bound::default()
        };
        let expected = [
            "the host has been rebooted",
            "setting `quirks` was fixed and is libvirt",
            "file a.xml is gone",
            "file b.xml changed",
            "file c.xml is new",
            "chain iptables filter FORWARD changed",
        ];
        assert_eq!(file(then.clone()).moved(&now, NOTHING), expected);
        assert_eq!(file(then.clone()).moved(&then, NOTHING), Vec::<String>::new());
    }

    #[test]
    fn a_learned_address_moves_what_is_wanted_without_a_file() {
        let bound = |print| Bound { objects: map(&[("interface `vnet0`", print)]), ..Bound::default() };
        let moved = file(bound("1")).moved(&bound("2"), NOTHING);
        assert_eq!(moved, ["what is wanted for interface `vnet0` changed, though no file did: a learned address or a device of the host"]);
    }

    #[test]
    fn another_plan_from_the_same_input_is_refused_too() {
        let moved = file(Bound::default()).moved(&Bound::default(), r#"{"phases": [1]}"#);
        assert!(moved.len() == 1 && moved[0].contains("another plan"), "{moved:?}");
    }

    #[test]
    fn a_plan_is_read_as_it_was_written_and_other_files_are_refused() {
        let written = file(Bound { files: map(&[("a.xml", "1")]), ..Bound::default() });
        assert_eq!(PlanFile::read(&written.write()), Ok(written));
        assert!(matches!(PlanFile::read("{}"), Err(Unusable::NotAPlan(_))));
        assert_eq!(PlanFile::read("{\"v\": 2}"), Err(Unusable::Version(2)));
    }
}
