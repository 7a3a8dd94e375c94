//! The law that equality of rules rests on: what a tool says back of a rule that it was given is that rule.
//!
//! Once in memory, and once through each of the real tools in a network namespace of its own. A tool that is missing, or that refuses a
//! rule, is a failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use bridgeward::ruleset::rule::{IpTarget, Rule};
use bridgeward::ruleset::{ChainName, Family, LiveRule, Table, save, words};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use crate::nightly::runner;
use crate::strategy::{self, SETS, TARGET_CHAIN};

/// The chain that takes the generated rules: one whose rules are parsed.
const CHAIN: &str = "HI-random";

proptest! {
    #[test]
    fn the_words_of_an_ipv4_rule_are_read_as_that_rule(rule in strategy::ip_rule(Family::Ipv4)) {
        assert_read_back(Family::Ipv4, rule.into())?;
    }

    #[test]
    fn the_words_of_an_ipv6_rule_are_read_as_that_rule(rule in strategy::ip_rule(Family::Ipv6)) {
        assert_read_back(Family::Ipv6, rule.into())?;
    }

    #[test]
    fn the_words_of_a_bridge_rule_are_read_as_that_rule(rule in strategy::bridge_rule()) {
        assert_read_back(Family::Bridge, rule.into())?;
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(-[a-z]|--[a-z-]{2,12}|!|\"|\\\\|[0-9:/,.]{1,9}|[ -~]|\\PC| ){0,24}") {
        for family in Family::ALL {
            let _ = save::parse_rule(family, &text);
            let _ = save::parse(family, &format!("*filter\n:INPUT ACCEPT\n-A INPUT {text}\nCOMMIT\n"));
        }
    }
}

#[test]
fn iptables_nft_says_back_what_it_was_given() {
    assert_tool("iptables-nft", Family::Ipv4);
}

#[test]
fn iptables_legacy_says_back_what_it_was_given() {
    assert_tool("iptables-legacy", Family::Ipv4);
}

#[test]
fn ip6tables_nft_says_back_what_it_was_given() {
    assert_tool("ip6tables-nft", Family::Ipv6);
}

#[test]
fn ip6tables_legacy_says_back_what_it_was_given() {
    assert_tool("ip6tables-legacy", Family::Ipv6);
}

#[test]
fn ebtables_nft_says_back_what_it_was_given() {
    assert_tool("ebtables-nft", Family::Bridge);
}

/// The words hold numbers, and names that are built into the tools, so a host without these files reads them alike.
#[test]
fn the_tools_need_no_files_of_names() {
    for (tool, family) in [("iptables-nft", Family::Ipv4), ("ip6tables-legacy", Family::Ipv6), ("ebtables-nft", Family::Bridge)] {
        assert_tool_on(Host::WithoutNames, tool, family);
    }
}

/// What the namespace has in `/etc`.
#[derive(Clone, Copy)]
enum Host {
    Usual,
    /// `/etc/protocols` and `/etc/ethertypes` are empty.
    WithoutNames,
}

fn assert_tool(tool: &str, family: Family) {
    assert_tool_on(Host::Usual, tool, family);
}

fn assert_read_back(family: Family, rule: Rule) -> Result<(), TestCaseError> {
    let text = spelled(family, &rule);
    prop_assert!(!text.contains(['\n', '\r', '\0']));
    prop_assert_eq!(save::parse_rule(family, &text), LiveRule::Known(rule), "{}", text);
    Ok(())
}

/// Restores 400 rules, saves them, and compares; for ebtables also by its listing.
fn assert_tool_on(host: Host, tool: &str, family: Family) {
    let mut tables: BTreeMap<Table, Vec<Rule>> = BTreeMap::new();
    for rule in random_rules(family, 400) {
        tables.entry(table_of(&rule)).or_default().push(rule);
    }
    let mut input = String::new();
    for (table, rules) in &tables {
        let policy = if family == Family::Bridge { "RETURN" } else { "-" };
        write!(input, "*{table}\n:{CHAIN} {policy}\n:{TARGET_CHAIN} {policy}\n").expect("a String takes everything");
        for rule in rules {
            writeln!(input, "-A {CHAIN} {}", spelled(family, rule)).expect("a String takes everything");
        }
        input.push_str("COMMIT\n");
    }
    let mut questions = vec![format!("{tool}-save"), format!("{tool}-save -c")];
    if family == Family::Bridge {
        questions.extend([format!("{tool} -t nat -L"), format!("{tool} -t nat -L --Ln --Lc")]);
    }
    for question in questions {
        assert_same(family, &tables, &in_namespace(host, tool, family, &input, &question), &question);
    }
}

fn assert_same(family: Family, tables: &BTreeMap<Table, Vec<Rule>>, text: &str, question: &str) {
    let observed = save::parse(family, text).unwrap_or_else(|error| panic!("{question}: {error}\n{text}"));
    for (table, rules) in tables {
        let live = &observed[table].chains[&ChainName::new(CHAIN)].rules;
        let printed: Vec<_> = text.lines().filter(|line| line.contains(CHAIN)).collect();
        for (index, (wanted, found)) in rules.iter().zip(live).enumerate() {
            let words = spelled(family, wanted);
            assert_eq!(found, &LiveRule::Known(wanted.clone()), "{question}, rule {index}:\n{words}\n{:?}", printed.get(index + 1));
        }
        assert_eq!(live.len(), rules.len(), "{question}: number of rules in {table}");
    }
}

fn random_rules(family: Family, count: usize) -> Vec<Rule> {
    let mut runner = runner();
    let strategy = match family {
        Family::Bridge => strategy::bridge_rule().prop_map(Rule::from).boxed(),
        _ => strategy::ip_rule(family).prop_map(Rule::from).boxed(),
    };
    (0..count).map(|_| strategy.new_tree(&mut runner).expect("the filters let most values pass").current()).collect()
}

/// The table that allows the rule's target.
fn table_of(rule: &Rule) -> Table {
    let Rule::Ip(rule) = rule else { return Table::Nat };
    match rule.target {
        IpTarget::Masquerade(_) | IpTarget::SourceNat { .. } => Table::Nat,
        IpTarget::ChecksumFill => Table::Mangle,
        _ => Table::Filter,
    }
}

fn spelled(family: Family, rule: &Rule) -> String {
    let mut text = String::new();
    words::rule(family, rule, &mut text);
    text
}

/// What `question` answers after `input` was restored, in a new network namespace.
fn in_namespace(host: Host, tool: &str, family: Family, input: &str, question: &str) -> String {
    let kind = if family == Family::Ipv6 { "inet6" } else { "inet" };
    let sets = SETS.map(|set| format!("ipset create '{set}' hash:ip family {kind}; ")).concat();
    let names = match host {
        Host::Usual => "",
        Host::WithoutNames => "for file in /etc/protocols /etc/ethertypes; do [ ! -e $file ] || mount --bind /dev/null $file; done; ",
    };
    let script = format!("set -e; mount -t tmpfs tmpfs /run; {names}{sets}{tool}-restore; {question}");
    let mut child = Command::new("unshare")
        .args(["--net", "--mount", "bash", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare is installed");
    let mut stdin = child.stdin.take().expect("piped");
    // A tool that refuses a line reads no further; its status and its message are looked at below.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the child was started");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{errors}\n{}", named_line(&errors, input));
    String::from_utf8(output.stdout).expect("comments are the only free text")
}

/// The line of restore input that a message names.
fn named_line(message: &str, input: &str) -> String {
    let digits = message.split_once("line: ").or_else(|| message.split_once("line ")).map(|(_, rest)| rest);
    let number: Option<usize> = digits.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    number.and_then(|number| input.lines().nth(number.checked_sub(1)?)).unwrap_or("no line is named").to_owned()
}
