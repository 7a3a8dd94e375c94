//! `apply --confirm`: what nobody confirms is taken back, whoever was killed meanwhile, and not applied again unasked.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::World;

/// Long enough that no slow machine takes rules back before a test has looked at them.
const LONG: &str = "10min";
/// Short enough to be waited for.
const SHORT: &str = "2s";

/// A world with one guest applied, and a second one that is to be tried out; and the rules before.
fn world() -> (World, String) {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.apply();
    let before = world.save_all();
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.write("vnet1.xml", &guest(1, "web"));
    (world, before)
}

fn try_out(world: &World, time: &str) {
    let answer = world.bridgeward(&["apply", "--confirm", time]);
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(answer.stdout.contains("on trial: the earlier rules come back in"), "{answer}");
}

fn wait_until(what: &str, world: &World, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "did not happen: {what}\n{}", world.save_all());
        thread::sleep(Duration::from_millis(100));
    }
}

/// The guards of rules on trial in this world, by process id.
fn guards(world: &World) -> Vec<String> {
    let script = "for process in /proc/[0-9]*; do
        words=$(tr '\\0' ' ' <$process/cmdline 2>/dev/null) || continue
        case $words in '/proc/self/exe guard-trial '*) ;; *) continue ;; esac
        [ \"$(readlink $process/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ] && echo ${process#/proc/}
    done; true";
    world.sh(script).lines().map(str::to_owned).collect()
}

#[test]
fn confirmed_rules_stay_and_a_second_confirmation_says_that_nothing_is_on_trial() {
    let (world, before) = world();
    try_out(&world, LONG);
    world.assert_in_sync();
    assert_ne!(world.save_all(), before);
    let confirmed = world.bridgeward(&["confirm"]);
    assert_eq!(confirmed.code, Some(0), "{confirmed}");
    let again = world.bridgeward(&["confirm"]);
    assert!(again.code == Some(1) && again.stderr.contains("nothing is on trial"), "{again}");
    world.assert_in_sync();
    wait_until("the guard to go", &world, || guards(&world).is_empty());
}

#[test]
fn unconfirmed_rules_are_taken_back_and_a_late_confirmation_says_so() {
    let (world, before) = world();
    try_out(&world, SHORT);
    wait_until("the earlier rules", &world, || world.save_all() == before);
    let late = world.bridgeward(&["confirm"]);
    assert!(late.code == Some(1) && late.stderr.contains("too late"), "{late}");
    assert_eq!(world.save_all(), before, "{late}");
    world.apply();
    world.assert_in_sync();
}

#[test]
fn a_first_apply_that_nobody_confirms_leaves_nothing() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.sh("iptables -A INPUT -s 192.0.2.1 -j DROP; ebtables -t nat -A PREROUTING -i acme0 -j DROP");
    let before = world.save_all();
    let rules = |save: &str| save.lines().filter(|line| line.starts_with("-A ")).map(str::to_owned).collect::<Vec<_>>();
    try_out(&world, SHORT);
    wait_until("the earlier rules", &world, || rules(&world.save_all()) == rules(&before));
    assert!(!world.save_all().contains("vnet0"), "{}", world.save_all());
}

#[test]
fn rules_that_were_not_as_recorded_come_back_as_they_were() {
    let (world, _) = world();
    world.sh("iptables -D FO-vnet0 1; ebtables -t nat -A libvirt-I-vnet0 -j ACCEPT");
    let before = world.save_all();
    try_out(&world, SHORT);
    wait_until("the earlier rules", &world, || world.save_all() == before);
}

#[test]
fn a_killed_guard_is_made_up_for_by_the_next_start() {
    let (world, before) = world();
    try_out(&world, "8s");
    let guards = guards(&world);
    assert_eq!(guards.len(), 1);
    world.sh(&format!("kill -KILL {}", guards[0]));
    thread::sleep(Duration::from_millis(8500));
    assert_ne!(world.save_all(), before, "nobody is left to take them back");
    let mut daemon = world.run(&["--poll", "100ms"]);
    daemon.wait_until("the earlier rules", || world.save_all() == before);
    daemon.wait_until_log("nobody confirmed in time");
    daemon.wait_until_log("the earlier rules are in force");
}

#[test]
fn an_apply_killed_in_the_middle_is_taken_back() {
    let (world, before) = world();
    let killed = world.bridgeward_with(&[("BRIDGEWARD_TEST_KILL", "after-commit")], &["apply", "--confirm", SHORT]);
    assert_eq!(killed.code, None, "the program has to abort at the hook: {killed}");
    wait_until("the earlier rules", &world, || world.save_all() == before);
}

#[test]
fn a_daemon_takes_back_holds_the_earlier_rules_and_follows_the_next_change() {
    let (world, _) = world();
    world.write("vnet0.xml", &guest(0, "web"));
    world.delete("vnet1.xml");
    let mut daemon = world.run(&["--mode", "observe", "--poll", "100ms"]);
    daemon.wait_until_log("in sync");
    let before = world.save_all();
    world.write("vnet1.xml", &guest(1, "web"));
    daemon.wait_until_log("the kernel is not what the files say");
    try_out(&world, SHORT);
    daemon.wait_until("the earlier rules", || world.save_all() == before);
    drop(daemon);
    // One that enforces holds them, too, and repairs to them.
    let mut daemon = world.run(&["--poll", "100ms"]);
    daemon.wait_until_log("the earlier rules are in force");
    world.sh("iptables -F FO-vnet0");
    daemon.wait_until("the repair", || world.save_all() == before);
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    daemon.wait_until("the changed file", || world.in_sync());
    assert!(world.save_all().contains("I-vnet1-ipv4-ip"), "{}", world.save_all());
}

#[test]
fn a_daemon_that_is_killed_during_a_trial_is_made_up_for_by_the_guard() {
    let (world, _) = world();
    world.apply();
    let before = world.save_all();
    let mut daemon = world.run(&["--mode", "observe", "--poll", "100ms"]);
    daemon.wait_until_log("in sync");
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    try_out(&world, SHORT);
    assert_ne!(world.save_all(), before);
    assert_eq!(daemon.end(Signal::KILL), None);
    wait_until("the earlier rules", &world, || world.save_all() == before);
    wait_until("the guards to go", &world, || guards(&world).is_empty());
}

#[test]
fn what_a_trial_removes_comes_back() {
    let (world, _) = world();
    world.apply();
    let rules = || {
        let save = world.save_all();
        let mut rules: Vec<&str> = save.lines().collect();
        rules.sort_unstable();
        rules.join("\n")
    };
    let before = rules();
    world.delete("vnet0.xml");
    world.delete("lab.xml");
    try_out(&world, SHORT);
    assert!(!world.save_all().contains("vnet0"), "{}", world.save_all());
    // Hooks of guests stand in another order, which means nothing: each names its own device.
    wait_until("the earlier rules", &world, || rules() == before);
}

#[test]
fn only_one_trial_at_a_time_and_no_apply_during_one() {
    let (world, _) = world();
    try_out(&world, LONG);
    world.write("vnet2.xml", &guest(2, "web"));
    for arguments in [&["apply"][..], &["apply", "--confirm", "10s"]] {
        let refused = world.bridgeward(arguments);
        assert!(refused.code == Some(2) && refused.stderr.contains("rules are on trial"), "{refused}");
    }
    assert!(!world.save_all().contains("vnet2"), "{}", world.save_all());
    assert_eq!(world.bridgeward(&["confirm"]).code, Some(0));
    world.apply();
    world.assert_in_sync();
}

#[test]
fn a_daemon_leaves_changed_files_alone_during_a_trial() {
    let (world, _) = world();
    world.apply();
    let mut daemon = world.run(&["--mode", "observe", "--poll", "100ms"]);
    daemon.wait_until_log("in sync");
    world.write("vnet2.xml", &guest(2, "web"));
    try_out(&world, LONG);
    drop(daemon);
    let mut daemon = world.run(&["--poll", "100ms"]);
    daemon.wait_until_log("rules are on trial");
    let tried = world.save_all();
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    world.sh("iptables -F FO-vnet2");
    daemon.wait_until("the repair to what is on trial", || world.save_all() == tried);
    assert_eq!(world.bridgeward(&["confirm"]).code, Some(0));
    daemon.wait_until("the file that waited", || world.in_sync());
}

#[test]
fn purge_ends_a_trial_for_good() {
    let (world, _) = world();
    try_out(&world, SHORT);
    let purged = world.bridgeward(&["purge"]);
    assert_eq!(purged.code, Some(0), "{purged}");
    wait_until("the guard to go", &world, || guards(&world).is_empty());
    assert!(!world.save_all().contains("vnet0"), "{}", world.save_all());
}
