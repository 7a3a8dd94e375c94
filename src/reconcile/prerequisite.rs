//! The host around the rules: looked at after every pass, and its switches mended where the operator allows it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Pass, Reconciler};
use crate::backend::Kernel;
use crate::diagnostic::{Severity, few};
use crate::model::Object;
use crate::plan::prerequisite::{self, Case, Facts, Finding};
use crate::plan::{FOREIGN_FIRST, NETWORK_FIRST};
use crate::source::Position;

/// Words of a tool whose kernel has no such match or target.
const NO_SUCH_FEATURE: [&str; 4] =
    ["missing kernel module", "Couldn't load match", "Couldn't load target", "No chain/target/match by that name"];

/// Whether switches may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mending {
    /// Where the operator allows it.
    Allowed,
    /// Nothing is written in this pass.
    Never,
}

impl<K: Kernel> Reconciler<K> {
    /// Has switches of the kernel that the rules need set, or only told of.
    pub fn manage_sysctls(&mut self, manage: bool) {
        self.manage_sysctls = manage;
    }

    /// Whether a switch is another than at the last pass. Reads a few files.
    pub fn host_moved(&self) -> bool {
        self.switches.as_ref().is_some_and(|(paths, values)| self.kernel.switches(paths) != *values)
    }

    /// Looks at the host and says in the report what is not as the rules need it.
    pub(super) async fn look_at_host(&mut self, pass: &mut Pass<'_>, mending: Mending) {
        let paths = prerequisite::switches(&pass.computed.resolved, &pass.desired);
        let mut facts = self.kernel.host(&paths).await;
        let mut findings = judge(pass, &facts);
        let may = mending == Mending::Allowed && self.manage_sysctls;
        let mut mended: Vec<Finding> = Vec::new();
        let mut tried: BTreeSet<String> = BTreeSet::new();
        // Switches may uncover others: forwarding for all, then that of a bridge.
        loop {
            let due = findings.iter().filter(|finding| may && finding.mend.as_ref().is_some_and(|(path, _)| tried.insert(path.clone())));
            let due: Vec<Finding> = due.cloned().collect();
            if due.is_empty() {
                break;
            }
            for finding in due {
                let Some((path, value)) = &finding.mend else { continue };
                match self.kernel.set_switch(path, value) {
                    Ok(()) => mended.push(Finding { mended: true, ..finding }),
                    Err(error) => pass.report.warnings.push(format!("cannot set /proc/sys/{path} to {value}: {error}")),
                }
            }
            facts.switches = Some(self.kernel.switches(&paths));
            findings = judge(pass, &facts);
        }
        findings.extend(mended);
        findings.extend(missing_features(pass));
        if let Some(values) = facts.switches {
            self.switches = Some((paths, values));
        }
        pass.report.prerequisites = findings;
        pass.report.remarks.retain(|remark| ![FOREIGN_FIRST, NETWORK_FIRST].contains(&remark.code));
    }
}

fn judge(pass: &Pass<'_>, facts: &Facts) -> Vec<Finding> {
    prerequisite::judge(Case {
        resolved: &pass.computed.resolved,
        desired: &pass.desired,
        observed: &pass.seen.observed,
        remarks: &pass.report.remarks,
        facts,
    })
}

/// What a tool said that the kernel lacks, or that the tool itself does; once for all guests that share the rule.
fn missing_features(pass: &Pass<'_>) -> Vec<Finding> {
    let mut found: BTreeMap<String, (&str, Vec<Object>)> = BTreeMap::new();
    for held in &pass.report.held {
        let Some(said) = held.message.lines().find(|line| NO_SUCH_FEATURE.iter().any(|words| line.contains(words))) else { continue };
        let rule = held.place.as_ref().map_or_else(|| held.object.to_string(), Position::to_string);
        found.entry(rule).or_insert((said, Vec::new())).1.push(held.object.clone());
    }
    found.into_values().map(|(said, concerns)| missing_feature(said, concerns)).collect()
}

fn missing_feature(said: &str, concerns: Vec<Object>) -> Finding {
    let (who, help) = if said.contains("Couldn't load") {
        ("the installed tool", "install its package whole: an extension is missing in the directory `xtables`")
    } else {
        ("the kernel", "load or install the kernel module of that match or target")
    };
    Finding {
        code: "kernel-feature-missing",
        severity: Severity::Error,
        message: format!("{who} lacks what a rule of {} needs: {said}", few(concerns.iter())),
        help: format!("{help}; it is tried again after a minute, later every quarter of an hour; a restart of the daemon tries at once"),
        concerns,
        mend: None,
        mended: false,
    }
}
