//! Plans through the real tools: what a plan says it makes of the kernel is what the kernel holds afterwards, rule for rule,
//! whatever it held before.

use bridgeward::backend::Kernel;
use bridgeward::backend::probe::{Commands, probe};
use bridgeward::backend::system::System;
use bridgeward::plan::{self, Desired, direct, script};
use bridgeward::ruleset::{Family, Observation};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::namespace::in_new_namespace;
use crate::nightly::times;
use crate::plan_laws::{World, after, committed, occupied, save_text, world};

/// How many worlds in `make test` and nightly. Enough for every kind of edit to meet every other in one chain; each costs some twelve runs of the tools.
const WORLDS: [usize; 2] = [25, 500];

async fn commit(system: &System, family: Family, text: String) {
    let lines = script::Script { text, origins: Vec::new() };
    system.commit(family, &lines).await.unwrap_or_else(|refusal| panic!("{refusal}\n{}", lines.text));
}

/// Empties the kernel and brings it to the world's old state.
async fn enter(system: &System, world: &World) {
    for family in Family::ALL {
        let tool = &system.tools().of(family).expect("the tests need all three tools").command;
        let tables: &[&str] = if family == Family::Bridge { &["nat"] } else { &["filter", "nat", "mangle"] };
        for table in tables {
            crate::namespace::sh(&format!("{tool} -t {table} -F; {tool} -t {table} -X"));
        }
        let Some(Observation::Read(tables)) = world.live.families.get(&family) else { continue };
        commit(system, family, save_text(family, tables)).await;
    }
}

async fn commit_lands(commands: Commands) {
    let system = System::new(probe(&commands).await, System::DEFAULT_LIMIT);
    let mut runner = TestRunner::deterministic();
    let [few, many] = WORLDS;
    for _ in 0..times(few, many) {
        let world = world().new_tree(&mut runner).expect("a world can be made").current();
        enter(&system, &world).await;
        let live = system.observe(&Family::ALL).await;
        assert_eq!(occupied(&live), occupied(&world.live), "the world is not what it was meant to be");
        let plan = plan::plan(&world.desired, &live).expect("all families can be read");
        for (family, tables) in plan.phases.iter().flat_map(|phase| &phase.families) {
            commit(&system, *family, script::script(*family, tables).text).await;
        }
        let end = system.observe(&Family::ALL).await;
        assert_eq!(occupied(&end), occupied(&after(&plan, &live)), "{plan:#?}");
        let direct = committed(direct::prospect(&world.desired, &live));
        let desired = Desired { direct, ..world.desired };
        assert!(plan::plan(&desired, &end).expect("all families can be read").is_empty());
    }
}

#[test]
fn a_plan_lands_exactly_with_nf_tables_tools() {
    in_new_namespace(async || {
        let commands = Commands { ipv4: "iptables-nft".into(), ipv6: "ip6tables-nft".into(), bridge: "ebtables-nft".into() };
        commit_lands(commands).await;
    });
}

#[test]
fn a_plan_lands_exactly_with_legacy_tools() {
    in_new_namespace(async || {
        let commands = Commands { ipv4: "iptables-legacy".into(), ipv6: "ip6tables-legacy".into(), bridge: "ebtables-nft".into() };
        commit_lands(commands).await;
    });
}
