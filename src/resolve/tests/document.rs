//! XML in, policy out: the parser's model and the stock filters through every step.

use super::*;
use crate::parse::parse;
use crate::source::Sources;
use crate::stock::stock_filters;

/// Parses and resolves these files on top of the stock filters.
fn run(files: &[(&str, &str)], quirks: Quirks) -> (Resolved, Sources) {
    let mut sources = Sources::default();
    let mut read = |path: String, text: &str| {
        let file = sources.add(path, text);
        parse(&sources, file, quirks)
    };
    let documents: Vec<Parsed> = files.iter().map(|&(path, text)| read(path.to_owned(), text)).collect();
    let stock: Vec<Filter> = stock_filters().flat_map(|(name, xml)| read(format!("<stock>/{name}.xml"), xml).filters).collect();
    (resolve(&documents, &stock, &[], &Learned::default(), quirks), sources)
}

fn bound(filter: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("<parameter name='{name}' value='{value}'/>")).collect();
    let parameters = parameters.concat();
    format!(
        "<interface type='bridge'><mac address='{MAC}'/><target dev='vnet0'/><filterref filter='{filter}'>{parameters}</filterref></interface>"
    )
}

#[test]
fn clean_traffic_is_collected_in_document_order() {
    let interface = bound("clean-traffic", &[("IP", "10.0.0.5")]);
    for quirks in [Quirks::Fixed, Quirks::Libvirt] {
        let (resolved, _) = run(&[("vnet0.xml", &interface)], quirks);
        assert_eq!(
            rules(&resolved),
            [
                "mac return out srcmacaddr=52:54:00:56:44:32",
                "mac drop out",
                "ipv4-ip return out srcipaddr=0.0.0.0 protocol=17",
                "ipv4-ip return out srcipaddr=10.0.0.5",
                "ipv4-ip drop out",
                "root accept out protocolid=2048",
                "ipv4 accept in",
                "arp-mac return out arpsrcmacaddr=52:54:00:56:44:32",
                "arp-mac drop out",
                "arp-ip return out arpsrcipaddr=10.0.0.5",
                "arp-ip drop out",
                "root accept inout protocolid=2054",
                "root drop inout",
                "root accept out protocolid=2101",
                "rarp accept out srcmacaddr=52:54:00:56:44:32 dstmacaddr=ff:ff:ff:ff:ff:ff opcode=3 arpsrcmacaddr=52:54:00:56:44:32 \
                 arpdstmacaddr=52:54:00:56:44:32 arpsrcipaddr=0.0.0.0 arpdstipaddr=0.0.0.0",
                "rarp accept in dstmacaddr=ff:ff:ff:ff:ff:ff opcode=3 arpsrcmacaddr=52:54:00:56:44:32 arpdstmacaddr=52:54:00:56:44:32 \
                 arpsrcipaddr=0.0.0.0 arpdstipaddr=0.0.0.0",
                "rarp drop inout",
            ]
        );
    }
}

#[test]
fn every_stock_filter_resolves_when_its_variables_are_given() {
    for (name, _) in stock_filters() {
        let server = if name.contains("dhcpv6") { "fe80::1" } else { "10.0.0.1" };
        let parameters = [("IP", "10.0.0.5"), ("IPV6", "2001:db8::5"), ("DHCPSERVER", server), ("GATEWAY_MAC", "02:00:00:00:00:fe")];
        for quirks in [Quirks::Fixed, Quirks::Libvirt] {
            let (resolved, _) = run(&[("vnet0.xml", &bound(name, &parameters))], quirks);
            assert!(!rules(&resolved).is_empty(), "{name}");
        }
    }
}

#[test]
fn a_file_stands_for_a_stock_filter_in_the_trees_of_the_others() {
    let own = "<filter name='no-mac-spoofing' chain='mac'><rule action='drop' direction='out'><mac srcmacaddr='$BAD'/></rule></filter>";
    let interface = bound("clean-traffic", &[("IP", "10.0.0.5"), ("BAD", "02:00:00:00:00:01")]);
    let (resolved, _) = run(&[("own.xml", own), ("vnet0.xml", &interface)], Quirks::Fixed);
    assert_eq!(rules(&resolved)[0], "mac drop out srcmacaddr=02:00:00:00:00:01");
    assert_eq!(rules(&resolved).len(), 16);
}

#[test]
fn without_an_address_clean_traffic_learns_one() {
    let (resolved, _) =
        run(&[("vnet0.xml", &bound("clean-traffic", &[("CTRL_IP_LEARNING", "dhcp"), ("DHCPSERVER", "10.0.0.1")]))], Quirks::Fixed);
    assert_eq!(learning(&resolved), &Method::Dhcp(vec!["10.0.0.1".parse().expect("an address")]));
}

#[test]
fn a_filter_of_a_broken_file_holds_its_guests_and_no_others() {
    let broken = "<filter name='web' chain='root'>\n  <rule action='drp' direction='out'/>\n</filter>";
    let other = bound("no-ip-multicast", &[]).replace("vnet0", "vnet1");
    let files = [("web.xml", broken), ("vnet0.xml", &bound("web", &[])), ("vnet1.xml", &other)];
    let (resolved, sources) = run(&files, Quirks::Fixed);
    assert!(resolved.incomplete);
    assert_eq!(held(&resolved), [("interface `vnet0`".to_owned(), "broken-filter")]);
    assert_eq!(resolved.guests.len(), 1);
    assert_eq!(sources.position(resolved.diagnostics[0].labels[1].span).path.as_ref(), "web.xml");
}

#[test]
fn a_wrong_value_is_shown_under_the_value_alone() {
    let filter = "<filter name='web'><rule action='accept' direction='in'><tcp dstportstart='$PORT'/></rule></filter>";
    let interface = bound("web", &[("PORT", "http")]);
    let (resolved, sources) = run(&[("web.xml", filter), ("vnet0.xml", &interface)], Quirks::Fixed);
    let fault = fault(&resolved);
    assert_eq!(fault.labels.iter().map(|label| sources.text(label.span)).collect::<Vec<_>>(), ["http", "$PORT"]);
    assert_eq!(fault.help.as_deref(), Some("write a number in place of the name of a service"));
}
