//! `bridgeward run`: what happens to the files reaches the kernel, what happens to the kernel is put back.
//!
//! The tests wait for the outcome and do not measure how long it takes.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Daemon, Tools, World};

/// Longer than the daemon waits for a burst of file events to settle: after it, a file that had an effect has had it.
const SETTLED: Duration = Duration::from_secs(2);

/// A world with a network, a filter and two guests, in which the daemon has done its first pass.
fn running() -> (World, Daemon) {
    running_with(Tools::NfTables)
}

fn running_with(tools: Tools) -> (World, Daemon) {
    let world = World::with_tools(tools);
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    let mut daemon = world.run(&["--poll", "100ms"]);
    daemon.wait_until("the first pass", || world.in_sync());
    (world, daemon)
}

/// The words of a rule that shows which address a guest may use.
fn address_rule(world: &World, device: &str, address: &str) -> bool {
    world.save("ebtables").contains(&format!("-A I-{device}-ipv4-ip -p IPv4 --ip-src {address} -j RETURN"))
}

#[test]
fn a_dropped_file_a_change_a_rename_and_a_deletion_reach_the_kernel() {
    let (world, mut daemon) = running();
    fs::write(world.state().join("vnet2.xml"), guest(2, "clean-traffic")).expect("the state directory takes files");
    daemon.wait_until("the dropped file", || address_rule(&world, "vnet2", "10.40.0.12"));
    let changed = guest(2, "clean-traffic").replace("10.40.0.12", "10.40.0.52");
    fs::write(world.state().join("vnet2.xml"), changed).expect("the state directory takes files");
    daemon.wait_until("the change in place", || address_rule(&world, "vnet2", "10.40.0.52"));
    world.write("vnet2.xml", &guest(2, "clean-traffic").replace("10.40.0.12", "10.40.0.62"));
    daemon.wait_until("the rename over the old file", || address_rule(&world, "vnet2", "10.40.0.62"));
    world.delete("vnet2.xml");
    daemon.wait_until("the deletion", || !world.save_all().contains("vnet2"));
    world.assert_in_sync();
}

#[test]
fn a_file_in_a_new_subdirectory_reaches_the_kernel() {
    let (world, mut daemon) = running();
    fs::create_dir(world.state().join("guests")).expect("the state directory takes directories");
    world.write("guests/vnet3.xml", &guest(3, "clean-traffic"));
    daemon.wait_until("the file in the new directory", || address_rule(&world, "vnet3", "10.40.0.13"));
}

#[test]
fn a_file_that_is_changed_under_another_name_is_seen_at_the_next_look() {
    let world = World::new();
    for (number, link) in [(0, false), (1, true)] {
        let (file, elsewhere) = (format!("vnet{number}.xml"), world.scratch(&format!("elsewhere{number}.xml")));
        fs::write(&elsewhere, guest(number, "clean-traffic")).expect("the scratch directory takes files");
        let name = world.state().join(file);
        let made = if link { symlink(&elsewhere, &name) } else { fs::hard_link(&elsewhere, &name) };
        made.expect("the directory takes links");
    }
    let mut daemon = world.run(&["--poll", "500ms"]);
    daemon.wait_until("both guests", || {
        [0, 1].iter().all(|number| address_rule(&world, &format!("vnet{number}"), &format!("10.40.0.1{number}")))
    });
    // Files count as settled after three seconds.
    thread::sleep(Duration::from_secs(4));
    for number in [0, 1] {
        let changed = guest(number, "clean-traffic").replace(&format!("10.40.0.1{number}"), &format!("10.40.0.2{number}"));
        fs::write(world.scratch(&format!("elsewhere{number}.xml")), changed).expect("the file is ours");
        daemon.wait_until("the change", || address_rule(&world, &format!("vnet{number}"), &format!("10.40.0.2{number}")));
    }
}

/// In a user namespace of its own, which has its own limit of inotify watches: two directories above and in the state can be listened to, the third cannot.
#[test]
fn a_directory_that_cannot_be_listened_to_is_told_of_once_and_looked_at() {
    let world = World::new();
    fs::create_dir(world.state().join("deaf")).expect("the state directory takes directories");
    let bridgeward = env!("CARGO_BIN_EXE_bridgeward");
    let (run, state, later) = (world.scratch("run"), world.state().display().to_string(), world.scratch("later.xml"));
    fs::write(&later, guest(0, "clean-traffic")).expect("the scratch directory takes files");
    let script = format!(
        "echo 2 >/proc/sys/user/max_inotify_watches
         {bridgeward} --state {state} --run-dir {} run --poll 500ms 2>log & daemon=$!
         until grep -q 'cause=start' log; do sleep 0.1; done
         sleep 3
         cp {} {state}/deaf/vnet0.xml
         for _ in $(seq 200); do ebtables-save | grep -q vnet0 && break; sleep 0.1; done
         kill $daemon; wait $daemon; cat log; ebtables-save",
        run.display(),
        later.display()
    );
    let told = world.sh(&format!(
        "cd {} && timeout 60 unshare --user --map-root-user --net bash -c '{}'",
        world.scratch("").display(),
        script.replace('\'', "'\\''")
    ));
    assert_eq!(told.matches("cannot listen to this directory").count(), 1, "{told}");
    assert!(told.contains("cause=poll") && told.contains("-A libvirt-I-vnet0 "), "{told}");
}

#[test]
fn a_broken_file_is_held_while_every_other_object_goes_on() {
    let (world, mut daemon) = running();
    world.write("vnet0.xml", "<filterbinding><portdev name='vnet0'/>");
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    daemon.wait_until("the other file", || address_rule(&world, "vnet2", "10.40.0.12"));
    world.write("vnet1.xml", &guest(1, "clean-traffic").replace("10.40.0.11", "10.40.0.51"));
    daemon.wait_until("the change of another file", || address_rule(&world, "vnet1", "10.40.0.51"));
    assert!(address_rule(&world, "vnet0", "10.40.0.10"), "the held guest lost its rules:\n{}", world.save_all());
    assert_eq!(world.bridgeward(&["diff"]).code, Some(1), "a held object needs a person");
    world.write("vnet0.xml", &guest(0, "web").replace("10.40.0.10", "10.40.0.50"));
    daemon.wait_until("the mended file", || address_rule(&world, "vnet0", "10.40.0.50"));
    world.assert_in_sync();
}

#[test]
fn a_held_guest_gets_its_last_good_rules_back_after_a_flush() {
    let (world, mut daemon) = running();
    let good = world.save_all();
    world.write("vnet0.xml", "<filterbinding><portdev name='vnet0'/>");
    thread::sleep(SETTLED);
    flush(&world, "ebtables");
    flush(&world, "iptables");
    daemon.wait_until("all rules as they were", || world.save_all() == good);
}

#[test]
fn a_file_that_breaks_hides_what_it_defined_but_deletes_nothing() {
    let (world, mut daemon) = running();
    world.write("lab.xml", "not xml at all");
    world.delete("vnet1.xml");
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    daemon.wait_until("the new guest", || address_rule(&world, "vnet2", "10.40.0.12"));
    let save = world.save_all();
    assert!(save.contains("br-lab"), "the network's rules are gone:\n{save}");
    assert!(address_rule(&world, "vnet1", "10.40.0.11"), "a guest went while a file was broken:\n{save}");
    world.write("lab.xml", NETWORK);
    daemon.wait_until("the deletion that waited", || !world.save_all().contains("vnet1"));
}

/// It is told by another bridge and subnet than before, and those before are no longer in any file.
#[test]
fn a_network_that_moves_while_another_file_is_broken_leaves_nothing_behind() {
    for layout in ["chains", "classic"] {
        let world = World::new();
        let apply = || world.bridgeward(&["--layout", layout, "apply"]);
        world.write("lab.xml", NETWORK);
        world.write("vnet0.xml", &guest(0, "clean-traffic"));
        assert_eq!(apply().code, Some(0));
        world.write("vnet0.xml", "<filterbinding>");
        world.write("lab.xml", &NETWORK.replace("10.40.0.", "10.50.0.").replace("fd40:", "fd50:"));
        assert_eq!(apply().code, Some(1), "a held object needs a person");
        assert!(!world.save("iptables").contains("10.40.0.0/24"), "{layout}, another subnet:\n{}", world.save("iptables"));
        world.write("lab.xml", &NETWORK.replace("br-lab", "br-new").replace("10.40.0.", "10.50.0."));
        apply();
        assert!(!world.save_all().contains("br-lab"), "{layout}, another bridge:\n{}", world.save_all());
        if layout == "classic" {
            // It does not know `open`: the network would be held as it was.
            continue;
        }
        world.write("lab.xml", &NETWORK.replace("mode='nat'", "mode='open'"));
        apply();
        let left = world.save_all();
        assert!(
            !["10.40.0.0/24", "10.50.0.0/24", "br-new"].iter().any(|mark| left.contains(mark)),
            "{layout}, no rules of its own:\n{left}"
        );
    }
}

#[test]
fn a_state_directory_that_is_renamed_away_is_trouble_and_not_empty() {
    let (world, mut daemon) = running();
    let away = world.scratch("elsewhere");
    fs::rename(world.state(), &away).expect("the directory is ours");
    thread::sleep(SETTLED);
    assert!(address_rule(&world, "vnet0", "10.40.0.10"), "rules went with the directory:\n{}", world.save_all());
    fs::rename(&away, world.state()).expect("the directory is ours");
    world.write("vnet0.xml", &guest(0, "web").replace("10.40.0.10", "10.40.0.50"));
    daemon.wait_until("the change after the directory came back", || address_rule(&world, "vnet0", "10.40.0.50"));
}

#[test]
fn a_state_directory_that_is_made_anew_counts_again() {
    let (world, mut daemon) = running();
    fs::remove_dir_all(world.state()).expect("the directory is ours");
    thread::sleep(SETTLED);
    assert!(address_rule(&world, "vnet1", "10.40.0.11"), "rules went with the directory:\n{}", world.save_all());
    let fresh = world.scratch("fresh");
    fs::create_dir(&fresh).expect("the scratch directory takes directories");
    fs::write(fresh.join("vnet1.xml"), guest(1, "clean-traffic").replace("10.40.0.11", "10.40.0.51")).expect("the directory takes files");
    fs::rename(&fresh, world.state()).expect("the directory is ours");
    daemon.wait_until("what the new directory says", || address_rule(&world, "vnet1", "10.40.0.51"));
    daemon.wait_until("what it no longer says", || !world.save_all().contains("br-lab"));
    world.write("vnet4.xml", &guest(4, "clean-traffic"));
    daemon.wait_until("a file dropped into the new directory", || address_rule(&world, "vnet4", "10.40.0.14"));
}

#[test]
fn sighup_reads_the_configuration_again() {
    let world = World::new();
    let config = world.scratch("bridgeward.toml");
    let other = world.scratch("other");
    fs::create_dir(&other).expect("the scratch directory takes directories");
    fs::write(other.join("vnet1.xml"), guest(1, "clean-traffic")).expect("the directory takes files");
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    let configure =
        |directory: &std::path::Path| fs::write(&config, format!("state = [{directory:?}]\n")).expect("the directory takes files");
    configure(&world.state());
    let mut daemon = world.run_with(&[], &["--config", &config.display().to_string()]);
    daemon.wait_until("the first pass", || address_rule(&world, "vnet0", "10.40.0.10"));
    configure(&other);
    daemon.signal(Signal::HUP);
    daemon.wait_until("the other directory's guest", || address_rule(&world, "vnet1", "10.40.0.11"));
    daemon.wait_until("the first directory's guest to go", || !world.save_all().contains("vnet0"));
}

#[test]
fn a_configuration_that_breaks_changes_nothing() {
    let world = World::new();
    let config = world.scratch("bridgeward.toml");
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    fs::write(&config, format!("state = [{:?}]\n", world.state())).expect("the directory takes files");
    let mut daemon = world.run_with(&[], &["--config", &config.display().to_string()]);
    daemon.wait_until("the first pass", || address_rule(&world, "vnet0", "10.40.0.10"));
    fs::write(&config, "state = [\nquirks").expect("the directory takes files");
    daemon.signal(Signal::HUP);
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    daemon.wait_until("a file beside the broken configuration", || address_rule(&world, "vnet1", "10.40.0.11"));
    assert!(address_rule(&world, "vnet0", "10.40.0.10"), "{}", world.save_all());
}

#[test]
fn a_flush_of_iptables_is_repaired() {
    a_flush_is_repaired("iptables", Tools::NfTables);
}

#[test]
fn a_flush_of_legacy_iptables_is_repaired() {
    a_flush_is_repaired("iptables", Tools::Legacy);
}

#[test]
fn a_flush_of_ip6tables_is_repaired() {
    a_flush_is_repaired("ip6tables", Tools::NfTables);
}

#[test]
fn a_flush_of_ebtables_is_repaired() {
    a_flush_is_repaired("ebtables", Tools::NfTables);
}

fn a_flush_is_repaired(tool: &str, tools: Tools) {
    let (world, mut daemon) = running_with(tools);
    let good = world.save(tool);
    for _ in 0..3 {
        flush(&world, tool);
        daemon.wait_until("all rules as they were", || world.save(tool) == good);
    }
}

#[test]
fn a_flush_is_repaired_without_waiting_for_the_poll_and_its_author_is_named() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    let mut daemon = world.run(&["--poll", "1h"]);
    daemon.wait_until("the first pass", || world.in_sync());
    let good = world.save("iptables");
    world.sh("iptables -F LIBVIRT_FWO");
    daemon.wait_until("all rules as they were", || world.save("iptables") == good);
    daemon.wait_until_log("rules changed by iptables[");
    world.sh("iptables -A INPUT -s 192.0.2.9 -j DROP; ebtables -t nat -N somebody");
    world.write("dmz.xml", &NETWORK.replace("lab", "dmz").replace("10.40.", "10.41."));
    daemon.wait_until("the next file", || world.save("iptables").contains("10.41."));
    let repairs = daemon.log().matches("drift repaired").count();
    assert_eq!(repairs, 1, "neither our own commits nor foreign rules are drift: {}", daemon.log());
}

#[test]
fn after_a_fight_with_another_writer_the_rules_are_in_place() {
    // Guests that came back one after another may stand in another order, which is in sync.
    let sorted = |text: String| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (world, mut daemon) = running();
    let good = sorted(world.save_all());
    for round in 0..100 {
        flush(&world, ["ebtables", "iptables", "ip6tables"][round % 3]);
    }
    daemon.wait_until("all rules as they were", || sorted(world.save_all()) == good && world.in_sync());
    world.sh("iptables -D FO-vnet0 1");
    daemon.wait_until("a repair after the fight", || sorted(world.save_all()) == good && world.in_sync());
}

#[test]
fn a_chain_that_goes_between_look_and_commit_is_nobodys_fault() {
    let (world, mut daemon) = running();
    let good = world.save("iptables");
    for pause in 0..25 {
        // The daemon may look after the flush and write after the deletion, or be faster than both: then the chain is in use.
        world.sh(&format!("iptables -t mangle -F; sleep 0.{:02}; iptables -t mangle -X || true", pause % 12));
    }
    daemon.wait_until("all rules as they were", || world.save("iptables") == good);
    assert!(!daemon.log().contains("is held"), "{}", daemon.log());
}

/// What a restart of a firewall service does: everything goes, in one process, so that nothing of ours can come in between.
fn flush(world: &World, tool: &str) {
    let empty = match tool {
        "ebtables" => "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n",
        _ => {
            "*nat\n:POSTROUTING ACCEPT\nCOMMIT\n*mangle\n:POSTROUTING ACCEPT\nCOMMIT\n*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n"
        }
    };
    world.sh(&format!("{tool}-restore <<'END'\n{empty}END"));
}

#[test]
fn a_small_tampering_is_repaired_in_every_kind_of_chain() {
    let (world, mut daemon) = running();
    let good = world.save_all();
    for tampering in [
        "iptables -I FO-vnet0 -j ACCEPT",
        "iptables -D LIBVIRT_FWO -i br-lab -j REJECT",
        "ip6tables -F FO-vnet0",
        "iptables -D FORWARD -j libvirt-in",
        "iptables -t nat -D POSTROUTING -j LIBVIRT_PRT",
        "ebtables -t nat -D libvirt-I-vnet1 -j DROP",
        "ebtables -t nat -D PREROUTING -i vnet1 -j libvirt-I-vnet1",
        "iptables -I libvirt-in-post -m physdev --physdev-in vnet0 -j ACCEPT",
    ] {
        world.sh(tampering);
        daemon.wait_until(tampering, || world.save_all() == good);
    }
}

#[test]
fn a_run_directory_that_is_removed_stops_no_repair_and_keeps_its_daemon() {
    let world = World::new();
    let run = world.scratch("run");
    let place = run.display().to_string();
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    let mut daemon = world.run(&["--run-dir", &place]);
    // Not as soon as the rules are there: the record is still to be written.
    daemon.wait_until_log("state applied");
    fs::remove_dir_all(&run).expect("the directory is ours");
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    daemon.wait_until("the next guest", || address_rule(&world, "vnet1", "10.40.0.11"));
    assert!(fs::read_dir(&run).is_ok_and(|mut entries| entries.next().is_some()), "the directory was not made again");
}

#[test]
fn sigterm_stops_the_daemon_and_leaves_the_rules() {
    let (world, daemon) = running();
    let good = world.save_all();
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert_eq!(world.save_all(), good);
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let (world, mut first) = running();
    let mut second = world.run(&[]);
    assert_eq!(second.wait(), Some(2), "{}", second.log());
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    first.wait_until("a file after the second daemon", || address_rule(&world, "vnet2", "10.40.0.12"));
}

#[test]
fn purge_is_refused_beside_a_daemon_unless_it_may_stop_it() {
    let (world, mut daemon) = running();
    let good = world.save_all();
    let refused = world.bridgeward(&["purge"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert_eq!(world.save_all(), good);
    let purged = world.bridgeward(&["purge", "--stop"]);
    assert_eq!(purged.code, Some(0), "{purged}");
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    assert!(!world.save_all().contains("-A "), "{}", world.save_all());
}

#[test]
fn apply_beside_a_daemon_leaves_the_state_in_sync() {
    let (world, mut daemon) = running();
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    world.apply();
    daemon.wait_until("the pass", || world.in_sync());
    assert!(address_rule(&world, "vnet2", "10.40.0.12"));
}

#[test]
fn of_hundreds_of_warnings_the_log_tells_the_first_and_how_many_more() {
    let (world, mut daemon) = running();
    // All at once: what it sees while they come and go would be told in parts.
    daemon.signal(Signal::STOP);
    for number in 0..230 {
        world.write(&format!("broken{number}.xml"), "<filter name='f'/><");
    }
    daemon.signal(Signal::CONT);
    daemon.wait_until_log("more warnings; `bridgeward status` says how things are");
    let told = daemon.log().lines().filter(|line| line.contains("--> ") && line.contains("/broken")).count();
    assert!((100..=200).contains(&told), "{told} lines\n{}", daemon.log());
    daemon.signal(Signal::STOP);
    for number in 0..230 {
        world.delete(&format!("broken{number}.xml"));
    }
    daemon.signal(Signal::CONT);
    daemon.wait_until_log("more things that are no longer so");
}
