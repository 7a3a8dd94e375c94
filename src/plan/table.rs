//! One table: what it holds and what it should hold in, its edits out.
//!
//! Chains that objects want are made or mended, those of claimed guests that nobody wants go, shared chains and hooks are
//! mended around what others put there. The edits come in one order: chains are made, then rules change, then chains go; so
//! every chain exists before a jump to it and is unreferenced before it goes. Within that order nothing matters, because a
//! table is committed whole or not at all.

mod built_in;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::edit::{self, BRIDGE_POLICY, Block, Deletion, Fate, Slot, Standing, Wanted};
use super::ownership::{self, BASES, Base, Claims, Entry, Owner, Role};
use super::{Change, Desired, Edit, FOREIGN_FIRST, Remark, Scope, TEMPORARY_CHAIN};
use crate::addr::DeviceName;
use crate::compile::hooks::BaseChain;
use crate::compile::{Key, PlacedRule};
use crate::model::Object;
use crate::ruleset::rule::{BridgeRule, BridgeTarget, Rule};
use crate::ruleset::{ChainId, ChainName, ChainRules, Family, LiveRule, Policy, Table, TableRules};

/// What a table should hold, sorted by chain; made once for all tables of all families.
#[derive(Debug, Default)]
pub struct Wishes<'a> {
    tables: BTreeMap<(Family, Table), TableWishes<'a>>,
}

/// The wishes for one table.
#[derive(Debug, Default)]
pub struct TableWishes<'a> {
    // Looked up for every live chain in every pass, so not a tree; never walked in its own order.
    whole: HashMap<&'a ChainName, Whole<'a>>,
    shared: BTreeMap<&'a ChainName, Vec<Wanted<'a>>>,
    direct: BTreeMap<&'a ChainName, Vec<Wanted<'a>>>,
    bases: BTreeSet<&'a ChainName>,
}

/// A chain that one object wants whole.
#[derive(Debug, Clone, Copy)]
struct Whole<'a> {
    object: &'a Object,
    placed: &'a [PlacedRule],
    /// What its end should do, where that can be chosen: in ebtables.
    end: Policy,
}

/// The situation that the edits of a table are found in.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The wishes of everybody, and how far we may go.
    pub desired: &'a Desired,
    /// Whose is what.
    pub claims: &'a Claims<'a>,
    /// Guests that are shut while the edits of other families are made.
    pub gated: &'a BTreeSet<DeviceName>,
}

impl<'a> Wishes<'a> {
    /// Sorts the rules of all objects by table and chain.
    pub fn new(desired: &'a Desired, bases: &'a [BaseChain]) -> Self {
        let mut tables: BTreeMap<(Family, Table), TableWishes<'a>> = BTreeMap::new();
        for (object, rules) in &desired.objects {
            let own = if desired.settled.contains(object) { None } else { Some(&rules.chains) };
            for (id, placed) in own.into_iter().flatten() {
                tables.entry((id.family, id.table)).or_default().whole.insert(&id.chain, Whole { object, placed, end: rules.end(id) });
            }
            for (id, placed) in &rules.shared {
                let wanted = placed.iter().map(|placed| Wanted::of(object, placed));
                tables.entry((id.family, id.table)).or_default().shared.entry(&id.chain).or_default().extend(wanted);
            }
            for (id, placed) in &rules.direct {
                let wanted = placed.iter().map(|placed| Wanted::of(object, placed));
                tables.entry((id.family, id.table)).or_default().direct.entry(&id.chain).or_default().extend(wanted);
            }
        }
        for base in bases {
            tables.entry((base.id.family, base.id.table)).or_default().bases.insert(&base.id.chain);
        }
        Self { tables }
    }

    /// The tables of a family that anything is wanted in.
    pub fn tables(&self, family: Family) -> impl Iterator<Item = Table> {
        self.tables.iter().filter(move |((wanted, _), wishes)| *wanted == family && !wishes.is_empty()).map(|((_, table), _)| *table)
    }

    /// The first object that wants something of a family.
    pub fn first_in(&self, family: Family) -> Option<&'a Object> {
        let tables = self.tables.iter().filter(|((wanted, _), _)| *wanted == family);
        let objects = tables.flat_map(|(_, wishes)| {
            let shared = wishes.shared.values().chain(wishes.direct.values()).flatten().filter_map(|wanted| wanted.object);
            wishes.whole.values().map(|whole| whole.object).chain(shared)
        });
        objects.min()
    }

    /// The wishes for one table.
    pub fn of(&self, family: Family, table: Table) -> Option<&TableWishes<'a>> {
        self.tables.get(&(family, table))
    }
}

impl TableWishes<'_> {
    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.bases.is_empty() && self.shared.values().chain(self.direct.values()).all(Vec::is_empty)
    }

    /// The objects that want any rule in a shared chain.
    pub fn objects_in(&self, chain: &ChainName) -> HashSet<&Object> {
        self.shared.get(chain).into_iter().flatten().filter_map(|wanted| wanted.object).collect()
    }
}

/// Finds the edits of one table.
pub fn edits(
    situation: Situation<'_>,
    family: Family,
    table: Table,
    wishes: &TableWishes<'_>,
    live: &TableRules,
    remarks: &mut BTreeSet<Remark>,
) -> Vec<Edit> {
    let mut work = Work {
        situation,
        family,
        table,
        wishes,
        live,
        made: Vec::new(),
        changed: Vec::new(),
        settled: HashMap::new(),
        doomed: Vec::new(),
        deleted: Vec::new(),
        remarks,
    };
    if work.live_chains() < wishes.whole.len() {
        work.missing_chains();
    }
    let hooks = work.base_chains();
    work.built_in_chains(&hooks);
    work.bridge_hooks();
    work.gate_chain();
    work.delete_chains();
    let Work { mut made, changed, deleted, .. } = work;
    made.extend(changed);
    made.extend(deleted);
    made
}

struct Work<'a, 'w> {
    situation: Situation<'a>,
    family: Family,
    table: Table,
    wishes: &'w TableWishes<'w>,
    live: &'w TableRules,
    made: Vec<Edit>,
    changed: Vec<Edit>,
    /// The live rules that stay, of every chain whose target was looked for; a chain that is not here stays as it is.
    settled: HashMap<&'w ChainName, Vec<usize>>,
    /// Chains to delete as soon as nothing refers to them.
    doomed: Vec<(&'w ChainName, Option<Object>)>,
    deleted: Vec<Edit>,
    remarks: &'w mut BTreeSet<Remark>,
}

impl<'w> Work<'_, 'w> {
    fn ours(&self, device: &DeviceName) -> bool {
        matches!(self.situation.claims.guest(device), Owner::Ours(_))
    }

    /// False for an object that has to stay as it is.
    fn free(&self, object: Option<&Object>) -> bool {
        if let Some(Object::Interface(device)) = object { self.situation.claims.guest(device) != Owner::Frozen } else { true }
    }

    fn rules(&self, chain: &ChainName) -> &'w [LiveRule] {
        self.live.chains.get(chain).map_or(&[], |chain| &chain.rules)
    }

    fn make(&mut self, chain: &ChainName, object: Option<&Object>) {
        if !self.live.chains.contains_key(chain) {
            self.made.push(Edit { change: Change::NewChain(chain.clone()), object: object.cloned(), place: None });
        }
    }

    /// Takes down the edits of one chain, and which of its rules stay.
    fn settle(&mut self, chain: &ChainName, target: Vec<Slot<'_>>, deletion: Deletion, owner: impl Fn(&LiveRule) -> Option<Object>) {
        if let Some((live, _)) = self.live.chains.get_key_value(chain) {
            let stays = target.iter().filter_map(|slot| if let Slot::Live(index, _) = slot { Some(*index) } else { None }).collect();
            self.settled.insert(live, stays);
        }
        self.changed.extend(edit::edits(chain, self.rules(chain), target, deletion, owner));
    }

    /// Chains that are there: those that an object wants whole, those of guests that nobody wants, and those that libvirtd is writing;
    /// gives the number of the first.
    fn live_chains(&mut self) -> usize {
        let (live, wishes) = (self.live, self.wishes);
        let mut found = 0;
        for (chain, content) in &live.chains {
            if let Some(whole) = wishes.whole.get(chain) {
                self.mend(chain, content, *whole);
                found += 1;
                continue;
            }
            match self.situation.claims.role(self.family, self.table, chain, live) {
                Role::Guest(device) if self.ours(&device) => {
                    let object = Some(Object::Interface(device));
                    self.settle(chain, Vec::new(), Deletion::ByPosition, |_| object.clone());
                    self.doomed.push((chain, object));
                }
                Role::Temporary(device) if self.ours(&device) && self.situation.desired.leftovers.contains(&device) => {
                    let object = Some(Object::Interface(device));
                    self.settle(chain, Vec::new(), Deletion::ByPosition, |_| object.clone());
                    self.doomed.push((chain, object));
                }
                Role::Temporary(device) if self.ours(&device) => self.remark(
                    TEMPORARY_CHAIN,
                    format!("{} {} chain `{chain}` is being written by libvirtd and left alone", self.family, self.table),
                ),
                _ => {}
            }
        }
        found
    }

    /// A chain of an object that is there.
    fn mend(&mut self, chain: &ChainName, content: &ChainRules, whole: Whole<'_>) {
        let Whole { object, placed, end } = whole;
        if !self.free(Some(object)) {
            return;
        }
        self.mend_policy(chain, end, Some(object));
        let live = &content.rules;
        if live.len() == placed.len() && live.iter().zip(placed).all(|(live, placed)| live.is(&placed.rule)) {
            // As nearly every chain is in nearly every pass: nothing may be made for it.
            return;
        }
        self.fill(chain, object, placed);
    }

    /// Chains of objects that are not there.
    fn missing_chains(&mut self) {
        let (live, wishes) = (self.live, self.wishes);
        let missing = wishes.whole.iter().filter(|(chain, _)| !live.chains.contains_key(**chain));
        let missing: BTreeMap<&ChainName, _> = missing.map(|(chain, wish)| (*chain, *wish)).collect();
        for (chain, Whole { object, placed, end }) in missing {
            if self.free(Some(object)) {
                self.make(chain, Some(object));
                self.fill(chain, object, placed);
                self.mend_policy(chain, end, Some(object));
            }
        }
    }

    fn fill(&mut self, chain: &ChainName, object: &Object, placed: &[PlacedRule]) {
        let wanted: Vec<Wanted<'_>> = placed.iter().map(|placed| Wanted::of(object, placed)).collect();
        let target = edit::whole(self.rules(chain), &wanted);
        self.settle(chain, target, Deletion::ByPosition, |_| Some(object.clone()));
    }

    /// Sets what the end of a chain of ebtables does. Where that is not known (`ebtables -L` does not say) it is left.
    fn mend_policy(&mut self, chain: &ChainName, end: Policy, object: Option<&Object>) {
        let live = self.live.chains.get(chain).map_or(Some(BRIDGE_POLICY), |chain| chain.policy);
        if self.family == Family::Bridge && live.is_some_and(|live| live != end) {
            let change = Change::SetPolicy { chain: chain.clone(), policy: end };
            self.changed.push(Edit { change, object: object.cloned(), place: None });
        }
    }

    fn remark(&mut self, code: &'static str, message: String) {
        self.remarks.insert(Remark { code, message });
    }

    /// The shared chains of iptables; gives the fate of every hook of this table.
    fn base_chains(&mut self) -> Vec<(&'static Base, Fate)> {
        if self.family == Family::Bridge {
            return Vec::new();
        }
        let mut hooks = Vec::new();
        let table = self.table;
        for base in BASES.iter().filter(|base| base.table == table) {
            let name = ChainName::new(base.chain);
            let wanted = self.wishes.bases.get(&name).copied();
            if let Some(chain) = wanted {
                self.make(chain, None);
            }
            let live = self.live.chains.get_key_value(&name).map(|(chain, _)| chain);
            if let Some(chain) = wanted.or(live) {
                self.share(base, chain);
            }
            let fate = match (wanted, live) {
                (Some(_), _) => Fate::Needed,
                (None, Some(chain)) if self.removable(chain, base) => {
                    self.doomed.push((chain, None));
                    Fate::Doomed
                }
                _ => Fate::Left,
            };
            hooks.push((base, fate));
        }
        hooks
    }

    /// Whether a base chain that nothing needs may go: it is our making and nobody has anything in it or sends anything to it
    /// but through its hook.
    fn removable(&self, chain: &ChainName, base: &Base) -> bool {
        let desired = self.situation.desired;
        let id = ChainId { family: self.family, table: self.table, chain: chain.clone() };
        let jump = base.jump();
        let hooked = |parent: &ChainName, rule: &LiveRule| parent.as_str() == base.parent && *rule == LiveRule::Known(jump.clone());
        !desired.libvirtd
            && desired.made.contains(&id)
            && self.settled.get(chain).is_none_or(Vec::is_empty)
            && !self.live.foreign_targets.contains(chain)
            && !self.staying().any(|(parent, rule)| !hooked(parent, rule) && ownership::destinations(rule).contains(chain))
    }

    /// All live rules that stay, as far as is settled, with their chains.
    fn staying(&self) -> impl Iterator<Item = (&'w ChainName, &'w LiveRule)> {
        let rules = self
            .live
            .chains
            .iter()
            .flat_map(|(chain, rules)| rules.rules.iter().enumerate().map(move |(index, rule)| (chain, index, rule)));
        rules
            .filter(|(chain, index, _)| self.settled.get(chain).is_none_or(|stays| stays.binary_search(index).is_ok()))
            .map(|(chain, _, rule)| (chain, rule))
    }

    fn share(&mut self, base: &'static Base, chain: &'w ChainName) {
        let claims = self.situation.claims;
        let key = |rule: &Rule| base.key(rule);
        let owner = |rule: &LiveRule| claims.in_base(base, rule);
        let target = self.shared_target(chain, key, owner, base.entry == Entry::Head);
        let unknown = self.rules(chain).iter().filter(|rule| matches!(rule, LiveRule::Unknown(_))).count();
        if unknown > 0 && self.situation.desired.scope == Scope::Shared {
            self.remark(
                "unknown-rule",
                format!("rules in {} {} chain `{chain}` that cannot be parsed are left alone: {unknown}", self.family, self.table),
            );
        }
        self.settle(chain, target, Deletion::ByRule, |rule| owner(rule).object());
    }

    /// Sorts live and wanted rules of a shared chain into blocks by key. Objects that share a key share a block, since nothing
    /// tells their rules apart.
    fn shared_target(
        &self,
        chain: &ChainName,
        key: impl Fn(&Rule) -> Option<Key>,
        owner: impl Fn(&LiveRule) -> Owner,
        head: bool,
    ) -> Vec<Slot<'w>> {
        let wishes: &'w [Wanted<'w>] = self.wishes.shared.get(chain).map_or(&[], Vec::as_slice);
        let wanted: Vec<Wanted<'w>> = wishes.iter().filter(|wanted| self.free(wanted.object)).copied().collect();
        let live = self.rules(chain);
        if live.len() == wanted.len()
            && live.iter().zip(&wanted).all(|(live, wanted)| matches!(live, LiveRule::Known(rule) if rule == wanted.rule))
        {
            return wanted.into_iter().enumerate().map(|(index, wanted)| Slot::Live(index, Some(wanted))).collect();
        }
        let groups = groups(&wanted, &key);
        let mut blocks: BTreeMap<usize, Block<'w>> = BTreeMap::new();
        let mut of_key: HashMap<Key, usize> = HashMap::new();
        let mut of_rule: HashMap<&Rule, usize> = HashMap::new();
        for (wanted, group) in wanted.iter().zip(groups) {
            blocks.entry(group).or_default().wanted.push(*wanted);
            of_rule.insert(wanted.rule, group);
            of_key.extend(key(wanted.rule).map(|key| (key, group)));
        }
        let mut foreign = vec![false; live.len()];
        for (index, rule) in live.iter().enumerate() {
            if !matches!(owner(rule), Owner::Ours(_)) {
                foreign[index] = true;
                continue;
            }
            let LiveRule::Known(rule) = rule else { continue };
            let group = of_rule.get(rule).or_else(|| key(rule).and_then(|key| of_key.get(&key)));
            if let Some(block) = group.and_then(|group| blocks.get_mut(group)) {
                block.live.push(index);
            }
        }
        edit::blocks(live, &blocks.into_values().collect::<Vec<_>>(), &foreign, head)
    }

    /// Foreign rules before ours can make ours moot; their owner has to be told, since they are not ours to move.
    fn remark_foreign_first(&mut self, chain: &ChainName, live: &[LiveRule], target: &[Slot<'_>]) {
        let of_libvirt = |rule: &LiveRule| {
            ownership::destinations(rule)
                .iter()
                .any(|chain| chain.as_str().starts_with("libvirt-") || chain.as_str().starts_with("LIBVIRT_"))
        };
        let ours = |slot: &&Slot<'_>| matches!(slot, Slot::New(_) | Slot::Live(_, Some(_)));
        let foreign = |slot: &&Slot<'_>| matches!(slot, Slot::Live(index, None) if !of_libvirt(&live[*index]));
        let Some(last) = target.iter().rposition(|slot| ours(&slot)) else { return };
        let before = target[..last].iter().filter(foreign).count();
        if before > 0 {
            self.remark(FOREIGN_FIRST, format!("foreign rules before ours in {} {} chain `{chain}`: {before}", self.family, self.table));
        }
    }

    /// The jumps of ebtables into guests' root chains, and the gates before them.
    fn bridge_hooks(&mut self) {
        if (self.family, self.table) != (Family::Bridge, Table::Nat) {
            return;
        }
        let claims = self.situation.claims;
        for name in ["PREROUTING", "POSTROUTING"].map(ChainName::new) {
            let live = self.rules(&name);
            let owner = |rule: &LiveRule| claims.in_bridge_hook(&name, rule);
            let key = |rule: &Rule| if let Rule::Bridge(rule) = rule { ownership::bridge_hook(&name, rule).map(Key::Guest) } else { None };
            let hooks = self.shared_target(&name, key, owner, false);
            let gates: Vec<Rule> = self.situation.gated.iter().map(|device| ownership::gate(&name, device)).collect();
            let gates: Vec<Wanted<'_>> = gates.iter().map(Wanted::common).collect();
            let target = edit::head(live, &gates, hooks);
            self.remark_foreign_first(&name, live, &target);
            self.settle(&name, target, Deletion::ByRule, |rule| owner(rule).object());
        }
    }

    /// The chain behind the gates: there while a gate is.
    fn gate_chain(&mut self) {
        let gate = ChainName::new(ownership::GATE);
        if (self.family, self.table) != (Family::Bridge, Table::Nat) {
            return;
        }
        let live = self.live.chains.get_key_value(&gate).map(|(chain, _)| chain);
        if !self.situation.gated.is_empty() {
            self.make(&gate, None);
            self.mend_policy(&gate, BRIDGE_POLICY, None);
            let drop = Rule::from(BridgeRule::new(BridgeTarget::Drop));
            let target = edit::whole(self.rules(&gate), &[Wanted::common(&drop)]);
            self.settle(&gate, target, Deletion::ByPosition, |_| None);
        } else if let Some(chain) = live
            && !self.live.foreign_targets.contains(chain)
            && !self.staying().any(|(_, rule)| ownership::destinations(rule).contains(chain))
        {
            self.settle(chain, Vec::new(), Deletion::ByPosition, |_| None);
            self.doomed.push((chain, None));
        }
    }

    /// Deletes the chains that have to go; one that somebody else still refers to is left, empty.
    fn delete_chains(&mut self) {
        if self.doomed.is_empty() {
            return;
        }
        let doomed: HashSet<&ChainName> = self.doomed.iter().map(|(chain, _)| *chain).collect();
        let mut referred: HashSet<ChainName> = HashSet::new();
        for (_, rule) in self.staying() {
            referred.extend(ownership::destinations(rule).into_iter().filter(|chain| doomed.contains(chain)));
        }
        for (chain, object) in std::mem::take(&mut self.doomed) {
            if referred.contains(chain) || self.live.foreign_targets.contains(chain) {
                self.remark(
                    "chain-in-use",
                    format!("{} {} chain `{chain}` is emptied, not deleted: foreign rules refer to it", self.family, self.table),
                );
            } else {
                self.deleted.push(Edit { change: Change::DeleteChain(chain.clone()), object, place: None });
            }
        }
    }
}

/// Numbers the wanted rules so that those of one object, and of objects with a common key, have one number; numbers ascend with
/// first appearance.
fn groups(wanted: &[Wanted<'_>], key: &impl Fn(&Rule) -> Option<Key>) -> Vec<usize> {
    let mut leader: Vec<usize> = (0..wanted.len()).collect();
    let mut by_object: HashMap<&Object, usize> = HashMap::new();
    let mut by_key: HashMap<Key, usize> = HashMap::new();
    let find = |leader: &[usize], mut at: usize| {
        while leader[at] != at {
            at = leader[at];
        }
        at
    };
    for (at, wanted) in wanted.iter().enumerate() {
        let same_object = wanted.object.map(|object| *by_object.entry(object).or_insert(at));
        let same_key = key(wanted.rule).map(|key| *by_key.entry(key).or_insert(at));
        for other in same_object.into_iter().chain(same_key) {
            let (one, two) = (find(&leader, other), find(&leader, at));
            leader[one.max(two)] = one.min(two);
        }
    }
    (0..wanted.len()).map(|at| find(&leader, at)).collect()
}
