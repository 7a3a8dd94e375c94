//! Somebody else who adds and deletes rules all the time, also in the chains that we share: none of theirs is lost, doubled or moved.

use crate::fixture::{FILTER, NETWORK, guest};
use crate::nightly::{Dice, times};
use crate::world::World;

/// Where the other one writes: tool with its table, and chain. All of its rules name `acmeN`.
const CHAINS: [(&str, &str, &str); 4] = [
    ("iptables", "FORWARD", "-i acme{} -j ACCEPT"),
    ("iptables", "LIBVIRT_FWI", "-o acme{} -j REJECT"),
    ("ip6tables", "INPUT", "-i acme{} -j ACCEPT"),
    ("ebtables -t nat", "PREROUTING", "-i acme{} -j ACCEPT"),
];

#[test]
fn another_writers_rules_are_neither_lost_nor_moved_during_many_passes() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.apply();
    let mut dice = Dice::new();
    // What the other one's rules are: its numbers in every chain, from first to last.
    let mut theirs: [Vec<u64>; CHAINS.len()] = Default::default();
    for pass in 0..times(12, 1_000) {
        let filter = if pass % 2 == 0 { "clean-traffic" } else { "web" };
        world.write("vnet0.xml", &guest(0, filter));
        match pass % 4 {
            0 => world.write("vnet1.xml", &guest(1, "web")),
            2 => world.delete("vnet1.xml"),
            _ => {}
        }
        let mut ours = world.start(&["apply"]);
        world.sh(&write(&mut theirs, pass, &mut dice));
        let code = ours.wait();
        assert_eq!(code, Some(0), "pass {pass}: {}", ours.log());
        for ((tool, chain, _), expected) in CHAINS.iter().zip(&theirs) {
            let words: Vec<&str> = tool.split(' ').collect();
            let save = world.save(words[0]);
            let found = save.lines().filter(|line| line.starts_with(&format!("-A {chain} ")));
            let numbers: Vec<u64> = found.filter_map(|line| line.split("acme").nth(1)?.split(' ').next()?.parse().ok()).collect();
            assert_eq!(numbers, *expected, "pass {pass}, {tool} {chain}:\n{save}");
        }
    }
    world.apply();
    world.assert_in_sync();
}

/// Some additions at the head and the end, and deletions, as a script; `theirs` follows.
fn write(theirs: &mut [Vec<u64>; CHAINS.len()], pass: u64, dice: &mut Dice) -> String {
    let mut script = String::new();
    for step in 0..6 {
        let at = usize::try_from(dice.below(CHAINS.len() as u64)).expect("a small number");
        let (tool, chain, rule) = CHAINS[at];
        let rules = &mut theirs[at];
        let number = pass * 10 + step;
        let spell = |number: u64| rule.replace("{}", &number.to_string());
        let line = match dice.below(3) {
            0 if rules.len() > 3 => {
                let gone = rules.remove(usize::try_from(dice.below(rules.len() as u64)).expect("a small number"));
                format!("{tool} -D {chain} {}", spell(gone))
            }
            1 => {
                rules.insert(0, number);
                format!("{tool} -I {chain} {}", spell(number))
            }
            _ => {
                rules.push(number);
                format!("{tool} -A {chain} {}", spell(number))
            }
        };
        script.extend([line.as_str(), "\n"]);
    }
    script
}
