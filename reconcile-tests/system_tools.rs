//! The shell around the tools against the real tools and the real kernel, both variants.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bridgeward::addr::DeviceName;
use bridgeward::backend::links::links;
use bridgeward::backend::namespace::{LibvirtDaemon, identity, libvirt_daemon};
use bridgeward::backend::probe::{Commands, ProbeFailure, Variant, legacy_tables, probe, tool_says_present};
use bridgeward::backend::system::System;
use bridgeward::backend::{Kernel, Refusal, RefusalKind};
use bridgeward::plan::script::Script;
use bridgeward::resolve::LinkKind;
use bridgeward::ruleset::rule::{IpRule, IpTarget};
use bridgeward::ruleset::{ChainId, ChainName, Family, Observation, Table, TableRules};

use crate::namespace::{in_new_namespace, sh};

fn nf_tables() -> Commands {
    Commands { ipv4: "iptables-nft".to_owned(), ipv6: "ip6tables-nft".to_owned(), bridge: "ebtables-nft".to_owned() }
}

/// ebtables stays with nf_tables: few kernels still have its legacy side, and mixing is normal.
fn legacy() -> Commands {
    Commands { ipv4: "iptables-legacy".to_owned(), ipv6: "ip6tables-legacy".to_owned(), ..nf_tables() }
}

async fn system(commands: &Commands) -> System {
    System::new(probe(commands).await, System::DEFAULT_LIMIT)
}

/// A tool whose three programs are shell scripts with this body; `$tool` is the real one of the same name.
fn scripted(directory: &Path, body: &str) -> Commands {
    for suffix in ["", "-save", "-restore"] {
        let path = directory.join(format!("iptables{suffix}"));
        fs::write(&path, format!("#!/bin/sh\ntool=iptables-nft{suffix}\n{body}\n")).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    }
    Commands { ipv4: directory.join("iptables").display().to_string(), ..nf_tables() }
}

fn script(text: &str) -> Script {
    Script { text: text.to_owned(), origins: Vec::new() }
}

/// Has a child that echoes its input do so once; its input stays open.
fn answer(child: &mut Child, word: &str) {
    writeln!(child.stdin.as_mut().expect("it is piped"), "{word}").expect("it reads");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("it is piped")).read_line(&mut line).expect("it answers");
    assert_eq!(line.trim(), word);
}

async fn observe(system: &System, family: Family) -> Observation {
    system.observe(&[family]).await.families.remove(&family).expect("every family asked for is answered")
}

async fn tables(system: &System, family: Family) -> std::collections::BTreeMap<Table, TableRules> {
    match observe(system, family).await {
        Observation::Read(tables) => tables,
        other => panic!("{family}: {other:?}"),
    }
}

async fn refusal(system: &System, family: Family, text: &str) -> Refusal {
    system.commit(family, &script(text)).await.expect_err(text)
}

#[test]
fn probing_tells_the_variants_apart_and_makes_no_tables() {
    in_new_namespace(async || {
        for (commands, variant) in [(nf_tables(), Variant::NfTables), (legacy(), Variant::Legacy)] {
            let tools = probe(&commands).await;
            for family in [Family::Ipv4, Family::Ipv6] {
                let tool = tools.of(family).expect("the tests need iptables");
                assert_eq!((tool.variant, tool.version.major), (variant, 1), "{tool:?}");
                assert_eq!(legacy_tables(family), Some(vec![]), "{family}");
            }
            assert_eq!(tools.of(Family::Bridge).expect("the tests need ebtables").variant, Variant::NfTables);
        }
    });
}

#[test]
fn a_tool_that_is_not_installed_is_missing_and_named() {
    in_new_namespace(async || {
        let commands = Commands { bridge: "ebtables-of-mars".to_owned(), ..nf_tables() };
        let tools = probe(&commands).await;
        assert!(
            matches!(&tools.families[&Family::Bridge], Err(ProbeFailure::NotInstalled { command, .. }) if command == "ebtables-of-mars")
        );
        let system = System::new(tools, System::DEFAULT_LIMIT);
        let Observation::Missing(reason) = observe(&system, Family::Bridge).await else { panic!("it is not there") };
        assert!(reason.starts_with("`ebtables-of-mars` is not installed"), "{reason}");
        let refusal = refusal(&system, Family::Bridge, "*nat\nCOMMIT\n").await;
        assert_eq!(refusal.kind, RefusalKind::Environment, "{refusal}");
    });
}

#[test]
fn a_fresh_namespace_is_read_as_empty_and_stays_so() {
    in_new_namespace(async || {
        for commands in [nf_tables(), legacy()] {
            let system = system(&commands).await;
            let observed = system.observe(&Family::ALL).await;
            assert_eq!(observed.families.len(), 3);
            assert!(observed.families.values().all(|family| *family == Observation::Read([].into())), "{observed:?}");
        }
        assert_eq!(legacy_tables(Family::Ipv4), Some(vec![]), "looking made a table");
        assert_eq!(sh("nft list tables"), "", "looking made a table");
    });
}

#[test]
fn only_the_families_asked_for_are_read() {
    in_new_namespace(async || {
        let observed = system(&nf_tables()).await.observe(&[Family::Ipv6]).await;
        assert_eq!(observed.families.into_keys().collect::<Vec<_>>(), [Family::Ipv6]);
    });
}

#[test]
fn what_is_committed_is_observed() {
    in_new_namespace(async || {
        for commands in [nf_tables(), legacy()] {
            let system = system(&commands).await;
            for (family, table, text) in [
                (
                    Family::Ipv4,
                    Table::Filter,
                    "*filter\n:LIBVIRT_INP - [0:0]\n-A LIBVIRT_INP -i virbr0 -p udp -m udp --dport 53 -j ACCEPT\nCOMMIT\n",
                ),
                (Family::Ipv6, Table::Filter, "*filter\n:LIBVIRT_INP - [0:0]\n-A LIBVIRT_INP -i virbr0 -j ACCEPT\nCOMMIT\n"),
                (Family::Bridge, Table::Nat, "*nat\n:libvirt-I-vnet0 RETURN\n-A libvirt-I-vnet0 -j DROP\nCOMMIT\n"),
            ] {
                if tables(&system, family).await.is_empty() {
                    system.commit(family, &script(text)).await.expect(text);
                }
                let tables = tables(&system, family).await;
                let name = if family == Family::Bridge { "libvirt-I-vnet0" } else { "LIBVIRT_INP" };
                assert_eq!(tables[&table].chains[&ChainName::new(name)].rules.len(), 1, "{family}: {tables:?}");
            }
        }
    });
}

#[test]
fn a_refusal_names_its_line_in_both_variants() {
    let cases = [
        ("*filter\n-A INPUT -j ACCEPT\n-A INPUT -m set --match-set nope src -j ACCEPT\nCOMMIT\n", 3),
        ("*filter\n-A INPUT --frob x -j ACCEPT\nCOMMIT\n", 2),
        ("*filter\n-A INPUT -j ACCEPT\n-A NOCHAIN -j ACCEPT\nCOMMIT\n", 3),
        ("*filter\n-A INPUT -m nosuch -j ACCEPT\nCOMMIT\n", 2),
        ("*filter\n-A INPUT -j ACCEPT\n-D INPUT 99\nCOMMIT\n", 3),
        ("*filter\n-I INPUT 77 -j DROP\nCOMMIT\n", 2),
        ("*filter\n-X NOCHAIN\nCOMMIT\n", 2),
        ("*filter\n:X - [0:0]\n-A INPUT -j X\n-X X\nCOMMIT\n", 4),
        ("*filter\n-A INPUT -s 999.1.1.1 -j ACCEPT\nCOMMIT\n", 2),
    ];
    in_new_namespace(async move || {
        for commands in [nf_tables(), legacy()] {
            let system = system(&commands).await;
            for (text, line) in cases {
                for family in [Family::Ipv4, Family::Ipv6] {
                    let refusal = refusal(&system, family, text).await;
                    assert_eq!(refusal.kind, RefusalKind::Input(Some(line)), "{text}{refusal}");
                }
            }
        }
    });
}

#[test]
fn what_only_the_kernel_objects_to_is_named_by_line_or_by_its_commit() {
    let text = "*filter\n-A INPUT -j ACCEPT\n-A INPUT -j MASQUERADE\n-A INPUT -j ACCEPT\nCOMMIT\n";
    in_new_namespace(async move || {
        for (commands, line) in [(nf_tables(), 3), (legacy(), 5)] {
            let refusal = refusal(&system(&commands).await, Family::Ipv4, text).await;
            assert_eq!(refusal.kind, RefusalKind::Input(Some(line)), "{refusal}");
        }
    });
}

#[test]
fn ebtables_names_the_line_too() {
    let cases = [
        ("*nat\n-A PREROUTING --frob x -j ACCEPT\nCOMMIT\n", 2),
        ("*nat\n-A PREROUTING -j ACCEPT\n-A NOCHAIN -j ACCEPT\nCOMMIT\n", 3),
        ("*nat\n-A PREROUTING -j ACCEPT\n-D PREROUTING 99\nCOMMIT\n", 3),
        ("*nat\n-A PREROUTING --ip-src 9.1.1.1 -j ACCEPT\nCOMMIT\n", 2),
        ("*nat\n-A PREROUTING -j used\n-X used\nCOMMIT\n", 3),
        // The jump's chain is looked for at the end.
        ("*nat\n-A PREROUTING -j NOSUCH\n-A PREROUTING -j ACCEPT\nCOMMIT\n", 4),
    ];
    in_new_namespace(async move || {
        let system = system(&nf_tables()).await;
        system.commit(Family::Bridge, &script("*nat\n:used RETURN\nCOMMIT\n")).await.expect("it is a chain");
        for (text, line) in cases {
            let refusal = refusal(&system, Family::Bridge, text).await;
            assert_eq!(refusal.kind, RefusalKind::Input(Some(line)), "{text}{refusal}");
        }
        assert!(tables(&system, Family::Bridge).await.values().all(|table| table.chains.values().all(|chain| chain.rules.is_empty())));
    });
}

#[test]
fn tables_before_the_refused_one_are_in_and_it_is_not() {
    let text = "*nat\n:LIBVIRT_PRT - [0:0]\nCOMMIT\n*filter\n:LIBVIRT_INP - [0:0]\n-A NOCHAIN -j ACCEPT\nCOMMIT\n";
    in_new_namespace(async move || {
        for commands in [nf_tables(), legacy()] {
            let system = system(&commands).await;
            let refusal = refusal(&system, Family::Ipv4, text).await;
            assert_eq!(refusal.kind, RefusalKind::Input(Some(6)), "{refusal}");
            let tables = tables(&system, Family::Ipv4).await;
            assert!(tables[&Table::Nat].chains.contains_key(&ChainName::new("LIBVIRT_PRT")), "{tables:?}");
            let filter = tables.get(&Table::Filter);
            assert!(filter.is_none_or(|filter| !filter.chains.contains_key(&ChainName::new("LIBVIRT_INP"))), "{tables:?}");
        }
    });
}

#[test]
fn a_held_lock_is_busy() {
    in_new_namespace(async || {
        let system = system(&legacy()).await;
        let mut holder = Command::new("flock")
            .args(["/run/xtables.lock", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`flock` runs");
        answer(&mut holder, "held");
        let refusal = refusal(&system, Family::Ipv4, "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n").await;
        assert_eq!(refusal.kind, RefusalKind::Busy, "{refusal}");
        drop(holder.stdin.take());
        holder.wait().expect("it ends with its input");
        system.commit(Family::Ipv4, &script("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")).await.expect("the lock is free");
    });
}

#[test]
fn missing_privilege_is_named_and_never_empty() {
    in_new_namespace(async || {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let commands = scripted(directory.path(), "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin $tool \"$@\"");
        let system = system(&commands).await;
        let Observation::Unreadable(reason) = observe(&system, Family::Ipv4).await else { panic!("it was read") };
        assert!(reason.ends_with("bridgeward needs CAP_NET_ADMIN"), "{reason}");
        let refusal = refusal(&system, Family::Ipv4, "*filter\nCOMMIT\n").await;
        assert_eq!(refusal.kind, RefusalKind::Environment, "{refusal}");
        assert!(refusal.words.ends_with("bridgeward needs CAP_NET_ADMIN"), "{refusal}");
    });
}

#[test]
fn a_tool_that_hangs_is_given_up() {
    in_new_namespace(async || {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let commands = scripted(directory.path(), "case $1 in --version) exec $tool \"$@\";; esac\nexec sleep 60");
        let system = System::new(probe(&commands).await, Duration::from_millis(300));
        assert!(matches!(observe(&system, Family::Ipv4).await, Observation::Unreadable(reason) if reason.contains("no answer")));
        let refusal = refusal(&system, Family::Ipv4, "*filter\nCOMMIT\n").await;
        assert_eq!((refusal.kind, refusal.status.as_str()), (RefusalKind::Environment, "timed out"));
    });
}

#[test]
fn a_table_with_native_rules_is_unreadable_if_it_is_one_of_ours() {
    in_new_namespace(async || {
        let system = system(&nf_tables()).await;
        sh("nft add table ip raw; nft add chain ip raw own; nft add rule ip raw own ct state new drop");
        assert!(tables(&system, Family::Ipv4).await.is_empty());
        sh("nft add table ip nat; nft add chain ip nat own; nft add rule ip nat own ct state new drop");
        let Observation::Unreadable(reason) = observe(&system, Family::Ipv4).await else { panic!("it was read") };
        assert!(reason.contains("Table `nat' is incompatible, use 'nft' tool"), "{reason}");
    });
}

#[test]
fn the_tool_can_be_asked_for_a_second_opinion() {
    in_new_namespace(async || {
        let system = system(&nf_tables()).await;
        system.commit(Family::Ipv4, &script("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")).await.expect("it is a rule");
        let tool = system.tools().of(Family::Ipv4).expect("the tests need iptables");
        let chain = ChainId { family: Family::Ipv4, table: Table::Filter, chain: ChainName::new("INPUT") };
        let present = |target| tool_says_present(tool, &chain, &IpRule::new(target).into());
        assert_eq!((present(IpTarget::Accept), present(IpTarget::Drop)), (Some(true), Some(false)));
    });
}

#[test]
fn namespaces_have_identities_of_their_own() {
    let own = identity().expect("proc is mounted");
    let (other, again) = in_new_namespace(async || (identity().expect("proc is mounted"), identity().expect("proc is mounted")));
    assert_eq!(other, again);
    assert_eq!(other.boot_id, own.boot_id);
    assert_ne!(other.namespace, own.namespace);
}

#[test]
fn ethernet_devices_are_listed_with_their_addresses() {
    in_new_namespace(async || {
        sh(
            "ip link add br0 type bridge; ip tuntap add vnet7 mode tap; ip link set vnet7 address fe:54:00:00:00:07; ip link add v0 type veth peer name v1",
        );
        let links = links().await.expect("the kernel lists its devices");
        let names: Vec<_> = links.iter().map(|link| link.device.as_str()).collect();
        assert_eq!(names, ["br0", "v0", "v1", "vnet7"]);
        let tap = links.iter().find(|link| Some(&link.device) == DeviceName::new("vnet7").as_ref()).expect("it is listed");
        assert_eq!((tap.mac.to_string().as_str(), tap.kind), ("fe:54:00:00:00:07", LinkKind::Other));
        assert_eq!(links[0].kind, LinkKind::Bridge);
    });
}

#[test]
fn a_libvirtd_counts_in_its_own_namespace_only() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let program = directory.path().join("virtnetworkd");
    fs::copy("/bin/cat", &program).expect("the directory is ours");
    in_new_namespace(async move || {
        assert_eq!(libvirt_daemon(), None);
        let mut daemon = Command::new(&program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it is a copy of cat");
        // A process has its new name a moment after it was started: once it answers, for certain.
        answer(&mut daemon, "ready");
        let found = libvirt_daemon();
        let elsewhere = in_new_namespace(async || libvirt_daemon());
        drop(daemon.stdin.take());
        daemon.wait().expect("it ends with its input");
        assert_eq!(found, Some(LibvirtDaemon { name: "virtnetworkd", pid: daemon.id() }));
        assert_eq!(elsewhere, None);
    });
}
