//! `bridgeward status`, the sockets it is asked at, and the metrics: what the daemon knows reaches whoever may know it.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Daemon, World};

fn filled() -> World {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    world
}

fn started(world: &World, arguments: &[&str]) -> Daemon {
    let mut daemon = world.run(arguments);
    // The rules are there before the pass has ended that is told of.
    let told = || !document(world)["passes"].as_array().is_none_or(Vec::is_empty);
    daemon.wait_until("the first pass", || world.in_sync() && told());
    daemon
}

/// A daemon with this configuration beside the state.
fn configured(world: &World, config: &str) -> Daemon {
    let path = world.scratch("bridgeward.toml");
    fs::write(&path, config).expect("the scratch directory takes files");
    started(world, &["--config", &path.display().to_string()])
}

fn document(world: &World) -> Value {
    let answer = world.bridgeward(&["status", "--format", "json"]);
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let answer = World::new().bridgeward(&["status"]);
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("systemctl start bridgeward"), "{answer}");
}

#[test]
fn drift_is_told_with_its_author_its_rules_and_its_end() {
    let world = filled();
    let mut daemon = started(&world, &["--poll", "1h"]);
    let well = world.bridgeward(&["status"]);
    assert_eq!(well.code, Some(0), "{well}");
    assert!(well.stdout.starts_with("the rules are as they should be: bridgeward "), "{well}");
    assert!(well.stdout.contains("3 objects: 3 in force\n"), "{well}");
    assert!(well.stdout.contains("drift: none since the daemon came up\n"), "{well}");
    let good = world.save("iptables");
    world.sh("iptables -F FO-vnet0");
    daemon.wait_until("the repair", || world.save("iptables") == good && !document(&world)["drift"].as_array().is_none_or(Vec::is_empty));
    let drift = &document(&world)["drift"][0];
    assert_eq!(drift["by"][0]["command"], "iptables", "{drift}");
    assert_eq!(drift["rules"][0]["object"]["name"], "vnet0", "{drift}");
    assert!(drift["rules"][0]["rule"].as_str().is_some_and(|rule| rule.starts_with("+ iptables filter -A FO-vnet0 ")), "{drift}");
    assert!(drift["repaired_after_ms"].is_u64(), "{drift}");
    let pass = &document(&world)["passes"][0];
    assert_eq!(pass["outcome"], "repaired", "{pass}");
    let told = world.bridgeward(&["status"]);
    assert_eq!(told.code, Some(0), "what was repaired needs nobody: {told}");
    assert!(told.stdout.contains(" ago by iptables["), "{told}");
}

#[test]
fn a_broken_file_needs_a_person_until_it_is_mended() {
    let world = filled();
    let mut daemon = started(&world, &[]);
    world.write("vnet0.xml", "<filterbinding><portdev name='vnet0'/>");
    world.write("vnet7.xml", &guest(7, "missing"));
    daemon.wait_until("the faults", || world.bridgeward(&["status"]).code == Some(1));
    daemon.wait_until("both objects", || {
        let states = document(&world);
        let state =
            |name: &str| states["objects"].as_array()?.iter().find(|object| object["name"] == name)?["state"].as_str().map(str::to_owned);
        state("vnet0").as_deref() == Some("held")
            && state("vnet7").as_deref() == Some("closed")
            && state("vnet1").as_deref() == Some("in-force")
    });
    let told = world.bridgeward(&["status"]);
    for words in ["something needs a person", "vnet0.xml:1:", "interface `vnet7`", "closed: nothing passes", "help: "] {
        assert!(told.stdout.contains(words), "{words} is missing: {told}");
    }
    world.write("vnet0.xml", &guest(0, "web"));
    world.delete("vnet7.xml");
    daemon.wait_until("the mended files", || world.bridgeward(&["status"]).code == Some(0));
}

#[test]
fn a_group_may_ask_for_the_status_and_for_nothing_else() {
    let world = filled();
    let _daemon = configured(&world, "socket_group = \"adm\"\n");
    // The build directory may lie where others cannot go.
    world.sh(&format!("install -m 0755 {} /run/bridgeward-program", env!("CARGO_BIN_EXE_bridgeward")));
    let member = "setpriv --reuid 65534 --regid adm --clear-groups";
    let told = world.sh(&format!("{member} /run/bridgeward-program status"));
    assert!(told.starts_with("the rules are as they should be"), "{told}");
    let stranger = world.sh("setpriv --reuid 65534 --regid 65534 --clear-groups /run/bridgeward-program status 2>&1 || echo exit $?");
    assert!(
        stranger.contains("you may not ask the daemon at /run/bridgeward/bridgeward.sock") && stranger.ends_with("exit 2\n"),
        "{stranger}"
    );
    let question = r#"{"ask":"apply","v":1,"state":[],"quirks":"fixed","layout":"chains"}"#;
    let ask = format!(
        "perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new(\"/run/bridgeward/bridgeward.sock\") or die $!; print $s qq({question}\\n); print <$s>'"
    );
    let refused = world.sh(&format!("{member} {ask}"));
    assert!(refused.contains("only root may have rules changed"), "{refused}");
    let modes = world.sh("stat -c '%a %G' /run/bridgeward /run/bridgeward/bridgeward.sock; stat -c %a /run/bridgeward/*/");
    assert_eq!(modes, "711 root\n660 adm\n700\n");
}

#[test]
fn daemons_of_two_namespaces_share_a_run_directory_and_each_answers_for_itself() {
    let world = filled();
    let mut first = started(&world, &[]);
    world.sh("ip netns add other && ip -n other link set lo up");
    let program = env!("CARGO_BIN_EXE_bridgeward");
    let state = world.state().display().to_string();
    let second = world.serve("second", &["ip", "netns", "exec", "other", program, "run", "--state", &state]);
    let there = |arguments: &str| world.sh(&format!("ip netns exec other {program} {arguments} || true"));
    first.wait_until("the second daemon", || there("status").starts_with("the rules are as they should be"));
    let namespace = |text: &str| serde_json::from_str::<Value>(text).expect("a document")["daemon"]["namespace"].clone();
    let (own, other) = (document(&world)["daemon"]["namespace"].clone(), namespace(&there("status --format json")));
    assert_ne!(own, other);
    let public = r#"perl -MIO::Socket::UNIX -e '$s = IO::Socket::UNIX->new("/run/bridgeward/bridgeward.sock") or die $!; print $s qq({"ask":"status","v":1}\n); print <$s>'"#;
    assert_eq!(namespace(&world.sh(public)), own, "the public socket belongs to the first");
    drop(second);
    assert_eq!(namespace(&world.sh(public)), own);
}

#[test]
fn a_watch_tells_again_whenever_something_changes() {
    let world = filled();
    let mut daemon = started(&world, &["--poll", "1h"]);
    let _watch = world.serve("watch", &[env!("CARGO_BIN_EXE_bridgeward"), "status", "--watch"]);
    let told = || fs::read_to_string(world.scratch("watch.log")).expect("the scratch directory is ours");
    daemon.wait_until("the first page", || told().contains("3 objects: 3 in force"));
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    daemon.wait_until("the page after a file", || told().contains("4 objects: 4 in force"));
    world.sh("iptables -F FO-vnet0");
    daemon.wait_until("the page after drift", || told().contains("by iptables["));
    assert!(!told().contains('\x1b'), "a file is no terminal: {}", told());
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    let mut again = world.run(&[]);
    again.wait_until("the word that it went", || told().contains("the daemon went away"));
    again.wait_until("the pages of the next daemon", || {
        told().matches("drift: none").count() >= 2 && told().rfind("drift: none") > told().find("went away")
    });
}

/// One request and its whole answer.
fn http(world: &World, request: &str) -> String {
    world.sh(&format!("exec 3<>/dev/tcp/127.0.0.1/9876; printf '{request} HTTP/1.1\\r\\nHost: here\\r\\n\\r\\n' >&3; timeout 10 cat <&3"))
}

#[test]
fn metrics_count_drift_and_are_handed_out_in_both_ways() {
    let world = filled();
    let file = world.scratch("bridgeward.prom");
    let config = format!("[metrics]\nlisten = \"127.0.0.1:9876\"\ntextfile = {file:?}\n");
    let mut daemon = configured(&world, &config);
    let good = world.save("iptables");
    world.sh("iptables -F FO-vnet0");
    daemon.wait_until("the repair", || world.save("iptables") == good && http(&world, "GET /metrics").contains("outcome=\"repaired\""));
    let answer = http(&world, "GET /metrics");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("application/openmetrics-text"), "{head}");
    for sample in [
        "bridgeward_drifts_total{family=\"iptables\",table=\"filter\",cause=\"rules\"} 1\n",
        "bridgeward_repair_seconds_count 1\n",
        "bridgeward_objects{kind=\"interface\",state=\"in-force\"} 2\n",
        "bridgeward_faults 0\n",
    ] {
        assert!(body.contains(sample), "{sample} is missing:\n{body}");
    }
    assert!(http(&world, "GET /").starts_with("HTTP/1.1 404"));
    assert!(http(&world, "POST /metrics").starts_with("HTTP/1.1 405"));
    let kept = fs::read_to_string(&file).expect("the textfile is there");
    assert!(kept.contains("# TYPE bridgeward_drifts_total counter\nbridgeward_drifts_total{family=\"iptables\""), "{kept}");
    assert_eq!(world.sh(&format!("stat -c %a {}; ls {}* | wc -l", file.display(), file.display())), "644\n1\n");
}

#[test]
fn sighup_moves_listener_and_group_and_says_what_takes_a_restart() {
    let world = filled();
    let mut daemon = configured(&world, "poll = \"1h\"\n");
    assert_eq!(world.sh("stat -c %G /run/bridgeward/bridgeward.sock"), "root\n");
    let config = "poll = \"1h\"\nsocket_group = \"adm\"\nlog = \"json\"\n[metrics]\nlisten = \"127.0.0.1:9876\"\n";
    fs::write(world.scratch("bridgeward.toml"), config).expect("the scratch directory takes files");
    daemon.signal(Signal::HUP);
    daemon.wait_until("the group", || world.sh("stat -c %G /run/bridgeward/bridgeward.sock || true") == "adm\n");
    daemon.wait_until_log("`log` has changed, which takes a restart");
    daemon.wait_until("the listener", || world.sh("(exec 3<>/dev/tcp/127.0.0.1/9876) 2>/dev/null && echo open || true") == "open\n");
    assert_eq!(world.bridgeward(&["status"]).code, Some(0));
    fs::write(world.scratch("bridgeward.toml"), "poll = \"1h\"\n").expect("the scratch directory takes files");
    daemon.signal(Signal::HUP);
    daemon.wait_until("the end of the listener", || world.sh("(exec 3<>/dev/tcp/127.0.0.1/9876) 2>/dev/null || echo closed") == "closed\n");
}

#[test]
fn a_listener_or_group_that_cannot_be_had_stops_no_rule() {
    let world = filled();
    let mut daemon =
        configured(&world, "socket_group = \"no-such-group\"\n[metrics]\nlisten = \"192.0.2.1:9876\"\ntextfile = \"/nowhere/x.prom\"\n");
    daemon.wait_until_log("there is no group `no-such-group`");
    daemon.wait_until_log("cannot listen on 192.0.2.1:9876");
    daemon.wait_until_log("cannot write the metrics to /nowhere/x.prom");
    assert_eq!(world.bridgeward(&["status"]).code, Some(0), "root asks all the same");
    let good = world.save("iptables");
    world.sh("iptables -F FO-vnet0");
    daemon.wait_until("the repair", || world.save("iptables") == good);
    assert_eq!(daemon.log().matches("cannot write the metrics").count(), 1, "a fault is told once: {}", daemon.log());
}
