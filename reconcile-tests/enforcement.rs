//! Real packets: what the rules let through and what they stop, seen from two guests on a bridge.
//!
//! Nothing listens in the guests: a packet that arrives is answered by the kernel (a refused connection, an echo), one that is
//! dropped is not answered at all.

mod chain_end;
mod dhcp;
pub mod frame;
mod reachability;
mod service;
mod spoofing;
pub mod wire;

use crate::fixture::guest;
use crate::world::World;

/// Offers one TCP port, answers pings, may start any connection, and lies about neither its MAC nor its address.
const SERVER: &str = "<filter name='server' chain='root'>
  <filterref filter='clean-traffic'/>
  <rule action='accept' direction='in' priority='100'><tcp dstportstart='80'/></rule>
  <rule action='accept' direction='in' priority='100'><icmp/></rule>
  <rule action='accept' direction='out' priority='200'><all/></rule>
  <rule action='drop' direction='inout' priority='1000'><all/></rule>
</filter>
";

/// What a guest sees of an attempt to connect.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// The other side's kernel answered.
    Arrived,
    /// Nobody did.
    Silence,
}

/// A bridge with two guests: namespaces `guest0` and `guest1` behind `vnet0` and `vnet1`, 10.40.0.10 and 10.40.0.11.
fn bridged() -> World {
    let world = World::new();
    world.sh("ip link add br-lab type bridge
         ip link set br-lab up
         for number in 0 1; do
           ip netns add guest$number
           ip link add vnet$number type veth peer name eth0 netns guest$number
           ip link set vnet$number master br-lab up
           ip -n guest$number link set eth0 address 52:54:00:40:00:0$number up
           ip -n guest$number addr add 10.40.0.1$number/24 dev eth0
         done");
    let bridged_frames = world.sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables || echo absent");
    assert_eq!(bridged_frames, "1\n", "iptables does not see bridged frames here: load the kernel module br_netfilter");
    world
}

fn connect(world: &World, from: usize, to: &str, port: u16) -> Attempt {
    let script = format!("timeout 2 ip netns exec guest{from} bash -c 'echo >/dev/tcp/{to}/{port}' 2>&1 || true");
    if world.sh(&script).contains("Connection refused") { Attempt::Arrived } else { Attempt::Silence }
}

fn ping(world: &World, from: usize, options: &str, to: &str) -> Attempt {
    let script = format!("ip netns exec guest{from} ping -q -c 1 -W 1 {options} {to} >/dev/null && echo arrived || echo silence");
    if world.sh(&script) == "arrived\n" { Attempt::Arrived } else { Attempt::Silence }
}

#[test]
fn a_server_is_reached_where_its_filter_says_and_nowhere_else() {
    let world = bridged();
    assert_eq!(connect(&world, 1, "10.40.0.10", 22), Attempt::Arrived, "without rules everything passes");
    world.write("server.xml", SERVER);
    world.write("vnet0.xml", &guest(0, "server"));
    world.apply();
    assert_eq!(connect(&world, 1, "10.40.0.10", 80), Attempt::Arrived);
    assert_eq!(ping(&world, 1, "", "10.40.0.10"), Attempt::Arrived);
    assert_eq!(connect(&world, 1, "10.40.0.10", 22), Attempt::Silence);
    assert_eq!(connect(&world, 0, "10.40.0.11", 22), Attempt::Arrived, "it may start connections itself");
}

#[test]
fn a_guest_cannot_use_an_address_or_a_mac_that_is_not_its_own() {
    let world = bridged();
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    assert_eq!(ping(&world, 0, "", "10.40.0.11"), Attempt::Arrived);
    world.sh("ip -n guest0 addr add 10.40.0.66/24 dev eth0");
    assert_eq!(ping(&world, 0, "-I 10.40.0.66", "10.40.0.11"), Attempt::Silence);
    world.sh("ip -n guest0 link set eth0 address 52:54:00:40:00:66");
    assert_eq!(ping(&world, 0, "", "10.40.0.11"), Attempt::Silence);
}

#[test]
fn a_guest_whose_file_is_broken_from_the_start_is_closed() {
    let world = bridged();
    world.write("vnet0.xml", &guest(0, "no-such-filter"));
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_eq!(ping(&world, 0, "", "10.40.0.11"), Attempt::Silence, "{answer}");
    assert_eq!(ping(&world, 1, "", "10.40.0.10"), Attempt::Silence, "{answer}");
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    assert_eq!(ping(&world, 1, "", "10.40.0.10"), Attempt::Arrived);
}

#[test]
fn a_change_of_rules_does_not_interrupt_what_stays_allowed() {
    let world = bridged();
    world.write("server.xml", SERVER);
    world.write("vnet0.xml", &guest(0, "server"));
    world.apply();
    world.sh("ip netns exec guest1 ping -q -i 0.02 -c 100 10.40.0.10 >pings 2>&1 & echo $! >ping.id");
    for port in 81..86 {
        world.write("server.xml", &SERVER.replace("'80'", &format!("'{port}'")));
        world.apply();
    }
    let pings = world.sh("while kill -0 $(cat ping.id) 2>/dev/null; do sleep 0.05; done; cat pings");
    assert!(pings.contains("100 packets transmitted, 100 received"), "{pings}");
}
