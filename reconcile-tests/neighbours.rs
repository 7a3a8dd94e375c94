//! Other programs that write packet-filter rules, on the same host: both sides work, neither is touched.
//!
//! ufw, fail2ban and firewalld (with each of its backends) are the real ones, with their files in the world's own mounts; Docker's and kube-proxy's
//! rules are as their documentation has them. Each neighbour comes before ours, after ours and goes on writing while ours change; what its
//! rules are is known from a world in which it is alone. `docs/neighbours.md` says what cannot work together.

mod traffic;

use std::process::Command;

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Server, World};

/// Somebody else with rules.
struct Neighbour {
    /// Brings its rules in; what must live as long as they do.
    start: fn(&World) -> Vec<Server>,
    /// What it does all the time; its rules are the same afterwards.
    operate: fn(&World),
}

const DOCKER: Neighbour = Neighbour {
    start: |world| {
        restore(world, include_str!("neighbours/docker.rules"));
        Vec::new()
    },
    // A container with a published port goes and comes.
    operate: |world| {
        let filter = "DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT";
        let nat = "DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80";
        world.sh(&format!("iptables -D {filter}; iptables -A {filter}; iptables -t nat -D {nat}; iptables -t nat -A {nat}"));
    },
};

const KUBE_PROXY: Neighbour = Neighbour {
    start: |world| {
        restore(world, include_str!("neighbours/kube-proxy.rules"));
        world.sh("
            iptables -I INPUT -m conntrack --ctstate NEW -m comment --comment 'kubernetes health check service ports' -j KUBE-NODEPORTS
            iptables -I INPUT -m conntrack --ctstate NEW -m comment --comment 'kubernetes externally-visible service portals' -j KUBE-EXTERNAL-SERVICES
            iptables -I INPUT -j KUBE-FIREWALL
            iptables -I FORWARD -m conntrack --ctstate NEW -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
            iptables -I FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD
            iptables -I OUTPUT -j KUBE-FIREWALL
            iptables -t nat -I PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
            iptables -t nat -I OUTPUT -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES
            iptables -t nat -I POSTROUTING -m comment --comment 'kubernetes postrouting rules' -j KUBE-POSTROUTING");
        Vec::new()
    },
    operate: |world| restore(world, include_str!("neighbours/kube-proxy.rules")),
};

const OWN_TABLE: Neighbour = Neighbour {
    start: |world| {
        (OWN_TABLE.operate)(world);
        Vec::new()
    },
    operate: |world| {
        let file = world.scratch("own.nft");
        std::fs::write(&file, include_str!("neighbours/own.nft")).expect("the scratch directory takes files");
        world.sh(&format!("nft -f {}", file.display()));
    },
};

const UFW: Neighbour = Neighbour {
    start: |world| {
        private_files(world, &["/etc/ufw", "/etc/default"]);
        world.sh("ufw --force enable; ufw allow 22/tcp; ufw deny from 192.0.2.0/24; ufw route allow in on eth0 out on eth1");
        Vec::new()
    },
    operate: |world| {
        world.sh("ufw allow 8080/tcp; ufw reload; ufw delete allow 8080/tcp");
    },
};

const FAIL2BAN: Neighbour = Neighbour {
    start: |world| {
        private_files(world, &["/etc/fail2ban"]);
        // Without its database, from which it would bring back the bans of an earlier run, beside those that are made here.
        world.sh("printf '[Definition]\\ndbfile = None\\n' >/etc/fail2ban/fail2ban.local
            mkdir -p /run/fail2ban /run/logs; touch /run/logs/auth.log
            printf '[sshd]\\nenabled = true\\nbackend = polling\\nlogpath = /run/logs/auth.log\\nbanaction = iptables-multiport\\n' >/etc/fail2ban/jail.local");
        let server = world.serve(
            "fail2ban",
            &["fail2ban-server", "-f", "-s", "/run/fail2ban/s", "-p", "/run/fail2ban/pid", "--logtarget", "STDOUT", "start"],
        );
        world.sh("for _ in $(seq 120); do fail2ban-client -s /run/fail2ban/s ping >/dev/null 2>&1 && break; sleep 0.25; done
            fail2ban-client -s /run/fail2ban/s set sshd banip 192.0.2.9");
        wait_for(world, "iptables-save | grep -q 192.0.2.9");
        vec![server]
    },
    operate: |world| {
        world.sh("fail2ban-client -s /run/fail2ban/s set sshd banip 192.0.2.77");
        wait_for(world, "iptables-save | grep -q 192.0.2.77");
        world.sh("fail2ban-client -s /run/fail2ban/s set sshd unbanip 192.0.2.77");
        wait_for(world, "! iptables-save | grep -q 192.0.2.77");
    },
};

const FIREWALLD_NFTABLES: Neighbour = Neighbour { start: |world| start_firewalld(world, "nftables"), operate: reload_firewalld };

const FIREWALLD_IPTABLES: Neighbour = Neighbour { start: |world| start_firewalld(world, "iptables"), operate: reload_firewalld };

#[test]
fn docker_and_bridgeward_live_side_by_side() {
    live_side_by_side(&DOCKER);
}

#[test]
fn kube_proxy_and_bridgeward_live_side_by_side() {
    live_side_by_side(&KUBE_PROXY);
}

#[test]
fn a_hand_written_nft_table_and_bridgeward_live_side_by_side() {
    live_side_by_side(&OWN_TABLE);
}

#[test]
fn ufw_and_bridgeward_live_side_by_side() {
    live_side_by_side(&UFW);
}

#[test]
fn fail2ban_and_bridgeward_live_side_by_side() {
    live_side_by_side(&FAIL2BAN);
}

#[test]
fn firewalld_with_nftables_and_bridgeward_live_side_by_side() {
    live_side_by_side(&FIREWALLD_NFTABLES);
}

#[test]
fn firewalld_with_iptables_and_bridgeward_live_side_by_side() {
    live_side_by_side(&FIREWALLD_IPTABLES);
}

#[test]
fn no_reload_of_firewalld_with_nftables_fails_beside_a_daemon() {
    reload_again_and_again(&FIREWALLD_NFTABLES);
}

#[test]
fn no_reload_of_firewalld_with_iptables_fails_beside_a_daemon() {
    reload_again_and_again(&FIREWALLD_IPTABLES);
}

/// A write of ours that falls into firewalld's ebtables makes its reload fail: so each reload is waited out, one that begins while files change as well.
fn reload_again_and_again(firewalld: &Neighbour) {
    let world = World::new();
    let _servers = (firewalld.start)(&world);
    (firewalld.operate)(&world);
    let alone = theirs(&world);
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    let mut daemon = world.run(&[]);
    for number in 0..15 {
        world.write("vnet0.xml", &guest(0, if number % 2 == 0 { "web" } else { "clean-traffic" }));
        let answer = world.run_to_end(Command::new("firewall-cmd").arg("--reload"));
        assert_eq!(answer.code, Some(0), "reload {number}: {answer}\n{}", daemon.log());
        daemon.wait_until("ours to be back", || world.in_sync());
        assert_same(&alone, &theirs(&world), &format!("reload {number}"));
        // Whoever reloads so often is taken for somebody who fights: that would make this long.
        daemon.signal(Signal::HUP);
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

fn live_side_by_side(neighbour: &Neighbour) {
    let alone = {
        let world = World::new();
        let _servers = (neighbour.start)(&world);
        (neighbour.operate)(&world);
        theirs(&world)
    };
    assert!(alone.lines().count() > 3, "the neighbour has no rules:\n{alone}");
    let world = World::new();
    let check = |what: &str| assert_same(&alone, &theirs(&world), what);
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));

    world.apply();
    let _servers = (neighbour.start)(&world);
    (neighbour.operate)(&world);
    check("it came after ours");
    // firewalld throws all rules of everybody away when it starts and when it is reloaded.
    world.apply();
    world.assert_in_sync();
    check("ours came back beside it");
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    check("ours changed");
    let answer = world.bridgeward(&["purge"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    check("ours went");
    let left = world.save_all();
    assert!(!left.lines().any(is_ours), "purge left something:\n{left}");
    world.apply();
    world.assert_in_sync();
    check("ours came after it");

    let mut daemon = world.run(&[]);
    for number in 0..3 {
        world.write("vnet1.xml", &guest(1, if number % 2 == 0 { "web" } else { "clean-traffic" }));
        (neighbour.operate)(&world);
        daemon.wait_until("ours to be there", || world.in_sync());
        check("it wrote while the daemon ran");
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

fn assert_same(alone: &str, theirs: &str, what: &str) {
    let difference = similar::TextDiff::from_lines(alone, theirs).unified_diff().header("alone", what).to_string();
    assert!(difference.is_empty(), "{what}: the neighbour's rules changed:\n{difference}");
}

/// Everything in the kernel that is not ours: rules, chains of their own, policies, and tables of nftables; counters left out.
fn theirs(world: &World) -> String {
    let mut theirs = String::new();
    for tool in ["iptables", "ip6tables", "ebtables"] {
        let mut table = String::new();
        for line in world.save(tool).lines().filter(|line| !is_ours(line)) {
            let line = line.split(" [").next().unwrap_or(line);
            match line.strip_prefix('*') {
                Some(name) => name.clone_into(&mut table),
                // Tables appear when somebody puts the first rule into them.
                None if line == "COMMIT" || line.is_empty() || (line.starts_with(':') && line.ends_with(" ACCEPT")) => {}
                None => theirs.extend([tool, " ", &table, " ", line, "\n"]),
            }
        }
    }
    let of_tools = |words: &str| {
        let mut words = words.split(' ').skip(1);
        let family = matches!(words.next(), Some("ip" | "ip6" | "bridge"));
        family && matches!(words.next(), Some("filter" | "nat" | "mangle" | "raw" | "security" | "broute"))
    };
    let tables = world.sh("nft list tables");
    tables.lines().filter(|line| !of_tools(line)).fold(theirs, |theirs, table| theirs + &world.sh(&format!("nft -s list {table}")))
}

fn is_ours(line: &str) -> bool {
    ["LIBVIRT_", "libvirt-", "vnet0", "vnet1", "br-lab", "10.40.0.", "fd40:"].iter().any(|mark| line.contains(mark))
}

fn restore(world: &World, rules: &str) {
    let file = world.scratch("neighbour.rules");
    std::fs::write(&file, rules).expect("the scratch directory takes files");
    world.sh(&format!("iptables-restore --noflush <{}", file.display()));
}

/// Gives the world copies of these directories, so that what a neighbour writes stays in it.
fn private_files(world: &World, directories: &[&str]) {
    for directory in directories {
        let copy = world.scratch(&directory.replace('/', "_"));
        let copy = copy.display();
        world.sh(&format!(
            "test -d {directory} || {{ echo 'missing: {directory}; run reconcile-tests/install-tools.sh' >&2; exit 1; }}
            cp -a {directory} {copy}; mount --bind {copy} {directory}"
        ));
    }
}

fn start_firewalld(world: &World, backend: &str) -> Vec<Server> {
    private_files(world, &["/etc/firewalld"]);
    world.sh(&format!("mkdir -p /run/dbus; sed -i 's/^FirewallBackend=.*/FirewallBackend={backend}/' /etc/firewalld/firewalld.conf"));
    let bus = world.serve("dbus", &["dbus-daemon", "--system", "--nofork", "--nopidfile"]);
    wait_for(world, "test -S /run/dbus/system_bus_socket");
    let server = world.serve("firewalld", &["firewalld", "--nofork", "--nopid"]);
    wait_for(world, "firewall-cmd --state");
    world.sh("firewall-cmd --permanent --zone=public --add-port=8443/tcp; firewall-cmd --permanent --zone=trusted --add-interface=acme0");
    vec![server, bus]
}

fn reload_firewalld(world: &World) {
    world.sh("firewall-cmd --reload");
}

fn wait_for(world: &World, condition: &str) {
    world.sh(&format!("for _ in $(seq 240); do {{ {condition}; }} >/dev/null 2>&1 && exit 0; sleep 0.25; done; echo 'never came true: {condition}' >&2; exit 1"));
}
