//! Many guests at once, one of which floods.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use rustix::net::{SendFlags, send};
use serde_json::Value;

use super::{guest, wait_until_closed};
use crate::enforcement::wire::packet_socket;
use crate::namespace::inside;
use crate::world::World;

/// How many guests learn beside the one that floods.
const GUESTS: usize = 60;

/// An ARP probe of the first guest: it is looked at, and teaches nothing.
fn probe() -> Vec<u8> {
    let mac = [0x52, 0x54, 0, 0x40, 0, 0];
    let (kind, protocol) = (ArpHardwareId::ETHERNET, EtherType::IPV4);
    let message = ArpPacket::new(kind, protocol, ArpOperation::REQUEST, &mac, &[0; 4], &[0; 6], &[10, 40, 0, 1]).expect("equal sizes");
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac, [0xff; 6]).arp(message).write(&mut bytes).expect("memory takes every write");
    bytes
}

#[test]
fn a_guest_that_floods_keeps_nobody_else_from_being_learned() {
    let world = World::new();
    world.sh("ip link add br-lab type bridge; ip link set br-lab up; ip addr add 10.40.0.1/16 dev br-lab");
    world.sh(&format!(
        "ip netns add crowd; ip netns exec crowd sysctl -qw net.ipv6.conf.default.disable_ipv6=1
         for number in $(seq 0 {GUESTS}); do
           ip link add vnet$number type veth peer name eth$number netns crowd
           ip link set vnet$number master br-lab up
           ip -n crowd link set eth$number address 52:54:00:40:00:$(printf %02x $number) up
           ip -n crowd addr add 10.40.1.$number/32 dev eth$number
           ip -n crowd route add 10.40.0.1 dev eth$number metric $((number + 1))
         done"
    ));
    for number in 0..=GUESTS {
        let (mac, device) = (format!("52:54:00:40:00:{number:02x}"), format!("vnet{number}"));
        world.write(&format!("{device}.xml"), &guest(0, &[]).replace("52:54:00:40:00:00", &mac).replace("vnet0", &device));
    }
    let mut daemon = world.run(&[]);
    wait_until_closed(&world, &mut daemon, GUESTS);
    let over = AtomicBool::new(false);
    let crowd = world.namespace(Some("crowd"));
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket = inside(&crowd, || packet_socket("eth0"));
            let probe = probe();
            while !over.load(Ordering::Relaxed) {
                // A full queue drops it, as it should.
                let _ = send(&socket, &probe, SendFlags::empty());
            }
        });
        let learned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            daemon.wait_until("all others are learned", || {
                world.sh(&format!(
                    "for number in $(seq {GUESTS}); do ip netns exec crowd ping -q -c 1 -W 1 -I eth$number 10.40.0.1 >/dev/null 2>&1 & done; wait"
                ));
                let rules = world.save("ebtables");
                (1..=GUESTS).all(|number| rules.contains(&format!("--ip-src 10.40.1.{number} ")))
            });
        }));
        over.store(true, Ordering::Relaxed);
        learned.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(!world.save("ebtables").contains("--ip-src 10.40.1.0 "), "the flooder has said nothing that counts");
    let status: Value = serde_json::from_str(&world.bridgeward(&["status", "--format", "json"]).stdout).expect("JSON");
    assert!(status["listening"]["surplus"].as_u64().is_some_and(|surplus| surplus > 0), "the flooder is limited: {}", status["listening"]);
    world.assert_in_sync();
}
