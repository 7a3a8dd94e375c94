//! The end of a filter's chain: what none of its rules matches goes on to the rules that follow, where libvirt's chains accept it.

use super::dhcp::discover;
use super::frame::{Frame, Host};
use super::wire::Wire;

const GUEST: Host = Host::guest(0);
const PEER: Host = Host::guest(1);

/// Requests for a lease and a probe, and nothing else: the stock filter's chain has no drop of its own.
const LEASES_ONLY: &str = "  <filterref filter='allow-dhcp'/>
  <rule action='accept' direction='out' priority='500'><ip protocol='udp' dstportstart='9'/></rule>
  <rule action='drop' direction='inout' priority='1000'/>";

const LEASES: [&str; 2] = ["request for a lease", "probe"];

fn frames() -> [Frame; 4] {
    [
        Frame { name: "request for a lease", bytes: discover() },
        Frame { name: "request for a name", bytes: GUEST.udp(5000, PEER, 53) },
        Frame { name: "connection", bytes: GUEST.syn(5001, PEER, 80) },
        Frame { name: "probe", bytes: GUEST.udp(5000, PEER, 9) },
    ]
}

#[test]
fn what_no_rule_of_a_chain_matches_meets_the_drop_that_follows() {
    let wire = Wire::new(2);
    let all = frames().map(|frame| frame.name);
    assert_eq!(wire.arrivals(0, 1, &frames()), all, "without rules everything passes");
    wire.filter(LEASES_ONLY);
    assert_eq!(wire.arrivals(0, 1, &frames()), LEASES);
    let as_libvirt = wire.world.bridgeward(&["apply", "--quirks", "libvirt"]);
    assert_eq!(as_libvirt.code, Some(0), "{as_libvirt}");
    assert!(as_libvirt.stderr.contains("open-chain-end"), "{as_libvirt}");
    assert_eq!(wire.arrivals(0, 1, &frames()), all, "libvirt's chain accepts at its end");
    wire.world.apply();
    assert_eq!(wire.arrivals(0, 1, &frames()), LEASES);
}

#[test]
fn an_end_that_somebody_opens_is_drift_and_is_repaired_from_the_record_too() {
    let wire = Wire::new(2);
    assert_eq!(wire.arrivals(0, 1, &frames()).len(), 4, "without rules everything passes");
    wire.filter(LEASES_ONLY);
    let open = || wire.world.sh("ebtables -t nat -P I-vnet0-ipv4 ACCEPT");
    open();
    assert_eq!(wire.arrivals(0, 1, &frames()).len(), 4, "the end accepts");
    let diff = wire.world.bridgeward(&["diff"]);
    assert_eq!(diff.code, Some(1), "{diff}");
    assert!(diff.stdout.contains("--P I-vnet0-ipv4 ACCEPT\n+-P I-vnet0-ipv4 RETURN\n"), "{diff}");
    wire.world.apply();
    assert_eq!(wire.arrivals(0, 1, &frames()), LEASES);

    open();
    wire.world.write("service.xml", "<filter name='service'><rule");
    let held = wire.world.bridgeward(&["apply"]);
    assert_eq!(held.code, Some(1), "{held}");
    assert_eq!(wire.arrivals(0, 1, &frames()), LEASES, "{held}");

    wire.filter("  <filterref filter='allow-dhcp'/>\n  <filterref filter='no-ip-multicast'/>\n  <filterref filter='allow-ipv4'/>");
    assert_eq!(wire.arrivals(0, 1, &frames()).len(), 4, "the chain has got an end of its own");
    let second = wire.world.bridgeward(&["diff"]);
    assert_eq!(second.code, Some(0), "{second}");
    let purge = wire.world.bridgeward(&["purge"]);
    assert_eq!(purge.code, Some(0), "{purge}");
    assert!(!wire.world.sh("ebtables-save").contains("vnet0"), "{purge}");
}
