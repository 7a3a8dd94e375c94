//! What else packets meet on their way: policies of built-in chains, rules of others before ours, rules of ours under the other variant of a tool.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{BRIDGE_NF, Case, Finding, concerned, is, is_guest, routers, uses};
use crate::addr::DeviceName;
use crate::diagnostic::{Severity, few};
use crate::model::Object;
use crate::model::network::Forward;
use crate::plan::{FOREIGN_FIRST, NETWORK_FIRST};
use crate::ruleset::chain_name::BASE_CHAINS;
use crate::ruleset::{ChainName, ChainRules, Family, Observation, Policy, Table, TableRules};

/// Built-in chains of ebtables that frames of guests reach the end of.
const BRIDGE_CHAINS: [(Table, &str); 6] = [
    (Table::Nat, "PREROUTING"),
    (Table::Nat, "OUTPUT"),
    (Table::Nat, "POSTROUTING"),
    (Table::Filter, "INPUT"),
    (Table::Filter, "FORWARD"),
    (Table::Filter, "OUTPUT"),
];

pub(super) fn judge(case: Case<'_>, findings: &mut Vec<Finding>) {
    for (family, observation) in &case.observed.families {
        match observation {
            Observation::Read(tables) if *family == Family::Bridge => bridge_policies(case, tables, findings),
            Observation::Read(tables) => forward_policy(case, *family, tables, "", findings),
            Observation::Missing(reason) => missing(case, *family, reason, findings),
            Observation::Unreadable(_) => {}
        }
    }
    for (family, tables) in &case.facts.other {
        other_variant(case, *family, tables, findings);
        if *family != Family::Bridge {
            forward_policy(case, *family, tables, " in the tool's other variant", findings);
        }
    }
    out_of_order(case, findings);
}

/// FORWARD drops whatever no rule accepts: what a network accepts passes, an open network and frames that only cross a bridge do not.
fn forward_policy(case: Case<'_>, family: Family, tables: &BTreeMap<Table, TableRules>, where_else: &str, findings: &mut Vec<Finding>) {
    if !drops(tables, Table::Filter, "FORWARD") {
        return;
    }
    let open = routers(case.resolved, family).into_iter().filter(|router| matches!(router.network.forward, Forward::Open { .. }));
    let mut concerns: Vec<Object> = open.map(|router| router.object).collect();
    let closed = case.resolved.networks.iter().filter(|network| !matches!(network.forward, Forward::Open { .. }));
    let ours: BTreeSet<&DeviceName> = closed.map(|network| &network.bridge).collect();
    let called = BRIDGE_NF
        .iter()
        .find(|(of, _)| *of == family)
        .is_some_and(|(_, path)| case.facts.switches.as_ref().is_some_and(|switches| is(switches, path, "1")));
    // On the bridge of a network that is not open, its rules accept what crosses it.
    concerns.extend(concerned(case, |object, rules| match object {
        Object::Interface(device) => {
            !uses(rules, family)
                && (called || case.facts.bridge_calls(object, family))
                && case.facts.ports.get(device).is_some_and(|bridge| !ours.contains(bridge))
        }
        Object::Network(_) => false,
    }));
    if concerns.is_empty() {
        return;
    }
    findings.push(Finding {
        code: "forward-policy-drops",
        severity: Severity::Warning,
        message: format!(
            "the policy of {family} filter FORWARD{where_else} is DROP: what no rule accepts is dropped, which is all that {} forwards",
            few(concerns.iter())
        ),
        help: format!("accept it in a rule of your own, or `{family} -P FORWARD ACCEPT`"),
        concerns,
        mend: None,
        mended: false,
    });
}

/// A policy of ebtables that drops, where our chains give frames back.
fn bridge_policies(case: Case<'_>, tables: &BTreeMap<Table, TableRules>, findings: &mut Vec<Finding>) {
    let concerns = concerned(case, |_, _| true);
    for (table, chain) in BRIDGE_CHAINS {
        if !concerns.is_empty() && drops(tables, table, chain) {
            findings.push(Finding {
                code: "bridge-policy-drops",
                severity: Severity::Warning,
                message: format!(
                    "the policy of ebtables {table} {chain} is DROP: frames of {} that no rule there accepts are dropped, whatever our rules say",
                    few(concerns.iter())
                ),
                help: format!("`ebtables -t {table} -P {chain} ACCEPT`, or rules of your own that accept them"),
                concerns: concerns.clone(),
                mend: None,
                mended: false,
            });
        }
    }
}

/// A family that the host lacks and that is done without, since nobody has rules of his own in it.
fn missing(case: Case<'_>, family: Family, reason: &str, findings: &mut Vec<Finding>) {
    let concerns = concerned(case, |object, _| !is_guest(object));
    if concerns.is_empty() {
        return;
    }
    findings.push(Finding {
        code: "family-missing",
        severity: Severity::Note,
        message: format!("this host has no {family} ({reason}): {} has no chains in it", few(concerns.iter())),
        help: format!("install {family}, or load its kernel modules, before anything needs it"),
        concerns,
        mend: None,
        mended: false,
    });
}

/// Chains of ours that lie in the tables of the other variant: packets meet both.
fn other_variant(case: Case<'_>, family: Family, tables: &BTreeMap<Table, TableRules>, findings: &mut Vec<Finding>) {
    let whole: LazyCell<HashSet<(Table, &ChainName)>, _> = LazyCell::new(|| {
        let chains = case.desired.objects.values().flat_map(|rules| rules.chains.keys());
        chains.filter(|id| id.family == family).map(|id| (id.table, &id.chain)).collect()
    });
    let is_built_in = |rules: &ChainRules| family != Family::Bridge && rules.policy.is_some();
    let wanted = |table: Table, chain: &ChainName| BASE_CHAINS.contains(&chain.as_str()) || whole.contains(&(table, chain));
    let found: Vec<String> = tables
        .iter()
        .flat_map(|(table, rules)| {
            rules
                .chains
                .iter()
                .filter(|(chain, rules)| !is_built_in(rules) && wanted(*table, chain))
                .map(|(chain, _)| chain.to_string())
                .collect::<Vec<_>>()
        })
        .collect();
    let concerns = concerned(case, |_, rules| uses(rules, family));
    if found.is_empty() || concerns.is_empty() {
        return;
    }
    findings.push(Finding {
        code: "rules-in-other-variant",
        severity: Severity::Warning,
        message: format!(
            "the other variant of {family} (legacy beside nf_tables, or the other way round) holds chains of our names ({}): packets of {} meet both, so one \
             that is out of date drops what it should not",
            few(found.iter()),
            few(concerns.iter())
        ),
        help: "delete them with the tools of that variant, or have only one of them in use on the host".to_owned(),
        concerns,
        mend: None,
        mended: false,
    });
}

/// What others put before our jumps decides first, and what networks accept before the jumps to guests' filters.
fn out_of_order(case: Case<'_>, findings: &mut Vec<Finding>) {
    for remark in case.remarks {
        let (verdicts, guests_only, help) = match remark.code {
            FOREIGN_FIRST => ("accept or drop", false, "move them behind our jumps, or say `hooks = \"first\"`"),
            NETWORK_FIRST => ("accept", true, "say `hooks = \"first\"`"),
            _ => continue,
        };
        let family = Family::ALL.into_iter().rev().find(|family| remark.message.contains(&format!(" {} ", family.tool())));
        let concerns =
            concerned(case, |object, rules| (is_guest(object) || !guests_only) && family.is_none_or(|family| uses(rules, family)));
        if concerns.is_empty() {
            continue;
        }
        findings.push(Finding {
            code: remark.code,
            severity: Severity::Warning,
            message: format!("{}; what they {verdicts} never comes to the rules of {}", remark.message, few(concerns.iter())),
            help: help.to_owned(),
            concerns,
            mend: None,
            mended: false,
        });
    }
}

fn drops(tables: &BTreeMap<Table, TableRules>, table: Table, chain: &str) -> bool {
    tables.get(&table).and_then(|rules| rules.chains.get(&ChainName::new(chain))).is_some_and(|chain| chain.policy == Some(Policy::Drop))
}
