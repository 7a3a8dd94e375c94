//! What a service manager and a journal hear from the daemon: the tests bind their sockets and listen.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{NETWORK, guest};
use crate::world::World;

/// The other end of `sd_notify` or of the journal: everything that came, first to last.
struct Listener {
    socket: UnixDatagram,
    heard: Vec<Vec<u8>>,
}

impl Listener {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        Self { socket, heard: Vec::new() }
    }

    /// Takes in what has come until now.
    fn listen(&mut self) -> &[Vec<u8>] {
        let mut datagram = vec![0; 1 << 16];
        while let Ok(length) = self.socket.recv(&mut datagram) {
            self.heard.push(datagram[..length].to_vec());
        }
        &self.heard
    }

    fn text(&mut self) -> String {
        self.listen().iter().map(|datagram| String::from_utf8_lossy(datagram).into_owned() + "\n").collect()
    }
}

#[test]
fn ready_means_that_the_rules_were_seen_in_place() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    let away = world.scratch("elsewhere");
    fs::rename(world.state(), &away).expect("the directory is ours");
    let path = world.scratch("notify");
    let mut manager = Listener::bind(&path);
    let state = world.state().display().to_string();
    let environment =
        [("BRIDGEWARD_STATE", state.as_str()), ("NOTIFY_SOCKET", path.to_str().expect("text")), ("WATCHDOG_USEC", "120000000")];
    let mut daemon = world.run_with(&environment, &["--poll", "100ms"]);
    daemon.wait_until("a word on why it is not ready", || manager.text().contains("STATUS=the last state stays in force: "));
    daemon.wait_until("the watchdog's food meanwhile", || manager.text().contains("WATCHDOG=1"));
    assert!(!manager.text().contains("READY=1"), "ready without its state: {}", manager.text());
    fs::rename(&away, world.state()).expect("the directory is ours");
    daemon.wait_until("readiness", || manager.text().contains("READY=1"));
    assert!(world.in_sync(), "ready before the rules were in place");
    daemon.wait_until("the line for people", || manager.text().contains("STATUS=1 object in force"));
    manager.heard.clear();
    daemon.signal(Signal::HUP);
    daemon.wait_until("the reload and its end", || {
        let text = manager.text();
        text.find("RELOADING=1").is_some_and(|begin| text[begin..].contains("MONOTONIC_USEC=") && text[begin..].contains("READY=1"))
    });
    let fed = manager.text().matches("WATCHDOG=1").count();
    daemon.wait_until("more food with nothing to do", || manager.text().matches("WATCHDOG=1").count() > fed);
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert!(manager.text().contains("STOPPING=1"), "{}", manager.text());
}

#[test]
fn the_journal_gets_what_a_line_is_about_in_fields() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.sh("mkdir -p /run/systemd/journal");
    let mut journal = Listener::bind(&world.root().join("run/systemd/journal/socket"));
    let mut daemon = world.run(&["--log-format", "journald"]);
    daemon.wait_until("the first pass", || world.in_sync());
    world.sh("iptables -D LIBVIRT_FWO -i br-lab -j REJECT");
    daemon.wait_until("the repair", || journal.text().contains("drift repaired"));
    world.write("vnet0.xml", "<filterbinding><portdev name='vnet0'/>");
    daemon.wait_until("the fault", || journal.text().contains("is held"));
    let text = journal.text();
    // The journal's protocol: a name, the length of the value in eight bytes, the value.
    let priority = |level: u8| format!("PRIORITY\n\u{1}{}{level}\n", "\0".repeat(7));
    for field in [priority(6), priority(4)] {
        assert!(text.contains(&field), "{field:?} is missing:\n{text:?}");
    }
    for field in [
        "SYSLOG_IDENTIFIER",
        "BRIDGEWARD_WRITER",
        "BRIDGEWARD_PID",
        "BRIDGEWARD_CAUSE",
        "BRIDGEWARD_OBJECT",
        "BRIDGEWARD_FAMILY",
        "BRIDGEWARD_TABLE",
        "BRIDGEWARD_CHAIN",
        "BRIDGEWARD_PLACE",
    ] {
        assert!(text.contains(field), "{field} is missing:\n{text}");
    }
    assert_eq!(daemon.log(), "", "everything went to the journal");
}

#[test]
fn without_a_journal_the_log_is_text() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    let mut daemon = world.run(&["--log-format", "journald"]);
    daemon.wait_until_log("journald cannot be reached: the log is text on stderr");
    daemon.wait_until_log("state applied cause=start");
}

#[test]
fn a_json_log_has_the_same_fields() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    let mut daemon = world.run(&["--log-format", "json"]);
    daemon.wait_until("the first pass", || world.in_sync());
    world.sh("iptables -D LIBVIRT_FWO -i br-lab -j REJECT");
    daemon.wait_until_log("LIBVIRT_FWO");
    let log = daemon.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let repair = lines.iter().find(|line| line["message"] == "drift repaired").unwrap_or_else(|| panic!("{log}"));
    assert_eq!((repair["level"].as_str(), repair["writer"].as_str()), (Some("INFO"), Some("iptables")), "{repair}");
    let rule = lines.iter().find(|line| line["chain"] == "LIBVIRT_FWO").unwrap_or_else(|| panic!("{log}"));
    assert_eq!(
        (rule["family"].as_str(), rule["table"].as_str(), rule["object"].as_str()),
        (Some("iptables"), Some("filter"), Some("network `lab`"))
    );
}
