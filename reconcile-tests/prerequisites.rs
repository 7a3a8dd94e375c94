//! What the host has to be like for the rules to work: each prerequisite broken and mended, in a namespace; told of where something needs it, and only there.

use std::fs;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::World;

/// A namespace in which nothing is missing, with a network, its bridge, and a guest that has rules in all three families.
fn world() -> World {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.sh("ip link add br-lab type bridge
         echo 1 >/proc/sys/net/ipv4/ip_forward
         echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
         for table in ip ip6; do echo 1 >/proc/sys/net/bridge/bridge-nf-call-${table}tables; done");
    world.apply();
    assert_eq!(told(&world), Vec::<String>::new());
    world
}

/// What `diff` says of prerequisites; its exit status must not depend on them.
fn told(world: &World) -> Vec<String> {
    let answer = world.bridgeward(&["diff"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    answer.stderr.lines().filter_map(|line| line.strip_prefix("prerequisite: ")).map(str::to_owned).collect()
}

/// Breaks something, expects to be told in these words and of this object, and mends it.
fn broken(breaks: &str, words: &str, object: &str, mends: &str) {
    let world = world();
    world.sh(breaks);
    let lines = told(&world);
    assert!(lines.iter().any(|line| line.contains(words) && line.contains(object)), "{words} of {object}: {lines:?}");
    world.sh(mends);
    assert_eq!(told(&world), Vec::<String>::new());
}

#[test]
fn bridged_frames_that_iptables_never_sees() {
    for (tool, name) in [("iptables", "iptables"), ("ip6tables", "ip6tables")] {
        let switch = format!("/proc/sys/net/bridge/bridge-nf-call-{name}");
        let words = format!("net.bridge.bridge-nf-call-{name} is 0: bridged frames never reach {tool}");
        broken(&format!("echo 0 >{switch}"), &words, "interface `vnet0`", &format!("echo 1 >{switch}"));
    }
}

#[test]
fn a_bridge_that_has_its_own_frames_looked_at() {
    let world = world();
    world.sh("for table in ip ip6; do echo 0 >/proc/sys/net/bridge/bridge-nf-call-${table}tables; done
         ip tuntap add vnet0 mode tap; ip link set vnet0 master br-lab");
    assert_eq!(told(&world).len(), 2, "both switches are off");
    world.sh("ip link set br-lab type bridge nf_call_iptables 1");
    let lines = told(&world);
    assert!(lines.len() == 1 && lines[0].contains("bridge-nf-call-ip6tables is 0"), "{lines:?}");
    world.sh("ip link set br-lab type bridge nf_call_ip6tables 1");
    assert_eq!(told(&world), Vec::<String>::new());
    // On another bridge it is nobody's business.
    world.sh("ip link add br-other type bridge; ip link set vnet0 master br-other");
    assert_eq!(told(&world).len(), 2, "another bridge's switches are off");
    // That a bridge's own switch is off takes nothing away from the one for all.
    world.sh("for table in ip ip6; do echo 1 >/proc/sys/net/bridge/bridge-nf-call-${table}tables; done");
    assert_eq!(told(&world), Vec::<String>::new());
}

#[test]
fn the_policy_of_forward_counts_where_a_bridge_has_its_own_frames_looked_at() {
    let world = World::new();
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.sh("echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables; ip link add br-other type bridge
         ip tuntap add vnet0 mode tap; ip link set vnet0 master br-other; iptables -P FORWARD DROP");
    world.apply();
    assert_eq!(told(&world), Vec::<String>::new());
    world.sh("ip link set br-other type bridge nf_call_iptables 1");
    let lines = told(&world);
    assert!(lines.iter().any(|line| line.contains("filter FORWARD is DROP") && line.contains("interface `vnet0`")), "{lines:?}");
}

#[test]
fn a_host_without_br_netfilter() {
    broken(
        "mount -t tmpfs none /proc/sys/net/bridge",
        "the kernel module br_netfilter is not loaded",
        "interface `vnet0`",
        "umount /proc/sys/net/bridge",
    );
}

#[test]
fn an_extension_that_is_missing_holds_who_needs_it_and_is_told_of() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    world.sh("for extension in /usr/lib/*/xtables/libxt_physdev.so; do mount --bind /dev/null $extension; done");
    let answer = world.bridgeward(&["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    let line = answer.stderr.lines().find(|line| line.contains("the installed tool lacks what a rule of interface `vnet0` needs"));
    assert!(line.is_some_and(|line| line.contains("`physdev'") && line.contains("install its package whole")), "{answer}");
    assert!(!answer.stderr.contains("`vnet1` needs"), "{answer}");
    let save = world.save("ebtables");
    assert!(save.contains("-A libvirt-I-vnet1") && save.contains("-A PREROUTING -i vnet0"), "{save}");
    world.sh("umount /usr/lib/*/xtables/libxt_physdev.so");
    world.apply();
    assert!(!told(&world).iter().any(|line| line.contains("lacks what")), "{answer}");
}

#[test]
fn forwarding_that_is_off() {
    let all = "/proc/sys/net/ipv4/ip_forward";
    broken(&format!("echo 0 >{all}"), "net.ipv4.ip_forward is 0", "network `lab`", &format!("echo 1 >{all}"));
    let all = "/proc/sys/net/ipv6/conf/all/forwarding";
    broken(&format!("echo 0 >{all}"), "net.ipv6.conf.all.forwarding is 0", "network `lab`", &format!("echo 1 >{all}"));
}

#[test]
fn forwarding_that_is_off_on_one_bridge_or_on_those_to_come() {
    for family in ["ipv4", "ipv6"] {
        let own = format!("/proc/sys/net/{family}/conf/br-lab/forwarding");
        let words = format!("net.{family}.conf.br-lab.forwarding is 0");
        broken(&format!("echo 0 >{own}"), &words, "network `lab`", &format!("echo 1 >{own}"));
        let default = format!("/proc/sys/net/{family}/conf/default/forwarding");
        let words = format!("net.{family}.conf.default.forwarding is 0");
        broken(&format!("ip link del br-lab; echo 0 >{default}"), &words, "network `lab`", &format!("echo 1 >{default}"));
    }
}

#[test]
fn a_network_with_ipv6_on_a_bridge_without() {
    let own = "/proc/sys/net/ipv6/conf/br-lab/disable_ipv6";
    broken(&format!("echo 1 >{own}"), "net.ipv6.conf.br-lab.disable_ipv6 is 1", "network `lab`", &format!("echo 0 >{own}"));
}

#[test]
fn rules_of_ours_in_the_legacy_tables() {
    broken(
        "iptables-legacy -N LIBVIRT_FWO; iptables-legacy -A LIBVIRT_FWO -j REJECT",
        "the other variant of iptables",
        "network `lab`",
        "iptables-legacy -F LIBVIRT_FWO; iptables-legacy -X LIBVIRT_FWO",
    );
}

#[test]
fn rules_of_others_before_our_jumps() {
    broken(
        "iptables -I FORWARD -s 192.0.2.1 -j ACCEPT",
        "foreign rules before ours in iptables filter chain `FORWARD`: 1",
        "network `lab`",
        "iptables -D FORWARD -s 192.0.2.1 -j ACCEPT",
    );
}

#[test]
fn rules_of_networks_before_those_of_guests() {
    for (tool, chain) in [("iptables", "libvirt-in"), ("ip6tables", "libvirt-in-post"), ("iptables", "libvirt-host-in")] {
        let parent = if chain == "libvirt-host-in" { "INPUT" } else { "FORWARD" };
        broken(
            &format!("{tool} -D {parent} -j {chain}; {tool} -A {parent} -j {chain}"),
            &format!("jumps to rules of networks before those of guests in {tool} filter chain `{parent}`: LIBVIRT_"),
            "interface `vnet0`",
            &format!("{tool} -D {parent} -j {chain}; {tool} -I {parent} -j {chain}"),
        );
    }
}

#[test]
fn policies_that_drop() {
    for chain in ["FORWARD", "INPUT"] {
        broken(
            &format!("ebtables -P {chain} DROP"),
            &format!("the policy of ebtables filter {chain} is DROP"),
            "`vnet0`",
            &format!("ebtables -P {chain} ACCEPT"),
        );
    }
    let world = world();
    // What the nat network accepts passes, whatever the policy.
    world.sh("iptables -P FORWARD DROP");
    assert_eq!(told(&world), Vec::<String>::new());
    world.write(
        "open.xml",
        "<network><name>wide</name><bridge name='br-wide'/><forward mode='open'/><ip address='10.41.0.1' prefix='24'/></network>",
    );
    let lines = told(&world);
    assert!(
        lines.iter().any(|line| line.contains("the policy of iptables filter FORWARD is DROP") && line.contains("network `wide`")),
        "{lines:?}"
    );
    world.sh("iptables -P FORWARD ACCEPT");
    assert_eq!(told(&world), Vec::<String>::new());
}

#[test]
fn a_guest_without_ip_rules_on_a_bridge_of_others_meets_the_policy_of_forward() {
    let world = World::new();
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.sh("ip link add br-other type bridge; ip tuntap add vnet0 mode tap; ip link set vnet0 master br-other; iptables -P FORWARD DROP");
    world.apply();
    let lines = told(&world);
    assert!(lines.iter().any(|line| line.contains("filter FORWARD is DROP") && line.contains("interface `vnet0`")), "{lines:?}");
    world.sh("iptables -P FORWARD ACCEPT");
    assert_eq!(told(&world), Vec::<String>::new());
}

#[test]
fn what_nothing_needs_is_not_told_of() {
    let world = World::new();
    world.sh("echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables; echo 0 >/proc/sys/net/ipv4/ip_forward");
    world.write("lab.xml", "<network><name>lab</name><bridge name='br-lab'/><ip address='10.40.0.1' prefix='24'/></network>");
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    assert_eq!(told(&world), Vec::<String>::new());
}

#[test]
fn switches_are_mended_and_kept_where_the_operator_allows_it_and_only_there() {
    let world = world();
    let config = world.scratch("bridgeward.toml");
    let switch = || world.sh("cat /proc/sys/net/ipv4/ip_forward").trim().to_owned();
    world.sh("echo 0 >/proc/sys/net/ipv4/ip_forward");
    let mut daemon = world.run(&["--poll", "100ms"]);
    daemon.wait_until_log("net.ipv4.ip_forward is 0");
    assert_eq!(switch(), "0");
    world.sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
    daemon.wait_until_log("no longer: prerequisite forwarding-off");
    drop(daemon);
    fs::write(&config, format!("manage_sysctls = true\nstate = [{:?}]\n", world.state())).expect("a file");
    world.sh("echo 0 >/proc/sys/net/ipv4/ip_forward");
    let mut daemon = world.run_with(&[], &["--config", &config.display().to_string(), "--poll", "100ms"]);
    daemon.wait_until("the switch", || switch() == "1");
    world.sh("echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables");
    daemon.wait_until("the switch again", || switch() == "1");
    daemon.wait_until("the other switch", || world.sh("cat /proc/sys/net/bridge/bridge-nf-call-iptables").trim() == "1");
    daemon.wait_until_log("(mended)");
}
