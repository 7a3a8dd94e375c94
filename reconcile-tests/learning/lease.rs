//! Mode `dhcp`: the story of a lease, with the daemon killed and started between every two steps.

use rustix::process::Signal;

use super::{DHCP, bridged, guest, reaches, wait_until_closed, wait_until_known, waiting};
use serde_json::Value;

use crate::world::{Daemon, Server, World};

/// dnsmasq on the bridge, with a range of addresses and the seconds for which it gives them: 120 at least.
pub(super) fn serve(world: &World, range: &str) -> Server {
    dnsmasq(world, "dnsmasq", "", "br-lab", range)
}

fn dnsmasq(world: &World, name: &str, place: &str, device: &str, range: &str) -> Server {
    let options = "--no-daemon --conf-file=/dev/null --port=0 --bind-interfaces --dhcp-authoritative --no-ping --leasefile-ro";
    world.serve(name, &["sh", "-c", &format!("exec {place} dnsmasq {options} --interface={device} --dhcp-range={range}")])
}

/// A guest that waits for a lease, the daemon that listens, and the server.
fn served(range: &str) -> (World, Daemon, Server) {
    let (world, daemon) = waiting(DHCP, &[]);
    let server = serve(&world, range);
    (world, daemon, server)
}

/// The same guest with a lease of 10.40.0.50 for two minutes, or for ever.
fn leased(seconds: &str) -> (World, Daemon, Server) {
    let (world, mut daemon, server) = served(&format!("10.40.0.50,10.40.0.50,{seconds}"));
    obtain(&world, &mut daemon, 0);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    (world, daemon, server)
}

/// Has the guest ask for a lease until it has one, and keep quiet afterwards.
pub(super) fn obtain(world: &World, daemon: &mut Daemon, number: usize) {
    let script =
        format!("ip netns exec guest{number} timeout 5 udhcpc -i eth0 -s ./script -n -q -t 3 -T 1 >/dev/null 2>&1 && echo yes || echo no");
    daemon.wait_until("the guest gets a lease", || world.sh(&script) == "yes\n");
}

/// Kills the daemon and starts another one: whatever was known is known, and the kernel is as it was.
pub(super) fn again(world: &World, daemon: Daemon) -> Daemon {
    assert_eq!(daemon.end(Signal::KILL), None);
    world.assert_in_sync();
    world.sh(": > run.log");
    let mut daemon = world.run(&[]);
    daemon.wait_until_log("in sync");
    daemon
}

/// When the lease ends, in seconds since 1970: what the daemon wrote down.
pub(super) fn until(world: &World) -> u64 {
    let text = world.sh("cat /var/lib/bridgeward/*/learned.json");
    let digits = text.split("\"until\": ").nth(1).unwrap_or_else(|| panic!("no end in {text}"));
    digits.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("digits")
}

#[test]
fn a_lease_opens_renews_and_a_release_closes_over_restarts() {
    let (world, daemon, server) = served("10.40.0.50,10.40.0.50,120");
    world.sh("ip -n guest0 addr add 10.40.0.50/24 dev eth0");
    assert!(!reaches(&world, 0, ""), "closed to all but DHCP, even with the right address");
    let mut daemon = again(&world, daemon);

    obtain(&world, &mut daemon, 0);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    assert!(reaches(&world, 0, ""));
    let mut daemon = again(&world, daemon);
    assert!(reaches(&world, 0, ""));
    let listed = world.bridgeward(&["interface", "list"]);
    assert!(listed.stdout.contains("10.40.0.50 (learned)"), "{listed}");
    let document: Value = serde_json::from_str(&world.bridgeward(&["interface", "list", "--format", "json"]).stdout).expect("JSON");
    let keys = |address: &Value| address.as_object().map(|members| members.keys().cloned().collect::<Vec<_>>());
    let learned = &document["interfaces"][0]["learned"][0];
    assert_eq!(keys(learned), keys(&crate::documents::learned_address()), "{document}");

    world.sh("ip -n guest0 addr add 10.40.0.66/24 dev eth0");
    assert!(!reaches(&world, 0, "-I 10.40.0.66"), "another source address is dropped");
    let before = until(&world);
    // A second at least, so that the new end can be told from the old one.
    daemon.wait_until("the lease is renewed", || {
        world.sh("ip netns exec guest0 timeout 5 udhcpc -i eth0 -s ./script -r 10.40.0.50 -n -q -t 3 -T 1 >/dev/null 2>&1 || true");
        until(&world) > before
    });
    assert!(reaches(&world, 0, ""), "a renewal keeps");
    let mut daemon = again(&world, daemon);
    assert!(reaches(&world, 0, ""));

    // udhcpc -R releases when it ends.
    world.sh("ip netns exec guest0 udhcpc -i eth0 -s ./script -R -f -t 3 -T 1 >client.log 2>&1 & client=$!
         for _ in $(seq 200); do grep -q 'lease of' client.log && break; sleep 0.05; done
         kill $client; wait $client || true");
    wait_until_closed(&world, &mut daemon, 0);
    world.sh("ip -n guest0 addr replace 10.40.0.50/24 dev eth0");
    assert!(!reaches(&world, 0, ""), "a release closes");
    let _daemon = again(&world, daemon);
    assert!(!reaches(&world, 0, ""));
    drop(server);
}

#[test]
fn a_lease_that_has_ended_closes_with_and_without_the_daemon() {
    let (world, daemon, server) = leased("120");
    drop(server);
    daemon.end(Signal::KILL);
    // Two minutes pass: the end is moved instead, to a moment that the next daemon lives to see.
    let soon = "sed -i -E \"s/(\\\"until\\\": )[0-9]+/\\1$(($(date +%s) + 4))/\" /var/lib/bridgeward/*/learned.json";
    world.sh(soon);
    world.assert_in_sync();
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 0);
    daemon.wait_until_log("the lease ended");
    assert!(!reaches(&world, 0, ""));
    daemon.end(Signal::KILL);
    world.assert_in_sync();
    let mut daemon = world.run(&[]);
    daemon.wait_until_log("in sync");
    assert!(!reaches(&world, 0, ""), "an ended lease does not come back");
}

#[test]
fn a_rogue_server_gives_nothing() {
    let world = bridged(2);
    world.write("vnet0.xml", &guest(0, DHCP));
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 0);
    // The other guest plays server, under its own address.
    world.sh("ip -n guest1 addr add 10.40.0.9/24 dev eth0");
    let rogue = dnsmasq(&world, "rogue", "ip netns exec guest1", "eth0", "10.40.0.77,10.40.0.77,120");
    let asked = "ip netns exec guest0 timeout 8 udhcpc -i eth0 -s ./script -n -q -t 3 -T 1 >/dev/null 2>&1 && echo yes || echo no";
    assert_eq!(world.sh(asked), "no\n");
    assert!(world.sh("cat rogue.log").contains("DHCPOFFER"), "the rogue did offer: {}", world.sh("cat rogue.log"));
    assert!(!world.save("ebtables").contains("10.40.0.77"));
    drop(rogue);
    let server = serve(&world, "10.40.0.50,10.40.0.50,120");
    obtain(&world, &mut daemon, 0);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    assert!(reaches(&world, 0, ""));
    drop(server);
}

#[test]
fn what_changes_about_a_guest_takes_its_lease_away() {
    let (world, mut daemon, server) = leased("120");
    world.write("vnet0.xml", &guest(0, DHCP).replace("52:54:00:40:00:00", "52:54:00:40:00:07"));
    wait_until_closed(&world, &mut daemon, 0);
    world.write("vnet0.xml", &guest(0, DHCP));
    daemon.wait_until_log("files changed");
    wait_until_closed(&world, &mut daemon, 0);
    drop(server);
}

#[test]
fn what_a_guest_has_is_dropped_on_request_without_a_daemon_too() {
    let (world, daemon, server) = leased("120");
    daemon.end(Signal::TERM);
    world.assert_in_sync();
    let answer = world.bridgeward(&["interface", "forget", "vnet0"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "vnet0: forgot 10.40.0.50\n"), "{answer}");
    world.apply();
    assert!(!reaches(&world, 0, ""));
    let answer = world.bridgeward(&["interface", "forget", "vnet1"]);
    assert!(answer.code == Some(1) && answer.stderr.contains("nothing is learned for an interface `vnet1`"), "{answer}");
    drop(server);
}

#[test]
fn an_infinite_lease_has_no_end() {
    let (world, daemon, server) = leased("infinite");
    drop(server);
    let written = world.sh("cat /var/lib/bridgeward/*/learned.json");
    assert!(written.contains("10.40.0.50") && !written.contains("until"), "{written}");
    let daemon = again(&world, daemon);
    assert!(reaches(&world, 0, ""));
    let status: Value = serde_json::from_str(&world.bridgeward(&["status", "--format", "json"]).stdout).expect("JSON");
    let learned = &status["learned"][0];
    assert!(learned["address"] == "10.40.0.50" && learned["until"].is_null(), "{status}");
    assert!(learned["source"] == "lease from 10.40.0.1", "{status}");
    drop(daemon);
}
