//! A plan for people: the change as a unified diff of rules, as numbers, and the whole desired rule set as restore input.
//!
//! A diff compares what is there with what will be there at the end, so a gate that comes and goes (see [`super::order`]) is
//! not in it. A line looks as in `iptables -S CHAIN`; one that comes in ends with the XML place that it comes from. Nothing
//! here is meant to be parsed: that is [`super::json`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices, group_diff_ops};

use super::edit::{Standing, follow};
use super::script::policy_name;
use super::{Change, Desired, Edit, Plan, plan};
use crate::diagnostic::{Style, several};
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainName, ChainRules, Family, LiveRule, Observation, Observed, Policy, Table, TableRules, chain_name, words};
use crate::source::{Sources, Span};

/// The unchanged rules shown around a change.
const CONTEXT: usize = 3;

/// A chain that a plan changes, before and after.
#[derive(Debug, Default)]
struct Picture {
    before: Vec<Line>,
    after: Vec<Line>,
    existed: bool,
    exists: bool,
    live_policy: Option<Policy>,
    /// The policy that it gets, if it changes.
    policy: Option<Policy>,
}

/// A rule with the XML element that brings it in.
#[derive(Debug, Clone)]
struct Line {
    rule: LiveRule,
    place: Option<Span>,
}

impl Standing for Line {
    fn enter(rule: &Rule, edit: &Edit) -> Self {
        Self { rule: LiveRule::Known(rule.clone()), place: edit.place }
    }

    fn is(&self, rule: &Rule) -> bool {
        self.rule.is(rule)
    }
}

type Pictures = BTreeMap<(Family, Table, ChainName), Picture>;

/// The change as a unified diff, one file per chain.
pub fn diff(plan: &Plan, observed: &Observed, sources: &Sources, style: Style) -> String {
    paint(pictures(plan, observed), ["observed", "desired"], sources, style)
}

/// What changes from one desired rule set to another as a unified diff, on a host that holds nothing else.
pub fn change(before: &Desired, after: &Desired, sources: &Sources, style: Style) -> String {
    let [before, after] = [before, after].map(|desired| {
        let (plan, nothing) = from_nothing(desired);
        pictures(&plan, &nothing)
    });
    let mut pictures = after;
    for picture in pictures.values_mut() {
        (picture.before, picture.existed) = (Vec::new(), false);
    }
    for (chain, old) in before {
        let picture = pictures.entry(chain).or_default();
        // The old rules' places are in files that may have changed.
        picture.before = old.after.into_iter().map(|line| Line { place: None, ..line }).collect();
        picture.existed = old.exists;
    }
    paint(pictures, ["before", "after"], sources, style)
}

fn paint(pictures: Pictures, sides: [&str; 2], sources: &Sources, style: Style) -> String {
    let mut out = Painter { style, text: String::new() };
    for ((family, table, chain), picture) in pictures {
        let before = picture.lines(family, table, &chain, Moment::Before, sources);
        let after = picture.lines(family, table, &chain, Moment::After, sources);
        let spelled = |lines: &[(String, String)]| lines.iter().map(|(line, _)| line.clone()).collect::<Vec<_>>();
        let ops = capture_diff_slices(Algorithm::Hunt, &spelled(&before), &spelled(&after));
        if ops.iter().all(|op| op.tag() == DiffTag::Equal) {
            continue;
        }
        let built_in = chain_name::is_builtin(family, table, chain.as_str());
        let name =
            |side: &str, exists: bool| if exists || built_in { format!("{side}/{family}/{table}/{chain}") } else { "/dev/null".to_owned() };
        out.line(Paint::Bold, &format!("--- {}", name(sides[0], picture.existed)));
        out.line(Paint::Bold, &format!("+++ {}", name(sides[1], picture.exists)));
        for hunk in group_diff_ops(ops, CONTEXT) {
            out.hunk(&hunk, &before, &after);
        }
    }
    out.text
}

/// The plan that makes everything on a host that has none of it.
fn from_nothing(desired: &Desired) -> (Plan, Observed) {
    let nothing = Family::ALL.map(|family| (family, Observation::Read(BTreeMap::new())));
    let nothing = Observed { families: nothing.into_iter().collect() };
    let plan = plan(desired, &nothing).expect("three families that can be read are all that a plan can ask for");
    (plan, nothing)
}

/// The number of edits of every chain, and in all.
pub fn stat(plan: &Plan) -> String {
    let mut chains: BTreeMap<(Family, Table, &ChainName), (usize, usize)> = BTreeMap::new();
    for (family, table, edit) in plan.edits() {
        let (added, removed) = chains.entry((family, table, edit.change.chain())).or_default();
        match edit.change {
            Change::Insert { .. } => *added += 1,
            Change::DeleteAt { .. } | Change::DeleteRule { .. } => *removed += 1,
            Change::NewChain(_) | Change::DeleteChain(_) | Change::SetPolicy { .. } => {}
        }
    }
    let names: Vec<String> = chains.keys().map(|(family, table, chain)| format!("{family} {table} {chain}")).collect();
    // A name is at most this wide in any kernel; one in a saved file may have any length.
    let width = names.iter().map(String::len).max().unwrap_or(0).min(80);
    let mut text = String::new();
    for (name, (added, removed)) in names.iter().zip(chains.values()) {
        writeln!(text, "{name:width$} | +{added} -{removed}").expect(INTO_STRING);
    }
    let (added, removed) = chains.values().fold((0, 0), |sum, chain| (sum.0 + chain.0, sum.1 + chain.1));
    let tables: BTreeSet<(Family, Table)> = chains.keys().map(|(family, table, _)| (*family, *table)).collect();
    let (chains, tables, added) = (several(chains.len(), "chain"), several(tables.len(), "table"), several(added, "rule"));
    writeln!(text, "{chains} in {tables} changed, {added} added, {removed} removed").expect(INTO_STRING);
    text
}

/// The complete desired rule set of one family as input of `*-restore --noflush` for a host that has none of it; with
/// `sources`, each rule after a comment with its XML place.
pub fn render(desired: &Desired, family: Family, sources: Option<&Sources>) -> String {
    let (plan, nothing) = from_nothing(desired);
    let mut text = String::new();
    let mut open = None;
    let pictures = pictures(&plan, &nothing);
    for ((of, table, chain), picture) in pictures.iter().filter(|((of, _, _), _)| *of == family) {
        if open != Some(*table) {
            text.push_str(if open.is_some() { "COMMIT\n" } else { "" });
            writeln!(text, "*{table}").expect(INTO_STRING);
            let chains = pictures.keys().filter(|(of, other, _)| (of, other) == (&family, table)).map(|key| (key, &key.2));
            let chains = chains.filter(|(_, chain)| !chain_name::is_builtin(*of, *table, chain.as_str()));
            for (key, chain) in chains {
                let end = pictures[key].policy.map_or(if family == Family::Bridge { "ACCEPT" } else { "- [0:0]" }, policy_name);
                writeln!(text, ":{chain} {end}").expect(INTO_STRING);
            }
            open = Some(*table);
        }
        for line in &picture.after {
            if let (Some(sources), Some(place)) = (sources, line.place) {
                writeln!(text, "# {}", sources.position(place)).expect(INTO_STRING);
            }
            write!(text, "-A {chain} ").expect(INTO_STRING);
            line.rule_words(family, &mut text);
            text.push('\n');
        }
    }
    text.push_str(if open.is_some() { "COMMIT\n" } else { "" });
    text
}

/// The rule of an edit in the tool's words.
pub fn rule_words(family: Family, rule: &Rule) -> String {
    let mut text = String::new();
    words::rule(family, rule, &mut text);
    text
}

const INTO_STRING: &str = "writing to a string cannot fail";

/// Follows the plan through every chain that it changes.
fn pictures(plan: &Plan, observed: &Observed) -> Pictures {
    let mut pictures = Pictures::new();
    for (family, table, edit) in plan.edits() {
        let chain = edit.change.chain();
        let key = (family, table, chain.clone());
        let picture = pictures.entry(key).or_insert_with(|| Picture::new(live_chain(observed, family, table, chain)));
        match &edit.change {
            Change::NewChain(_) => picture.exists = true,
            Change::DeleteChain(_) => picture.exists = false,
            Change::SetPolicy { policy, .. } => picture.policy = Some(*policy),
            Change::Insert { .. } | Change::DeleteAt { .. } | Change::DeleteRule { .. } => follow(&mut picture.after, edit),
        }
    }
    pictures
}

fn live_chain<'o>(observed: &'o Observed, family: Family, table: Table, chain: &ChainName) -> Option<&'o ChainRules> {
    let Some(Observation::Read(tables)) = observed.families.get(&family) else { return None };
    tables.get(&table).and_then(|table: &TableRules| table.chains.get(chain))
}

/// The two states that a diff is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

impl Picture {
    fn new(live: Option<&ChainRules>) -> Self {
        let before: Vec<Line> =
            live.map_or_else(Vec::new, |chain| chain.rules.iter().map(|rule| Line { rule: rule.clone(), place: None }).collect());
        let live_policy = live.and_then(|chain| chain.policy);
        Self { after: before.clone(), before, existed: live.is_some(), exists: live.is_some(), live_policy, policy: None }
    }

    /// The chain as lines, each with its remark.
    fn lines(&self, family: Family, table: Table, chain: &ChainName, moment: Moment, sources: &Sources) -> Vec<(String, String)> {
        let (rules, exists) = match moment {
            Moment::Before => (&self.before, self.existed),
            Moment::After => (&self.after, self.exists),
        };
        let mut lines = Vec::with_capacity(rules.len() + 1);
        if exists && !chain_name::is_builtin(family, table, chain.as_str()) {
            lines.push((format!("-N {chain}"), String::new()));
        }
        let policy = if moment == Moment::Before { self.live_policy } else { self.policy };
        if let Some(policy) = policy.filter(|_| self.policy.is_some()) {
            lines.push((format!("-P {chain} {}", policy_name(policy)), String::new()));
        }
        for line in rules {
            let mut text = format!("-A {chain} ");
            line.rule_words(family, &mut text);
            lines.push((text, line.place.map_or_else(String::new, |place| format!("  # {}", place_of(sources, place)))));
        }
        lines
    }
}

/// `path:line`: what a person looks for; the column would only make the line longer.
fn place_of(sources: &Sources, place: Span) -> String {
    let position = sources.position(place);
    format!("{}:{}", position.path, position.line)
}

impl Line {
    fn rule_words(&self, family: Family, text: &mut String) {
        match &self.rule {
            LiveRule::Known(rule) => words::rule(family, rule, text),
            // A comment may hold a line break, which must not become a line of a diff.
            LiveRule::Unknown(words) => text.push_str(&words.replace('\n', "\\n")),
        }
    }
}

/// Diff text, coloured or not.
struct Painter {
    style: Style,
    text: String,
}

/// The colours of a diff.
#[derive(Debug, Clone, Copy)]
enum Paint {
    None,
    Bold,
    Cyan,
    Green,
    Red,
    Dim,
}

impl Painter {
    fn hunk(&mut self, ops: &[DiffOp], before: &[(String, String)], after: &[(String, String)]) {
        let (Some(first), Some(last)) = (ops.first(), ops.last()) else { return };
        // As in every unified diff: an empty range names the line before it.
        let range = |start: usize, end: usize| match end - start {
            0 => format!("{start},0"),
            1 => format!("{end}"),
            length => format!("{},{length}", start + 1),
        };
        let old = range(first.old_range().start, last.old_range().end);
        let new = range(first.new_range().start, last.new_range().end);
        self.line(Paint::Cyan, &format!("@@ -{old} +{new} @@"));
        for op in ops {
            if op.tag() == DiffTag::Equal {
                after[op.new_range()].iter().for_each(|(line, _)| self.line(Paint::None, &format!(" {line}")));
                continue;
            }
            before[op.old_range()].iter().for_each(|(line, _)| self.line(Paint::Red, &format!("-{line}")));
            for (line, place) in &after[op.new_range()] {
                self.paint(Paint::Green, &format!("+{line}"));
                self.line(Paint::Dim, place);
            }
        }
    }

    fn line(&mut self, paint: Paint, text: &str) {
        self.paint(paint, text);
        self.text.push('\n');
    }

    fn paint(&mut self, paint: Paint, text: &str) {
        let code = match paint {
            _ if self.style == Style::Plain || text.is_empty() => "",
            Paint::None => "",
            Paint::Bold => "\x1b[1m",
            Paint::Cyan => "\x1b[36m",
            Paint::Green => "\x1b[32m",
            Paint::Red => "\x1b[31m",
            Paint::Dim => "\x1b[2m",
        };
        self.text.extend([code, text, if code.is_empty() { "" } else { "\x1b[0m" }]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::DeviceName;
    use crate::compile::{Key, ObjectRules, PlacedRule};
    use crate::model::Object;
    use crate::plan::{Phase, TableEdits, json};
    use crate::ruleset::{ChainId, save};

    /// One guest whose second rule comes from line 2 of `guest.xml`, and a kernel that lacks it.
    fn example() -> (Desired, Observed, Sources) {
        let mut sources = Sources::default();
        let file = sources.add("guest.xml", "<interface>\n  <rule/>\n");
        let place = |line: u32| Some(Span { file, start: line * 12, end: line * 12 + 1 });
        let placed = |text: &str, line| match save::parse_rule(Family::Bridge, text) {
            LiveRule::Known(rule) => PlacedRule { rule, place: place(line) },
            LiveRule::Unknown(text) => panic!("{text}"),
        };
        let device = DeviceName::new("vnet0").expect("a device name");
        let id = |chain: &str| ChainId { family: Family::Bridge, table: Table::Nat, chain: ChainName::new(chain) };
        let rules = ObjectRules {
            keys: BTreeSet::from([Key::Guest(device.clone())]),
            chains: BTreeMap::from([(id("libvirt-I-vnet0"), vec![placed("-p ARP -j ACCEPT", 0), placed("-j DROP", 1)])]),
            shared: BTreeMap::from([(id("PREROUTING"), vec![placed("-i vnet0 -j libvirt-I-vnet0", 0)])]),
            ..ObjectRules::default()
        };
        let text = "*nat\n:PREROUTING ACCEPT\n:libvirt-I-vnet0 ACCEPT\n-A PREROUTING -i vnet0 -j libvirt-I-vnet0\n\
                    -A libvirt-I-vnet0 -p ARP -j ACCEPT\n-A libvirt-I-vnet0 -p IPv6 -j ACCEPT\nCOMMIT\n";
        let bridge = Observation::Read(save::parse(Family::Bridge, text).expect("save text"));
        let desired = Desired { objects: BTreeMap::from([(Object::Interface(device), rules.into())]), ..Desired::default() };
        (desired, Observed { families: BTreeMap::from([(Family::Bridge, bridge)]) }, sources)
    }

    #[test]
    fn a_diff_shows_each_change_with_its_place_and_what_is_around_it() {
        let (desired, observed, sources) = example();
        let plan = plan(&desired, &observed).expect("a plan");
        let text = "--- observed/ebtables/nat/libvirt-I-vnet0\n+++ desired/ebtables/nat/libvirt-I-vnet0\n@@ -1,3 +1,3 @@\n \
                    -N libvirt-I-vnet0\n -A libvirt-I-vnet0 -p 0x0806 -j ACCEPT\n\
                    --A libvirt-I-vnet0 -p 0x86dd -j ACCEPT\n+-A libvirt-I-vnet0 -j DROP  # guest.xml:2\n";
        assert_eq!(diff(&plan, &observed, &sources, Style::Plain), text);
        let coloured = diff(&plan, &observed, &sources, Style::Colored);
        assert!(coloured.contains("\x1b[32m+-A libvirt-I-vnet0 -j DROP\x1b[0m\x1b[2m  # guest.xml:2\x1b[0m\n"), "{coloured}");
        let in_sync = Plan::default();
        assert_eq!(diff(&in_sync, &observed, &sources, Style::Plain), "");
    }

    #[test]
    fn a_new_chain_is_compared_with_nothing() {
        let (desired, _, sources) = example();
        let observed = Observed { families: BTreeMap::from([(Family::Bridge, Observation::Read(BTreeMap::new()))]) };
        let text = diff(&plan(&desired, &observed).expect("a plan"), &observed, &sources, Style::Plain);
        assert!(text.contains("--- /dev/null\n+++ desired/ebtables/nat/libvirt-I-vnet0\n@@ -0,0 +1,3 @@\n+-N libvirt-I-vnet0\n"), "{text}");
    }

    #[test]
    fn numbers_are_given_by_chain_and_in_all() {
        let (desired, observed, _) = example();
        let text = stat(&plan(&desired, &observed).expect("a plan"));
        assert_eq!(text, "ebtables nat libvirt-I-vnet0 | +1 -1\n1 chain in 1 table changed, 1 rule added, 1 removed\n");
    }

    #[test]
    fn a_long_name_pads_no_other_line() {
        let edit = |name: &str| Edit { change: Change::NewChain(ChainName::new(name)), object: None, place: None };
        let table = TableEdits { table: Table::Nat, edits: vec![edit(&"x".repeat(5_000)), edit("short")], vacant: false };
        let phase = Phase { families: BTreeMap::from([(Family::Bridge, vec![table])]) };
        let text = stat(&Plan { phases: vec![phase], remarks: Vec::new() });
        let short = text.lines().find(|line| line.contains("short")).expect("a line for each chain");
        assert!(short.len() < 100, "{} bytes", short.len());
    }

    #[test]
    fn rendering_gives_input_that_makes_the_whole_rule_set() {
        let (desired, _, sources) = example();
        let text = render(&desired, Family::Bridge, Some(&sources));
        let explained = "*nat\n:libvirt-I-vnet0 ACCEPT\n# guest.xml:1:1\n-A PREROUTING -i vnet0 -j libvirt-I-vnet0\n\
                         # guest.xml:1:1\n-A libvirt-I-vnet0 -p 0x0806 -j ACCEPT\n# guest.xml:2:1\n-A libvirt-I-vnet0 -j DROP\nCOMMIT\n";
        assert_eq!(text, explained);
        // What a tool saves after that has the built-in chains, too, whose policies are not ours to restore.
        let saved = text.replace("*nat\n", "*nat\n:PREROUTING ACCEPT\n");
        let observed = Observation::Read(save::parse(Family::Bridge, &saved).expect("save text"));
        let observed = Observed { families: BTreeMap::from([(Family::Bridge, observed)]) };
        assert!(plan(&desired, &observed).expect("a plan").is_empty());
        assert_eq!(render(&desired, Family::Ipv4, None), "");
    }

    #[test]
    fn json_says_what_where_for_whom_and_why() {
        let (desired, observed, sources) = example();
        let text = json::json(&plan(&desired, &observed).expect("a plan"), &[], &sources);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let edits = &value["phases"][0]["families"][0]["tables"][0]["edits"];
        assert_eq!((&value["v"], &value["in_sync"]), (&1.into(), &false.into()));
        assert_eq!(edits[0]["op"], "delete");
        assert_eq!(edits[1]["rule"], "-j DROP");
        assert_eq!(edits[1]["object"], serde_json::json!({"kind": "interface", "name": "vnet0"}));
        assert_eq!(edits[1]["place"], serde_json::json!({"path": "guest.xml", "line": 2, "column": 1}));
    }
}
