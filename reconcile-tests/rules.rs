//! Save text as a rule set: what has to be equal, and what is a matter of taste.
//!
//! Not compared: counters, the order of chains, tables and user chains without rules, and a base chain's jump while that chain is
//! empty (libvirt makes all base chains at once). Blocks of different networks and guests in shared chains may stand in any
//! order; inside a block the order counts.

use std::collections::BTreeMap;

/// The tools whose rules are compared, in the order in which differences are shown.
const TOOLS: [&str; 3] = ["ebtables", "iptables", "ip6tables"];

/// Rules by `tool table chain`.
pub type RuleSet = BTreeMap<String, Vec<String>>;

/// Reads the save text of all tools, each introduced by a line `# TOOL`.
pub fn parse(text: &str) -> RuleSet {
    let mut rules = RuleSet::new();
    let (mut tool, mut table) = ("", "");
    for line in text.lines().map(str::trim_end) {
        if let Some(comment) = line.strip_prefix("# ") {
            tool = TOOLS.into_iter().find(|name| *name == comment).unwrap_or(tool);
        } else if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some((chain, rule)) = appended(line) {
            rules.entry(format!("{tool} {table} {chain}")).or_default().push(rule.to_owned());
        }
    }
    rules
}

/// Brings everything that is a matter of taste into one form.
pub fn normal(mut rules: RuleSet) -> RuleSet {
    let filled: Vec<String> = rules.keys().cloned().collect();
    for (place, chain_rules) in &mut rules {
        let (table, chain) = place.rsplit_once(' ').expect("every place is made of three words");
        chain_rules.retain(|rule| match rule.strip_prefix("-j ") {
            Some(target) if is_base(target) => filled.contains(&format!("{table} {target}")),
            _ => true,
        });
        if is_base(chain) {
            chain_rules.sort_by_key(|rule| block(chain, rule).to_owned());
        } else if table == "ebtables nat" && matches!(chain, "PREROUTING" | "POSTROUTING") {
            chain_rules.sort();
        }
    }
    rules.retain(|_, chain_rules| !chain_rules.is_empty());
    rules
}

/// The difference of two rule sets, empty when they are equal.
pub fn difference(wanted: &RuleSet, found: &RuleSet) -> String {
    let print = |rules: &RuleSet| -> String {
        rules.iter().flat_map(|(place, rules)| rules.iter().map(move |rule| format!("{place} {rule}\n"))).collect()
    };
    let (wanted, found) = (print(wanted), print(found));
    if wanted == found {
        return String::new();
    }
    similar::TextDiff::from_lines(&wanted, &found).unified_diff().context_radius(1).header("wanted", "found").to_string()
}

/// `[1:60] -A CHAIN RULE` or `-A CHAIN RULE`.
fn appended(line: &str) -> Option<(&str, &str)> {
    let line = if line.starts_with('[') { line.split_once(' ')?.1 } else { line };
    let rest = line.strip_prefix("-A ")?;
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

fn is_base(chain: &str) -> bool {
    const BASE: [&str; 10] = [
        "LIBVIRT_INP",
        "LIBVIRT_OUT",
        "LIBVIRT_FWI",
        "LIBVIRT_FWO",
        "LIBVIRT_FWX",
        "LIBVIRT_PRT",
        "libvirt-in",
        "libvirt-out",
        "libvirt-in-post",
        "libvirt-host-in",
    ];
    BASE.contains(&chain)
}

/// Whose rule it is: the device or subnet by which a shared chain tells its owners apart.
fn block<'rule>(chain: &str, rule: &'rule str) -> &'rule str {
    let options: &[&str] = match chain {
        "LIBVIRT_INP" | "LIBVIRT_FWO" | "LIBVIRT_FWX" => &["-i"],
        "LIBVIRT_OUT" | "LIBVIRT_FWI" => &["-o"],
        "LIBVIRT_PRT" => &["-s", "-o"],
        _ => &["--physdev-in", "--physdev-out"],
    };
    options.iter().find_map(|option| value(rule, option)).unwrap_or("")
}

fn value<'rule>(rule: &'rule str, option: &str) -> Option<&'rule str> {
    let mut words = rule.split(' ').skip_while(|word| *word != option);
    words.next()?;
    words.next()
}

#[test]
fn blocks_may_change_places_but_rules_in_a_block_may_not() {
    let set = |rules: &str| normal(parse(&format!("# iptables\n*filter\n{rules}")));
    let first = set("-A LIBVIRT_FWI -o a -j ACCEPT\n-A LIBVIRT_FWI -o a -j REJECT\n-A LIBVIRT_FWI -o b -j REJECT\n");
    let moved = set("-A LIBVIRT_FWI -o b -j REJECT\n-A LIBVIRT_FWI -o a -j ACCEPT\n-A LIBVIRT_FWI -o a -j REJECT\n");
    let turned = set("-A LIBVIRT_FWI -o a -j REJECT\n-A LIBVIRT_FWI -o a -j ACCEPT\n-A LIBVIRT_FWI -o b -j REJECT\n");
    assert_eq!(difference(&first, &moved), "");
    assert!(difference(&first, &turned).contains("-iptables filter LIBVIRT_FWI -o a -j REJECT"), "{}", difference(&first, &turned));
}

#[test]
fn counters_and_jumps_to_empty_base_chains_do_not_count() {
    let with = "# iptables\n*nat\n:LIBVIRT_PRT - [0:0]\n[3:9] -A POSTROUTING -j LIBVIRT_PRT\n*filter\n[1:2] -A INPUT -j other\n";
    let without = "# iptables\n*filter\n-A INPUT -j other\n";
    assert_eq!(difference(&normal(parse(with)), &normal(parse(without))), "");
    assert_ne!(difference(&normal(parse(with)), &normal(parse(""))), "");
}
