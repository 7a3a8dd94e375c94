//! Who reaches whom between the guests of virtual networks, the host and a machine outside, seen through TCP connections.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::namespace::inside;
use crate::world::World;

const PORT: u16 = 7000;

/// How long a connection may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(4);

/// A place with a guest, or the host's own: name, address, and the address of the host that it sees.
struct Place {
    name: &'static str,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
}

/// The five networks of the table, a machine outside, and the host.
const PLACES: [Place; 7] = [
    place("a", [10, 61, 0, 2]),
    place("e", [10, 65, 0, 2]),
    place("b", [10, 62, 0, 2]),
    place("c", [10, 63, 0, 2]),
    place("o", [10, 64, 0, 2]),
    place("wan", [203, 0, 113, 2]),
    place("host", [203, 0, 113, 1]),
];

const fn place(name: &'static str, [first, second, third, last]: [u8; 4]) -> Place {
    Place { name, address: Ipv4Addr::new(first, second, third, last), gateway: Ipv4Addr::new(first, second, third, 1) }
}

/// From and to, by row and column of [`PLACES`]: `own` and the names of places say whose address the server saw.
const WITH_RULES: &str = "
a    -    REJ  b    REJ  o    host own
e    REJ  -    b    REJ  o    host own
b    REJ  REJ  -    REJ  own  own  own
c    REJ  REJ  lost -    REJ  REJ  own
o    REJ  REJ  own  REJ  -    own  own
wan  REJ  REJ  own  REJ  own  -    own
host a    e    b    c    o    own  -
";

const WITHOUT_RULES: &str = "
a    -    own  own  own  own  own  own
e    own  -    own  own  own  own  own
b    own  own  -    own  own  own  own
c    own  own  own  -    own  own  own
o    own  own  own  own  -    own  own
wan  own  own  own  own  own  -    own
host a    e    b    c    o    own  -
";

/// The files of the five networks.
const NETWORKS: [(&str, &str); 5] = [
    ("a", "<forward mode='nat'/>"),
    ("e", "<forward mode='nat'/>"),
    ("b", "<forward mode='route'/>"),
    ("c", ""),
    ("o", "<forward mode='open'/>"),
];

/// The places with a server in each.
struct Lab {
    world: World,
    namespaces: BTreeMap<&'static str, File>,
    servers: BTreeMap<&'static str, TcpListener>,
}

impl Lab {
    fn new() -> Self {
        let world = World::new();
        world.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratelimit=0");
        for Place { name, address, gateway } in PLACES.iter().filter(|place| place.name != "host") {
            world.sh(&format!(
                "ip netns add {name}
                 ip link add br-{name} type bridge
                 ip addr add {gateway}/24 dev br-{name}
                 ip link add tap-{name} type veth peer name eth0 netns {name}
                 ip link set tap-{name} master br-{name} up
                 ip link set br-{name} up
                 ip -n {name} addr add {address}/24 dev eth0
                 ip -n {name} link set eth0 up
                 ip -n {name} route add default via {gateway}
                 for _ in $(seq 300); do ip netns exec {name} ping -q -c 1 -W 1 {gateway} >ping && exit; sleep 0.1; done; cat ping; exit 1"
            ));
        }
        let namespace = |place: &Place| world.namespace(Some(place.name).filter(|name| *name != "host"));
        let namespaces: BTreeMap<_, _> = PLACES.iter().map(|place| (place.name, namespace(place))).collect();
        let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("the port is free in a fresh namespace");
        let servers = namespaces.iter().map(|(name, namespace)| (*name, inside(namespace, listen))).collect();
        Self { world, namespaces, servers }
    }

    /// Writes these networks into the state directory; their names put them in this order.
    fn write_networks<'name>(&self, order: impl IntoIterator<Item = &'name str>) {
        for (position, name) in order.into_iter().enumerate() {
            let (_, forward) = NETWORKS.iter().find(|(network, _)| *network == name).expect("a network of the table");
            let gateway = PLACES.iter().find(|place| place.name == name).expect("every network is a place").gateway;
            let bridge = format!("<bridge name='br-{name}'/>");
            let ip = format!("<ip address='{gateway}' prefix='24'/>");
            let network = format!("<network><name>{position}-{name}</name>{bridge}{forward}{ip}</network>\n");
            self.world.write(&format!("{name}.xml"), &network);
        }
    }

    /// Everybody tries everybody at once; the answer has the form of [`WITH_RULES`].
    fn table(&self) -> String {
        let attempts: BTreeMap<_, _> = thread::scope(|scope| {
            let pairs = PLACES.iter().flat_map(|from| PLACES.iter().map(move |to| (from, to))).filter(|(from, to)| from.name != to.name);
            let running: Vec<_> = pairs.map(|(from, to)| ((from.name, to.name), scope.spawn(|| self.connect(from, to)))).collect();
            running.into_iter().map(|(pair, attempt)| (pair, attempt.join().expect("an attempt has an outcome"))).collect()
        });
        let seen = self.seen();
        let cell = |from: &Place, to: &Place| match attempts.get(&(from.name, to.name)) {
            None => "-",
            Some(Err(failure)) => failure,
            Some(Ok(())) => seen.get(&(from.name.to_owned(), to.name)).map_or("nobody", |source| owner(from, *source)),
        };
        let row = |from: &Place| {
            let cells = PLACES.iter().fold(format!("{:<5}", from.name), |cells, to| cells + &format!("{:<5}", cell(from, to)));
            cells.trim_end().to_owned() + "\n"
        };
        PLACES.iter().fold("\n".to_owned(), |table, from| table + &row(from))
    }

    /// Connects and says who it is; the server looks later.
    fn connect(&self, from: &Place, to: &Place) -> Result<(), &'static str> {
        let address = if to.name == "host" { from.gateway } else { to.address };
        let connected = inside(&self.namespaces[from.name], || {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, PORT)), PATIENCE)?;
            stream.write_all(from.name.as_bytes())
        });
        connected.map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => "REJ",
            ErrorKind::TimedOut => "lost",
            other => panic!("{} to {}: {other}", from.name, to.name),
        })
    }

    /// The address that each server saw, by the name that the client gave; empties the servers' queues.
    fn seen(&self) -> BTreeMap<(String, &'static str), IpAddr> {
        let mut seen = BTreeMap::new();
        for (server, listener) in &self.servers {
            listener.set_nonblocking(true).expect("a listener may refuse to wait");
            while let Ok((mut stream, peer)) = listener.accept() {
                let mut client = String::new();
                stream.set_nonblocking(false).expect("a stream may wait");
                stream.read_to_string(&mut client).expect("a client says its name and goes");
                seen.insert((client, *server), peer.ip());
            }
        }
        seen
    }
}

/// Whose address a server saw: the client's own, the host's in that place, or `host` for its address outside.
fn owner(from: &Place, source: IpAddr) -> &'static str {
    let is = |address: Ipv4Addr| IpAddr::from(address) == source;
    if is(from.address) {
        return "own";
    }
    let gateway = PLACES.iter().find(|place| is(place.gateway));
    gateway.map_or("someone", |place| if place.name == "wan" { "host" } else { place.name })
}

#[test]
fn isolated_nat_routed_and_open_networks_reach_what_libvirts_do() {
    let lab = Lab::new();
    assert_eq!(lab.table(), WITHOUT_RULES, "without rules everything passes");
    lab.write_networks(NETWORKS.map(|(name, _)| name));
    lab.world.apply();
    assert_eq!(lab.table(), WITH_RULES);
    lab.world.assert_in_sync();
}

#[test]
fn in_the_classic_layout_the_network_in_front_decides() {
    // What libvirt 1.2.3 made when the networks were started in either order; the last one started was in front.
    let orders =
        [(["c", "b", "e", "a"], ["REJ", "a", "own", "REJ", "REJ", "REJ"]), (["a", "e", "b", "c"], ["e", "REJ", "REJ", "c", "own", "REJ"])];
    let pairs = [("a", "e"), ("e", "a"), ("b", "a"), ("a", "c"), ("c", "b"), ("c", "a")];
    let lab = Lab::new();
    for (order, expected) in orders {
        lab.write_networks(order);
        let apply = lab.world.bridgeward(&["apply", "--layout", "classic"]);
        assert_eq!(apply.code, Some(0), "{apply}");
        let table = lab.table();
        let found = pairs.map(|(from, to)| cell(&table, from, to));
        assert_eq!(found, expected, "{order:?}, {pairs:?}:\n{table}");
    }
}

/// What a table says about a pair.
fn cell<'table>(table: &'table str, from: &str, to: &str) -> &'table str {
    let column = PLACES.iter().position(|place| place.name == to).expect("a place of the table");
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| words.first() == Some(&from));
    row.expect("every place has a row")[column + 1]
}
