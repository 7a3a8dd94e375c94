//! Packets through a neighbour's rules: what it lets through and what it does not is the same before ours are there, beside them, while they change, and once they are gone.
//! A guest of ours with `clean-traffic` reaches the machine outside meanwhile, and not under an address that is not its own.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use super::{DOCKER, FAIL2BAN, FIREWALLD_IPTABLES, FIREWALLD_NFTABLES, KUBE_PROXY, Neighbour, UFW, wait_for};
use crate::fixture::{FILTER, NETWORK, guest};
use crate::namespace::inside;
use crate::world::{Server, World};

/// How long a connection may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
/// Of the machine outside.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// A service of Kubernetes, and one that has no endpoints.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const EMPTY_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);

/// A connection from outside: where to, and what becomes of it.
type Probe = (Ipv4Addr, u16, &'static str);

/// The host with a machine outside, a container and a guest, and a server wherever one is probed. The container has the addresses of two pods as well.
struct Place {
    world: World,
    outside: File,
    guest: File,
    neighbour: Vec<Server>,
    _servers: Vec<TcpListener>,
}

impl Place {
    fn new(probes: &[Probe]) -> Self {
        let world = World::new();
        world.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0
            ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up
            ip link add br-lab type bridge; ip addr add 10.40.0.1/24 dev br-lab; ip link set br-lab up
            for name in outside container guest; do ip netns add $name; ip -n $name link set lo up; done
            ip link add eth0 type veth peer name eth0 netns outside; ip addr add 203.0.113.1/24 dev eth0; ip link set eth0 up
            ip -n outside addr add 203.0.113.2/24 dev eth0; ip -n outside link set eth0 up; ip -n outside route add default via 203.0.113.1
            ip route add default via 203.0.113.2
            ip link add veth0 type veth peer name eth0 netns container; ip link set veth0 master docker0 up
            ip -n container addr add 172.17.0.2/16 dev eth0; ip -n container link set eth0 up; ip -n container route add default via 172.17.0.1
            for pod in 10.244.1.2 10.244.2.3; do ip -n container addr add $pod/32 dev eth0; ip route add $pod/32 via 172.17.0.2; done
            ip link add vnet0 type veth peer name eth0 netns guest; ip link set vnet0 master br-lab up
            ip -n guest link set eth0 address 52:54:00:40:00:00 up; ip -n guest addr add 10.40.0.10/24 dev eth0
            ip -n guest addr add 10.40.0.66/24 dev eth0; ip -n guest route add default via 10.40.0.1 src 10.40.0.10
            for name in outside container guest; do for _ in $(seq 300); do ip netns exec $name ping -q -c 1 -W 1 203.0.113.1 >ping && continue 2; sleep 0.1; done; cat ping; exit 1; done");
        world.write("lab.xml", NETWORK);
        world.write("web.xml", FILTER);
        world.write("vnet0.xml", &guest(0, "web"));
        let (host, container) = (world.namespace(None), world.namespace(Some("container")));
        let listen = |namespace: &File, port: u16| {
            inside(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free in a fresh namespace"))
        };
        let mut servers: Vec<TcpListener> = [80, 81, 8080].map(|port| listen(&container, port)).into();
        servers.extend(probes.iter().filter(|(address, ..)| *address == HOST).map(|(_, port, _)| listen(&host, *port)));
        Self {
            outside: world.namespace(Some("outside")),
            guest: world.namespace(Some("guest")),
            neighbour: Vec::new(),
            world,
            _servers: servers,
        }
    }

    fn connect(from: &File, (address, port, _): Probe) -> &'static str {
        let to = SocketAddr::from((address, port));
        match inside(from, || TcpStream::connect_timeout(&to, PATIENCE)) {
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
        self.check_from(&self.outside, when, probes);
    }

    fn check_from(&self, from: &File, when: &str, probes: &[Probe]) {
        for probe in probes {
            assert_eq!(Self::connect(from, *probe), probe.2, "{when}: {}:{}\n{}", probe.0, probe.1, self.world.save_all());
        }
    }

    /// What a guest may do beside any neighbour: reach the machine outside, and not as another one.
    fn check_guest(&self, when: &str) {
        let reaches = |source: &str, tries: usize| {
            let ping = format!("ip netns exec guest ping -q -c 1 -W 1 -I {source} {OUTSIDE} >ping");
            self.world.sh(&format!("for _ in $(seq {tries}); do {ping} && echo yes && exit; done; echo no")) == "yes\n"
        };
        assert!(reaches("10.40.0.10", 10), "{when}: the guest does not get out\n{}", self.world.save_all());
        assert!(!reaches("10.40.0.66", 1), "{when}: the guest lies\n{}", self.world.save_all());
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

#[test]
fn whom_fail2ban_banned_stays_banned_and_nobody_else() {
    // It bans for a while in which this is not over, by the ports of its jail.
    let ban = format!("fail2ban-client -s /run/fail2ban/s set sshd banip {OUTSIDE}");
    let probes = [(HOST, 22, "rejected"), (HOST, 8000, "open"), (CONTAINER, 80, "open")];
    let place = keeps_its_word(
        &FAIL2BAN,
        &format!("{ban}; for _ in $(seq 240); do iptables-save | grep -q {OUTSIDE} && exit; sleep 0.25; done; exit 1"),
        &probes,
    );
    let world = &place.world;
    world.apply();
    world.sh(&format!("fail2ban-client -s /run/fail2ban/s set sshd unbanip {OUTSIDE}"));
    wait_for(world, &format!("! iptables-save | grep -q {OUTSIDE}"));
    place.check("the ban is over", &[(HOST, 22, "open"), (HOST, 8000, "open")]);
    place.check_guest("the ban is over");
}

#[test]
fn services_of_kube_proxy_are_reached_from_outside_and_by_guests() {
    let services = [(SERVICE, 80, "open"), (EMPTY_SERVICE, 80, "rejected")];
    let node_port = [(HOST, 30080, "open"), (CONTAINER, 81, "open")];
    let place = keeps_its_word(&KUBE_PROXY, "", &[services, node_port].concat());
    place.world.apply();
    place.check_from(&place.guest, "from a guest", &services[..1]);
    let isolated = NETWORK.replace("  <forward mode='nat'/>\n", "");
    assert_ne!(isolated, NETWORK);
    place.world.write("lab.xml", &isolated);
    place.world.apply();
    let [nothing, only_services] = ["rejected", "open"].map(|service| [(SERVICE, 80, service), (CONTAINER, 80, "rejected")]);
    place.check_from(&place.guest, "isolated, ours before kube-proxy's", &nothing);
    // kube-proxy accepts what it sends to its services itself, where its jump stands before ours.
    let jump = "FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD";
    place.world.sh(&format!("iptables -D {jump}; iptables -I {jump}"));
    place.check_from(&place.guest, "isolated, ours behind kube-proxy's", &only_services);
    let answer = place.world.bridgeward(&["--hooks", "first", "apply"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    place.check_from(&place.guest, "isolated, ours first", &nothing);
    place.check("ours stand first", &services);
}

fn a_zone_keeps_its_word(firewalld: &Neighbour) {
    let rule = "firewall-cmd --permanent --zone=public --add-rich-rule='rule port port=26 protocol=tcp drop'
        firewall-cmd --permanent --zone=trusted --add-interface=br-lab; firewall-cmd --reload";
    keeps_its_word(firewalld, rule, &[(HOST, 8443, "open"), (HOST, 26, "lost"), (HOST, 9999, "rejected")]);
}

/// `more` are rules of the neighbour for this alone. The place is as before ours came, and the neighbour still there.
fn keeps_its_word(neighbour: &Neighbour, more: &str, probes: &[Probe]) -> Place {
    let mut place = Place::new(probes);
    place.neighbour = (neighbour.start)(&place.world);
    let world = &place.world;
    world.sh(more);
    place.check("alone", probes);
    world.apply();
    place.check("ours came", probes);
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    place.check("ours changed", probes);
    place.check_guest("ours changed");
    let mut daemon = world.run(&[]);
    for _ in 0..2 {
        (neighbour.operate)(world);
        daemon.wait_until("ours to be there", || world.in_sync());
        place.check("it wrote while the daemon ran", probes);
        place.check_guest("it wrote while the daemon ran");
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    let answer = world.bridgeward(&["purge"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    place.check("ours went", probes);
    place
}
