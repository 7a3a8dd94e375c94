//! What the host has to be like for the desired rules to do what they say: facts in, findings out.
//!
//! Only what some object needs is looked for: no network that routes, no word about forwarding. A finding says what it means and for whom; it never changes a
//! plan or an exit status, and only switches of `/proc/sys` can be mended by us, where the operator allows it.
//!
//! Out of sight: rules of other nf_tables tables than those of the tools (firewalld's, for example), which may drop at the same hooks; and the legacy variant of
//! ebtables, whose kernel side has no list of its tables.

mod path;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Desired, Remark};
use crate::addr::DeviceName;
use crate::compile::ObjectRules;
use crate::diagnostic::{Severity, few};
use crate::model::Object;
use crate::model::network::Forward;
use crate::resolve::{NetworkPolicy, Resolved};
use crate::ruleset::{Family, Observed, Table, TableRules};

/// Switches of the kernel by their path below `/proc/sys`; one that is not there is not here.
pub type Switches = BTreeMap<String, String>;

const BRIDGE_NF: [(Family, &str); 2] =
    [(Family::Ipv4, "net/bridge/bridge-nf-call-iptables"), (Family::Ipv6, "net/bridge/bridge-nf-call-ip6tables")];
const BRIDGE_NF_ARP: &str = "net/bridge/bridge-nf-call-arptables";
const FORWARD_4: &str = "net/ipv4/ip_forward";
const FORWARD_6: &str = "net/ipv6/conf/all/forwarding";

/// What is known of the host beside its rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The switches that [`switches`] asked for; `None` where nobody can look.
    pub switches: Option<Switches>,
    /// Rules of the other variant of each tool (legacy beside nf_tables, or the other way round), where it has any.
    pub other: BTreeMap<Family, BTreeMap<Table, TableRules>>,
    /// The bridge that each device is a port of.
    pub ports: BTreeMap<DeviceName, DeviceName>,
    /// What bridges send through the tools by switches of their own, though the one for all bridges is off. Those that send nothing are left out.
    pub calls: BTreeMap<DeviceName, Calls>,
    /// Whether the host has arptables rules.
    pub arptables: bool,
    /// Devices through which the host learned IPv6 routes by router advertisement, and that would lose them once it forwards.
    pub autoconfigured: BTreeSet<String>,
}

/// What a bridge has its frames looked at by (`nf_call_iptables`, ...): each adds to the switch for all bridges, and none takes away from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// iptables.
    pub ipv4: bool,
    /// ip6tables.
    pub ipv6: bool,
    /// arptables.
    pub arp: bool,
}

/// Something that is not as the desired rules need it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Stable, kebab-case.
    pub code: &'static str,
    /// Error: rules do not do what they say. Warning: they may not. Note: worth knowing.
    pub severity: Severity,
    /// What it is and what it means.
    pub message: String,
    /// How to mend it.
    pub help: String,
    /// Whom it concerns.
    pub concerns: Vec<Object>,
    /// The switch that would mend it, and its value.
    pub mend: Option<(String, &'static str)>,
    /// Whether we mended it.
    pub mended: bool,
}

/// Everything that a judgement follows from.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// What the files say.
    pub resolved: &'a Resolved,
    /// What is wanted in the kernel.
    pub desired: &'a Desired,
    /// The kernel's rules.
    pub observed: &'a Observed,
    /// What the plan remarked.
    pub remarks: &'a BTreeSet<Remark>,
    /// The host.
    pub facts: &'a Facts,
}

/// A network that sends packets on, in one family.
struct Router<'a> {
    network: &'a NetworkPolicy,
    object: Object,
}

impl Facts {
    /// What the bridge of a guest sends through the tools by itself, where both are known.
    fn calls_of(&self, guest: &Object) -> Option<Calls> {
        let Object::Interface(device) = guest else { return None };
        self.calls.get(self.ports.get(device)?).copied()
    }

    /// Whether a guest's frames reach a family by its bridge's own switch.
    fn bridge_calls(&self, guest: &Object, family: Family) -> bool {
        self.calls_of(guest).is_some_and(|calls| if family == Family::Ipv6 { calls.ipv6 } else { calls.ipv4 })
    }
}

/// The switches that these objects need to be looked at.
pub fn switches(resolved: &Resolved, desired: &Desired) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let filtered = |family| desired.objects.iter().any(|(object, rules)| is_guest(object) && uses(rules, family));
    for (_, path) in BRIDGE_NF.iter().filter(|(family, _)| filtered(*family) || desired.objects.keys().any(is_guest)) {
        paths.insert((*path).to_owned());
    }
    if desired.objects.keys().any(is_guest) {
        paths.insert(BRIDGE_NF_ARP.to_owned());
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        for router in routers(resolved, family) {
            paths.insert(main_switch(family).to_owned());
            paths.extend([of_device(family, "default", "forwarding"), of_device(family, router.network.bridge.as_str(), "forwarding")]);
            if family == Family::Ipv6 {
                paths.insert(of_device(family, router.network.bridge.as_str(), "disable_ipv6"));
            }
        }
    }
    paths
}

/// Judges the host.
pub fn judge(case: Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(switches) = &case.facts.switches {
        bridge_switches(case, switches, &mut findings);
        forwarding(case, switches, Family::Ipv4, &mut findings);
        forwarding(case, switches, Family::Ipv6, &mut findings);
    }
    path::judge(case, &mut findings);
    findings.sort();
    findings
}

/// Whether frames that are bridged reach iptables at all.
fn bridge_switches(case: Case<'_>, switches: &Switches, findings: &mut Vec<Finding>) {
    let guests = |family| concerned(case, |object, rules| is_guest(object) && uses(rules, family));
    let all: BTreeSet<Object> = BRIDGE_NF.iter().flat_map(|(family, _)| guests(*family)).collect();
    if !all.is_empty() && BRIDGE_NF.iter().all(|(_, path)| !switches.contains_key(*path)) {
        let concerns: Vec<Object> = all.into_iter().collect();
        findings.push(Finding {
            code: "br-netfilter-missing",
            severity: Severity::Error,
            message: format!(
                "the kernel module br_netfilter is not loaded: frames that are bridged never reach iptables, so the filters of {} only work as far as \
                 ebtables does",
                few(concerns.iter())
            ),
            help: "`modprobe br_netfilter`, and name it in a file below /etc/modules-load.d".to_owned(),
            concerns,
            mend: None,
            mended: false,
        });
        return;
    }
    for (family, path) in BRIDGE_NF {
        let concerns: Vec<Object> = guests(family).into_iter().filter(|guest| !case.facts.bridge_calls(guest, family)).collect();
        if !concerns.is_empty() && is(switches, path, "0") {
            let message = format!(
                "{} is 0: bridged frames never reach {family}, so what the filters of {} say in it has no effect, and they let through what they should drop",
                dotted(path),
                few(concerns.iter())
            );
            findings.push(switch("bridge-nf-call", Severity::Error, message, path, "1", concerns));
        }
    }
    let all_call = is(switches, BRIDGE_NF_ARP, "1");
    let guests = concerned(case, |object, _| is_guest(object) && (all_call || case.facts.calls_of(object).is_some_and(|calls| calls.arp)));
    if !guests.is_empty() && case.facts.arptables {
        let what = if all_call { format!("{} is 1", dotted(BRIDGE_NF_ARP)) } else { "nf_call_arptables of a bridge is 1".to_owned() };
        let message = format!(
            "{what} and the host has arptables rules: ARP between guests meets these, too, whatever the filters of {} say",
            few(guests.iter())
        );
        let finding = switch("bridge-nf-call-arptables", Severity::Note, message, BRIDGE_NF_ARP, "0", guests);
        let help = if all_call { finding.help } else { "`ip link set BRIDGE type bridge nf_call_arptables 0`".to_owned() };
        // Whoever wrote arptables rules may have meant guests: theirs to decide.
        findings.push(Finding { help, mend: None, ..finding });
    }
}

/// Whether the host sends on what networks give it.
fn forwarding(case: Case<'_>, switches: &Switches, family: Family, findings: &mut Vec<Finding>) {
    let routers = routers(case.resolved, family);
    if routers.is_empty() {
        return;
    }
    let main = main_switch(family);
    let all: Vec<Object> = routers.iter().map(|router| router.object.clone()).collect();
    let protocol = if family == Family::Ipv4 { "IPv4" } else { "IPv6" };
    if !switches.contains_key(main) {
        findings.push(Finding {
            code: "no-ipv6",
            severity: Severity::Error,
            message: format!("the kernel has no {protocol}: {} cannot reach anything by it", few(all.iter())),
            help: "boot without ipv6.disable=1, or take the addresses out of the network".to_owned(),
            concerns: all,
            mend: None,
            mended: false,
        });
        return;
    }
    if is(switches, main, "0") {
        // Whoever switches single devices has thought about it. With IPv6 only the one for all counts.
        let by_device = |router: &&Router<'_>| {
            family == Family::Ipv4 && is(switches, &of_device(family, router.network.bridge.as_str(), "forwarding"), "1")
        };
        let concerns: Vec<Object> = routers.iter().filter(|router| !by_device(router)).map(|router| router.object.clone()).collect();
        if !concerns.is_empty() {
            let message = format!(
                "{} is 0: the host drops what guests of {} send beyond it, and what comes back",
                dotted(main),
                few(concerns.iter())
            );
            let mut finding = switch("forwarding-off", Severity::Error, message, main, "1", concerns);
            if family == Family::Ipv6
                && let Some(device) = case.facts.autoconfigured.first()
            {
                finding.help = format!(
                    "first set {} to 2: the host has IPv6 routes from router advertisements through `{device}` and would lose them; then {}",
                    dotted(&of_device(family, device, "accept_ra")),
                    finding.help
                );
                finding.mend = None;
            }
            findings.push(finding);
        }
        return;
    }
    for Router { network, object } in &routers {
        let bridge = network.bridge.as_str();
        let own = of_device(family, bridge, "forwarding");
        let concerns = vec![object.clone()];
        if is(switches, &own, "0") {
            let what = if family == Family::Ipv4 {
                "the host drops what its guests send beyond it"
            } else {
                "its guests are told that the host is no router"
            };
            let message = format!("{} is 0: {what} ({object})", dotted(&own));
            findings.push(switch("bridge-forwarding-off", Severity::Error, message, &own, "1", concerns.clone()));
        }
        let default = of_device(family, "default", "forwarding");
        if !switches.contains_key(&own) && is(switches, &default, "0") {
            let message =
                format!("{} is 0: the bridge of {object}, `{bridge}`, will not send packets on once it is made", dotted(&default));
            findings.push(switch("default-forwarding-off", Severity::Warning, message, &default, "1", concerns.clone()));
        }
        let disabled = of_device(family, bridge, "disable_ipv6");
        if family == Family::Ipv6 && is(switches, &disabled, "1") {
            let message = format!("{} is 1: {object} has IPv6 addresses and no IPv6", dotted(&disabled));
            findings.push(switch("ipv6-disabled", Severity::Error, message, &disabled, "0", concerns));
        }
    }
}

/// Networks whose packets the host has to send on (networks.md 6.1).
fn routers(resolved: &Resolved, family: Family) -> Vec<Router<'_>> {
    let of_family = |network: &IpNet| matches!((network, family), (IpNet::V4(_), Family::Ipv4) | (IpNet::V6(_), Family::Ipv6));
    let sends = |network: &&NetworkPolicy| {
        matches!(network.forward, Forward::Nat(_) | Forward::Route { .. } | Forward::Open { .. })
            && network.addresses.iter().any(|address| of_family(&address.address))
    };
    let router = |network| Router { network, object: Object::Network(network.name.to_string()) };
    resolved.networks.iter().filter(sends).map(router).collect()
}

fn switch(code: &'static str, severity: Severity, message: String, path: &str, value: &'static str, concerns: Vec<Object>) -> Finding {
    let help = format!("`sysctl -w {}={value}`, and in a file below /etc/sysctl.d; or `manage_sysctls = true`", dotted(path));
    Finding { code, severity, message, help, concerns, mend: Some((path.to_owned(), value)), mended: false }
}

fn is(switches: &Switches, path: &str, value: &str) -> bool {
    switches.get(path).is_some_and(|found| found == value)
}

fn main_switch(family: Family) -> &'static str {
    if family == Family::Ipv4 { FORWARD_4 } else { FORWARD_6 }
}

fn of_device(family: Family, device: &str, name: &str) -> String {
    format!("net/{}/conf/{device}/{name}", if family == Family::Ipv4 { "ipv4" } else { "ipv6" })
}

/// As `sysctl` takes it: dots between, and a slash for a dot in a device's name.
fn dotted(path: &str) -> String {
    path.chars()
        .map(|letter| {
            if letter == '/' {
                '.'
            } else if letter == '.' {
                '/'
            } else {
                letter
            }
        })
        .collect()
}

fn concerned(case: Case<'_>, which: impl Fn(&Object, &ObjectRules) -> bool) -> Vec<Object> {
    case.desired.objects.iter().filter(|(object, rules)| which(object, rules)).map(|(object, _)| object.clone()).collect()
}

fn is_guest(object: &Object) -> bool {
    matches!(object, Object::Interface(_))
}

fn uses(rules: &ObjectRules, family: Family) -> bool {
    rules.families().any(|found| found == family)
}

impl Finding {
    /// For a log or a list: what it means and how to mend it, in one line.
    pub fn line(&self) -> String {
        if self.mended { format!("{} (mended)", self.message) } else { format!("{}; {}", self.message, self.help) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_named_as_sysctl_takes_it() {
        assert_eq!(dotted("net/ipv4/conf/br0.5/forwarding"), "net.ipv4.conf.br0/5.forwarding");
    }

    #[test]
    fn without_objects_nothing_is_asked_and_nothing_found() {
        let (resolved, desired) = (Resolved::default(), Desired::default());
        assert!(switches(&resolved, &desired).is_empty());
        let off = Switches::from([FORWARD_4, BRIDGE_NF[0].1].map(|path| (path.to_owned(), "0".to_owned())));
        let facts = Facts { switches: Some(off), arptables: true, ..Facts::default() };
        let case =
            Case { resolved: &resolved, desired: &desired, observed: &Observed::default(), remarks: &BTreeSet::new(), facts: &facts };
        assert_eq!(judge(case), []);
    }
}
