//! The classic layout with the real tools: rules straight in built-in chains, ours by count, beside rules of others that may
//! be equal to ours.

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Answer, Tools, World};

/// A network whose name is `name`, on bridge `br-NAME`, isolated, without any address.
fn network(name: &str) -> String {
    format!("<network><name>{name}</name><bridge name='br-{name}'/></network>")
}

/// Rules of others in every chain that ours go to, so that every table is in use.
const FOREIGN: &str = "
    for tool in iptables ip6tables; do
      for chain in INPUT FORWARD OUTPUT; do $tool -A $chain -m comment --comment acme; done
      for table in nat mangle; do $tool -t $table -A POSTROUTING -m comment --comment acme; done
    done";

fn classic(world: &World, arguments: &[&str]) -> Answer {
    let all: Vec<&str> = ["--layout", "classic"].iter().chain(arguments).copied().collect();
    world.bridgeward(&all)
}

#[track_caller]
fn apply(world: &World) -> Answer {
    let answer = classic(world, &["apply"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    let again = classic(world, &["diff"]);
    assert_eq!(again.code, Some(0), "not in sync after a pass: {again}");
    answer
}

/// The rules of one chain of the filter table of iptables, without `-A CHAIN`.
fn chain(world: &World, name: &str) -> Vec<String> {
    let prefix = format!("-A {name} ");
    world.sh("iptables-save -t filter").lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// The names of bridges in FORWARD, each once where its first rule stands, and every foreign rule.
fn blocks(world: &World) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    for rule in chain(world, "FORWARD") {
        let bridge = rule.split(' ').find(|word| word.starts_with("br-")).map_or_else(|| rule.clone(), str::to_owned);
        if blocks.last() != Some(&bridge) {
            blocks.push(bridge);
        }
    }
    blocks
}

#[test]
fn switching_there_and_back_leaves_the_rules_as_they_were_with_nf_tables() {
    switching_leaves_nothing_behind(Tools::NfTables);
}

#[test]
fn switching_there_and_back_leaves_the_rules_as_they_were_with_legacy_tables() {
    switching_leaves_nothing_behind(Tools::Legacy);
}

fn switching_leaves_nothing_behind(tools: Tools) {
    let world = World::with_tools(tools);
    world.sh(FOREIGN);
    let untouched = world.save("iptables") + &world.save("ip6tables");
    world.write("lab.xml", NETWORK);
    world.write("alpha.xml", &network("alpha"));
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.apply();
    let chains = world.save_all();

    apply(&world);
    let save = world.save_all();
    assert!(!save.contains("LIBVIRT_"), "the chains of the other layout are left:\n{save}");
    assert!(save.contains("-A FORWARD -d 10.40.0.0/24 -o br-lab -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"), "{save}");
    assert!(save.contains("-A POSTROUTING -o br-lab -p udp -m udp --dport 68 -j CHECKSUM --checksum-fill"), "{save}");
    let document = world.bridgeward(&["--layout", "classic-document", "apply"]);
    assert_eq!(document.code, Some(0), "{document}");
    let save = world.save_all();
    assert!(save.contains("-A FORWARD -d 10.40.0.0/24 -o br-lab -m state --state RELATED,ESTABLISHED -j ACCEPT"), "{save}");
    assert!(!save.contains("CHECKSUM") && !save.contains("ctstate RELATED,ESTABLISHED -j ACCEPT"), "{save}");

    world.apply();
    assert_eq!(world.save_all(), chains);
    apply(&world);
    let purge = classic(&world, &["purge"]);
    assert_eq!(purge.code, Some(0), "{purge}");
    assert_eq!(world.save("iptables") + &world.save("ip6tables"), untouched);
}

#[test]
fn blocks_stand_by_name_whatever_came_first_and_before_foreign_rules() {
    let world = World::new();
    world.sh("iptables -A FORWARD -s 192.0.2.1 -j DROP");
    let foreign = "-s 192.0.2.1/32 -j DROP";
    world.write("c.xml", &network("c"));
    apply(&world);
    assert_eq!(blocks(&world), ["br-c", foreign]);
    world.write("a.xml", &network("a"));
    apply(&world);
    assert_eq!(blocks(&world), ["br-a", "br-c", foreign]);
    world.sh("iptables -I FORWARD 4 -s 192.0.2.2 -j DROP");
    let between = "-s 192.0.2.2/32 -j DROP";
    world.write("b.xml", &network("b"));
    apply(&world);
    assert_eq!(blocks(&world), ["br-a", "br-b", between, "br-c", foreign]);
    world.delete("a.xml");
    apply(&world);
    assert_eq!(blocks(&world), ["br-b", between, "br-c", foreign]);
}

#[test]
fn a_network_never_accepts_before_the_guests_filters_are_asked() {
    let world = World::new();
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    apply(&world);
    world.sh("iptables -I FORWARD -s 192.0.2.1 -j DROP");
    world.write("a.xml", &network("a"));
    apply(&world);
    let jumps = ["-j libvirt-in", "-j libvirt-out", "-j libvirt-in-post"];
    let expected: Vec<&str> = ["-s 192.0.2.1/32 -j DROP"].into_iter().chain(jumps).chain(["br-a"]).collect();
    assert_eq!(blocks(&world), expected);
    world.sh("iptables -F FORWARD");
    apply(&world);
    assert_eq!(blocks(&world), expected[1..]);
}

#[test]
fn flushed_and_tampered_rules_come_back() {
    let world = World::new();
    world.sh(FOREIGN);
    world.write("lab.xml", NETWORK);
    world.write("alpha.xml", &network("alpha"));
    apply(&world);
    let good = world.save_all();
    world.sh("iptables -D FORWARD -i br-lab -o br-lab -j ACCEPT; iptables -D FORWARD -o br-alpha -j REJECT
         iptables -t nat -D POSTROUTING -s 10.40.0.0/24 -d 224.0.0.0/24 -j RETURN
         ip6tables -D INPUT -i br-lab -p udp -m udp --dport 547 -j ACCEPT");
    apply(&world);
    assert_eq!(world.save_all(), good);
    world.sh("iptables -F; iptables -t nat -F; iptables -t mangle -F; ip6tables -F");
    apply(&world);
    let ours =
        |save: &str| save.lines().filter(|line| line.starts_with("-A") && !line.contains("acme")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(ours(&world.save_all()), ours(&good));
}

#[test]
fn equal_rules_of_others_are_reported_and_outlive_ours() {
    let world = World::new();
    world.write("a.xml", &network("a"));
    let crossing = "-i br-a -o br-a -j ACCEPT";
    world.sh(&format!("iptables -A FORWARD {crossing}; iptables -A FORWARD -s 192.0.2.1 -j DROP"));
    let answer = apply(&world);
    assert!(answer.stderr.contains("that equal ours"), "{answer}");
    let copies = |world: &World| chain(world, "FORWARD").iter().filter(|rule| *rule == crossing).count();
    assert_eq!(copies(&world), 2, "the equal rule was adopted");
    world.sh(&format!("iptables -A FORWARD {crossing}"));
    apply(&world);
    assert_eq!(copies(&world), 3);
    world.delete("a.xml");
    apply(&world);
    assert_eq!(chain(&world, "FORWARD"), [crossing, "-s 192.0.2.1/32 -j DROP", crossing]);
}

#[test]
fn purge_leaves_equal_rules_where_they_are() {
    let world = World::new();
    world.write("a.xml", &network("a"));
    apply(&world);
    let reject = "-i br-a -j REJECT --reject-with icmp-port-unreachable";
    world.sh(&format!("iptables -I FORWARD -s 192.0.2.1 -j DROP; iptables -I FORWARD {reject}; iptables -A FORWARD {reject}"));
    let purge = classic(&world, &["purge"]);
    assert_eq!(purge.code, Some(0), "{purge}");
    assert_eq!(chain(&world, "FORWARD"), [reject, "-s 192.0.2.1/32 -j DROP", reject]);
    assert_eq!(chain(&world, "INPUT"), [""; 0]);
}

#[test]
fn without_the_record_nothing_is_adopted_and_nothing_is_purged() {
    let world = World::new();
    world.write("a.xml", &network("a"));
    apply(&world);
    let before = world.save_all();
    let rules = chain(&world, "FORWARD");
    world.sh("rm -r /run/bridgeward");
    let answer = apply(&world);
    assert!(answer.stderr.contains("that equal ours"), "{answer}");
    assert_eq!(chain(&world, "FORWARD"), [rules.clone(), rules].concat());
    let twice = world.save_all();
    apply(&world);
    assert_eq!(world.save_all(), twice, "rules were put in again");
    let purge = classic(&world, &["purge"]);
    assert_eq!(purge.code, Some(0), "{purge}");
    assert_eq!(world.save_all(), before);
    world.sh("rm -r /run/bridgeward");
    let purge = classic(&world, &["purge"]);
    assert!(purge.stderr.contains("that equal ours"), "{purge}");
    assert_eq!(world.save_all(), before, "rules that no record knows were purged");
}

#[test]
fn a_kill_between_commit_and_record_forgets_neither_ours_nor_theirs() {
    let world = World::new();
    world.write("a.xml", &network("a"));
    let crossing = "-i br-a -o br-a -j ACCEPT";
    world.sh(&format!("iptables -A FORWARD {crossing}; iptables -A FORWARD -s 192.0.2.1 -j DROP"));
    let foreign = chain(&world, "FORWARD");
    let die = |arguments: &[&str]| {
        let answer = world.bridgeward_with(&[("BRIDGEWARD_TEST_KILL", "after-commit")], arguments);
        assert_eq!(answer.code, None, "{answer}");
    };
    die(&["--layout", "classic", "apply"]);
    let killed = world.save_all();
    apply(&world);
    assert_eq!(world.save_all(), killed, "what was in was put in again");
    die(&["--layout", "classic", "purge"]);
    assert_eq!(chain(&world, "FORWARD"), foreign);
    classic(&world, &["purge"]);
    assert_eq!(chain(&world, "FORWARD"), foreign, "after the kill the foreign copy was taken for ours");
}

#[test]
fn what_the_era_did_not_have_is_an_error_at_its_place_and_held() {
    let world = World::new();
    world.write("a.xml", &network("a"));
    apply(&world);
    let before = world.save_all();
    world.write("a.xml", "<network>\n<name>a</name>\n<bridge name='br-a'/>\n<forward mode='open'/>\n<ip address='10.1.1.1'/>\n</network>");
    let check = classic(&world, &["check"]);
    assert_eq!(check.code, Some(1), "{check}");
    assert!(check.stderr.contains("classic-open") && check.stderr.contains("a.xml:4:"), "{check}");
    let answer = classic(&world, &["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.stdout.contains("held: network `a`"), "{answer}");
    assert_eq!(world.save_all(), before, "the last good rules stay");
    world.write("a.xml", &NETWORK.replace("<forward mode='nat'/>", "<forward mode='nat'><nat ipv6='yes'/></forward>"));
    let check = classic(&world, &["check"]);
    assert!(check.stderr.contains("classic-nat-ipv6"), "{check}");
}

#[test]
fn a_broken_file_keeps_its_rules_and_drift_is_repaired_to_them() {
    let world = World::new();
    world.sh(FOREIGN);
    world.write("lab.xml", NETWORK);
    apply(&world);
    let good = world.save_all();
    world.write("lab.xml", "<network");
    world.sh("iptables -D FORWARD -i br-lab -o br-lab -j ACCEPT");
    let answer = classic(&world, &["apply"]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_eq!(world.save_all(), good);
}

#[test]
fn saved_output_is_compared_without_a_record() {
    let world = World::new();
    world.write("a.xml", &network("a"));
    let save = world.scratch("iptables.save");
    world.sh(&format!("iptables -A FORWARD -i br-a -o br-a -j ACCEPT; iptables-save >{}", save.display()));
    let answer = classic(&world, &["diff", "--observed", &save.display().to_string()]);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.stdout.contains("+-A FORWARD -i br-a -o br-a -j ACCEPT"), "{answer}");
    assert!(answer.stderr.contains("that equal ours"), "{answer}");
    let render = classic(&world, &["render", "--explain"]);
    assert!(render.stdout.contains("a.xml:1:1\n-A FORWARD -i br-a -o br-a -j ACCEPT"), "{render}");
}

#[test]
fn the_daemon_keeps_the_layout_that_it_was_told_and_says_so_to_others() {
    let world = World::new();
    world.write("a.xml", &network("a"));
    let mut daemon = world.run(&["--layout", "classic", "--poll", "200ms"]);
    daemon.wait_until("the block", || blocks(&world) == ["br-a"]);
    world.sh("iptables -F FORWARD");
    daemon.wait_until("the repair", || blocks(&world) == ["br-a"]);
    let other = world.bridgeward(&["apply"]);
    assert_eq!(other.code, Some(2), "{other}");
    let same = classic(&world, &["apply"]);
    assert_eq!(same.code, Some(0), "{same}");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}
