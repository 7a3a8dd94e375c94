//! What somebody does to the kernel's rules while the daemon runs: put back, and said who did it; a fight neither spins nor spreads;
//! what is lost on the way (messages, directories) loses nothing else.
//!
//! The tests wait for the outcome and do not measure how long it takes: `make repair-times` does, and fights for two minutes.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Daemon, Server, Tools, World};

/// Long enough for many polls of 100 ms.
const A_WHILE: Duration = Duration::from_secs(2);

/// What is done, and the program that does it.
const TAMPERINGS: [(&str, &str); 8] = [
    ("iptables -F", "iptables"),
    ("ip6tables -F; ip6tables -X || true", "ip6tables"),
    ("ebtables -t nat -F; ebtables -t nat -X || true", "ebtables"),
    ("nft flush ruleset", "nft"),
    ("iptables -D FORWARD -j libvirt-in", "iptables"),
    ("iptables -R FO-vnet7 1 -j ACCEPT", "iptables"),
    ("iptables -I FO-vnet7 -j ACCEPT", "iptables"),
    ("ebtables -t nat -P libvirt-I-vnet7 DROP", "ebtables"),
];

/// A world with this many guests in which the daemon, which never polls, has done its first pass.
fn running(guests: usize) -> (World, Daemon) {
    let world = World::new();
    for number in 0..3 {
        let network = NETWORK.replace("lab", &format!("lab{number}")).replace("10.40.", &format!("10.4{number}."));
        world.write(&format!("lab{number}.xml"), &network.replace("fd40:", &format!("fd4{number}:")));
    }
    world.write("web.xml", FILTER);
    for number in 0..guests {
        world.write(&format!("vnet{number}.xml"), &guest(number, "web"));
    }
    let mut daemon = world.run(&["--poll", "1h"]);
    daemon.wait_until("the first pass", || world.in_sync());
    (world, daemon)
}

/// All rules and chains, in any order: guests that come back one after another may stand in another one, which is in sync.
fn rules(world: &World) -> BTreeSet<String> {
    world.save_all().lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

/// The file that names every program which the daemon starts from now on.
fn trace_programs(world: &World, daemon: &mut Daemon) -> (PathBuf, Server) {
    let (id, trace) = (daemon.id().to_string(), world.scratch("trace"));
    fs::write(&trace, "").expect("the scratch directory takes files");
    let to = trace.display().to_string();
    let strace = world.serve("strace", &["strace", "-f", "-qq", "-e", "trace=execve", "-o", &to, "-p", &id]);
    let status = format!("/proc/{id}/status");
    let lines = || fs::read_to_string(&status).expect("the daemon lives");
    let traced = || lines().lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
    daemon.wait_until("strace (Debian package strace) to attach", traced);
    (trace, strace)
}

#[test]
fn every_tampering_with_a_full_host_is_repaired_and_its_author_named() {
    let (world, mut daemon) = running(100);
    let good = rules(&world);
    assert!(good.len() > 3000, "{} rules", good.len());
    for (tampering, author) in TAMPERINGS {
        let said = daemon.log().len();
        world.sh(tampering);
        daemon.wait_until(tampering, || rules(&world) == good && world.in_sync());
        daemon.wait_until_log_from(said, &format!("rules changed by {author}["));
    }
}

#[test]
fn while_nobody_writes_a_look_starts_no_process() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    let mut daemon = world.run(&["--poll", "100ms"]);
    daemon.wait_until("the first pass", || world.in_sync());
    let (trace, _strace) = trace_programs(&world, &mut daemon);
    thread::sleep(A_WHILE);
    assert_eq!(fs::read_to_string(&trace).expect("strace writes it"), "");
    world.sh("iptables -F LIBVIRT_FWO");
    daemon.wait_until("the repair", || world.in_sync());
    let seen = fs::read_to_string(&trace).expect("strace writes it");
    assert!(seen.contains("iptables-save") && seen.contains("iptables-restore"), "{seen}");
}

#[test]
fn a_writer_that_keeps_undoing_us_is_waited_for_while_other_chains_are_repaired_at_once() {
    let (world, mut daemon) = running(3);
    let good = rules(&world);
    let undo = "while :; do iptables -D FO-vnet0 1 2>/dev/null; sleep 0.1; done";
    let fighter = world.serve("fighter", &["bash", "-c", undo]);
    daemon.wait_until_log("somebody keeps undoing our rules");
    let words = ["our rules in iptables filter FO-vnet0:", "by=iptables[", "the next repair waits", "should stop, of interface `vnet0`"];
    for words in words {
        assert!(daemon.log().contains(words), "no `{words}` in:\n{}", daemon.log());
    }
    let status = world.bridgeward(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("iptables filter FO-vnet0: by iptables["), "{status}");
    let repairs = |daemon: &Daemon| daemon.log().matches("drift repaired").count();
    let before = repairs(&daemon);
    thread::sleep(3 * A_WHILE);
    let meanwhile = repairs(&daemon) - before;
    // 1.6 s, 3.2 s, 6.4 s; a repair may take more than one commit, which one pass tells of.
    assert!(meanwhile <= 4, "{meanwhile} repairs in 6 s:\n{}", daemon.log());
    for _ in 0..2 {
        world.sh("iptables -D FO-vnet1 1");
        daemon.wait_until("the repair of another chain", || {
            rules(&world).iter().filter(|rule| rule.contains("FO-vnet1")).eq(good.iter().filter(|rule| rule.contains("FO-vnet1")))
        });
    }
    drop(fighter);
    daemon.wait_until("the repair after the fight", || rules(&world) == good);
    daemon.wait_until_log("no longer: somebody keeps undoing our rules in iptables filter FO-vnet0");
    let alarms = daemon.log().matches("keeps undoing our rules in iptables filter FO-vnet0:").count();
    assert_eq!(alarms, 1, "{}", daemon.log());
    daemon.wait_until("the status to be calm", || world.bridgeward(&["status"]).code == Some(0));
    world.sh("iptables -D FO-vnet0 1");
    daemon.wait_until("a repair long after the fight", || rules(&world) == good);
}

#[test]
fn rules_in_tables_that_are_not_ours_wake_nobody() {
    let (world, mut daemon) = running(1);
    let (trace, _strace) = trace_programs(&world, &mut daemon);
    world.sh("nft add table inet firewalld; nft add chain inet firewalld input '{ type filter hook input priority 10; }'; nft add rule inet firewalld input counter");
    thread::sleep(A_WHILE);
    assert_eq!(fs::read_to_string(&trace).expect("strace writes it"), "");
}

#[test]
fn more_messages_than_can_be_heard_hide_nothing() {
    let (world, mut daemon) = running(1);
    let good = rules(&world);
    let stopped = || fs::read_to_string(format!("/proc/{}/stat", daemon.id())).is_ok_and(|stat| stat.contains(") T "));
    daemon.signal(Signal::STOP);
    while !stopped() {
        thread::sleep(Duration::from_millis(10));
    }
    // 40,000 messages and more a round; the daemon's buffer takes 64 MB at most.
    world.sh(
        "seq -f '-A noise -s 192.0.2.1 -p tcp --dport %.0f -j ACCEPT' 20000 | sed '1i*filter\\n:noise - [0:0]' >noise; echo COMMIT >>noise
        dropped() { awk '$2 == 12 && $9 > 0' /proc/net/netlink | grep -q .; }
        for _ in $(seq 100); do iptables-restore --noflush <noise; iptables -F noise; dropped && break; done
        dropped
        iptables -F FO-vnet0; iptables -D FORWARD -j libvirt-in; iptables -X noise",
    );
    daemon.signal(Signal::CONT);
    daemon.wait_until("the repair of what was not heard", || rules(&world) == good);
    world.sh("iptables -F FO-vnet0");
    daemon.wait_until("a repair after the overflow", || rules(&world) == good);
}

#[test]
fn a_flush_while_the_state_directory_is_gone_is_repaired_to_what_it_said_last() {
    let (world, mut daemon) = running(2);
    let good = rules(&world);
    let away = world.scratch("elsewhere");
    fs::rename(world.state(), &away).expect("the directory is ours");
    thread::sleep(A_WHILE);
    world.sh("nft flush ruleset");
    daemon.wait_until("the rules as they were", || rules(&world) == good);
    fs::rename(&away, world.state()).expect("the directory is ours");
    world.delete("vnet1.xml");
    daemon.wait_until("the deletion after the directory came back", || !world.save_all().contains("vnet1"));
    world.assert_in_sync();
}

/// What a clock that was set back does to files: the newer one is the older one.
#[test]
fn a_file_that_is_older_than_the_one_before_or_just_as_old_counts_all_the_same() {
    let (world, mut daemon) = running(2);
    let has = |address: &str| world.save("ebtables").contains(&format!("-A I-vnet0-ipv4-ip -p IPv4 --ip-src {address} -j RETURN"));
    let change = |address: &str, aged: &str| {
        fs::write(world.scratch("vnet0.xml"), guest(0, "web").replace("10.40.0.10", address)).expect("the scratch directory takes files");
        world.sh(&format!("touch {aged} vnet0.xml; mv vnet0.xml state/"));
    };
    change("10.40.0.50", "-d 2001-02-03");
    daemon.wait_until("an older file", || has("10.40.0.50"));
    change("10.40.0.51", "-r state/vnet0.xml");
    daemon.wait_until("a file just as old", || has("10.40.0.51"));
    world.sh("touch -d 2001-02-03 state/vnet1.xml /run/bridgeward/*/* 2>/dev/null || true; iptables -F FO-vnet1");
    daemon.wait_until("the repair", || world.in_sync());
}

#[test]
fn a_tap_that_appears_gets_its_rules_though_nobody_polls() {
    let world = World::new();
    world.write(
        "vm.xml",
        "<interface type='bridge'><mac address='52:54:00:40:00:09'/><source bridge='br0'/>
           <filterref filter='clean-traffic'><parameter name='IP' value='10.40.0.19'/></filterref></interface>",
    );
    world.write("lab.xml", NETWORK);
    let mut daemon = world.run(&["--poll", "1h"]);
    daemon.wait_until("the first pass", || world.save("iptables").contains("br-lab"));
    let has = |device: &str| world.save("ebtables").contains(&format!("-A I-{device}-ipv4-ip -p IPv4 --ip-src 10.40.0.19 -j RETURN"));
    world.sh("ip tuntap add tap9 mode tap; ip link set tap9 address fe:54:00:40:00:09");
    daemon.wait_until("the rules of the tap", || has("tap9"));
    world.sh("ip link set tap9 name tap10");
    daemon.wait_until("the rules of the renamed tap", || has("tap10") && !world.save_all().contains("tap9"));
    // Its last pass may not have been told of yet.
    thread::sleep(A_WHILE);
    let said = daemon.log().len();
    world.sh("ip link add other type veth peer name another; ip link add br9 type bridge; ip link set tap10 master br9; ip link set tap10 nomaster; ip link del other");
    thread::sleep(A_WHILE);
    assert!(has("tap10"), "a tap that leaves its bridge lives on:\n{}", world.save_all());
    assert_eq!(&daemon.log()[said..], "", "devices that no interface is matched to");
    world.sh("ip link del tap10");
    daemon.wait_until("the rules to go with the tap", || !world.save_all().contains("tap10"));
}

#[test]
fn looking_with_legacy_tools_makes_no_table() {
    let world = World::with_tools(Tools::Legacy);
    let tables = || world.sh("cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true");
    let modules = || world.sh("cut -d' ' -f1 /proc/modules 2>/dev/null | grep -E 'table|ebt' || true");
    let before = modules();
    let mut daemon = world.run(&["--poll", "100ms"]);
    daemon.wait_until_log("in sync");
    thread::sleep(A_WHILE);
    assert_eq!(tables(), "", "there was no table and is none");
    world.sh("iptables -N somebody");
    thread::sleep(A_WHILE);
    assert_eq!(tables(), "filter\n", "one table was made, and not by us");
    assert_eq!(modules().lines().filter(|module| !before.contains(module)).collect::<Vec<_>>(), Vec::<&str>::new());
}
