//! What is not ours stays as it is: every byte, every counter, whatever we do beside it.
//!
//! Everything foreign in these worlds carries the word `acme`: in a comment, a chain's name or a device's name. The foreign part of
//! a save is the lines with that word and the built-in chains with their policies; it is compared as text, counters included.

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Tools, World};

/// A change of the state directory, and whether the pass after it is expected to hold something.
type Change = (&'static str, fn(&World), Pass);

#[derive(Clone, Copy)]
enum Pass {
    Clean,
    Held,
}

/// Ten things that an operator does, one after the other.
const CHANGES: [Change; 10] = [
    ("a guest comes", |world| world.write("vnet1.xml", &guest(1, "clean-traffic")), Pass::Clean),
    ("its address changes", |world| world.write("vnet1.xml", &guest(1, "clean-traffic").replace("10.40.0.11", "10.40.0.77")), Pass::Clean),
    ("its filter changes", |world| world.write("vnet1.xml", &guest(1, "web")), Pass::Clean),
    ("the filter itself changes", |world| world.write("web.xml", &FILTER.replace("443", "8443")), Pass::Clean),
    ("the filter breaks", |world| world.write("web.xml", "<filter name='web'"), Pass::Held),
    ("the filter is mended", |world| world.write("web.xml", &FILTER.replace("clean-traffic", "no-mac-spoofing")), Pass::Clean),
    ("the network is routed from now on", |world| world.write("lab.xml", &NETWORK.replace("'nat'", "'route'")), Pass::Clean),
    ("the network moves to another bridge", |world| world.write("lab.xml", &NETWORK.replace("br-lab", "br-new")), Pass::Clean),
    ("the guest goes", |world| world.delete("vnet1.xml"), Pass::Clean),
    ("the network goes", |world| world.delete("lab.xml"), Pass::Clean),
];

#[test]
fn foreign_rules_stay_byte_for_byte_with_nf_tables() {
    foreign_rules_stay(Tools::NfTables);
}

#[test]
fn foreign_rules_stay_byte_for_byte_with_legacy_tables() {
    foreign_rules_stay(Tools::Legacy);
}

fn foreign_rules_stay(tools: Tools) {
    let world = World::with_tools(tools);
    world.sh("ipset create acme-set hash:ip; ipset create acme-set6 hash:ip family inet6");
    world.sh("nft 'table inet acme { chain input { type filter hook input priority 5; counter comment \"acme\"; }; }'");
    add_own_chains(&world);
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.apply();
    add_rules_around_ours(&world);
    send_packets(&world);

    let before = foreign_part(&world, tools);
    assert!(before.lines().filter(|line| line.contains("-A ")).count() >= 300, "the fixture is too small:\n{before}");
    assert!(before.contains("acme first"), "no foreign rule stands before our hooks:\n{before}");
    let check = |what: &str| {
        let after = foreign_part(&world, tools);
        let difference = similar::TextDiff::from_lines(&before, &after).unified_diff().header("before", what).to_string();
        assert!(difference.is_empty(), "{what}: foreign rules changed:\n{difference}");
    };
    for (what, change, pass) in CHANGES {
        change(&world);
        let answer = world.bridgeward(&["apply"]);
        let expected = match pass {
            Pass::Clean => 0,
            Pass::Held => 1,
        };
        assert_eq!(answer.code, Some(expected), "{what}: {answer}");
        check(what);
    }
    let answer = world.bridgeward(&["purge"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    check("purge");
    let left = world.save_all();
    for ours in ["vnet0", "br-lab", "br-new", "10.40.0.", "fd40:"] {
        assert!(!left.contains(ours), "purge left `{ours}`:\n{left}");
    }
}

#[test]
fn untouched_rules_of_ours_keep_their_counters() {
    let world = World::new();
    // Rules match names, so the host's end of a veth pair does for a bridge; IPv6 is off because its chatter would count by itself.
    world.sh("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
         echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
         ip netns add guest
         ip link add br-lab type veth peer name eth0 netns guest
         ip addr add 10.40.0.1/24 dev br-lab
         ip link set br-lab up
         ip -n guest addr add 10.40.0.10/24 dev eth0
         ip -n guest link set eth0 up");
    world.write("lab.xml", NETWORK);
    world.apply();
    world.sh("for i in 1 2 3 4 5; do ip netns exec guest bash -c 'echo x >/dev/udp/10.40.0.1/53'; done");
    let counted = |world: &World| {
        let save = world.sh("iptables-save -c -t filter");
        save.lines().find(|line| line.contains("LIBVIRT_INP -i br-lab -p udp -m udp --dport 53")).map(str::to_owned)
    };
    let before = counted(&world).expect("the network's DNS rule is in");
    assert!(before.starts_with("[5:"), "five packets were sent: {before}");

    let with_tftp = NETWORK.replace("<dhcp>", "<tftp root='/srv/tftp'/><dhcp>");
    world.write("lab.xml", &with_tftp);
    world.apply();
    assert_eq!(counted(&world).as_deref(), Some(before.as_str()), "a rule came in before it");
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    assert_eq!(counted(&world).as_deref(), Some(before.as_str()), "a guest came");
    world.sh("iptables -D LIBVIRT_INP -i br-lab -p tcp -m tcp --dport 53 -j ACCEPT");
    world.apply();
    assert_eq!(counted(&world).as_deref(), Some(before.as_str()), "its neighbour was repaired");
}

#[test]
fn a_chain_of_ours_that_foreign_rules_enter_goes_when_they_are_gone() {
    let world = World::new();
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.apply();
    world.sh("iptables -A INPUT -s 192.0.2.9 -m comment --comment acme -j FO-vnet0");
    world.delete("vnet0.xml");
    world.apply();
    let save = world.save("iptables");
    assert!(save.contains("acme -j FO-vnet0"), "the foreign rule went:\n{save}");
    assert!(!save.contains("-A FO-vnet0") && !save.contains("FI-vnet0"), "the guest's rules stay:\n{save}");
    world.sh("iptables -D INPUT -s 192.0.2.9 -m comment --comment acme -j FO-vnet0");
    world.apply();
    assert!(!world.save("iptables").contains("vnet0"), "an empty chain is left:\n{}", world.save("iptables"));
}

/// Chains in every table, entered from built-in chains: 300 rules.
fn add_own_chains(world: &World) {
    for (tool, set, net) in [("iptables", "acme-set", "192.0.2.0/24"), ("ip6tables", "acme-set6", "2001:db8:99::/64")] {
        let mut input = Vec::new();
        for (table, builtin) in [("filter", "INPUT"), ("nat", "POSTROUTING"), ("mangle", "FORWARD"), ("raw", "PREROUTING")] {
            input.push(format!("*{table}"));
            for chain in 0..5 {
                input.push(format!(":acme-{chain} - [0:0]\n-A {builtin} -m comment --comment \"acme enters\" -j acme-{chain}"));
                input.push(format!("-A acme-{chain} -i lo -m comment --comment \"acme: lo, \\\"counted\\\"\""));
                input.push(format!("-A acme-{chain} -s {net} -m set --match-set {set} src -m comment --comment acme -j RETURN"));
                input.push(format!("-A acme-{chain} -p tcp -m multiport --dports 1,2,5:9 -m comment --comment \"acme # -A\" -j RETURN"));
                input.push(format!(
                    "-A acme-{chain} -m limit --limit 5/min -m comment --comment acme -j LOG --log-prefix \"acme {chain}: \""
                ));
                input.push(format!("-A acme-{chain} -m mark --mark 0x7/0xff -m comment --comment acme -j RETURN"));
            }
            input.push("COMMIT".to_owned());
        }
        restore(world, &format!("{tool}-restore --noflush"), &input);
    }
    let mut input = Vec::new();
    for (table, builtin) in [("filter", "FORWARD"), ("nat", "PREROUTING")] {
        input.push(format!("*{table}"));
        for chain in 0..5 {
            input.push(format!(":acme-{chain} RETURN\n-A {builtin} -i acme{chain} -j acme-{chain}"));
            for rule in 0..6 {
                input.push(format!("-A acme-{chain} -p IPv4 -i acme{rule} --ip-src 192.0.2.{rule} -j ACCEPT"));
            }
        }
    }
    restore(world, "ebtables-restore --noflush", &input);
}

/// Rules before and after our hooks, and rules of devices that our state does not name inside the chains that we share with libvirt.
fn add_rules_around_ours(world: &World) {
    for tool in ["iptables", "ip6tables"] {
        let script = "
            for chain in INPUT FORWARD OUTPUT; do
              TOOL -I $chain -m comment --comment 'acme first'
              TOOL -A $chain -m comment --comment 'acme last'
            done
            TOOL -A LIBVIRT_INP -i acme0 -p udp -m udp --dport 53 -j ACCEPT
            TOOL -I LIBVIRT_FWI -o acme0 -j REJECT
            TOOL -A LIBVIRT_FWO -i acme0 -j REJECT
            TOOL -I LIBVIRT_FWX -i acme0 -o acme0 -j ACCEPT
            TOOL -t mangle -A LIBVIRT_PRT -o acme0 -p udp -m udp --dport 68 -j CHECKSUM --checksum-fill
            TOOL -N FI-acme1
            TOOL -A FI-acme1 -j RETURN
            TOOL -A libvirt-in -m physdev --physdev-in acme1 -g FI-acme1
            TOOL -I libvirt-in-post -m physdev --physdev-in acme1 -j ACCEPT";
        world.sh(&script.replace("TOOL", tool));
    }
    world.sh("ebtables -t nat -N libvirt-I-acme1
         ebtables -t nat -A libvirt-I-acme1 -s 52:54:00:99:00:01 -j ACCEPT
         ebtables -t nat -I PREROUTING -i acme1 -j libvirt-I-acme1
         ebtables -t nat -A POSTROUTING -o acme1 -j DROP");
}

/// Makes counters count: to and from the loopback device, which nothing else uses.
fn send_packets(world: &World) {
    world.sh("ping -q -c 3 -i 0.2 127.0.0.1; ping -q -c 3 -i 0.2 ::1");
    let counted = world.sh("iptables-save -c; ip6tables-save -c");
    assert!(counted.lines().any(|line| line.contains("acme first") && !line.starts_with("[0:0]")), "nothing was counted:\n{counted}");
}

fn foreign_part(world: &World, tools: Tools) -> String {
    let mut part = vec![world.sh("nft list table inet acme; ipset save")];
    for tool in ["iptables", "ip6tables", "ebtables"] {
        let save = world.sh(&format!("{tool}-save -c"));
        for line in save.lines().filter(|line| line.contains("acme") || line.starts_with('*') || is_built_in(line)) {
            // Legacy tools set the counters of policies to zero in every restore, whatever its input says.
            let line = if tools == Tools::Legacy && line.starts_with(':') { line.split(" [").next().unwrap_or(line) } else { line };
            part.push(format!("{tool} {line}\n"));
        }
    }
    part.concat()
}

/// `:INPUT ACCEPT [1:2]`
fn is_built_in(line: &str) -> bool {
    const BUILT_IN: [&str; 6] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "BROUTING"];
    line.strip_prefix(':').and_then(|rest| rest.split(' ').next()).is_some_and(|chain| BUILT_IN.contains(&chain))
}

fn restore(world: &World, command: &str, input: &[String]) {
    let file = world.scratch("foreign.rules");
    std::fs::write(&file, input.join("\n") + "\n").expect("the scratch directory takes files");
    world.sh(&format!("{command} <{}", file.display()));
}
