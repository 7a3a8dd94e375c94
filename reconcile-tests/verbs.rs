//! `define`, `undefine` and `edit`: nothing unsound is written, nothing in use is removed, nothing typed is lost. `interface`: what
//! guards a guest, and what its live rules have seen.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::Value;

use crate::fixture::{self, FILTER, NETWORK, guest};
use crate::world::{Answer, World};

/// Writes a file beside the state and defines what is in it.
fn define(world: &World, kind: &str, xml: &str) -> Answer {
    let file = world.scratch("new.xml");
    fs::write(&file, xml).expect("the scratch directory takes files");
    world.bridgeward(&[kind, "define", &file.display().to_string()])
}

fn refused(answer: &Answer, words: &str) {
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.stderr.contains(words), "`{words}` is missing: {answer}");
}

fn read(world: &World, name: &str) -> String {
    fs::read_to_string(world.state().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn uuid(text: &str) -> &str {
    text.split("<uuid>").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or_else(|| panic!("no UUID: {text}"))
}

#[test]
fn a_new_definition_gets_a_uuid_and_a_file_of_its_name() {
    let world = fixture::world();
    let answer = define(
        &world,
        "filter",
        "<filter name='ssh'>\n  <rule action='accept' direction='in'><tcp dstportstart='22'/></rule>\n</filter>\n",
    );
    assert_eq!(answer.code, Some(0), "{answer}");
    let text = read(&world, "filters/ssh.xml");
    assert!(text.contains("dstportstart='22'") && uuid(&text).len() == 36, "{text}");
    let answer = define(&world, "network", &NETWORK.replace("lab", "second").replace("10.40", "10.41").replace("fd40", "fd41"));
    assert_eq!(answer.code, Some(0), "{answer}");
    uuid(&read(&world, "networks/second.xml"));
    assert_eq!(world.bridgeward(&["check"]).code, Some(0));
}

#[test]
fn a_known_name_is_replaced_where_it_is_and_keeps_its_uuid_mode_and_owner() {
    let world = fixture::world();
    let file = world.state().join("web.xml");
    assert_eq!(define(&world, "filter", FILTER).code, Some(0));
    let before = read(&world, "web.xml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("our file");
    std::os::unix::fs::chown(&file, None, Some(65534)).expect("the tests run as root");
    let answer = define(&world, "filter", &FILTER.replace("443", "8443"));
    assert_eq!(answer.code, Some(0), "{answer}");
    let after = read(&world, "web.xml");
    assert!(after.contains("8443") && uuid(&after) == uuid(&before), "{after}");
    let metadata = fs::metadata(&file).expect("it is there");
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o640, 0, 65534));
    let left = world.sh("ls -A state");
    assert_eq!(left, "lab.xml\nvnet0.xml\nweb.xml\n", "no temporary file is left");
}

#[test]
fn what_is_unsound_alone_or_together_is_refused_and_nothing_is_written() {
    let world = fixture::world();
    let before = world.sh("find state -type f | sort | xargs sha256sum");
    refused(&define(&world, "filter", &FILTER.replace("443", "44x")), "new.xml:3");
    // Sound alone; but the guest that uses `web` gives no PORT.
    refused(&define(&world, "filter", &FILTER.replace("'443'", "'$PORT'")), "interface `vnet0`");
    refused(&define(&world, "filter", NETWORK), "root element has to be `<filter>`");
    refused(&define(&world, "network", &NETWORK.replace(">lab<", ">other<")), "the same bridge `br-lab`");
    let both = |name: &str| format!("<filter name='{name}'><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1c99</uuid></filter>");
    assert_eq!(before, world.sh("find state -type f | sort | xargs sha256sum"));
    assert_eq!(define(&world, "filter", &both("a")).code, Some(0));
    refused(&define(&world, "filter", &both("b")), "is that of filter `a`");
    refused(&define(&world, "filter", &both("a").replace("c99", "c98")), "already defined with UUID");
    world.write("again.xml", &both("a").replace("c99", "c97"));
    refused(&define(&world, "filter", &both("a")), "defined twice");
}

#[test]
fn somebody_elses_broken_file_does_not_keep_a_definition_out() {
    let world = fixture::world();
    world.write("broken.xml", "<filter name='broken'><rule action='fly'/></filter>");
    world.write("empty.xml", "");
    assert_eq!(define(&world, "filter", &FILTER.replace("443", "8443")).code, Some(0));
    // A broken definition is mended where it is.
    assert_eq!(define(&world, "filter", "<filter name='broken'/>").code, Some(0));
    uuid(&read(&world, "broken.xml"));
}

#[test]
fn a_dry_run_shows_the_rules_and_writes_nothing() {
    let world = fixture::world();
    let file = world.scratch("new.xml");
    fs::write(&file, FILTER.replace("443", "8443")).expect("the scratch directory takes files");
    let answer = world.bridgeward(&["filter", "define", "--dry-run", &file.display().to_string()]);
    assert_eq!(answer.code, Some(0), "{answer}");
    for words in [
        "--- before/iptables/filter/FI-vnet0",
        "+++ after/iptables/filter/FI-vnet0",
        "-A FI-vnet0 -p tcp -m tcp --sport 443",
        "--sport 8443",
        "new.xml:3",
    ] {
        assert!(answer.stdout.contains(words), "`{words}` is missing: {answer}");
    }
    assert!(!answer.stdout.contains("LIBVIRT_"), "the network's rules do not change: {answer}");
    assert_eq!(read(&world, "web.xml"), FILTER);
    let answer = world.bridgeward(&["network", "undefine", "--dry-run", "lab"]);
    assert!(answer.stdout.contains("--A LIBVIRT_FWX -i br-lab") && !answer.stdout.contains("vnet0"), "{answer}");
    assert!(world.state().join("lab.xml").exists());
}

#[test]
fn what_is_in_use_stays_and_it_is_said_by_whom() {
    let world = fixture::world();
    refused(&world.bridgeward(&["filter", "undefine", "web"]), "in use by interface vnet0");
    refused(&world.bridgeward(&["filter", "undefine", "clean-traffic"]), "built in");
    refused(&world.bridgeward(&["filter", "undefine", "wbe"]), "there is no filter `wbe`");
    world.write(
        "port.xml",
        "<interface type='network'><source network='lab'/><mac address='52:54:00:40:00:77'/><target dev='vnet7'/></interface>",
    );
    refused(&world.bridgeward(&["network", "undefine", "lab"]), "in use by interface vnet7");
    world.delete("vnet0.xml");
    world.delete("port.xml");
    for (kind, name) in [("filter", "web"), ("network", "lab")] {
        let answer = world.bridgeward(&[kind, "undefine", name]);
        assert_eq!(answer.code, Some(0), "{answer}");
    }
    assert_eq!(world.sh("ls state"), "");
}

#[test]
fn the_running_daemon_installs_what_is_defined() {
    let world = fixture::world();
    let mut daemon = world.run(&[]);
    daemon.wait_until("the first pass", || world.in_sync());
    assert_eq!(define(&world, "filter", &FILTER.replace("443", "8443")).code, Some(0));
    daemon.wait_until("the new port", || world.save("iptables").contains("--dport 8443"));
}

/// An editor that replaces words in its file, `sed` by `sed`, one at each call.
fn editor(world: &World, edits: &[&str]) -> String {
    let steps = edits.iter().enumerate().fold(String::new(), |steps, (at, edit)| steps + &format!("{at}) sed -i '{edit}' \"$1\" ;;\n"));
    let script = format!(
        "#!/bin/sh\ncd {0}\ncount=$(cat count 2>/dev/null || echo 0)\necho $((count + 1)) >count\ncase $count in\n{steps}esac\n",
        world.scratch("").display()
    );
    let file = world.scratch("editor");
    fs::write(&file, script).expect("the scratch directory takes files");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("our file");
    file.display().to_string()
}

#[test]
fn an_edit_is_checked_and_written() {
    let world = fixture::world();
    let editor = editor(&world, &["s/443/8443/", "s/8443/8443/", "s/web/renamed/"]);
    let edit = || world.bridgeward_with(&[("EDITOR", &editor)], &["filter", "edit", "web"]);
    let answer = edit();
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(read(&world, "web.xml").contains("8443"));
    let answer = edit();
    assert!(answer.code == Some(0) && answer.stderr.contains("unchanged"), "{answer}");
    refused(&edit(), "no longer `web`");
}

#[test]
fn a_stock_filter_that_is_edited_becomes_a_file() {
    let world = fixture::world();
    let editor = editor(&world, &["s/-650/-640/"]);
    let answer = world.bridgeward_with(&[("VISUAL", &editor), ("EDITOR", "false")], &["filter", "edit", "clean-traffic"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    assert!(read(&world, "filters/clean-traffic.xml").contains("-640"));
}

#[test]
fn a_faulty_edit_is_shown_with_carets_and_can_be_edited_again() {
    let world = fixture::world();
    let editor = editor(&world, &["s/443/44x/", "s/44x/8443/"]);
    let program = env!("CARGO_BIN_EXE_bridgeward");
    let command = format!("EDITOR={editor} {program} --state state filter edit web");
    let shown = world.sh(&format!("echo y | script -qefc '{command}' /dev/null"));
    assert!(shown.contains("^^^") && shown.contains("edit it again?"), "{shown}");
    assert!(read(&world, "web.xml").contains("8443"), "{shown}");
}

#[test]
fn without_a_terminal_a_faulty_edit_is_kept_for_later() {
    let world = fixture::world();
    let editor = editor(&world, &["s/443/44x/"]);
    let answer =
        world.bridgeward_with(&[("EDITOR", &editor), ("TMPDIR", &world.scratch("").display().to_string())], &["filter", "edit", "web"]);
    refused(&answer, "what you wrote is kept in ");
    let kept = answer.stderr.lines().find_map(|line| line.strip_prefix("what you wrote is kept in ")).expect("just seen");
    assert!(fs::read_to_string(kept).expect("it is kept").contains("44x"));
    assert_eq!(read(&world, "web.xml"), FILTER);
}

#[test]
fn what_somebody_else_writes_during_an_edit_is_not_lost() {
    let world = fixture::world();
    let editor = editor(&world, &["s/443/8443/"]);
    let answer = world.bridgeward_with(
        &[("EDITOR", &format!("sh -c 'echo \"<filter name=\\\"web\\\"/>\" > {}/web.xml; {editor} \"$1\"' -", world.state().display()))],
        &["filter", "edit", "web"],
    );
    refused(&answer, "changed by somebody else");
    assert_eq!(read(&world, "web.xml"), "<filter name=\"web\"/>\n");
}

#[test]
fn network_list_and_show_tell_what_there_is() {
    let world = fixture::world();
    let answer = world.bridgeward(&["network", "list"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    for words in ["lab ", "nat ", "br-lab", "10.40.0.1/24, fd40::1/64", "lab.xml:1"] {
        assert!(answer.stdout.contains(words), "`{words}` is missing: {answer}");
    }
    let answer = world.bridgeward(&["network", "show", "lab"]);
    assert!(answer.code == Some(0) && answer.stdout.contains("<name>lab</name>"), "{answer}");
    refused(&world.bridgeward(&["network", "show", "lbb"]), "did you mean `lab`?");
}

#[test]
fn interface_show_sums_what_the_live_rules_have_seen() {
    let world = fixture::world();
    world.apply();
    // Frames from the guest's side of the wire, which has the address of nobody: its chain drops them.
    world.sh("ip link add br-lab type bridge; ip link set br-lab up
              ip link add vnet0 type veth peer name inside; ip link set vnet0 master br-lab up; ip link set inside up
              ip address add 10.40.0.10/24 dev inside; ping -c 2 -W 1 10.40.0.77 || true");
    let answer = world.bridgeward(&["interface", "show", "vnet0", "--format", "json"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    let document: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer}"));
    let chains = document["chains"].as_array().expect("a list");
    let packets = |chain: &str| chains.iter().find(|row| row["chain"] == chain).and_then(|row| row["packets"].as_u64()).unwrap_or_default();
    assert!(packets("libvirt-I-vnet0") > 0, "{answer}");
    assert_eq!((&document["interface"]["addresses"][0], &document["interface"]["filter"]), (&"10.40.0.10".into(), &"web".into()));
    let answer = world.bridgeward(&["interface", "list"]);
    assert!(answer.stdout.contains("vnet0") && answer.stdout.contains("filtered"), "{answer}");
    world.write("vnet0.xml", &guest(0, "missing"));
    let answer = world.bridgeward(&["interface", "list"]);
    assert!(answer.code == Some(1) && answer.stdout.contains("held"), "{answer}");
    refused(&world.bridgeward(&["interface", "show", "vnet1"]), "did you mean `vnet0`?");
}

#[test]
fn a_long_step_is_told_of_on_a_terminal_and_nowhere_else() {
    let world = fixture::world();
    world.sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    world.apply();
    world.sh(r#"printf '#!/bin/sh\nexec /usr/sbin/ebtables "$@"\n' >slow
        printf '#!/bin/sh\nsleep 1; exec /usr/sbin/ebtables-save "$@"\n' >slow-save
        cp slow-save slow-restore; chmod +x slow*
        printf '[tools]\nebtables = "%s/slow"\n' "$PWD" >slow.toml"#);
    let program = env!("CARGO_BIN_EXE_bridgeward");
    let command = format!("{program} --config slow.toml --state state diff");
    let shown = world.sh(&format!("script -qec '{command}' /dev/null"));
    assert!(shown.contains("comparing with the kernel ... ") && shown.ends_with("\r\u{1b}[K"), "{shown:?}");
    assert_eq!(world.sh(&format!("{command} 2>&1")), "");
}

#[test]
fn a_host_is_drawn_in_every_notation() {
    let world = fixture::world();
    for (notation, head) in [("svg", "<svg "), ("dot", "digraph"), ("mermaid", "flowchart")] {
        let answer = world.bridgeward(&["graph", "--format", notation]);
        assert_eq!(answer.code, Some(0), "{answer}");
        assert!(answer.stdout.starts_with(head), "{answer}");
        for words in ["vnet0 (vm0)", "br-lab", "libvirt-I-vnet0", "no-mac-spoofing"] {
            assert!(answer.stdout.contains(words), "`{words}` is missing: {answer}");
        }
    }
    let answer = world.bridgeward(&["graph", "lab", "--format", "dot"]);
    assert!(answer.stdout.contains("br-lab") && !answer.stdout.contains("vnet0"), "nothing is plugged into it: {answer}");
    refused(&world.bridgeward(&["graph", "vnet1"]), "did you mean `vnet0`?");
}
