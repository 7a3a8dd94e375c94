//! Which document of an interface counts, which device it is, and what clashes.

use uuid::Uuid;

use super::*;
use crate::model::Object;
use crate::model::network::{Document as Kind, Forward, Network};

fn owned(document: Document, owner: u128, interface: Interface) -> Parsed {
    let interface =
        Interface { document, owner: Some(format!("guest{owner}").into()), owner_uuid: Some(Uuid::from_u128(owner)), ..interface };
    in_file(vec![interface])
}

/// Gives all places of these interfaces a file of their own.
fn in_file(mut all: Vec<Interface>) -> Parsed {
    let file = FileId(span().start + 1);
    for interface in &mut all {
        interface.span.file = file;
        if let Some(device) = &mut interface.device {
            device.span.file = file;
        }
    }
    interfaces(all)
}

fn unnamed(filter: &str) -> Interface {
    Interface { device: None, ..tap("vnet0", filter, &[]) }
}

fn run(documents: Vec<Parsed>, links: &[Link]) -> Resolved {
    let drops = |count| vec![rule(Protocol::None, Vec::new()); count];
    let of_rules = [("f", 0), ("g", 0), ("one-rule", 1), ("two-rules", 2), ("three-rules", 3)];
    let all = of_rules.map(|(name, count)| filter(name, drops(count))).to_vec();
    let documents: Vec<Parsed> = std::iter::once(filters(all)).chain(documents).collect();
    let resolved = resolve(&documents, &[], links, &Learned::default(), Quirks::Fixed);
    // The order of files must not matter anywhere.
    let backwards: Vec<Parsed> = documents.into_iter().rev().collect();
    assert_eq!(format!("{resolved:?}"), format!("{:?}", resolve(&backwards, &[], links, &Learned::default(), Quirks::Fixed)));
    resolved
}

fn devices(resolved: &Resolved) -> Vec<&str> {
    resolved.guests.iter().map(|guest| guest.device.as_str()).collect()
}

#[test]
fn guests_are_policies_by_device() {
    let resolved = run(vec![interfaces(vec![tap("vnet1", "f", &[]), tap("vnet0", "f", &[])])], &[]);
    assert_eq!(devices(&resolved), ["vnet0", "vnet1"]);
    assert_eq!(resolved.guests[0].mac, mac(MAC));
}

#[test]
fn an_interface_without_a_filter_has_no_rules_and_no_remark() {
    let resolved = run(vec![interfaces(vec![Interface { filter: None, ..tap("vnet0", "f", &[]) }])], &[]);
    assert_eq!((devices(&resolved).len(), codes(&resolved).len(), resolved.held.len()), (0, 0, 0));
}

#[test]
fn two_guests_with_one_device_are_both_held() {
    let resolved = run(vec![in_file(vec![tap("vnet0", "f", &[])]), in_file(vec![tap("vnet0", "g", &[])])], &[]);
    assert_eq!(codes(&resolved), ["duplicate-device"]);
    assert_eq!(resolved.diagnostics[0].labels.len(), 2);
    assert_eq!(held(&resolved), [("interface `vnet0`".to_owned(), "duplicate-device")]);
}

#[test]
fn a_device_taken_by_an_unfiltered_interface_is_still_taken() {
    let unfiltered = Interface { filter: None, ..tap("vnet0", "f", &[]) };
    assert_eq!(codes(&run(vec![in_file(vec![unfiltered]), in_file(vec![tap("vnet0", "g", &[])])], &[])), ["duplicate-device"]);
}

#[test]
fn a_running_guest_is_what_its_status_says() {
    let resolved =
        run(vec![owned(Document::Domain, 1, tap("tap-old", "f", &[])), owned(Document::DomainStatus, 1, tap("vnet0", "f", &[]))], &[]);
    assert_eq!(codes(&resolved), Vec::<&str>::new());
    assert_eq!(devices(&resolved), ["vnet0"]);
}

#[test]
fn a_status_of_another_guest_supersedes_nothing() {
    let resolved =
        run(vec![owned(Document::Domain, 1, tap("vnet1", "f", &[])), owned(Document::DomainStatus, 2, tap("vnet0", "f", &[]))], &[]);
    assert_eq!(devices(&resolved), ["vnet0", "vnet1"]);
}

#[test]
fn of_domain_status_binding_and_binding_status_the_nearest_to_the_kernel_counts() {
    let all = [
        (Document::Domain, "f"),
        (Document::DomainStatus, "one-rule"),
        (Document::Binding, "two-rules"),
        (Document::BindingStatus, "three-rules"),
    ];
    for count in 1..=all.len() {
        let documents = all[..count].iter().map(|&(document, filter)| owned(document, 1, tap("vnet0", filter, &[])));
        let resolved = run(documents.collect(), &[]);
        assert_eq!(rules(&resolved).len(), count - 1);
    }
}

#[test]
fn a_binding_supersedes_the_domain_of_its_owner_only() {
    let domain = || owned(Document::DomainStatus, 1, tap("vnet0", "f", &[]));
    let good = run(vec![domain(), owned(Document::Binding, 1, tap("vnet0", "gone", &[]))], &[]);
    assert_eq!(codes(&good), ["missing-filter"]);
    let clash = run(vec![domain(), owned(Document::Binding, 2, tap("vnet0", "f", &[]))], &[]);
    assert_eq!(codes(&clash), ["duplicate-device"]);
}

#[test]
fn a_plain_interface_is_superseded_by_nothing() {
    let resolved = run(vec![in_file(vec![tap("vnet0", "f", &[])]), owned(Document::BindingStatus, 2, tap("vnet0", "f", &[]))], &[]);
    assert_eq!(codes(&resolved), ["duplicate-device"]);
}

#[test]
fn a_guest_defined_in_two_files_is_held_whole() {
    let resolved = run(vec![owned(Document::Domain, 1, tap("vnet0", "f", &[])), owned(Document::Domain, 1, tap("vnet1", "f", &[]))], &[]);
    assert_eq!(codes(&resolved), ["duplicate-guest"]);
    assert_eq!(resolved.held.len(), 2);
}

#[test]
fn a_guest_with_two_interfaces_in_one_file_is_as_it_should_be() {
    let named = |device| Interface {
        document: Document::Domain,
        owner: Some("web".into()),
        owner_uuid: Some(Uuid::from_u128(1)),
        ..tap(device, "f", &[])
    };
    assert_eq!(codes(&run(vec![in_file(vec![named("vnet0"), named("vnet1")])], &[])), Vec::<&str>::new());
}

#[test]
fn an_interface_without_a_device_is_found_by_the_last_five_bytes_of_its_address() {
    let links = [link("vnet3", "fe:54:00:56:44:32"), link("vnet4", "fe:54:00:56:44:33")];
    let resolved = run(vec![interfaces(vec![unnamed("f")])], &links);
    assert_eq!(codes(&resolved), Vec::<&str>::new());
    assert_eq!(devices(&resolved), ["vnet3"]);
}

#[test]
fn an_interface_that_matches_no_device_or_several_has_no_rules_and_is_not_held() {
    let several = [link("vnet3", "fe:54:00:56:44:32"), link("vnet4", "52:54:00:56:44:32")];
    for links in [&[][..], &several] {
        let resolved = run(vec![interfaces(vec![unnamed("f")])], links);
        assert_eq!(codes(&resolved), ["no-tap"]);
        assert_eq!(resolved.diagnostics[0].severity, Severity::Warning);
        assert!(resolved.guests.is_empty() && resolved.held.is_empty());
    }
}

#[test]
fn a_bridge_with_the_address_of_its_port_is_not_taken_for_the_tap() {
    let bridge = |name| Link { kind: LinkKind::Bridge, ..link(name, "fe:54:00:56:44:32") };
    let links = [link("vnet3", "fe:54:00:56:44:32"), bridge("br0")];
    assert_eq!(devices(&run(vec![interfaces(vec![unnamed("f")])], &links)), ["vnet3"]);
}

#[test]
fn a_device_that_a_network_names_as_its_bridge_is_no_tap_either() {
    let network = Network {
        name: here("lab".to_owned()),
        uuid: None,
        document: Kind::Definition,
        bridge: Some(here(device("virbr0"))),
        forward: Forward::External,
        ipv6: false,
        addresses: Vec::new(),
        span: span(),
    };
    let networks = Parsed { networks: vec![network], ..Parsed::default() };
    let links = [link("virbr0", "52:54:00:56:44:32"), link("vnet3", "fe:54:00:56:44:32")];
    assert_eq!(devices(&run(vec![networks, interfaces(vec![unnamed("f")])], &links)), ["vnet3"]);
}

#[test]
fn a_domain_without_a_device_whose_binding_is_given_is_not_looked_for() {
    let resolved = run(vec![owned(Document::Domain, 1, unnamed("f")), owned(Document::BindingStatus, 1, tap("vnet0", "g", &[]))], &[]);
    assert_eq!(codes(&resolved), Vec::<&str>::new());
    assert_eq!(devices(&resolved), ["vnet0"]);
}

#[test]
fn two_interfaces_found_for_one_device_clash() {
    let links = [link("vnet3", "fe:54:00:56:44:32")];
    let resolved = run(vec![in_file(vec![unnamed("f")]), in_file(vec![unnamed("g")])], &links);
    assert_eq!(codes(&resolved), ["duplicate-device"]);
    assert_eq!(held(&resolved), [("interface `vnet3`".to_owned(), "duplicate-device")]);
}

#[test]
fn a_broken_interface_is_held_even_where_another_file_is_whole() {
    let documents = vec![broken(BrokenKind::Object(Object::Interface(device("vnet0")))), interfaces(vec![tap("vnet0", "f", &[])])];
    let resolved = run(documents, &[]);
    assert!(resolved.incomplete && resolved.guests.is_empty());
    assert_eq!(held(&resolved), [("interface `vnet0`".to_owned(), "broken-document")]);
}

#[test]
fn a_filter_needs_an_address_to_bind_to() {
    let resolved = run(vec![interfaces(vec![Interface { mac: None, ..tap("vnet0", "f", &[]) }])], &[]);
    assert_eq!(held(&resolved), [("interface `vnet0`".to_owned(), "missing-mac")]);
}
