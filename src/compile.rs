//! Policy to rules, in libvirt's layout: every network and guest into its own chains and its blocks in the shared ones, or,
//! of networks, straight into built-in chains ([`Layout`]).
//!
//! [`network`] follows networks.md section 3, [`bridge_filter`] and [`ip_filter`] nwfilter.md sections 2 to 4, [`learning`] its
//! section 5, [`hooks`] makes what all of them hang on. Objects are compiled one by one and know nothing of each other, so that one
//! can be held, closed or taken from the record in place of its fresh rules. A rule that some tool would refuse never leaves this
//! module: its guest is held, with a diagnostic at the attribute.

pub mod bridge_filter;
pub mod hooks;
pub mod ip_filter;
pub mod learning;
mod memo;
pub mod network;
mod value;

#[cfg(test)]
mod example;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::addr::DeviceName;
use crate::diagnostic::Diagnostic;
use crate::model::{Object, Quirks};
use crate::resolve::{GuestPolicy, Held, PolicyRule, Resolved, Treatment};
use crate::ruleset::rule::{BridgeRule, IpRule, Rule};
use crate::ruleset::{ChainId, Family, Policy, chain_name, normal};
use crate::source::Span;
pub use memo::Memo;

use memo::Known;
use value::Fault;

/// The rules of every object, by object.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// What each object wants. An object that wants nothing (an open network, an empty filter) is here all the same. Shared, because the same rules go from here
    /// into what is desired, what is recorded, and the next pass.
    pub objects: BTreeMap<Object, Arc<ObjectRules>>,
    /// Objects that cannot be compiled, beside those that could not be resolved.
    pub held: Vec<Held>,
    /// What was found on the way, each fault once per place however many guests it concerns.
    pub diagnostics: Vec<Diagnostic>,
}

/// What one object wants in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectRules {
    /// What tells its rules in shared chains from everybody else's.
    pub keys: BTreeSet<Key>,
    /// Chains that are its own, whole; empty ones included.
    pub chains: BTreeMap<ChainId, Vec<PlacedRule>>,
    /// Those of its chains in ebtables whose end returns to the chain that jumped there. The end of every other one accepts, which is how the
    /// tools make chains.
    pub returning: BTreeSet<ChainId>,
    /// Its blocks in base chains, and its hooks in built-in chains of ebtables, first to last.
    pub shared: BTreeMap<ChainId, Vec<PlacedRule>>,
    /// Its block straight in built-in chains of iptables, first to last (the classic layout). No key tells these rules from
    /// those of others: they are ours by the record's count of copies alone, see [`crate::plan::direct`].
    pub direct: BTreeMap<ChainId, Vec<PlacedRule>>,
}

/// How the rules of networks are spelled; those of guests are the same in every layout.
///
/// The era before private chains is described twice, and the descriptions differ (networks.md section 4), so there are two
/// lists to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Private chains, as libvirt has made them since 5.1.0.
    #[default]
    Chains,
    /// Straight in built-in chains, the rules that libvirt made then.
    Classic,
    /// The same place, the rules that libvirt's own description of its firewall lists. What that is silent about (IPv6,
    /// forward devices) is as in [`Layout::Classic`].
    ClassicDocument,
}

impl Compiled {
    /// How many rules of objects each family is asked for.
    pub fn count(&self) -> BTreeMap<Family, usize> {
        let mut count: BTreeMap<Family, usize> = Family::ALL.into_iter().map(|family| (family, 0)).collect();
        for (chain, rules) in self.objects.values().flat_map(|rules| rules.blocks()) {
            *count.entry(chain.family).or_default() += rules.len();
        }
        count
    }
}

impl ObjectRules {
    /// What becomes of a frame at the end of one of its chains in ebtables.
    pub fn end(&self, chain: &ChainId) -> Policy {
        if self.returning.contains(chain) { Policy::Return } else { Policy::Accept }
    }

    /// The families that it has chains or rules in; one may come several times.
    pub fn families(&self) -> impl Iterator<Item = Family> {
        self.chains.keys().chain(self.shared.keys()).map(|chain| chain.family)
    }
}

/// What a rule in a shared chain is recognised by (design section 4, ownership).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A guest's device: `--physdev-in`, `--physdev-out`; `-i`, `-o` of ebtables.
    Guest(DeviceName),
    /// A network's bridge: `-i`, `-o` in the LIBVIRT_ chains.
    Bridge(DeviceName),
    /// A network's subnet: `-s` in nat LIBVIRT_PRT.
    Subnet(IpNet),
}

/// A rule and the XML element that it came from; `None` for a rule from the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedRule {
    /// The rule in normal form.
    pub rule: Rule,
    /// The element.
    pub place: Option<Span>,
}

/// Compiles every object of the policy.
pub fn compile(resolved: &Resolved, quirks: Quirks, layout: Layout) -> Compiled {
    compile_again(resolved, quirks, layout, &mut Memo::default())
}

/// As [`compile`], with the same result; guests whose policy `memo` has from an earlier call are not compiled again. Afterwards it has this call's.
pub fn compile_again(resolved: &Resolved, quirks: Quirks, layout: Layout, memo: &mut Memo) -> Compiled {
    let mut compiled = Compiled::default();
    let mut before = memo.begin(quirks);
    let mut remarks = Remarks::default();
    let mut common = Common::default();
    for policy in &resolved.networks {
        let object = Object::Network(policy.name.to_string());
        match network::compile(policy, layout) {
            Ok(rules) => {
                compiled.objects.insert(object, Arc::new(rules));
            }
            Err(fault) => {
                remarks.refuse(&fault);
                compiled.held.push(hold(object, &fault));
            }
        }
    }
    for guest in &resolved.guests {
        let object = Object::Interface(guest.device.clone());
        let made = before.take(guest).map_or_else(|| compile_guest(guest, quirks, &mut common, &mut remarks), Ok);
        let made = made.and_then(|known| {
            remarks.repeat(&known.remarks);
            refuse_clash(guest, &known.rules, &compiled, &mut remarks).map(|()| known)
        });
        match made {
            Ok(known) => {
                compiled.objects.insert(object, Arc::clone(&known.rules));
                memo.keep(known);
            }
            Err(fault) => compiled.held.push(hold(object, fault.diagnostic())),
        }
    }
    compiled.diagnostics = remarks.diagnostics;
    compiled
}

/// A guest that may neither send nor receive: `-j DROP` alone in both of its ebtables root chains.
pub fn closed(device: &DeviceName) -> ObjectRules {
    let mut rules = ObjectRules::for_guest(device);
    bridge_filter::close(device, &mut rules);
    rules
}

fn hold(object: Object, fault: &Diagnostic) -> Held {
    Held { object, span: fault.span(), code: fault.code, message: fault.message.clone() }
}

/// The rules of one guest with what there is to say about them; all its faults go to `remarks`, the first one is the answer.
fn compile_guest(guest: &Arc<GuestPolicy>, quirks: Quirks, common: &mut Common, remarks: &mut Remarks) -> Result<Known, Fault> {
    let known = |rules, remarks| Known { policy: Arc::clone(guest), rules: Arc::new(rules), remarks };
    let rules = match &guest.treatment {
        Treatment::Learning(learning) => return Ok(known(learning::compile(guest, learning, quirks), Vec::new())),
        Treatment::Filtered(rules) => rules,
    };
    let own = Remarks::default();
    let mut draft = Draft { guest, quirks, rules: ObjectRules::for_guest(&guest.device), first_fault: None, remarks: own };
    let sorted = sort(rules);
    bridge_filter::compile(&mut draft, rules, &sorted);
    ip_filter::compile(&mut draft, &sorted);
    if let Some(fault) = draft.first_fault {
        remarks.repeat(&draft.remarks.diagnostics);
        return Err(fault);
    }
    common.share(&guest.device, &mut draft.rules);
    Ok(known(draft.rules, draft.remarks.diagnostics))
}

/// The order of nwfilter.md 3.3 step 2: the rules of root chains first, then by priority; equals keep collection order.
fn sort(rules: &[Arc<PolicyRule>]) -> Vec<&PolicyRule> {
    let mut sorted: Vec<&PolicyRule> = rules.iter().map(|rule| &**rule).collect();
    sorted.sort_by_key(|rule| (!is_root(rule), rule.priority));
    sorted
}

/// Whether the rule's filter has no chain of its own.
fn is_root(rule: &PolicyRule) -> bool {
    &*rule.chain.name == "root"
}

/// Refuses a guest that wants a chain that an earlier guest has.
///
/// Only sub-chains can clash, and only those of devices of which one continues the other after a dash: `I-a-arp-mac` is chain `arp-mac` of
/// `a` and chain `mac` of `a-arp`.
fn refuse_clash(guest: &GuestPolicy, rules: &ObjectRules, compiled: &Compiled, remarks: &mut Remarks) -> Result<(), Fault> {
    let name = guest.device.as_str();
    for (dash, _) in name.match_indices('-') {
        let Some(other) = DeviceName::new(&name[..dash]) else { continue };
        let Some(taken) = compiled.objects.get(&Object::Interface(other.clone())) else { continue };
        let Some(id) = rules.chains.keys().find(|id| taken.chains.contains_key(id)) else { continue };
        let message = format!("interfaces `{other}` and `{name}` both need the chain `{}`", id.chain);
        let diagnostic = Diagnostic::error("chain-name-clash", message, guest.place, "this interface comes second")
            .help("rename one of the two devices, or one of the filter chains");
        remarks.refuse(&diagnostic);
        return Err(Fault::new(diagnostic));
    }
    Ok(())
}

/// One guest's rules while they are being made.
struct Draft<'a> {
    guest: &'a GuestPolicy,
    quirks: Quirks,
    rules: ObjectRules,
    first_fault: Option<Fault>,
    remarks: Remarks,
}

impl Draft<'_> {
    /// Notes a fault: the guest will be held.
    fn refuse(&mut self, fault: Fault) {
        self.remarks.refuse(fault.diagnostic());
        self.first_fault.get_or_insert(fault);
    }

    /// Says something about a rule that is made all the same.
    fn remark(&mut self, code: &'static str, span: Span, make: impl FnOnce() -> Diagnostic) {
        self.remarks.add(code, span, make);
    }
}

/// What the last guest had of each `<rule>`, by its place, the family, and which way the chain judges: four in ten rules of `clean-traffic` name neither the guest nor its
/// addresses, and are the same for all. Looked for by place, since to hash whole rules costs more than to make them.
#[derive(Default)]
struct Common(HashMap<(Span, Family, &'static str), Rule>);

impl Common {
    /// Takes what the last guest has as well from there, instead of a second copy.
    fn share(&mut self, device: &DeviceName, rules: &mut ObjectRules) {
        for (id, placed) in &mut rules.chains {
            let Some((chain, _)) = chain_name::guest_of(id.chain.as_str(), device) else { continue };
            let mut before = None;
            for placed in placed {
                // Of the many that a list of values makes, one is enough to look at.
                let Some(place) = placed.place.filter(|place| before.replace(*place) != Some(*place)) else { continue };
                let known = self.0.entry((place, id.family, chain.letters())).or_insert_with(|| placed.rule.clone());
                if *known == placed.rule {
                    placed.rule = known.clone();
                } else {
                    *known = placed.rule.clone();
                }
            }
        }
    }
}

/// What there is to say, once per code and place: thousands of guests share one filter.
#[derive(Default)]
struct Remarks {
    diagnostics: Vec<Diagnostic>,
    said: HashSet<(&'static str, Span)>,
}

impl Remarks {
    fn add(&mut self, code: &'static str, span: Span, make: impl FnOnce() -> Diagnostic) {
        if self.said.insert((code, span)) {
            self.diagnostics.push(make());
        }
    }

    /// Says again what was said of one guest.
    fn repeat(&mut self, said: &[Diagnostic]) {
        for diagnostic in said {
            self.refuse(diagnostic);
        }
    }

    fn refuse(&mut self, fault: &Diagnostic) {
        self.add(fault.code, fault.span(), || fault.clone());
    }
}

impl ObjectRules {
    /// Every chain that it wants something in, with the rules.
    pub fn blocks(&self) -> impl Iterator<Item = (&ChainId, &Vec<PlacedRule>)> {
        self.chains.iter().chain(&self.shared).chain(&self.direct)
    }

    /// Whether the other has the same rules in the same chains, wherever in the XML they come from.
    pub fn says_the_same(&self, other: &Self) -> bool {
        fn rules(placed: &[PlacedRule]) -> impl Iterator<Item = &Rule> {
            placed.iter().map(|placed| &placed.rule)
        }
        let mut pairs = self.blocks().zip(other.blocks());
        self.blocks().count() == other.blocks().count()
            && self.returning == other.returning
            && pairs.all(|((one, ours), (two, theirs))| one == two && rules(ours).eq(rules(theirs)))
    }

    /// The same rules without their places, for when the files have changed since they were made: a place says something only beside the text that it was found in.
    pub fn unplaced(rules: &Arc<Self>) -> Arc<Self> {
        let is_placed = |(_, placed): (_, &Vec<PlacedRule>)| placed.iter().any(|placed| placed.place.is_some());
        if !rules.blocks().any(is_placed) {
            return Arc::clone(rules);
        }
        let mut unplaced = Self::clone(rules);
        let Self { chains, shared, direct, .. } = &mut unplaced;
        for placed in [chains, shared, direct].into_iter().flat_map(|blocks| blocks.values_mut()).flatten() {
            placed.place = None;
        }
        Arc::new(unplaced)
    }

    /// No rules yet, known by the guest's device.
    fn for_guest(device: &DeviceName) -> Self {
        Self { keys: BTreeSet::from([Key::Guest(device.clone())]), ..Self::default() }
    }
}

impl PlacedRule {
    /// A rule of ebtables, brought into normal form.
    fn bridge(rule: BridgeRule, place: Option<Span>) -> Self {
        Self { rule: normal::bridge_rule(rule).into(), place }
    }

    /// A rule of iptables or ip6tables, brought into normal form.
    fn ip(family: Family, rule: IpRule, place: Option<Span>) -> Self {
        Self { rule: normal::ip_rule(family, rule).into(), place }
    }
}
