//! A kill at the worst moment: the next start follows the files, leaves no orphan, and touches nobody else's rules.

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::World;

/// A debug build aborts itself at the moment that this variable names.
const KILL: &str = "BRIDGEWARD_TEST_KILL";

/// Rules of somebody else, one of them in a chain that we share.
const FOREIGN: &str = "
    iptables -A INPUT -s 192.0.2.1 -m comment --comment acme -j DROP
    iptables -A LIBVIRT_FWI -o acme0 -j REJECT
    ebtables -t nat -A PREROUTING -i acme0 -j DROP";

fn foreign(world: &World) -> Vec<String> {
    world.save_all().lines().filter(|line| line.contains("acme")).map(str::to_owned).collect()
}

/// A world with a network and two guests applied, and foreign rules beside them.
fn applied() -> World {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.write("vnet1.xml", &guest(1, "web"));
    world.apply();
    world.sh(FOREIGN);
    world
}

#[test]
fn what_changed_while_a_killed_daemon_was_away_is_followed() {
    let world = applied();
    let mut daemon = world.run(&[]);
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    daemon.wait_until("the daemon to work", || world.save("ebtables").contains("vnet2"));
    let foreign_before = foreign(&world);
    assert_eq!(daemon.end(Signal::KILL), None);

    world.delete("vnet0.xml");
    world.delete("vnet2.xml");
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    world.write("vnet3.xml", &guest(3, "clean-traffic"));
    let mut daemon = world.run(&[]);
    daemon.wait_until("the new guest", || world.in_sync());
    let save = world.save_all();
    for stale in ["vnet0", "vnet2", "FI-vnet1"] {
        assert!(!save.contains(stale), "`{stale}` is stale:\n{save}\n{}", daemon.log());
    }
    assert_eq!(foreign(&world), foreign_before);
}

#[test]
fn an_apply_killed_between_commit_and_record_leaves_no_orphan() {
    let world = applied();
    let foreign_before = foreign(&world);
    world.write("vnet2.xml", &guest(2, "web"));
    world.delete("vnet0.xml");
    let killed = world.bridgeward_with(&[(KILL, "after-commit")], &["apply"]);
    assert_eq!(killed.code, None, "the program has to abort at the hook: {killed}");
    assert!(world.save("ebtables").contains("vnet2"), "the commit was before the kill:\n{}", world.save_all());

    world.delete("vnet2.xml");
    world.apply();
    let save = world.save_all();
    for stale in ["vnet0", "vnet2"] {
        assert!(!save.contains(stale), "`{stale}` is stale:\n{save}");
    }
    assert!(save.contains("vnet1"), "{save}");
    assert_eq!(foreign(&world), foreign_before);
    world.assert_in_sync();
}

#[test]
fn a_first_apply_killed_between_commit_and_record_can_be_purged() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    let killed = world.bridgeward_with(&[(KILL, "after-commit")], &["apply"]);
    assert_eq!(killed.code, None, "the program has to abort at the hook: {killed}");
    world.sh("iptables -A INPUT -s 192.0.2.1 -m comment --comment acme -j DROP");
    let purged = world.bridgeward(&["purge"]);
    assert_eq!(purged.code, Some(0), "{purged}");
    let save = world.save_all();
    let left: Vec<&str> = save.lines().filter(|line| line.starts_with("-A ")).collect();
    assert_eq!(left, ["-A INPUT -s 192.0.2.1/32 -m comment --comment acme -j DROP"], "{purged}");
}

#[test]
fn a_daemon_killed_between_commit_and_record_is_followed_by_one_that_cleans_up() {
    let world = applied();
    world.write("vnet2.xml", &guest(2, "web"));
    let state = world.state().display().to_string();
    let mut killed = world.run_with(&[("BRIDGEWARD_STATE", &state), (KILL, "after-commit")], &[]);
    assert_eq!(killed.wait(), None, "{}", killed.log());
    world.delete("vnet2.xml");
    let mut daemon = world.run(&[]);
    daemon.wait_until("the orphan to go", || !world.save_all().contains("vnet2") && world.in_sync());
}

#[test]
fn without_its_record_the_program_adopts_what_it_knows_and_deletes_nothing() {
    let world = applied();
    world.sh("rm -rf /run/bridgeward");
    world.delete("vnet0.xml");
    world.apply();
    let save = world.save_all();
    assert!(save.contains("vnet0"), "without a record nothing says that vnet0 was ours:\n{save}");
    assert!(save.contains("vnet1"), "{save}");
    world.delete("vnet1.xml");
    world.apply();
    assert!(!world.save_all().contains("vnet1"), "vnet1 was adopted and then deleted:\n{}", world.save_all());
}

#[test]
fn a_corrupt_record_is_set_aside_and_nothing_is_deleted_for_it() {
    let world = applied();
    let before = world.save_all();
    world.sh("for record in $(find /run/bridgeward -name record.json); do echo '{' >$record; done");
    world.delete("vnet0.xml");
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(answer.stderr.contains("corrupt"), "{answer}");
    assert_eq!(world.save_all(), before, "{answer}");
}
