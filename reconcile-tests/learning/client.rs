//! dhcpcd as the client, for both protocols: a lease from its beginning to its end, with the daemon killed and started between every two steps.

use super::lease::{again, serve, until};
use super::{DHCP, allow_ipv6, bridged, give_ipv6, guest, reaches, reaches_ipv6, wait_until_closed};
use crate::world::{Server, World};

/// No probes for duplicates, which wait for seconds, and no routers.
const SETTINGS: &str = "duid\nnoarp\nnoipv4ll\nnoipv6rs\nscript /bin/true\ninterface eth0\nia_na 1\n";

/// One protocol's part of the story.
struct Story {
    /// What the guest's file says.
    guest: String,
    /// dhcpcd's option for the protocol alone.
    protocol: &'static str,
    /// What dnsmasq gives.
    range: &'static str,
    address: &'static str,
    /// Another address of the same network.
    other: &'static str,
    /// What dhcpcd says when it has a lease.
    bound: &'static str,
    reaches: fn(&World, &str) -> bool,
}

impl Story {
    fn tell(&self, world: &World) {
        world.write("vnet0.xml", &self.guest);
        world.sh(&format!("mkdir -p /var/lib/dhcpcd; mount -t tmpfs tmpfs /var/lib/dhcpcd; printf '{SETTINGS}' >dhcpcd.conf"));
        let _server = serve(world, self.range);
        let mut daemon = world.run(&[]);
        wait_until_closed(world, &mut daemon, 0);
        let add = |address| world.sh(&format!("ip -n guest0 addr add {address} dev eth0 nodad"));
        add(self.address);
        assert!(!(self.reaches)(world, self.address), "closed, even with the right address");
        world.sh(&format!("ip -n guest0 addr del {} dev eth0", self.address));

        let mut daemon = again(world, daemon);
        let _client = self.client(world);
        daemon.wait_until("a lease opens", || (self.reaches)(world, self.address));
        let mut daemon = again(world, daemon);
        assert!((self.reaches)(world, self.address), "a restart keeps");
        add(self.other);
        assert!(!(self.reaches)(world, self.other), "another source address is dropped");

        // dhcpcd takes one order after another, when it has its lease.
        let bound = || world.sh("cat dhcpcd.log").matches(self.bound).count();
        let (before, mut asked) = (until(world), 0);
        daemon.wait_until("the lease is renewed", || {
            let now = bound();
            if now > asked {
                asked = now;
                self.order(world, "--rebind");
            }
            until(world) > before
        });
        daemon.wait_until("dhcpcd is done", || bound() > asked);
        let mut daemon = again(world, daemon);
        assert!((self.reaches)(world, self.address), "a renewal keeps");

        self.order(world, "--release");
        wait_until_closed(world, &mut daemon, 0);
        let daemon = again(world, daemon);
        add(self.address);
        assert!(!(self.reaches)(world, self.address), "a release closes");
        drop(daemon);
    }

    /// dhcpcd, until it is told to release.
    fn client(&self, world: &World) -> Server {
        world.serve("dhcpcd", &["sh", "-c", &format!("exec {}", self.command("--nobackground"))])
    }

    /// Tells the running dhcpcd what to do.
    fn order(&self, world: &World, order: &str) {
        world.sh(&format!("{} >>order.log 2>&1", self.command(order)));
    }

    fn command(&self, order: &str) -> String {
        format!("ip netns exec guest0 dhcpcd --config \"$PWD/dhcpcd.conf\" {} {order} eth0", self.protocol)
    }
}

#[test]
fn a_lease_of_dhcpcd_opens_renews_and_a_release_closes_over_restarts() {
    Story {
        guest: guest(0, DHCP),
        protocol: "-4",
        range: "10.40.0.50,10.40.0.50,120",
        address: "10.40.0.50/24",
        other: "10.40.0.66/24",
        bound: "leased 10.40.0.50",
        reaches: |world, address| reaches(world, 0, &format!("-I {}", host(address))),
    }
    .tell(&bridged(1));
}

#[test]
fn a_lease_of_dhcpv6_opens_renews_and_a_release_closes_over_restarts() {
    let world = bridged(1);
    give_ipv6(&world);
    allow_ipv6(&world);
    // What a router would tell of.
    world.sh("ip -n guest0 route add fd40::/64 dev eth0");
    Story {
        guest: guest(0, &[("CTRL_IP_LEARNING", "dhcp")]).replace("clean-traffic", "no-ipv6-spoofing"),
        protocol: "-6",
        range: "fd40::50,fd40::50,64,120",
        address: "fd40::50/64",
        other: "fd40::66/64",
        bound: "renew in",
        reaches: |world, address| reaches_ipv6(world, host(address)),
    }
    .tell(&world);
}

/// An address without its prefix.
fn host(address: &str) -> &str {
    address.split('/').next().unwrap_or(address)
}
