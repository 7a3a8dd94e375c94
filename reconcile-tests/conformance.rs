//! What libvirt 9.0 makes of the same XML: every case is a state directory and the rules that a real libvirtd left in the kernel.
//!
//! A case folder holds `state/`, `learned.json` where addresses had been learned, and either `golden.rules` (the rules, as saved), or `refused.txt` (libvirt refused the document: so
//! must we, with a place), or `refused-at-start.txt` (only the host or a tool refused: anything but a crash is right).
//! Everything runs with `--quirks libvirt`: these cases are about doing what libvirt does, bug for bug.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::rules;
use crate::world::{Answer, Tools, World};

/// One `#[test]` per case, and the list of all cases for [`no_case_is_forgotten`].
macro_rules! cases {
    ($($group:ident { $($name:ident = $folder:literal),* $(,)? })*) => {
        $(mod $group {
            $(#[test]
            fn $name() {
                super::check($folder);
            })*
        })*

        const CASES: &[&str] = &[$($($folder),*),*];
    };
}

/// What the case folder says about the outcome.
enum Outcome {
    /// These rules.
    Rules(String),
    /// Refused, with a place.
    Refused,
    /// Taken or refused, but orderly.
    Either,
}

fn check(folder: &str) {
    check_with(folder, Tools::NfTables);
}

fn check_with(folder: &str, tools: Tools) {
    let case = root().join(folder);
    let world = World::with_tools(tools);
    prepare(&world, &case.join("state"));
    know(&world, &case.join("learned.json"));
    let state = case.join("state").display().to_string();
    let apply = world.bridgeward(&["apply", "--quirks", "libvirt", "--state", &state]);
    match outcome(&case) {
        Outcome::Rules(golden) => {
            assert_eq!(apply.code, Some(0), "{apply}");
            let wanted = rules::normal(rules::parse(&golden));
            let found = rules::normal(rules::parse(&world.save_all()));
            let difference = rules::difference(&wanted, &found);
            assert!(difference.is_empty(), "{folder} differs from libvirt:\n{difference}\n{apply}");
            let second = world.bridgeward(&["diff", "--quirks", "libvirt", "--state", &state]);
            assert_eq!(second.code, Some(0), "the second diff of {folder} is not empty:\n{second}");
        }
        Outcome::Refused => {
            assert_eq!(apply.code, Some(1), "{folder} has to be refused:\n{apply}");
            assert!(names_a_place(&apply), "the refusal of {folder} names no place:\n{apply}");
        }
        Outcome::Either => assert!(matches!(apply.code, Some(0..=2)), "{folder} ended the program:\n{apply}"),
    }
}

#[test]
fn legacy_tools_hold_the_same_rules_for_a_network_with_guests() {
    check_with("combined/nat-network-two-guests", Tools::Legacy);
}

#[test]
fn legacy_tools_hold_the_same_rules_for_the_example_state() {
    check_with("combined/example-state", Tools::Legacy);
}

#[test]
fn no_case_is_forgotten() {
    let listed: BTreeSet<String> = CASES.iter().map(ToString::to_string).collect();
    let on_disk: BTreeSet<String> = subfolders(&root())
        .flat_map(|group| subfolders(&group).collect::<Vec<_>>())
        .map(|case| case.strip_prefix(root()).expect("the case was found there").display().to_string())
        .collect();
    assert_eq!(listed, on_disk, "the list in conformance.rs and the folders have to agree");
}

/// The devices and the set that a case mentions, made beforehand as a hypervisor would.
fn prepare(world: &World, state: &Path) {
    let mut script = vec!["ip link add br0 type bridge; ip link set br0 up".to_owned()];
    for text in xml_files(state) {
        let devices = attributes(&text, "<portdev", "name").chain(attributes(&text, "<target", "dev"));
        for device in devices {
            script.push(format!("ip tuntap add '{device}' mode tap; ip link set '{device}' master br0 up"));
        }
        if text.contains("ipset") {
            script.push("ipset -exist create tck_test hash:ip".to_owned());
        }
    }
    world.sh(&script.join("\n"));
}

/// Has the addresses known that libvirt had learned when its rules were captured: as the daemon writes them down, of this boot and namespace.
fn know(world: &World, learned: &Path) {
    let Ok(text) = fs::read_to_string(learned) else { return };
    // Where nothing is desired, `diff` makes the record's directory and nothing else; its name is the namespace's.
    let answer = world.bridgeward(&["diff"]);
    assert_eq!(answer.code, Some(0), "{answer}");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("proc is mounted");
    let namespace = world.sh("ls /run/bridgeward");
    let text = text.replace("BOOT", boot.trim()).replace("NAMESPACE", namespace.trim());
    let directory = format!("/var/lib/bridgeward/{}", namespace.trim());
    world.sh(&format!("mkdir -m 0700 {directory}; cat >{directory}/learned.json <<'END'\n{text}END"));
}

/// The text of every file below a folder; some cases are not valid UTF-8 on purpose.
fn xml_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("every case has a state directory");
    let paths = entries.map(|entry| entry.expect("the folder is readable").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                return xml_files(&path);
            }
            vec![String::from_utf8_lossy(&fs::read(path).expect("state files are readable")).into_owned()]
        })
        .collect()
}

/// The values of an attribute of all such elements, by text alone: some cases are broken XML on purpose.
fn attributes<'text>(text: &'text str, element: &'text str, name: &str) -> impl Iterator<Item = &'text str> {
    let start = format!("{name}=");
    text.split(element).skip(1).filter_map(move |rest| {
        let value = rest.split_once('>')?.0.split_once(&start)?.1;
        value.get(1..)?.split(['\'', '"']).next()
    })
}

fn outcome(case: &Path) -> Outcome {
    if case.join("refused.txt").exists() {
        return Outcome::Refused;
    }
    if case.join("refused-at-start.txt").exists() {
        return Outcome::Either;
    }
    Outcome::Rules(fs::read_to_string(case.join("golden.rules")).expect("a case has an outcome: golden.rules or refused*.txt"))
}

/// `--> FILE:LINE:COLUMN`
fn names_a_place(answer: &Answer) -> bool {
    answer.stdout.lines().chain(answer.stderr.lines()).filter_map(|line| line.trim_start().strip_prefix("--> ")).any(|place| {
        let numbers: Vec<&str> = place.rsplitn(3, ':').take(2).collect();
        numbers.len() == 2 && numbers.iter().all(|number| number.parse::<u32>().is_ok())
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reconcile-tests/conformance")
}

fn subfolders(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is readable");
    entries.map(|entry| entry.expect("the folder is readable").path()).filter(|path| path.is_dir())
}

cases! {
    combined {
        example_state = "combined/example-state",
        nat_network_two_guests = "combined/nat-network-two-guests",
    }
    filters {
        collections_by_hand = "filters/collections-by-hand",
        corners_by_hand = "filters/corners-by-hand",
        layer_2_by_hand = "filters/layer-2-by-hand",
        layer_3_by_hand = "filters/layer-3-by-hand",
        fuzz_1_000 = "filters/fuzz-1-000",
        fuzz_1_001 = "filters/fuzz-1-001",
        fuzz_1_002 = "filters/fuzz-1-002",
        fuzz_1_003 = "filters/fuzz-1-003",
        fuzz_1_004 = "filters/fuzz-1-004",
        fuzz_1_005 = "filters/fuzz-1-005",
        fuzz_1_006 = "filters/fuzz-1-006",
        fuzz_1_007 = "filters/fuzz-1-007",
        fuzz_1_008 = "filters/fuzz-1-008",
        fuzz_1_009 = "filters/fuzz-1-009",
        fuzz_1_010 = "filters/fuzz-1-010",
        fuzz_1_011 = "filters/fuzz-1-011",
        fuzz_1_012 = "filters/fuzz-1-012",
        fuzz_1_013 = "filters/fuzz-1-013",
        fuzz_1_014 = "filters/fuzz-1-014",
        fuzz_1_015 = "filters/fuzz-1-015",
        fuzz_1_016 = "filters/fuzz-1-016",
        fuzz_1_017 = "filters/fuzz-1-017",
        fuzz_1_018 = "filters/fuzz-1-018",
        fuzz_1_019 = "filters/fuzz-1-019",
        fuzz_1_020 = "filters/fuzz-1-020",
        fuzz_1_021 = "filters/fuzz-1-021",
        fuzz_1_022 = "filters/fuzz-1-022",
        fuzz_1_023 = "filters/fuzz-1-023",
        fuzz_1_024 = "filters/fuzz-1-024",
        fuzz_1_025 = "filters/fuzz-1-025",
        fuzz_1_026 = "filters/fuzz-1-026",
        fuzz_1_027 = "filters/fuzz-1-027",
        fuzz_1_028 = "filters/fuzz-1-028",
        fuzz_1_029 = "filters/fuzz-1-029",
        fuzz_1_030 = "filters/fuzz-1-030",
        fuzz_1_031 = "filters/fuzz-1-031",
        fuzz_1_032 = "filters/fuzz-1-032",
        fuzz_1_033 = "filters/fuzz-1-033",
        fuzz_1_034 = "filters/fuzz-1-034",
        fuzz_1_035 = "filters/fuzz-1-035",
        fuzz_1_036 = "filters/fuzz-1-036",
        fuzz_1_037 = "filters/fuzz-1-037",
        fuzz_1_038 = "filters/fuzz-1-038",
        fuzz_1_039 = "filters/fuzz-1-039",
        fuzz_1_040 = "filters/fuzz-1-040",
        fuzz_1_041 = "filters/fuzz-1-041",
        fuzz_1_042 = "filters/fuzz-1-042",
        fuzz_1_043 = "filters/fuzz-1-043",
        fuzz_1_044 = "filters/fuzz-1-044",
        fuzz_1_045 = "filters/fuzz-1-045",
        fuzz_1_046 = "filters/fuzz-1-046",
        fuzz_1_047 = "filters/fuzz-1-047",
        fuzz_1_048 = "filters/fuzz-1-048",
        fuzz_1_049 = "filters/fuzz-1-049",
        fuzz_1_050 = "filters/fuzz-1-050",
        fuzz_1_051 = "filters/fuzz-1-051",
        fuzz_1_052 = "filters/fuzz-1-052",
        fuzz_1_053 = "filters/fuzz-1-053",
        fuzz_1_054 = "filters/fuzz-1-054",
        fuzz_1_055 = "filters/fuzz-1-055",
        fuzz_1_056 = "filters/fuzz-1-056",
        fuzz_1_057 = "filters/fuzz-1-057",
        fuzz_1_058 = "filters/fuzz-1-058",
        fuzz_1_059 = "filters/fuzz-1-059",
        fuzz_1_060 = "filters/fuzz-1-060",
        fuzz_1_061 = "filters/fuzz-1-061",
        fuzz_1_062 = "filters/fuzz-1-062",
        fuzz_1_063 = "filters/fuzz-1-063",
        fuzz_1_064 = "filters/fuzz-1-064",
        fuzz_1_065 = "filters/fuzz-1-065",
        fuzz_1_066 = "filters/fuzz-1-066",
        fuzz_1_067 = "filters/fuzz-1-067",
        fuzz_1_068 = "filters/fuzz-1-068",
        fuzz_1_069 = "filters/fuzz-1-069",
        fuzz_1_070 = "filters/fuzz-1-070",
        fuzz_1_071 = "filters/fuzz-1-071",
        fuzz_1_072 = "filters/fuzz-1-072",
        fuzz_1_073 = "filters/fuzz-1-073",
        fuzz_1_074 = "filters/fuzz-1-074",
        fuzz_1_075 = "filters/fuzz-1-075",
        fuzz_1_076 = "filters/fuzz-1-076",
        fuzz_1_077 = "filters/fuzz-1-077",
        fuzz_1_078 = "filters/fuzz-1-078",
        fuzz_1_079 = "filters/fuzz-1-079",
        fuzz_1_080 = "filters/fuzz-1-080",
        fuzz_1_081 = "filters/fuzz-1-081",
        fuzz_1_082 = "filters/fuzz-1-082",
        fuzz_1_083 = "filters/fuzz-1-083",
        fuzz_1_084 = "filters/fuzz-1-084",
        fuzz_1_085 = "filters/fuzz-1-085",
        fuzz_1_086 = "filters/fuzz-1-086",
        fuzz_1_087 = "filters/fuzz-1-087",
        fuzz_1_088 = "filters/fuzz-1-088",
        fuzz_1_089 = "filters/fuzz-1-089",
    }
    learning {
        learning_any_interim = "learning/any-interim",
        learning_any_learned = "learning/any-learned",
        learning_dhcp_interim = "learning/dhcp-interim",
        learning_dhcp_learned = "learning/dhcp-learned",
    }
    networks {
        with_2dhcp4 = "networks/2dhcp4",
        addr_64k = "networks/addr-64k",
        addr_host = "networks/addr-host",
        addr_missing = "networks/addr-missing",
        addr_noend = "networks/addr-noend",
        baduuid = "networks/baduuid",
        br_mode_ip = "networks/br-mode-ip",
        bridge_15 = "networks/bridge-15",
        bridge_long = "networks/bridge-long",
        class_a = "networks/classA",
        class_c = "networks/classC",
        class_e = "networks/classE",
        dup_ip = "networks/dup-ip",
        fam_bad = "networks/fam-bad",
        host_out = "networks/host-out",
        iso_noip = "networks/iso-noip",
        iso_v4 = "networks/iso-v4",
        iso_v4_nodhcp = "networks/iso-v4-nodhcp",
        iso_v6 = "networks/iso-v6",
        mac_multi = "networks/mac-multi",
        mask_0 = "networks/mask-0",
        mask_noncontig = "networks/mask-noncontig",
        mask_v6 = "networks/mask-v6",
        mode_empty = "networks/mode-empty",
        nat_2 = "networks/nat-2",
        nat_addr = "networks/nat-addr",
        nat_addr_port_dev = "networks/nat-addr-port-dev",
        nat_dev_if_mismatch = "networks/nat-dev-if-mismatch",
        nat_dnsno_nodhcp = "networks/nat-dnsno-nodhcp",
        nat_many = "networks/nat-many",
        nat_port = "networks/nat-port",
        nat_route4 = "networks/nat-route4",
        nat_tftp = "networks/nat-tftp",
        nat_tftp_2nd = "networks/nat-tftp-2nd",
        nat_tftp_noroot = "networks/nat-tftp-noroot",
        nat_v4_bootponly = "networks/nat-v4-bootponly",
        nat_v4_devempty = "networks/nat-v4-devempty",
        nat_v4_hostsonly = "networks/nat-v4-hostsonly",
        nat_v4_nodhcp = "networks/nat-v4-nodhcp",
        nat_v4v6_dev = "networks/nat-v4v6-dev",
        nat_v4v6_nat6_dev = "networks/nat-v4v6-nat6-dev",
        nat_v6only = "networks/nat-v6only",
        open_dev = "networks/open-dev",
        open_v4 = "networks/open-v4",
        overlap_ip = "networks/overlap-ip",
        port_0x = "networks/port-0x",
        port_big = "networks/port-big",
        port_noend = "networks/port-noend",
        prefix_hex = "networks/prefix-hex",
        prefix0 = "networks/prefix0",
        prefix33 = "networks/prefix33",
        priv_mode_br = "networks/priv-mode-br",
        range_net = "networks/range-net",
        range_rev = "networks/range-rev",
        route_unreach = "networks/route-unreach",
        route_v4_dev = "networks/route-v4-dev",
        route_v4v6_dev = "networks/route-v4v6-dev",
        slashname = "networks/slashname",
        stp_off = "networks/stp-off",
        tftp6 = "networks/tftp6",
        twoforward = "networks/twoforward",
        v4_fam6 = "networks/v4-fam6",
        v6_host = "networks/v6-host",
        v6_netmask = "networks/v6-netmask",
        v6_noprefix = "networks/v6-noprefix",
        v6_prefix129 = "networks/v6-prefix129",
        zone = "networks/zone",
    }
    stock_filters {
        allow_arp = "stock-filters/allow-arp",
        allow_dhcp = "stock-filters/allow-dhcp",
        allow_dhcp_server = "stock-filters/allow-dhcp-server",
        allow_dhcp_server_two = "stock-filters/allow-dhcp-server-two",
        allow_dhcpv6 = "stock-filters/allow-dhcpv6",
        allow_dhcpv6_server = "stock-filters/allow-dhcpv6-server",
        allow_incoming_ipv4 = "stock-filters/allow-incoming-ipv4",
        allow_incoming_ipv6 = "stock-filters/allow-incoming-ipv6",
        allow_ipv4 = "stock-filters/allow-ipv4",
        allow_ipv6 = "stock-filters/allow-ipv6",
        clean_traffic = "stock-filters/clean-traffic",
        clean_traffic_gateway = "stock-filters/clean-traffic-gateway",
        clean_traffic_gateway_list = "stock-filters/clean-traffic-gateway-list",
        clean_traffic_two_addresses = "stock-filters/clean-traffic-two-addresses",
        mac_overridden = "stock-filters/mac-overridden",
        no_arp_ip_spoofing = "stock-filters/no-arp-ip-spoofing",
        no_arp_mac_spoofing = "stock-filters/no-arp-mac-spoofing",
        no_arp_spoofing = "stock-filters/no-arp-spoofing",
        no_ip_multicast = "stock-filters/no-ip-multicast",
        no_ip_spoofing = "stock-filters/no-ip-spoofing",
        no_ipv6_multicast = "stock-filters/no-ipv6-multicast",
        no_ipv6_spoofing = "stock-filters/no-ipv6-spoofing",
        no_mac_broadcast = "stock-filters/no-mac-broadcast",
        no_mac_spoofing = "stock-filters/no-mac-spoofing",
        no_other_l2_traffic = "stock-filters/no-other-l2-traffic",
        no_other_rarp_traffic = "stock-filters/no-other-rarp-traffic",
        qemu_announce_self = "stock-filters/qemu-announce-self",
        qemu_announce_self_rarp = "stock-filters/qemu-announce-self-rarp",
        three_guests = "stock-filters/three-guests",
    }
}
