//! `run` under the restrictions of the unit that is shipped: what it may not do there, it does not need.
//!
//! No systemd runs in the tests' namespaces, so its restrictions are made with the same kernel interfaces, read from the unit file itself: the capabilities
//! (`CapabilityBoundingSet`), `NoNewPrivileges`, `UMask`, and a mount namespace in which everything is read-only but `ReadWritePaths` and the run
//! directory, `/tmp` is private, the homes are hidden, `/dev` holds the harmless devices and `/proc/sys` cannot be written. What its filters of system calls
//! and address families allow is compared with what a daemon and its tools did, call by call, as `strace` saw it.
//!
//! Not made here, because they need systemd or change nothing that could be seen: `ProtectClock`, `ProtectHostname`, `ProtectKernelLogs`, `ProtectKernelModules`,
//! `ProtectControlGroups`, `RestrictNamespaces`, `RestrictRealtime`, `RestrictSUIDSGID`, `LockPersonality`, `MemoryDenyWriteExecute`,
//! `SystemCallArchitectures`, `DevicePolicy`; all but the first five are filters of system calls or of devices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::world::{Daemon, Tools, World};

const UNIT: &str = include_str!("../contrib/systemd/bridgeward.service");

/// A mount namespace as the unit's, then the unit's privileges, then the command. Paths of the test stand for those of an installed program.
const ENTER: &str = r#"
set -e
mkdir -p /run/bridgeward /run/test/state /run/test/tools
chmod 0711 /run/bridgeward
[ -z "$OWNER" ] || chown "$OWNER" /run/bridgeward
mount --bind "$TEST_DIR/state" /run/test/state
mount --bind "$TEST_DIR/tools" /run/test/tools
touch /run/test/bridgeward && mount --bind "$PROGRAM" /run/test/bridgeward
mount -t tmpfs -o mode=1777 private /tmp
mount -t tmpfs -o mode=000,ro hidden /root
mount -t tmpfs -o mode=000,ro hidden /home
mkdir /tmp/dev
for device in null zero full random urandom; do touch "/tmp/dev/$device"; mount --bind "/dev/$device" "/tmp/dev/$device"; done
mount --rbind /tmp/dev /dev
for path in /run/bridgeward $WRITABLE; do
  case $path in -*) path=${path#-}; [ -e "$path" ] || continue ;; esac
  mount --bind "$path" "$path"
done
awk '{print $5}' /proc/self/mountinfo | sort -u | while read -r mount; do
  case $mount in /proc | /proc/* | /dev | /dev/* | /sys | /sys/* | /tmp | /tmp/*) continue ;; esac
  mount -o remount,bind,ro "$mount" || true # what another mount hides cannot be reached, neither by us nor by the daemon
done
for path in /run/bridgeward $WRITABLE; do
  path=${path#-}; [ ! -e "$path" ] || mount -o remount,bind,rw "$path"
done
mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
umask "$UMASK"
cd /
exec setpriv --bounding-set="$CAPABILITIES" $IDENTITY --no-new-privs "$@"
"#;

/// All values of a directive, in order.
fn values(directive: &str) -> Vec<&'static str> {
    let found: Vec<&str> = UNIT.lines().filter_map(|line| line.strip_prefix(directive)?.strip_prefix('=')).collect();
    assert!(!found.is_empty(), "the unit has no {directive}");
    found
}

/// The words of a directive that is given once.
fn words(directive: &str) -> Vec<&'static str> {
    let values = values(directive);
    assert_eq!(values.len(), 1, "{directive} is given more than once");
    values[0].split_whitespace().collect()
}

/// A command that enters the unit's restrictions, behind one that runs its arguments; what to run under them is to follow.
fn restrained(world: &World, mut command: Command) -> Command {
    assert_eq!(words("NoNewPrivileges"), ["yes"]);
    assert_eq!(words("ProtectSystem"), ["strict"]);
    assert_eq!(words("RuntimeDirectory"), ["bridgeward"]);
    let capabilities =
        words("CapabilityBoundingSet").into_iter().map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()));
    let capabilities: Vec<String> = std::iter::once("-all".to_owned()).chain(capabilities).collect();
    command
        .args(["unshare", "--mount", "--propagation", "private", "bash", "-c", ENTER, "restrained"])
        .env("CAPABILITIES", capabilities.join(","))
        .env("WRITABLE", words("ReadWritePaths").join(" "))
        .env("UMASK", words("UMask")[0])
        .env("OWNER", "")
        .env("IDENTITY", "--inh-caps=-all --ambient-caps=-all")
        .env("TEST_DIR", world.scratch(""))
        .env("PROGRAM", env!("CARGO_BIN_EXE_bridgeward"));
    command
}

/// The daemon as the unit starts it; what the unit does before, with full privilege, is done before.
fn start(world: &World, arguments: &[&str]) -> Daemon {
    start_after(world, Command::new("env"), arguments)
}

/// The same, behind a command that runs its arguments.
fn start_after(world: &World, before: Command, arguments: &[&str]) -> Daemon {
    prepare(world);
    run_in(world, restrained(world, before), arguments)
}

fn run_in(world: &World, mut command: Command, arguments: &[&str]) -> Daemon {
    command.args(["env", "BRIDGEWARD_STATE=/run/test/state"]);
    let path = "PATH=/run/test/tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.args([path, "/run/test/bridgeward", "run"]).args(arguments);
    world.run_command(&command)
}

fn prepare(world: &World) {
    for line in values("ExecStartPre") {
        let (prefix, command) = line.split_at(line.find('/').expect("a path"));
        assert_eq!(prefix, "-+", "what comes first has full privilege and may fail");
        world.sh(&format!("{command} || true"));
    }
}

fn filled(tools: Tools) -> World {
    let world = World::with_tools(tools);
    world.write("lab.xml", NETWORK);
    world.write("web.xml", FILTER);
    world.write("vnet0.xml", &guest(0, "web"));
    world.write("vnet1.xml", &guest(1, "clean-traffic"));
    world
}

#[test]
fn the_daemon_has_two_capabilities_and_writes_nothing_but_its_record() {
    assert_eq!(words("CapabilityBoundingSet"), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
    let world = filled(Tools::NfTables);
    prepare(&world);
    let mut look = restrained(&world, Command::new("env"));
    look.args(["bash", "-c", "grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status
        for path in /etc /run /usr /var /proc/sys/net/ipv4/ip_forward /run/test/state; do [ -w $path ] && touch -c $path 2>/dev/null && echo writable $path; done
        touch /run/bridgeward/x && rm /run/bridgeward/x && ls /root 2>&1 | wc -l"]);
    let answer = world.run_to_end(&look);
    assert_eq!(answer.code, Some(0), "{answer}");
    let both = format!("{:016x}", (1_u64 << 12) | (1 << 13));
    for expected in [format!("CapEff:\t{both}"), format!("CapBnd:\t{both}"), format!("CapPrm:\t{both}"), "NoNewPrivs:\t1".to_owned()] {
        assert!(answer.stdout.contains(&expected), "{expected} is missing: {answer}");
    }
    assert!(!answer.stdout.contains("writable"), "{answer}");
}

#[test]
fn flushes_are_repaired_with_the_nf_tables_tools() {
    everything_is_kept(Tools::NfTables, "1h", "rules changed by iptables");
}

#[test]
fn flushes_are_repaired_with_the_legacy_tools() {
    everything_is_kept(Tools::Legacy, "100ms", "drift repaired");
}

/// What `run_daemon.rs` shows of a daemon with all privileges, in one go.
fn everything_is_kept(tools: Tools, poll: &str, word: &str) {
    let world = filled(tools);
    let mut daemon = start(&world, &["--poll", poll]);
    daemon.wait_until("the first pass", || world.in_sync());
    let good = world.save_all();
    for tool in ["iptables", "ip6tables", "ebtables"] {
        world.sh(&format!("for table in $({tool}-save | sed -n 's/^\\*//p'); do {tool} -t $table -F; done"));
        daemon.wait_until(&format!("all rules of {tool} as they were"), || world.save_all() == good);
    }
    daemon.wait_until_log(word);
    for tampering in ["iptables -I FO-vnet0 -j ACCEPT", "ip6tables -F FO-vnet0", "ebtables -t nat -D libvirt-I-vnet1 -j DROP"] {
        world.sh(tampering);
        daemon.wait_until(tampering, || world.save_all() == good);
    }
    world.write("vnet2.xml", &guest(2, "clean-traffic"));
    daemon.wait_until("a dropped file", || world.save("ebtables").contains("10.40.0.12"));
    world.delete("vnet2.xml");
    daemon.wait_until("its deletion", || world.save_all() == good);
    let status = world.bridgeward(&["status"]);
    assert_eq!(status.code, Some(0), "{status}");
    assert!(status.stdout.starts_with("the rules are as they should be"), "{status}");
    assert_eq!(daemon.end(Signal::TERM), Some(0));
    assert_eq!(world.save_all(), good, "stopping changed rules");
    let mut again = start(&world, &[]);
    world.sh("iptables -F FO-vnet0");
    again.wait_until("a repair by the next daemon", || world.save_all() == good);
    again.end(Signal::KILL);
    assert_eq!(world.save_all(), good, "dying changed rules");
}

#[test]
fn every_system_call_of_the_daemon_and_its_tools_is_one_that_the_unit_allows() {
    let allowed = allowed_calls();
    let refused: BTreeSet<String> = expand("@known", &groups()).difference(&allowed).map(|call| format!("?{call}")).collect();
    assert!(refused.len() > 60 && allowed.contains("openat"), "systemd was misread: {refused:?}");
    // Only what would be refused is looked at, and sockets: everything else runs at its own speed.
    let traced = format!("trace=socket,{}", refused.into_iter().collect::<Vec<_>>().join(","));
    let (mut calls, mut families) = (BTreeSet::new(), BTreeSet::new());
    for tools in [Tools::NfTables, Tools::Legacy] {
        let world = filled(tools);
        let trace = world.scratch("calls");
        let config = world.scratch("bridgeward.toml");
        let metrics = "socket_group = \"root\"\n[metrics]\nlisten = \"127.0.0.1:9876\"\ntextfile = \"/run/bridgeward.prom\"\n";
        fs::write(&config, metrics).expect("the scratch directory takes files");
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "--seccomp-bpf", "-e", &traced, "-o"])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_bridgeward"))
            .arg("run")
            .arg("--config")
            .arg(&config);
        command.env("BRIDGEWARD_STATE", world.state());
        let mut daemon = world.run_command(&command);
        daemon.wait_until("the first pass", || world.in_sync());
        let good = world.save_all();
        world.sh("iptables -F; ebtables -t nat -F");
        daemon.wait_until("the repair", || world.save_all() == good);
        world.write("vnet2.xml", &guest(2, "clean-traffic"));
        daemon.wait_until("a dropped file", || world.save("ebtables").contains("10.40.0.12"));
        assert_eq!(world.bridgeward(&["apply"]).code, Some(0));
        assert_eq!(world.bridgeward(&["status"]).code, Some(0));
        assert_eq!(world.bridgeward(&["purge", "--stop"]).code, Some(0));
        assert_eq!(daemon.wait(), Some(0));
        let text = fs::read_to_string(&trace).expect("strace wrote");
        calls.extend(text.lines().filter_map(call).map(str::to_owned));
        let sockets = text.lines().filter_map(|line| line.split_once("socket(AF_")).filter_map(|(_, rest)| rest.split(',').next());
        families.extend(sockets.map(|family| format!("AF_{family}")));
    }
    assert!(calls.remove("socket"), "strace saw no socket");
    assert!(calls.is_empty(), "the unit's SystemCallFilter would refuse {calls:?}");
    let listed: BTreeSet<String> = words("RestrictAddressFamilies").into_iter().map(str::to_owned).collect();
    // LOCAL is the other name of UNIX.
    let unlisted: Vec<&String> = families.iter().filter(|family| !listed.contains(*family) && *family != "AF_LOCAL").collect();
    assert!(unlisted.is_empty(), "the unit's RestrictAddressFamilies would refuse {unlisted:?}");
}

/// What the unit says of `User=`.
#[test]
fn with_the_nf_tables_tools_another_user_than_root_will_do() {
    let world = filled(Tools::NfTables);
    prepare(&world);
    let mut command = restrained(&world, Command::new("env"));
    let identity = "--reuid 65534 --regid 65534 --clear-groups --inh-caps=+net_admin,+net_raw --ambient-caps=+net_admin,+net_raw";
    command.env("OWNER", "65534").env("IDENTITY", identity);
    let mut daemon = run_in(&world, command, &["--poll", "1h"]);
    daemon.wait_until("the first pass", || world.bridgeward(&["status"]).stdout.starts_with("the rules are as they should be"));
    let good = world.save_all();
    assert!(good.contains("FO-vnet0"), "{good}");
    for tampering in ["iptables -F FO-vnet0", "ip6tables -F FO-vnet0", "ebtables -t nat -F"] {
        world.sh(tampering);
        daemon.wait_until(tampering, || world.save_all() == good);
    }
    let refused = world.bridgeward(&["apply"]);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("belongs to user 65534"), "{refused}");
}

/// libvirt's base chains stay while a libvirtd uses them, though the daemon may not look into its process.
#[test]
fn base_chains_stay_beside_a_libvirtd_and_go_where_it_is_in_another_network_namespace() {
    let world = World::with_libvirt();
    world.write("lab.xml", NETWORK);
    let mut daemon = start(&world, &[]);
    daemon.wait_until("the first pass", || world.in_sync());
    world.delete("lab.xml");
    daemon.wait_until("the deletion", || !world.save_all().contains("br-lab"));
    world.assert_in_sync();
    assert!(world.save("iptables").contains(":LIBVIRT_INP"), "{}", world.save("iptables"));
    drop(daemon);
    world.sh("ip netns add other; ip -n other link set lo up");
    world.write("lab.xml", NETWORK);
    let mut elsewhere = Command::new("ip");
    elsewhere.args(["netns", "exec", "other"]);
    let mut daemon = start_after(&world, elsewhere, &[]);
    let there = || world.sh("ip netns exec other iptables-save");
    daemon.wait_until("the first pass there", || there().contains("br-lab"));
    world.delete("lab.xml");
    daemon.wait_until("the deletion there, base chains and all", || !there().contains("LIBVIRT_"));
}

/// The name of the call in a line of `strace -f`: `123 openat(...) = 3`. Resumed calls have been named before.
fn call(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then_some(name)
}

/// The system calls that the unit's filter lets through, as systemd knows its own groups.
fn allowed_calls() -> BTreeSet<String> {
    let groups = groups();
    let mut allowed = expand("@default", &groups);
    for line in values("SystemCallFilter") {
        let (names, deny) = line.strip_prefix('~').map_or((line, false), |names| (names, true));
        for call in names.split_whitespace().flat_map(|name| expand(name, &groups)) {
            if deny {
                allowed.remove(&call);
            } else {
                allowed.insert(call);
            }
        }
    }
    allowed
}

fn expand(name: &str, groups: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    if let Some(members) = groups.get(name) {
        return members.iter().flat_map(|member| expand(member, groups)).collect();
    }
    assert!(!name.starts_with('@'), "systemd knows no {name}");
    BTreeSet::from([name.to_owned()])
}

/// `systemd-analyze syscall-filter`: a group's name at the head of a line, then its members, indented.
fn groups() -> BTreeMap<String, Vec<String>> {
    let output = Command::new("systemd-analyze").arg("syscall-filter").output().expect("`systemd-analyze` runs (Debian package systemd)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        let word = line.trim();
        if line.starts_with('@') {
            word.clone_into(&mut current);
        } else if line.starts_with(' ') && !word.starts_with('#') && !word.is_empty() {
            groups.entry(current.clone()).or_default().push(word.to_owned());
        } else if !line.starts_with(' ') {
            current.clear();
        }
    }
    groups
}

#[test]
fn systemd_understands_the_unit_and_finds_it_well_protected() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let unit = directory.path().join("bridgeward.service");
    fs::write(
        &unit,
        UNIT.replace("/usr/sbin/bridgeward", env!("CARGO_BIN_EXE_bridgeward")).replace("Documentation=man:bridgeward(8)\n", ""),
    )
    .expect("ours");
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).env("LC_ALL", "C.UTF-8").output();
        let output = output.expect("`systemd-analyze` runs (Debian package systemd)");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, words) = analyze(&["verify"]);
    assert_eq!((code, words.as_str()), (Some(0), ""));
    // In tenths: what is left is NET_ADMIN, running as root, and the host's network, which is the job.
    let (code, words) = analyze(&["security", "--offline=yes", "--threshold=30"]);
    assert_eq!(code, Some(0), "{words}");
}

/// Every directive below `[Service]` that restricts has a reason in a comment above it.
#[test]
fn every_restriction_says_why() {
    let mut reasons = false;
    let mut unexplained = Vec::new();
    let restrictive =
        ["Protect", "Private", "Restrict", "Capability", "NoNew", "ReadWrite", "SystemCall", "Memory", "Lock", "WatchdogSec", "KillMode"];
    for line in UNIT.lines() {
        match line {
            "" => reasons = false,
            comment if comment.starts_with('#') => reasons = true,
            directive if !reasons && restrictive.iter().any(|word| directive.starts_with(word)) => unexplained.push(directive),
            _ => {}
        }
    }
    assert!(unexplained.is_empty(), "{unexplained:?}");
}
