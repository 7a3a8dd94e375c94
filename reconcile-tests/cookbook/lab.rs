//! The host of the recipes: a bridge with two guests and a gateway at its ports, and a machine outside that the host routes to.
//!
//! Every frame is the test's. Whether one is dropped is not a matter of waiting: a marker goes the same way behind it, between two ports that no rule guards, and when it
//! has arrived, whatever was sent before it has arrived or never will.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::packet::{Asked, packet};
use crate::enforcement::wire::{on_one_processor, packet_socket};
use crate::namespace::inside;
use crate::world::World;

/// Somebody who sends and receives.
pub struct Place {
    /// In the words of the page.
    pub name: &'static str,
    /// The device behind which it is.
    pub port: &'static str,
    mac: [u8; 6],
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
}

const fn place(name: &'static str, port: &'static str, last: u8, ipv4: [u8; 4], ipv6: [u16; 3]) -> Place {
    let [a, b, c, d] = ipv4;
    let [first, second, end] = ipv6;
    Place {
        name,
        port,
        mac: [0x52, 0x54, 0, 0x40, 0, last],
        ipv4: Ipv4Addr::new(a, b, c, d),
        ipv6: Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, end),
    }
}

/// Those that the page tells of. What is beyond the gateway has its Ethernet address.
pub const PLACES: [Place; 6] = [
    place("web", "vnet-web", 0x10, [10, 40, 0, 10], [0xfd40, 0, 0x10]),
    place("db", "vnet-db", 0x11, [10, 40, 0, 11], [0xfd40, 0, 0x11]),
    place("gateway", "uplink", 0x01, [10, 40, 0, 1], [0xfd40, 0, 0x1]),
    place("admin", "uplink", 0x01, [192, 0, 2, 10], [0x2001, 0xdb8, 0x10]),
    place("internet", "uplink", 0x01, [198, 51, 100, 9], [0x2001, 0xdb8, 0x9]),
    place("outside", "eth0", 0xee, [203, 0, 113, 2], [0x2001, 0xdb8, 0x2]),
];

/// The host's own ends.
const BRIDGE: [u8; 6] = [0x52, 0x54, 0, 0x40, 0, 0xfe];
const ETH0: [u8; 6] = [0x52, 0x54, 0, 0x40, 0, 0xef];

/// The ports between which markers go.
const MARKERS: [&str; 2] = ["marker0", "marker1"];

/// How long what has to arrive may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

impl Place {
    /// The place of this name.
    pub fn named(name: &str) -> &'static Self {
        PLACES.iter().find(|place| place.name == name).unwrap_or_else(|| panic!("docs/cookbook.md: nobody is called `{name}`"))
    }

    /// Its Ethernet address as text.
    pub fn mac(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// From which Ethernet address to which: outside, the host is between them.
    pub fn ethernet_to(&self, to: &Self) -> ([u8; 6], [u8; 6]) {
        match (self.name, to.name) {
            ("outside", _) => (self.mac, ETH0),
            (_, "outside") => (self.mac, BRIDGE),
            _ => (self.mac, to.mac),
        }
    }
}

/// A host with nobody's rules yet.
pub struct Lab {
    pub world: World,
    ears: BTreeMap<&'static str, OwnedFd>,
    asked: Asked,
    sent: u16,
}

impl Lab {
    pub fn new() -> Self {
        let world = World::new();
        world.sh(&format!(
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1
             ip link add br-lab type bridge mcast_snooping 0
             ip link set br-lab address {bridge} up
             ip addr add 10.40.0.254/24 dev br-lab
             for port in vnet-web vnet-db uplink marker0 marker1; do
               ip netns add $port
               ip netns exec $port sysctl -qw net.ipv6.conf.default.disable_ipv6=1
               ip link add $port type veth peer name eth0 netns $port
               ip link set $port master br-lab up
               bridge link set dev $port learning off
               ip -n $port link set eth0 up
             done
             bridge fdb add {web} dev vnet-web master static
             bridge fdb add {db} dev vnet-db master static
             bridge fdb add {gateway} dev uplink master static
             ip netns add outside
             ip link add eth0 address {host} type veth peer name eth0 address {outside} netns outside
             ip addr add 203.0.113.1/24 dev eth0
             ip link set eth0 up
             ip -n outside link set eth0 up
             ip neigh add 203.0.113.2 lladdr {outside} nud permanent dev eth0
             ip neigh add 10.40.0.10 lladdr {web} nud permanent dev br-lab
             ip neigh add 10.40.0.11 lladdr {db} nud permanent dev br-lab",
            bridge = text(BRIDGE),
            host = text(ETH0),
            web = Place::named("web").mac(),
            db = Place::named("db").mac(),
            gateway = Place::named("gateway").mac(),
            outside = Place::named("outside").mac(),
        ));
        let bridged = world.sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables || echo absent");
        assert_eq!(bridged, "1\n", "iptables does not see bridged frames here: load the kernel module br_netfilter");
        let namespaces = [("vnet-web", "vnet-web"), ("vnet-db", "vnet-db"), ("uplink", "uplink"), ("eth0", "outside")];
        let markers = MARKERS.map(|port| (port, port));
        let ear = |namespace| inside(&world.namespace(Some(namespace)), || packet_socket("eth0"));
        let ears = namespaces.into_iter().chain(markers).map(|(port, namespace)| (port, ear(namespace))).collect();
        let lab = Self { world, ears, asked: Asked::default(), sent: 0 };
        lab.wait_for_carrier();
        lab
    }

    /// Writes a state file.
    pub fn write(&self, name: &str, text: &str) {
        let directory = self.world.state().join(name).parent().expect("a file is in a directory").to_owned();
        std::fs::create_dir_all(directory).expect("the state directory takes directories");
        self.world.write(name, text);
    }

    /// Sends a packet and returns it as it arrived, if it did.
    pub fn try_packet(&mut self, from: &str, to: &str, words: &str) -> Option<Vec<u8>> {
        let (from, to) = (Place::named(from), Place::named(to));
        self.sent += 1;
        let mark = format!("packet-{:05}-", self.sent).into_bytes();
        let bytes = packet(from, to, words, 40_000 + self.sent, &mark, &mut self.asked);
        let ear = &self.ears[to.port];
        while recv(ear, &mut [0; 1][..], RecvFlags::DONTWAIT).is_ok() {}
        on_one_processor(|| {
            self.send(from.port, &bytes);
            // One for the bridge, one more for who is routed.
            for _ in 0..2 {
                self.mark();
            }
        });
        let mut buffer = vec![0; 2048];
        while let Ok((length, _)) = recv(ear, &mut buffer[..], RecvFlags::DONTWAIT) {
            if buffer[..length].windows(mark.len()).any(|window| window == mark) {
                buffer.truncate(length);
                return Some(buffer);
            }
        }
        None
    }

    fn send(&self, port: &str, frame: &[u8]) {
        let sent = send(&self.ears[port], frame, SendFlags::empty()).expect("the link is up");
        assert_eq!(sent, frame.len(), "a frame is sent whole");
    }

    /// Sends a marker and waits until it has arrived.
    fn mark(&self) {
        let marker = marker(b"marker");
        self.send(MARKERS[0], &marker);
        assert!(self.hears(MARKERS[1], &marker, PATIENCE), "a marker never arrived");
    }

    fn hears(&self, port: &str, frame: &[u8], within: Duration) -> bool {
        let ear = &self.ears[port];
        set_socket_timeout(ear, Timeout::Recv, Some(within)).expect("a socket's timeout can be set");
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = recv(ear, &mut buffer[..], RecvFlags::empty()) {
            if buffer[..length].starts_with(frame) {
                return true;
            }
        }
        false
    }

    /// Links and ports open some time after they are set up.
    fn wait_for_carrier(&self) {
        let probe = marker(b"probe");
        for (from, to) in
            [("vnet-web", MARKERS[1]), ("vnet-db", MARKERS[1]), ("uplink", MARKERS[1]), (MARKERS[0], "vnet-web"), (MARKERS[0], "vnet-db")]
        {
            let heard = (0..1000).any(|_| {
                self.send(from, &probe);
                self.hears(to, &probe, PATIENCE / 1000)
            });
            assert!(heard, "{to} never hears {from}");
        }
        self.world.sh("for _ in $(seq 600); do [ $(cat /sys/class/net/eth0/operstate) = up ] && exit; sleep 0.05; done; exit 1");
    }
}

/// A broadcast of an Ethernet type for experiments, which no rule of any recipe knows.
fn marker(words: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 0x40, 0, 0xaa, 0x88, 0xb5];
    frame.extend(words);
    frame.resize(60, 0);
    frame
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What became of a packet, in the words of the page; `wanted` says whether its sender is of interest.
pub fn outcome(seen: Option<&Vec<u8>>, wanted: &str) -> String {
    let Some(frame) = seen else { return "dropped".to_owned() };
    if !wanted.starts_with("passes as") {
        return "passes".to_owned();
    }
    let headers = PacketHeaders::from_ethernet_slice(frame).expect("what was sent whole arrives whole");
    let source: IpAddr = match headers.net {
        Some(NetHeaders::Ipv4(header, _)) => Ipv4Addr::from(header.source).into(),
        Some(NetHeaders::Ipv6(header, _)) => Ipv6Addr::from(header.source).into(),
        _ => return "passes".to_owned(),
    };
    let port = match headers.transport {
        Some(TransportHeader::Tcp(header)) => header.source_port,
        Some(TransportHeader::Udp(header)) => header.source_port,
        _ => 0,
    };
    // A range of ports in what the page says stands for any port in it.
    let range = wanted.rsplit_once(", port ").and_then(|(_, range)| range.split_once(" to "));
    let within = range.and_then(|(first, last)| Some((first.parse().ok()?..=last.parse().ok()?).contains(&port)));
    match (range, within) {
        (Some((first, last)), Some(true)) => format!("passes as {source}, port {first} to {last}"),
        (Some(_), _) => format!("passes as {source}, port {port}"),
        (None, _) => format!("passes as {source}"),
    }
}
