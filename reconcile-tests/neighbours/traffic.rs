//! Packets through a neighbour's rules: what it lets through and what it does not is the same before ours are there, beside them, while they change, and once they are gone.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use super::{DOCKER, FIREWALLD_IPTABLES, FIREWALLD_NFTABLES, Neighbour, UFW};
use crate::fixture::{FILTER, NETWORK, guest};
use crate::namespace::inside;
use crate::world::World;

/// How long a connection may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);

/// A connection from outside: where to, and what becomes of it.
type Probe = (Ipv4Addr, u16, &'static str);

/// The host with a machine outside and a container, and a server wherever one is probed.
struct Place {
    world: World,
    outside: File,
    _servers: Vec<TcpListener>,
}

impl Place {
    fn new(probes: &[Probe]) -> Self {
        let world = World::new();
        world.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0; ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up
            for name in outside container; do ip netns add $name; ip -n $name link set lo up; done
            ip link add eth0 type veth peer name eth0 netns outside; ip addr add 203.0.113.1/24 dev eth0; ip link set eth0 up
            ip -n outside addr add 203.0.113.2/24 dev eth0; ip -n outside link set eth0 up; ip -n outside route add default via 203.0.113.1
            ip link add veth0 type veth peer name eth0 netns container; ip link set veth0 master docker0 up
            ip -n container addr add 172.17.0.2/16 dev eth0; ip -n container link set eth0 up; ip -n container route add default via 172.17.0.1
            for name in outside container; do for _ in $(seq 300); do ip netns exec $name ping -q -c 1 -W 1 203.0.113.1 >ping && continue 2; sleep 0.1; done; cat ping; exit 1; done");
        world.write("lab.xml", NETWORK);
        world.write("web.xml", FILTER);
        world.write("vnet0.xml", &guest(0, "web"));
        let (host, container) = (world.namespace(None), world.namespace(Some("container")));
        let listen = |namespace: &File, port: u16| {
            inside(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free in a fresh namespace"))
        };
        let mut servers: Vec<TcpListener> = [80, 81].map(|port| listen(&container, port)).into();
        servers.extend(probes.iter().filter(|(address, ..)| *address == HOST).map(|(_, port, _)| listen(&host, *port)));
        Self { outside: world.namespace(Some("outside")), world, _servers: servers }
    }

    fn connect(&self, (address, port, _): Probe) -> &'static str {
        let to = SocketAddr::from((address, port));
        match inside(&self.outside, || TcpStream::connect_timeout(&to, PATIENCE)) {
            Ok(_) => "open",
            Err(error) if error.kind() == ErrorKind::TimedOut => "lost",
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::PermissionDenied) =>
            {
                "rejected"
            }
            Err(error) => panic!("to {to}: {error}"),
        }
    }

    fn check(&self, when: &str, probes: &[Probe]) {
        for probe in probes {
            assert_eq!(self.connect(*probe), probe.2, "{when}: {}:{}\n{}", probe.0, probe.1, self.world.save_all());
        }
    }
}

#[test]
fn dockers_published_port_stays_open_and_the_others_closed() {
    // By the published port, and straight at the container, which Docker lets nobody do.
    keeps_its_word(&DOCKER, "", &[(HOST, 8080, "open"), (CONTAINER, 80, "open"), (CONTAINER, 81, "lost")]);
}

#[test]
fn what_ufw_denies_stays_denied_and_what_it_allows_allowed() {
    keeps_its_word(
        &UFW,
        "ufw reject 25/tcp; ufw deny 26/tcp",
        &[(HOST, 22, "open"), (HOST, 25, "rejected"), (HOST, 26, "lost"), (HOST, 9999, "lost")],
    );
}

#[test]
fn what_a_zone_of_firewalld_with_nftables_accepts_and_drops_stays_so() {
    a_zone_keeps_its_word(&FIREWALLD_NFTABLES);
}

#[test]
fn what_a_zone_of_firewalld_with_iptables_accepts_and_drops_stays_so() {
    a_zone_keeps_its_word(&FIREWALLD_IPTABLES);
}

fn a_zone_keeps_its_word(firewalld: &Neighbour) {
    let rule = "firewall-cmd --permanent --zone=public --add-rich-rule='rule port port=26 protocol=tcp drop'; firewall-cmd --reload";
    keeps_its_word(firewalld, rule, &[(HOST, 8443, "open"), (HOST, 26, "lost"), (HOST, 9999, "rejected")]);
}

/// `more` are rules of the neighbour for this alone.
fn keeps_its_word(neighbour: &Neighbour, more: &str, probes: &[Probe]) {
    let place = Place::new(probes);
    let world = &place.world;
    let _servers = (neighbour.start)(world);
    world.sh(more);
    place.check("alone", probes);
    world.apply();
    place.check("ours came", probes);
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    place.check("ours changed", probes);
    let mut daemon = world.run(&[]);
    for _ in 0..2 {
        (neighbour.operate)(world);
        daemon.wait_until("ours to be there", || world.in_sync());
        place.check("it wrote while the daemon ran", probes);
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    let answer = world.bridgeward(&["purge"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    place.check("ours went", probes);
}
