//! Many guests on shared filters, and the order of files.

use proptest::prelude::*;

use super::*;
use crate::model::learned::{Anchor, Claimant, Finding, Knowledge, Method, Source, Until};
use AttributeName as A;

/// Filters in the shape of clean-traffic: three levels, 13 rules, `$MAC` and `$IP`.
fn library() -> Vec<Filter> {
    let spoof = |name: &str, protocol, attribute, variable: &str| {
        filter(name, vec![rule(protocol, vec![var(attribute, variable)]), rule(Protocol::None, Vec::new())])
    };
    vec![
        spoof("no-mac-spoofing", Protocol::Mac, A::SrcMacAddr, "MAC"),
        spoof("no-ip-spoofing", Protocol::Ip, A::SrcIpAddr, "IP"),
        spoof("no-arp-mac-spoofing", Protocol::Arp, A::ArpSrcMacAddr, "MAC"),
        spoof("no-arp-ip-spoofing", Protocol::Arp, A::ArpSrcIpAddr, "IP"),
        filter("no-arp-spoofing", vec![include("no-arp-mac-spoofing", &[]), include("no-arp-ip-spoofing", &[])]),
        filter(
            "clean",
            vec![
                include("no-mac-spoofing", &[]),
                include("no-ip-spoofing", &[]),
                rule(Protocol::Mac, vec![lit(A::ProtocolId, Literal::Number(0x800))]),
                include("no-arp-spoofing", &[]),
                rule(Protocol::None, Vec::new()),
            ],
        ),
    ]
}

#[test]
fn three_thousand_guests_share_their_filters() {
    let guests = (0..3000).map(|at| tap(&format!("vnet{at}"), "clean", &[("IP", "10.0.0.1")])).collect();
    let resolved = fixed(&[filters(library()), interfaces(guests)]);
    assert_eq!(codes(&resolved), Vec::<&str>::new());
    assert_eq!(resolved.guests.len(), 3000);
    assert!(resolved.guests.iter().all(|guest| guest_rules(guest).len() == 10));
}

#[test]
fn a_guest_that_has_learned_its_address_takes_no_more_than_one_whose_file_gives_it() {
    let rules = || (0..20).map(|_| rule(Protocol::Ip, vec![var(A::SrcIpAddr, "IP")])).collect();
    let names: Vec<String> = (0..3000).map(|at| format!("vnet{at}")).collect();
    let finding = Finding { address: "10.0.0.1".parse().expect("an address"), source: Source::Use, until: Until::Forever };
    let claimant =
        |name: &String| Claimant { anchor: Anchor::Device(device(name)), mac: mac(MAC), filter: "f".into(), method: Method::Any };
    let knowledge = || Knowledge { findings: vec![finding], first: None };
    let learned = Learned(names.iter().map(|name| (claimant(name), knowledge())).collect());
    let guests = names.iter().map(|name| tap(name, "f", &[])).collect();
    let resolved = resolve(&[filters(vec![filter("f", rules())]), interfaces(guests)], &[], &[], &learned, Quirks::Fixed);
    assert_eq!((resolved.guests.len(), resolved.held.len()), (3000, 0));
    assert!(resolved.guests.iter().all(|guest| guest_rules(guest).len() == 20));
}

#[test]
fn of_very_many_faulty_guests_one_fault_each_is_told() {
    let rules = (0..64).map(|at| rule(Protocol::Ip, vec![var(A::SrcIpAddr, &format!("V{at}"))])).collect();
    let guests = (0..100).map(|at| tap(&format!("vnet{at}"), "f", &[])).collect();
    let resolved = fixed(&[filters(vec![filter("f", rules)]), interfaces(guests)]);
    assert_eq!((resolved.held.len(), resolved.diagnostics.len()), (100, 16 * 64 + 84));
}

proptest! {
    #[test]
    fn the_order_of_files_does_not_matter(order in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle()) {
        let mut documents: Vec<Parsed> = library().into_iter().map(|filter| filters(vec![filter])).collect();
        documents.push(interfaces(vec![tap("vnet0", "clean", &[])]));
        documents.push(interfaces(vec![tap("vnet0", "clean", &[("IP", "10.0.0.1")])]));
        documents.push(interfaces(vec![tap("vnet1", "missing", &[])]));
        documents.push(interfaces(vec![tap("vnet2", "no-ip-spoofing", &[("IP", "nonsense")])]));
        documents.push(filters(vec![filter("no-mac-spoofing", Vec::new())]));
        documents.push(broken(BrokenKind::Filter("clean".into())));
        let shuffled: Vec<Parsed> = order.iter().map(|&at| documents[at].clone()).collect();
        prop_assert_eq!(format!("{:?}", fixed(&shuffled)), format!("{:?}", fixed(&documents)));
    }
}
