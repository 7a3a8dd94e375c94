//! Mode `any`: what a guest uses first is its address, and nothing else ever is.

use rustix::process::Signal;

use super::{allow_ipv6, bridged, give_ipv6, guest, plug, reaches, reaches_ipv6, wait_until_closed, wait_until_known};
use crate::world::{Server, World};

fn set_address(world: &World, number: usize, address: &str) {
    world.sh(&format!("ip -n guest{number} addr flush dev eth0; ip -n guest{number} addr add {address}/24 dev eth0"));
}

/// Has the first guest use 10.40.0.10 all the time.
fn speak(world: &World) -> Server {
    set_address(world, 0, "10.40.0.10");
    world.serve("ping", &["ip", "netns", "exec", "guest0", "ping", "-q", "-i", "0.05", "10.40.0.1"])
}

#[test]
fn the_first_address_wins_and_no_other_passes() {
    let world = bridged(1);
    world.write("vnet0.xml", &guest(0, &[]));
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 0);
    // A link-local address, then the unspecified one: neither is an address that a guest has for good.
    set_address(&world, 0, "169.254.7.7");
    assert!(!reaches(&world, 0, ""));
    set_address(&world, 0, "10.40.0.10");
    assert!(!reaches(&world, 0, "-W 1") || world.save("ebtables").contains("10.40.0.10"), "before it is known nothing passes");
    wait_until_known(&world, &mut daemon, 0, "10.40.0.10");
    assert!(reaches(&world, 0, ""));
    world.assert_in_sync();
    set_address(&world, 0, "10.40.0.66");
    assert!(!reaches(&world, 0, ""));
    assert!(!world.save("ebtables").contains("10.40.0.66"));
    assert!(!world.save("ebtables").contains("169.254"));

    // A restart keeps it; without the daemon everybody computes the same.
    assert_eq!(daemon.end(Signal::KILL), None);
    world.assert_in_sync();
    let mut daemon = world.run(&[]);
    daemon.wait_until_log("in sync");
    assert!(!reaches(&world, 0, ""));
    set_address(&world, 0, "10.40.0.10");
    assert!(reaches(&world, 0, ""));

    let answer = world.bridgeward(&["interface", "forget", "vnet0"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "vnet0: forgot 10.40.0.10\n"), "{answer}");
    set_address(&world, 0, "10.40.0.11");
    reaches(&world, 0, "");
    wait_until_known(&world, &mut daemon, 0, "10.40.0.11");
    assert!(reaches(&world, 0, ""));
}

#[test]
fn what_is_forgotten_while_the_guest_speaks_is_learned_again() {
    let world = bridged(1);
    world.write("vnet0.xml", &guest(0, &[]));
    let _speech = speak(&world);
    let mut daemon = world.run(&[]);
    for _ in 0..3 {
        wait_until_known(&world, &mut daemon, 0, "10.40.0.10");
        let answer = world.bridgeward(&["interface", "forget", "vnet0"]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), "vnet0: forgot 10.40.0.10\n"), "{answer}");
    }
    wait_until_known(&world, &mut daemon, 0, "10.40.0.10");
    assert!(reaches(&world, 0, ""));
    assert_eq!(daemon.log().matches("learned an address").count(), 4, "{}", daemon.log());
    world.assert_in_sync();
}

#[test]
fn a_tap_is_followed_as_it_comes_and_goes() {
    let world = bridged(1);
    world.sh("ip link del vnet0");
    world.write("vnet0.xml", &guest(0, &[]));
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 0);
    for last in [10, 11] {
        let address = format!("10.40.0.{last}");
        plug(&world, 0);
        set_address(&world, 0, &address);
        daemon.wait_until(&format!("{address} passes"), || reaches(&world, 0, ""));
        world.assert_in_sync();
        // What the guest merely used ends with the guest.
        world.sh("ip link del vnet0");
        wait_until_closed(&world, &mut daemon, 0);
    }
}

#[test]
fn an_interface_without_a_device_is_followed_when_its_tap_is_renamed() {
    let world = bridged(1);
    world.sh("ip link set vnet0 address fe:54:00:40:00:00");
    world.write("vnet0.xml", &guest(0, &[("CTRL_IP_LEARNING", "dhcp")]).replace("<target dev='vnet0'/>", ""));
    let server = super::lease::serve(&world, "10.40.0.50,10.40.0.50,120");
    let mut daemon = world.run(&["--poll", "500ms"]);
    wait_until_closed(&world, &mut daemon, 0);
    super::lease::obtain(&world, &mut daemon, 0);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.50");
    world.sh("ip link set vnet0 down; ip link set vnet0 name tap7; ip link set tap7 up");
    daemon.wait_until("the rules are those of the new name", || {
        let rules = world.save("ebtables");
        rules.contains("-A I-tap7") && rules.contains("--ip-src 10.40.0.50") && !rules.contains("vnet0")
    });
    drop(server);
}

#[test]
fn of_two_guests_with_one_address_the_first_keeps_it() {
    let world = bridged(2);
    for number in 0..2 {
        world.write(&format!("vnet{number}.xml"), &guest(number, &[]));
    }
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 1);
    set_address(&world, 0, "10.40.0.10");
    reaches(&world, 0, "");
    wait_until_known(&world, &mut daemon, 0, "10.40.0.10");
    set_address(&world, 1, "10.40.0.10");
    assert!(!reaches(&world, 1, ""));
    daemon.wait_until_log("two guests claim one address");
    for _ in 0..5 {
        assert!(!reaches(&world, 1, ""));
    }
    assert!(reaches(&world, 0, ""));
    assert_eq!(daemon.log().matches("two guests claim one address").count(), 1, "{}", daemon.log());
    set_address(&world, 1, "10.40.0.11");
    daemon.wait_until("an address of its own passes", || reaches(&world, 1, ""));
}

#[test]
fn a_corrupt_file_of_addresses_is_moved_aside_and_told_of() {
    let world = bridged(1);
    world.write("vnet0.xml", &guest(0, &[]));
    let _speech = speak(&world);
    let mut daemon = world.run(&[]);
    wait_until_known(&world, &mut daemon, 0, "10.40.0.10");
    daemon.end(Signal::KILL);
    world.sh("truncate -s 100 /var/lib/bridgeward/*/learned.json");
    let answer = world.bridgeward(&["diff"]);
    assert!(answer.code == Some(1) && answer.stderr.contains("learned.json is corrupt"), "{answer}");
    let mut daemon = world.run(&[]);
    daemon.wait_until_log("the file of learned addresses is corrupt");
    // The rules of the process before this one let the guest reach out, too, until the first pass.
    daemon.wait_until("it is learned again", || reaches(&world, 0, "") && world.in_sync());
    assert!(world.sh("ls /var/lib/bridgeward/*/").contains("learned.json.corrupt-1"));
}

#[test]
fn the_first_ipv6_address_wins_where_filters_use_it() {
    let world = bridged(1);
    give_ipv6(&world);
    world.write("vnet0.xml", &guest(0, &[]).replace("clean-traffic", "no-ipv6-spoofing"));
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, 0);
    // The link-local address comes first, and is not it; then solicitations look whether somebody else has the address, and for the server.
    allow_ipv6(&world);
    world.sh("ip -n guest0 addr add fd40::10/64 dev eth0");
    daemon.wait_until("fd40::10 passes", || reaches_ipv6(&world, "fd40::10"));
    world.assert_in_sync();
    world.sh("ip -n guest0 addr add fd40::66/64 dev eth0 nodad");
    assert!(!reaches_ipv6(&world, "fd40::66"), "another source is dropped");
    assert!(!world.save("ebtables").contains("fd40::66"));
    assert!(reaches_ipv6(&world, "fd40::10"));
    let learned = world.sh("cat /var/lib/bridgeward/*/learned.json");
    assert!(learned.contains("fd40::10") && !learned.contains("fd40::66") && !learned.contains("fe80"), "{learned}");
}
