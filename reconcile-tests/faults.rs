//! Tools and disks that fail in every way: nothing is taken for done or for empty, what was in stays in, and once the fault is gone the next pass finishes.
//!
//! The tools are wrapped by a script that does what the file `fault` beside it says (`bridgeward.toml` names the wrappers), or runs the real one.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Answer, World};

/// What `fault` may say: the tool's name and the way it fails.
const WRAPPER: &str = r#"#!/bin/bash
name=${0##*/}
read -r tool way < "${0%/*}/fault" 2>/dev/null
[ "$tool" = "$name" ] || exec "$name" "$@"
case $way in
  fails) echo "$name: something that nobody has heard of" >&2; exit 1 ;;
  denied) echo "$name: Permission denied (you must be root)" >&2; exit 4 ;;
  killed) kill -KILL $$ ;;
  crashes) kill -SEGV $$ ;;
  hangs) exec sleep 1000 ;;
  waits) : >"${0%/*}/reached"; while [ -e "${0%/*}/fault" ]; do sleep 0.02; done; exec "$name" "$@" ;;
  garbage) printf '\377\000*\001filter\n-A\n:\n'; exit 0 ;;
  half) "$name" "$@" | head -c 200; exit 0 ;;
  nothing) cat >/dev/null; exit 0 ;;
  busy) echo "Another app is currently holding the xtables lock; still 1s 0us time ahead to have a chance to grab the lock..." >&2; exit 4 ;;
  busy-twice)
    echo >>"${0%/*}/tries"
    [ "$(wc -l <"${0%/*}/tries")" -gt 2 ] && exec "$name" "$@"
    echo "$name: Resource temporarily unavailable" >&2; exit 4 ;;
  overtaken)
    rm "${0%/*}/fault"
    "${name%-restore}" -I FORWARD -m comment --comment acme -j ACCEPT
    exec "$name" "$@" ;;
esac
"#;

/// A world with a network and a guest in the kernel, and tools that can be told to fail.
struct Faulty {
    world: World,
    config: String,
}

impl Faulty {
    fn new() -> Self {
        let world = World::new();
        let wrappers = world.scratch("wrappers");
        fs::create_dir(&wrappers).expect("the scratch directory takes directories");
        for tool in ["iptables", "ip6tables", "ebtables"] {
            for part in ["", "-save", "-restore"] {
                let path = wrappers.join(format!("{tool}{part}"));
                fs::write(&path, WRAPPER).expect("the directory takes files");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
            }
        }
        let directory = wrappers.display();
        let config = world.scratch("bridgeward.toml");
        let tools = format!(
            "[tools]\niptables = \"{directory}/iptables\"\nip6tables = \"{directory}/ip6tables\"\nebtables = \"{directory}/ebtables\"\n\
             time_limit = \"20s\"\n"
        );
        fs::write(&config, tools).expect("the scratch directory takes files");
        world.write("lab.xml", NETWORK);
        world.write("web.xml", FILTER);
        world.write("vnet0.xml", &guest(0, "web"));
        let faulty = Self { config: config.display().to_string(), world };
        faulty.succeeds();
        faulty
    }

    fn breaks(&self, tool: &str, way: &str) {
        fs::write(self.world.scratch("wrappers/fault"), format!("{tool} {way}\n")).expect("the directory takes files");
    }

    fn mends(&self) {
        fs::remove_file(self.world.scratch("wrappers/fault")).expect("there is a fault");
    }

    fn apply(&self) -> Answer {
        self.world.bridgeward_with(&[("BRIDGEWARD_CONFIG", &self.config)], &["apply"])
    }

    fn succeeds(&self) {
        let answer = self.apply();
        assert_eq!(answer.code, Some(0), "{answer}");
        self.world.assert_in_sync();
    }
}

#[test]
fn a_tool_that_cannot_tell_what_the_kernel_holds_stops_the_pass_before_anything_is_written() {
    let faulty = Faulty::new();
    let before = faulty.world.save_all();
    for tool in ["iptables-save", "ip6tables-save", "ebtables-save"] {
        for way in ["fails", "denied", "killed", "crashes", "garbage", "half", "busy"] {
            faulty.world.write("vnet1.xml", &guest(1, "web"));
            faulty.breaks(tool, way);
            let answer = faulty.apply();
            assert_eq!(answer.code, Some(2), "{tool} {way}: {answer}");
            assert!(answer.stderr.contains(tool), "{tool} {way}: the tool is not named: {answer}");
            assert_eq!(faulty.world.save_all(), before, "{tool} {way}: {answer}");
            faulty.mends();
        }
    }
    faulty.succeeds();
}

#[test]
fn a_tool_that_does_not_write_leaves_the_guest_as_it_was_or_closed_and_the_next_pass_finishes() {
    let faulty = Faulty::new();
    for tool in ["iptables-restore", "ip6tables-restore", "ebtables-restore"] {
        for way in ["fails", "denied", "killed", "crashes", "garbage", "nothing", "busy"] {
            faulty.world.delete("vnet0.xml");
            faulty.succeeds();
            let before = faulty.world.save_all();
            faulty.world.write("vnet0.xml", &guest(0, "web"));
            faulty.breaks(tool, way);
            let answer = faulty.apply();
            assert!(matches!(answer.code, Some(1 | 2)), "{tool} {way}: a pass that did not work ends well: {answer}");
            let said = format!("{}{}", answer.stdout, answer.stderr);
            assert!(said.contains(tool) || said.contains("does not do what it says"), "{tool} {way}: nobody is named: {answer}");
            let family = tool.trim_end_matches("-restore");
            let of_family = |all: &str| all.split("# ").find(|part| part.starts_with(&format!("{family}\n"))).map(str::to_owned);
            assert_eq!(of_family(&faulty.world.save_all()), of_family(&before), "{tool} {way} wrote nothing: {answer}");
            faulty.mends();
            faulty.succeeds();
        }
    }
}

#[test]
fn jumps_are_put_right_where_somebody_shifts_them_between_the_look_and_the_commit() {
    let faulty = Faulty::new();
    let forward = |tool: &str| {
        let rules = faulty.world.sh(&format!("{tool} -S FORWARD"));
        rules.lines().filter_map(|line| line.split_once(" -j ")).map(|(_, target)| target.to_owned()).collect::<Vec<_>>()
    };
    for tool in ["iptables", "ip6tables"] {
        let before = forward(tool);
        for present in ["libvirt-in", "libvirt-in-post", "LIBVIRT_FWI"] {
            for missing in before.iter().filter(|chain| *chain != present) {
                faulty.world.sh(&format!("{tool} -D FORWARD -j {missing}"));
            }
            faulty.breaks(&format!("{tool}-restore"), "overtaken");
            faulty.succeeds();
            assert!(!faulty.world.scratch("wrappers/fault").exists(), "nobody overtook");
            let mut after = forward(tool);
            let acme = after.iter().position(|target| target == "ACCEPT").expect("somebody else's rule stays");
            after.remove(acme);
            assert_eq!(after, before, "{tool}, {present} was there; somebody else's rule is number {acme}");
            faulty.world.sh(&format!("{tool} -D FORWARD -m comment --comment acme -j ACCEPT"));
        }
    }
}

#[test]
fn a_tool_that_says_try_again_is_tried_again() {
    let faulty = Faulty::new();
    for tool in ["iptables-restore", "ip6tables-restore", "ebtables-restore"] {
        faulty
            .world
            .write("vnet0.xml", &guest(0, "web").replace("10.40.0.10", if tool.starts_with("ip6") { "10.40.0.30" } else { "10.40.0.20" }));
        faulty.world.write("web.xml", &FILTER.replace("443", &format!("8{}", tool.len())));
        faulty.breaks(tool, "busy-twice");
        let _ = fs::remove_file(faulty.world.scratch("wrappers/tries"));
        faulty.succeeds();
        faulty.mends();
    }
}

#[test]
fn a_tool_that_hangs_is_killed_and_named() {
    let faulty = Faulty::new();
    faulty.world.write("vnet1.xml", &guest(1, "web"));
    faulty.breaks("ebtables-restore", "hangs");
    let answer = faulty.apply();
    assert_eq!(answer.code, Some(2), "{answer}");
    assert!(answer.stderr.contains("ebtables-restore") && answer.stderr.contains("no answer after"), "{answer}");
    assert_eq!(faulty.world.sh("pgrep -f '[s]leep 1000' --ns $$ --nslist net || true"), "", "the tool is still there");
    faulty.mends();
    faulty.succeeds();
}

#[test]
fn a_daemon_goes_on_trying_while_a_tool_fails() {
    let faulty = Faulty::new();
    let state = faulty.world.state().display().to_string();
    let mut daemon = faulty.world.run_with(&[("BRIDGEWARD_STATE", &state), ("BRIDGEWARD_CONFIG", &faulty.config)], &["--poll", "1s"]);
    daemon.wait_until("the daemon to work", || faulty.world.in_sync());
    for (tool, way) in [("ebtables-restore", "denied"), ("iptables-save", "garbage"), ("ip6tables-save", "killed")] {
        faulty.breaks(tool, way);
        faulty.world.write("vnet1.xml", &guest(1, "web"));
        daemon.wait_until_log(tool);
        faulty.mends();
        daemon.wait_until("the guest to get its rules", || faulty.world.in_sync());
        faulty.world.delete("vnet1.xml");
        daemon.wait_until("the guest to go", || faulty.world.in_sync());
    }
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn a_hangup_while_the_tools_are_looked_at_does_not_end_the_daemon_that_starts() {
    let faulty = Faulty::new();
    faulty.breaks("iptables", "waits");
    let environment = [("BRIDGEWARD_CONFIG", faulty.config.as_str()), ("BRIDGEWARD_STATE", &faulty.world.state().display().to_string())];
    let mut daemon = faulty.world.run_with(&environment, &[]);
    let reached = faulty.world.scratch("wrappers/reached");
    daemon.wait_until("its first tool", || reached.exists());
    daemon.signal(Signal::HUP);
    faulty.mends();
    faulty.world.write("vnet1.xml", &guest(1, "web"));
    daemon.wait_until("a guest", || faulty.world.in_sync());
    assert_eq!(daemon.end(Signal::TERM), Some(0));
}

#[test]
fn without_room_for_the_record_nothing_is_written_to_the_kernel() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("vnet0.xml", &guest(0, "clean-traffic"));
    world.apply();
    let before = world.save_all();
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    for (fault, mend, words) in [
        (
            "mount -t tmpfs -o size=64k tmpfs /run/bridgeward; cp -a /run/kept/. /run/bridgeward; head -c 1M /dev/zero >/run/bridgeward/full || true",
            "umount /run/bridgeward",
            "No space left on device",
        ),
        (
            "mount --bind /run/bridgeward /run/bridgeward; mount -o remount,bind,ro /run/bridgeward",
            "umount /run/bridgeward",
            "Read-only file system",
        ),
    ] {
        world.sh(&format!("rm -rf /run/kept; cp -a /run/bridgeward /run/kept; {fault}"));
        let answer = world.bridgeward(&["apply"]);
        assert_eq!(answer.code, Some(2), "{words}: {answer}");
        assert!(answer.stderr.contains(words), "{answer}");
        assert_eq!(world.save_all(), before, "{words}: the kernel heard of it before the record: {answer}");
        world.sh(mend);
    }
    world.apply();
    world.assert_in_sync();
}
