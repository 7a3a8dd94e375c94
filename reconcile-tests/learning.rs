//! Address learning with the real thing: guests on a bridge, dnsmasq as their server, udhcpc and dhcpcd as their clients, a daemon that listens.
//!
//! What a guest may do is seen by what arrives: pings that are answered, and those that are not. The bridge itself has the server's address.

mod any;
mod client;
mod crowd;
mod forged;
mod lease;

use crate::world::{Daemon, World};

/// Learns by DHCP alone, from this server.
const DHCP: &[(&str, &str)] = &[("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "10.40.0.1")];

/// How udhcpc tells of its lease: the address goes to the device, as every client does it.
const SCRIPT: &str = "#!/bin/sh
case $1 in
deconfig) ip addr flush dev \"$interface\" ;;
bound | renew) ip addr replace \"$ip/24\" dev \"$interface\" ;;
esac
";

/// A bridge `br-lab` with the address 10.40.0.1, and this many guests: namespaces `guestN` behind `vnetN`.
fn bridged(guests: usize) -> World {
    let world = World::new();
    world.sh("ip link add br-lab type bridge; ip link set br-lab up; ip addr add 10.40.0.1/24 dev br-lab");
    let bridged_frames = world.sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables || echo absent");
    assert_eq!(bridged_frames, "1\n", "iptables does not see bridged frames here: load the kernel module br_netfilter");
    world.sh(&format!("cat >script <<'END'\n{SCRIPT}END\nchmod +x script"));
    for number in 0..guests {
        world.sh(&format!("ip netns add guest{number}"));
        plug(&world, number);
    }
    world
}

/// Makes a guest's tap, as the start of the guest does.
fn plug(world: &World, number: usize) {
    world.sh(&format!(
        "ip link add vnet{number} type veth peer name eth0 netns guest{number}
         ip link set vnet{number} master br-lab up
         ip netns exec guest{number} sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1
         ip -n guest{number} link set eth0 address 52:54:00:40:00:0{number} up"
    ));
}

/// The file of a guest with `clean-traffic` and these parameters.
fn guest(number: usize, parameters: &[(&str, &str)]) -> String {
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("<parameter name='{name}' value='{value}'/>")).collect();
    let parameters = parameters.concat();
    format!(
        "<interface type='bridge'><mac address='52:54:00:40:00:0{number}'/><source bridge='br-lab'/><target dev='vnet{number}'/>
         <filterref filter='clean-traffic'>{parameters}</filterref></interface>\n"
    )
}

/// A guest with these parameters, and a daemon that waits for its address.
fn waiting(parameters: &[(&str, &str)], arguments: &[&str]) -> (World, Daemon) {
    let world = bridged(1);
    world.write("vnet0.xml", &guest(0, parameters));
    let mut daemon = world.run(arguments);
    wait_until_closed(&world, &mut daemon, 0);
    (world, daemon)
}

/// Whether a ping from this guest to the server is answered.
fn reaches(world: &World, number: usize, options: &str) -> bool {
    let script = format!("ip netns exec guest{number} ping -q -c 1 -W 1 {options} 10.40.0.1 >/dev/null 2>&1 && echo yes || echo no");
    world.sh(&script) == "yes\n"
}

/// Gives the bridge the address fd40::1.
fn give_ipv6(world: &World) {
    world.sh("sysctl -qw net.ipv6.conf.br-lab.disable_ipv6=0; ip addr add fd40::1/64 dev br-lab nodad");
}

/// Lets the first guest speak IPv6.
fn allow_ipv6(world: &World) {
    world.sh("ip netns exec guest0 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0");
}

/// Whether a ping of the server's IPv6 address from this source is answered.
fn reaches_ipv6(world: &World, source: &str) -> bool {
    let script = format!("ip netns exec guest0 ping -6 -q -c 1 -W 1 -I {source} fd40::1 >/dev/null 2>&1 && echo yes || echo no");
    world.sh(&script) == "yes\n"
}

/// Waits until the daemon knows this address of the guest, and has made its rules of it.
fn wait_until_known(world: &World, daemon: &mut Daemon, number: usize, address: &str) {
    let rule = format!("--ip-src {address} ");
    daemon.wait_until(&format!("vnet{number} has {address}"), || world.save("ebtables").contains(&rule));
}

/// Waits until the guest has the rules of one without an address.
fn wait_until_closed(world: &World, daemon: &mut Daemon, number: usize) {
    let chain = format!("-A libvirt-I-vnet{number} -j DROP");
    let known = format!("-j I-vnet{number}-");
    daemon.wait_until(&format!("vnet{number} is closed"), || {
        let rules = world.save("ebtables");
        rules.contains(&chain) && !rules.contains(&known)
    });
}
