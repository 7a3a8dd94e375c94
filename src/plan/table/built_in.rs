//! The built-in chains of iptables: hooks of base chains, and rules of ours that stand there themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::{Base, Deletion, Fate, Work};
use crate::plan::HookPlacement;
use crate::plan::direct::{self, Possession};
use crate::plan::edit::{self, Hook, Slot, Wanted};
use crate::plan::{NETWORK_FIRST, ownership};
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, ChainName, LiveRule};

/// What is ours in one built-in chain besides hooks.
struct Block<'b> {
    wanted: &'b [Wanted<'b>],
    possession: Option<&'b Possession>,
    left: Option<&'b BTreeSet<Rule>>,
}

impl Work<'_, '_> {
    /// Mends every built-in chain that has a hook or a rule of ours, or should have one.
    pub(super) fn built_in_chains(&mut self, fates: &[(&'static Base, Fate)]) {
        let mut chains: BTreeMap<ChainName, Vec<Hook>> = BTreeMap::new();
        let (family, table) = (self.family, self.table);
        let displaced = |base: &Base| {
            let id = ChainId { family, table, chain: ChainName::new(base.parent) };
            let displaced = self.situation.desired.displaced.get(&id);
            displaced.is_some_and(|jumps| jumps.contains(&base.jump()))
        };
        for (base, fate) in fates {
            let fate = if *fate == Fate::Needed && displaced(base) { Fate::Displaced } else { *fate };
            chains.entry(ChainName::new(base.parent)).or_default().push(Hook { rule: base.jump(), fate });
        }
        let possessed = self.situation.desired.direct.keys().filter(|id| (id.family, id.table) == (family, table));
        for chain in self.wishes.direct.keys().copied().chain(possessed.map(|id| &id.chain)) {
            chains.entry(chain.clone()).or_default();
        }
        for (name, hooks) in chains {
            self.built_in_chain(&name, &hooks);
        }
    }

    fn built_in_chain(&mut self, name: &ChainName, hooks: &[Hook]) {
        let (desired, wishes, claims) = (self.situation.desired, self.wishes, self.situation.claims);
        let id = ChainId { family: self.family, table: self.table, chain: name.clone() };
        let wanted = wishes.direct.get(name).map_or(&[][..], Vec::as_slice);
        let block = Block { wanted, possession: desired.direct.get(&id), left: desired.left.get(&id) };
        if hooks.iter().all(|hook| hook.fate == Fate::Left) && block.is_nothing() {
            return;
        }
        let live = self.rules(name);
        let found = direct::ours(live, block.possession);
        let equal = direct::equal_but_foreign(live, &found, block.wanted);
        if equal > 0 {
            self.remarks.insert(direct::remark(&id, equal));
        }
        let target = match desired.hooks {
            HookPlacement::Present => block.among(live, &found, edit::hooks(live, hooks)),
            HookPlacement::First => block.first(live, &found, hooks),
        };
        self.remark_foreign_first(name, live, &target);
        self.remark_network_first(name, live, &target);
        self.settle(name, target, Deletion::ByRule, |rule| claims.in_built_in(rule));
    }

    /// What a network accepts is accepted for good: where its jump stands before one of guests, their filters are not asked. It is in sync, since a libvirt
    /// may have made it so, and people have to be told.
    fn remark_network_first(&mut self, chain: &ChainName, live: &[LiveRule], target: &[Slot<'_>]) {
        let Some(last) = target.iter().rposition(|slot| direct::leads_to_guests(slot, live)) else { return };
        let of_network = |chain: &ChainName| ownership::base(chain).is_some_and(Base::is_of_networks);
        let before: Vec<String> =
            target[..last].iter().flat_map(|slot| slot.destinations(live)).filter(of_network).map(|chain| chain.to_string()).collect();
        if !before.is_empty() {
            let message = format!("jumps to rules of networks before those of guests in {} {} chain `{chain}`: ", self.family, self.table);
            self.remark(NETWORK_FIRST, message + &before.join(", "));
        }
    }
}

impl<'b> Block<'b> {
    fn is_nothing(&self) -> bool {
        self.wanted.is_empty() && self.possession.is_none()
    }

    fn stays(&self, rule: &LiveRule) -> bool {
        self.left.is_some_and(|left| direct::is_left(rule, left))
    }

    /// The target where hooks, and so our rules, may stand anywhere in their order.
    fn among<'s>(&self, live: &'s [LiveRule], found: &[bool], hooks: Vec<Slot<'s>>) -> Vec<Slot<'s>>
    where
        'b: 's,
    {
        if self.is_nothing() {
            return hooks;
        }
        direct::weave(live, found, self.wanted, |rule| self.stays(rule), hooks)
    }

    /// The target where hooks, and behind them our rules, are first.
    fn first<'s>(&self, live: &'s [LiveRule], found: &[bool], hooks: &'s [Hook]) -> Vec<Slot<'s>>
    where
        'b: 's,
    {
        let needed = hooks.iter().filter(|hook| matches!(hook.fate, Fate::Needed | Fate::Displaced)).map(|hook| Wanted::common(&hook.rule));
        let first: Vec<Wanted<'s>> = needed.chain(self.wanted.iter().copied()).collect();
        let rest = edit::hooks(live, hooks).into_iter().filter(|slot| match slot {
            Slot::Live(index, None) => !found[*index] || self.stays(&live[*index]),
            Slot::Live(_, Some(_)) | Slot::New(_) => false,
        });
        edit::head(live, &first, rest.collect())
    }
}
