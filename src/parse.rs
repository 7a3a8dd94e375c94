//! Text to model: one XML file in, the documents it defines and every fault in it out.
//!
//! [`xml`] makes a strict tree with spans; `network`, `filter` and `interface` read it into the model, each visiting
//! every element and attribute once. Nothing here looks at another file.

mod filter;
mod interface;
mod network;
mod report;
pub(crate) mod value;
pub(crate) mod visit;
pub mod xml;

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::model::filter::Filter;
use crate::model::interface::Interface;
use crate::model::network::Network;
use crate::model::{Object, Quirks};
use crate::source::{FileId, Sources, Span};
use xml::Element;

/// What one file defines, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Networks without an error.
    pub networks: Vec<Network>,
    /// Filters without an error.
    pub filters: Vec<Filter>,
    /// Interfaces without an error.
    pub interfaces: Vec<Interface>,
    /// What the file would define were it whole: as far as names could be read before or around the fault.
    pub broken: Vec<Broken>,
    /// Everything there is to say about the file, in document order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Something that a faulty document meant to define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What it is.
    pub what: BrokenKind,
    /// Where the document or element starts.
    pub span: Span,
}

/// The kinds of faulty definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokenKind {
    /// A network or an interface: it is held.
    Object(Object),
    /// A filter: every interface whose tree contains it is held.
    Filter(Arc<str>),
    /// Nothing could be told but that the file is broken; nothing absent may be deleted while it is.
    Unknown,
}

/// Reads one file.
pub fn parse(sources: &Sources, file: FileId, quirks: Quirks) -> Parsed {
    let document = xml::read(&sources.file(file).text, file);
    let mut parsed = Parsed { diagnostics: document.faults, ..Parsed::default() };
    match &document.root {
        Some(root) if parsed.diagnostics.is_empty() => parse_root(root, quirks, &mut parsed),
        Some(root) => recover_names(root, &mut parsed),
        None => parsed.broken.push(Broken { what: BrokenKind::Unknown, span: Span { file, start: 0, end: 0 } }),
    }
    parsed.diagnostics.sort_by_key(|diagnostic| diagnostic.span().start);
    parsed
}

/// The documents that a root element can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Network,
    Filter,
    Interfaces,
    /// What libvirt keeps in the same directories and no rule depends on.
    Bystander,
}

const KINDS: [(&str, Kind); 16] = [
    ("network", Kind::Network),
    ("networkstatus", Kind::Network),
    ("filter", Kind::Filter),
    ("interface", Kind::Interfaces),
    ("domain", Kind::Interfaces),
    ("domstatus", Kind::Interfaces),
    ("filterbinding", Kind::Interfaces),
    ("filterbindingstatus", Kind::Interfaces),
    ("networkport", Kind::Bystander),
    ("networkportstatus", Kind::Bystander),
    ("domainsnapshot", Kind::Bystander),
    ("domaincheckpoint", Kind::Bystander),
    ("pool", Kind::Bystander),
    ("poolstate", Kind::Bystander),
    ("volume", Kind::Bystander),
    ("secret", Kind::Bystander),
];

fn kind_of(root: &Element<'_>) -> Option<Kind> {
    KINDS.iter().find(|(name, _)| *name == root.name).map(|&(_, kind)| kind)
}

fn parse_root(root: &Element<'_>, quirks: Quirks, parsed: &mut Parsed) {
    match kind_of(root) {
        Some(Kind::Network) => network::parse_network(root, quirks, parsed),
        Some(Kind::Filter) => filter::parse_filter(root, quirks, parsed),
        Some(Kind::Interfaces) => interface::parse_interfaces(root, quirks, parsed),
        Some(Kind::Bystander) => parsed.diagnostics.push(bystander(root)),
        None => {
            parsed.diagnostics.push(unknown_root(root));
            parsed.broken.push(Broken { what: BrokenKind::Unknown, span: root.span });
        }
    }
}

/// Names what a document with a fault of form meant to define, as far as the tree goes.
fn recover_names(root: &Element<'_>, parsed: &mut Parsed) {
    match kind_of(root) {
        Some(Kind::Network) => network::recover_network(root, parsed),
        Some(Kind::Filter) => filter::recover_filter(root, parsed),
        Some(Kind::Interfaces) => {
            interface::recover_interfaces(root, parsed);
            // Behind the fault there may be more of them.
            if matches!(root.name, "domain" | "domstatus") && parsed.broken.iter().all(|broken| broken.what != BrokenKind::Unknown) {
                parsed.broken.push(Broken { what: BrokenKind::Unknown, span: root.span });
            }
        }
        Some(Kind::Bystander) => {}
        None => parsed.broken.push(Broken { what: BrokenKind::Unknown, span: root.span }),
    }
}

fn bystander(root: &Element<'_>) -> Diagnostic {
    let message = format!("a `<{}>` document has no rules and is passed over", root.name);
    Diagnostic::note("document-without-rules", message, root.name_span, "nothing here concerns the firewall")
}

fn unknown_root(root: &Element<'_>) -> Diagnostic {
    let expected = "expected `<network>`, `<filter>`, `<interface>`, `<domain>`, `<filterbinding>` or a status document of these";
    let fault = Diagnostic::error("unknown-document", format!("unknown root element `<{}>`", root.name), root.name_span, expected);
    visit::with_suggestion(fault, root.name, KINDS.iter().map(|&(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Parsed {
        let mut sources = Sources::default();
        let file = sources.add("a.xml", text);
        parse(&sources, file, Quirks::Fixed)
    }

    #[test]
    fn libvirts_other_documents_are_passed_over() {
        for root in ["networkport", "pool", "domainsnapshot"] {
            let parsed = parse_text(&format!("<{root}><any thing='1'/></{root}>"));
            assert_eq!(parsed.broken, [], "{root}");
            assert_eq!(
                parsed.diagnostics.iter().map(|note| (note.code, note.is_error())).collect::<Vec<_>>(),
                [("document-without-rules", false)]
            );
        }
    }

    #[test]
    fn an_unknown_document_breaks_the_file_and_nothing_more() {
        for text in ["<netwrok><name>lab</name></netwrok>", "<netwrok><name>lab</nam>", "not XML"] {
            let parsed = parse_text(text);
            assert_eq!(parsed.broken.iter().map(|broken| &broken.what).collect::<Vec<_>>(), [&BrokenKind::Unknown], "{text}");
            assert_eq!(parsed.diagnostics.len(), 1, "{text}");
            assert!(parsed.networks.is_empty() && parsed.filters.is_empty() && parsed.interfaces.is_empty());
        }
    }

    #[test]
    fn the_rest_of_a_file_with_nothing_but_faults_is_not_read() {
        let network = |inside: &str| format!("<network><name>n</name><forward mode='nat'/><bridge name='b'/>{inside}</network>");
        let filter = |inside: &str| format!("<filter name='f'>{inside}</filter>");
        let binding = |inside: &str| {
            format!(
                "<filterbinding><owner><name>g</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1c77</uuid></owner><portdev name='tap0'/>\
                 <mac address='52:54:00:00:00:01'/><filterref filter='f'>{inside}</filterref></filterbinding>"
            )
        };
        let many = |one: &str| one.repeat(3_000);
        for text in [
            network(&many("<route/>")),
            network(&many("<portgroup/>")),
            network(&many("<portgroup name='p'/>")),
            network(&format!("<dns>{}</dns>", many("<forwarder/>"))),
            network(&format!("<ip address='10.0.0.1' prefix='24'><dhcp>{}</dhcp></ip>", many("<range/>"))),
            network(&format!("<ip address='10.0.0.1' prefix='24'><dhcp>{}</dhcp></ip>", many("<host/>"))),
            network("").replace("'nat'/>", &format!("'bridge'>{}</forward>", many("<interface/>"))),
            network("").replace("'nat'/>", &format!("'bridge'>{}</forward>", many("<interface dev='eth0'/>"))),
            filter(&many("<rule/>")),
            filter(&many("<filterref/>")),
            filter(&format!("<rule action='drop' direction='in'>{}</rule>", many("<bogus/>"))),
            binding(&many("<parameter/>")),
            format!("<interface><target dev='tap0'/>{}</interface>", many("<ip address='x'/>")),
            format!("<domain><devices>{}</devices></domain>", many("<interface><target dev='a b'/></interface>")),
        ] {
            let parsed = parse_text(&text);
            let codes: Vec<_> = parsed.diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
            let start = &text[..text.len().min(200)];
            assert!(codes.contains(&"too-many-faults") && codes.len() < 2_100, "{start}: {:?} {}", codes.last(), codes.len());
            assert!(parsed.networks.is_empty() && parsed.filters.is_empty() && parsed.interfaces.is_empty(), "{start}");
        }
    }

    #[test]
    fn no_number_of_warnings_breaks_a_file() {
        let hosts = "<host ip='10.0.0.01' name='a'/>".repeat(3_000);
        let text =
            format!("<network><name>n</name><bridge name='b'/><ip address='10.0.0.1' prefix='24'><dhcp>{hosts}</dhcp></ip></network>");
        let mut sources = Sources::default();
        let file = sources.add("a.xml", text.as_str());
        let parsed = parse(&sources, file, Quirks::Libvirt);
        assert_eq!((parsed.networks.len(), parsed.broken.len(), parsed.diagnostics.len()), (1, 0, visit::MAX_REMARKS));
    }

    #[test]
    fn a_guest_behind_too_many_faults_counts_as_broken() {
        let faulty = "<interface><target dev='a b'/></interface>".repeat(2_000);
        let text = format!("<domain><devices>{faulty}<interface type='bridge'><target dev='tap0'/></interface></devices></domain>");
        let parsed = parse_text(&text);
        assert!(parsed.interfaces.is_empty());
        let device = crate::addr::DeviceName::new("tap0").expect("a name of a device");
        assert_eq!(parsed.broken.last().map(|broken| &broken.what), Some(&BrokenKind::Object(Object::Interface(device))));
    }
}
