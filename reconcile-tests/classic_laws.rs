//! The laws of rules that stand straight in built-in chains, on the random worlds of `plan_laws`: some of them have such
//! rules, copies of them that are somebody else's, or no record.

use std::collections::BTreeMap;

use bridgeward::plan::{self, Desired, direct, ownership};
use bridgeward::ruleset::rule::Rule;
use bridgeward::ruleset::{ChainId, ChainName, Family, LiveRule, Observed, Table};
use proptest::prelude::*;

use crate::nightly::times;
use crate::plan_laws::{World, after, chains, committed, occupied, states_between, world};

fn plan_of(desired: &Desired, live: &Observed) -> plan::Plan {
    plan::plan(desired, live).expect("all families can be read")
}

/// The rules of a chain that are no hooks: those come and go by other laws.
fn rules_of(observed: &Observed, id: &ChainId) -> Vec<LiveRule> {
    let found = chains(observed).find(|(family, table, name, _)| (*family, *table, *name) == (id.family, id.table, &id.chain));
    let hook = |rule: &&LiveRule| !ownership::destinations(rule).is_empty();
    found.map_or_else(Vec::new, |(_, _, _, rules)| rules.iter().filter(|rule| !hook(rule)).cloned().collect())
}

/// The chains with rules of ours, and what is wanted in them, network after network.
fn wanted(world: &World) -> BTreeMap<ChainId, Vec<Rule>> {
    let mut wanted: BTreeMap<ChainId, Vec<Rule>> = world.desired.direct.keys().map(|id| (id.clone(), Vec::new())).collect();
    for (id, placed) in world.desired.objects.values().flat_map(|rules| &rules.direct) {
        wanted.entry(id.clone()).or_default().extend(placed.iter().map(|placed| placed.rule.clone()));
    }
    wanted
}

/// The rules of every chain, sorted: which of two equal rules is ours may be told differently after a kill, so their places
/// among others may differ.
fn census(observed: &Observed) -> Vec<(Family, Table, ChainName, Vec<LiveRule>)> {
    let sorted = |rules: &[LiveRule]| {
        let mut rules = rules.to_vec();
        rules.sort();
        rules
    };
    occupied(observed).into_iter().map(|(family, table, name, rules)| (family, table, name.clone(), sorted(rules))).collect()
}

/// Whether `all` can be split into these two sequences.
fn is_shuffle(all: &[LiveRule], one: &[LiveRule], other: &[LiveRule]) -> bool {
    if all.len() != one.len() + other.len() {
        return false;
    }
    // At each step: how many of `one` may have been used up.
    let mut used = vec![true];
    used.resize(one.len() + 1, false);
    for (at, rule) in all.iter().enumerate() {
        used = (0..=one.len())
            .map(|of_one| {
                let from_one = of_one > 0 && used[of_one - 1] && one[of_one - 1] == *rule;
                let from_other = used[of_one] && at >= of_one && other.get(at - of_one) == Some(rule);
                from_one || from_other
            })
            .collect();
    }
    used[one.len()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: times(300, 10_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn our_rules_stand_in_order_among_foreign_ones_that_read_as_before(world in world()) {
        let end = after(&plan_of(&world.desired, &world.live), &world.live);
        for (id, wanted) in wanted(&world) {
            let before = rules_of(&world.live, &id);
            let found = direct::ours(&before, world.desired.direct.get(&id));
            let foreign: Vec<LiveRule> = before.iter().zip(found).filter(|(_, ours)| !ours).map(|(rule, _)| rule.clone()).collect();
            let ours: Vec<LiveRule> = wanted.into_iter().map(LiveRule::Known).collect();
            let now = rules_of(&end, &id);
            prop_assert!(is_shuffle(&now, &ours, &foreign), "{id:?}: {now:#?}\nis not\n{ours:#?}\namong\n{foreign:#?}");
        }
    }

    #[test]
    fn a_record_written_before_a_commit_is_right_wherever_a_kill_stops_it(world in world()) {
        let plan = plan_of(&world.desired, &world.live);
        let end = after(&plan, &world.live);
        let intended = Desired { direct: direct::prospect(&world.desired, &world.live), ..world.desired.clone() };
        // At the end itself equal copies may be told apart in another way than before, and change places once; nothing is added or lost.
        prop_assert_eq!(census(&after(&plan_of(&intended, &end), &end)), census(&end));
        for state in [world.live.clone()].into_iter().chain(states_between(&plan, &world.live)) {
            let mended = after(&plan_of(&intended, &state), &state);
            prop_assert_eq!(census(&mended), census(&end));
            let direct = committed(direct::prospect(&intended, &state));
            let known = Desired { direct, ..intended.clone() };
            prop_assert!(plan_of(&known, &mended).is_empty());
        }
    }

    #[test]
    fn what_no_record_knows_is_never_deleted(world in world()) {
        let lost = Desired { direct: BTreeMap::new(), ..world.desired.clone() };
        let end = after(&plan_of(&lost, &world.live), &world.live);
        for id in wanted(&world).into_keys() {
            let now = rules_of(&end, &id);
            let before = rules_of(&world.live, &id);
            let mut rest = now.iter();
            prop_assert!(before.iter().all(|rule| rest.any(|now| now == rule)), "{id:?}: {before:#?}\nis not in\n{now:#?}");
        }
    }

    #[test]
    fn taking_everything_away_leaves_what_was_there_before(world in world()) {
        let plan = plan_of(&world.desired, &world.live);
        let end = after(&plan, &world.live);
        let direct = committed(direct::prospect(&world.desired, &world.live));
        let nothing = Desired { objects: BTreeMap::new(), direct, ..world.desired.clone() };
        let left = after(&plan_of(&nothing, &end), &end);
        for (id, _) in wanted(&world) {
            let before = rules_of(&world.live, &id);
            let found = direct::ours(&before, world.desired.direct.get(&id));
            let foreign: Vec<LiveRule> = before.iter().zip(found).filter(|(_, ours)| !ours).map(|(rule, _)| rule.clone()).collect();
            prop_assert_eq!(rules_of(&left, &id).len(), foreign.len(), "{:?}", id);
        }
    }
}

#[test]
fn a_shuffle_is_told_from_a_swap() {
    let rules = |letters: &str| letters.chars().map(|letter| LiveRule::Unknown(letter.to_string().into())).collect::<Vec<_>>();
    assert!(is_shuffle(&rules("axbya"), &rules("aba"), &rules("xy")));
    assert!(is_shuffle(&rules("aab"), &rules("ab"), &rules("a")));
    assert!(!is_shuffle(&rules("bxa"), &rules("ab"), &rules("x")));
    assert!(!is_shuffle(&rules("ab"), &rules("ab"), &rules("x")));
}
