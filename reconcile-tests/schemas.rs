//! The RELAX NG schemas: every example validates, nonsense does not, and the filter schema knows exactly the attributes that the
//! program knows.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bridgeward::model::filter::Protocol;

/// Validates a document against the schema of its root element; `Err` is what xmllint says.
fn validate(document: &str) -> Result<(), String> {
    let root = roxmltree::Document::parse(document).map_err(|error| error.to_string())?.root_element().tag_name().name().to_owned();
    let schema = match root.as_str() {
        "networkstatus" => "network",
        "domstatus" => "domain",
        "filterbindingstatus" => "filterbinding",
        other => other,
    };
    let mut xmllint = Command::new("xmllint")
        .args(["--noout", "--nonet", "--relaxng"])
        .arg(manifest().join(format!("schemas/{schema}.rng")))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`xmllint` runs (Debian package libxml2-utils)");
    xmllint.stdin.take().expect("its input is piped").write_all(document.as_bytes()).expect("xmllint reads its input");
    let output = xmllint.wait_with_output().expect("xmllint ends");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every XML file below a folder.
fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        if path.is_dir() {
            found.extend(documents(&path));
        } else if path.extension().is_some_and(|extension| extension == "xml") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_example_validates() {
    let examples = documents(&manifest().join("state"));
    assert!(examples.len() >= 10, "{examples:?}");
    for file in examples {
        validate(&fs::read_to_string(&file).expect("examples are text")).unwrap_or_else(|fault| panic!("{}: {fault}", file.display()));
    }
}

#[test]
fn every_network_that_libvirt_takes_validates() {
    // A second `<forward>` is ignored by libvirt; the schema is there to say so.
    let ignored = "networks/twoforward";
    for case in fs::read_dir(manifest().join("reconcile-tests/conformance/networks")).expect("the cases are there") {
        let case = case.expect("the folder is readable").path();
        if !case.join("golden.rules").exists() || case.ends_with(ignored) {
            continue;
        }
        for file in documents(&case) {
            validate(&fs::read_to_string(&file).expect("cases are text")).unwrap_or_else(|fault| panic!("{}: {fault}", file.display()));
        }
    }
}

/// What libvirt refuses and no schema can: values that have to agree with others, with the tools, or with the host.
const BEYOND_A_SCHEMA: [&str; 21] = [
    "filters/fuzz-1-010",
    "filters/fuzz-1-015",
    "filters/fuzz-1-024",
    "filters/fuzz-1-035",
    "filters/fuzz-1-040",
    "filters/fuzz-1-067",
    "filters/fuzz-1-083",
    "networks/2dhcp4",
    "networks/br-mode-ip",
    "networks/classE",
    "networks/dup-ip",
    "networks/mac-multi",
    "networks/mask-0",
    "networks/mask-noncontig",
    "networks/nat-dev-if-mismatch",
    "networks/open-dev",
    "networks/priv-mode-br",
    "networks/range-net",
    "networks/range-rev",
    "networks/route-unreach",
    "networks/zone",
];

#[test]
fn what_libvirt_refuses_does_not_validate_or_is_beyond_a_schema() {
    let mut beyond = BTreeSet::new();
    for kind in ["filters", "networks"] {
        for case in fs::read_dir(manifest().join("reconcile-tests/conformance").join(kind)).expect("the cases are there") {
            let case = case.expect("the folder is readable").path();
            let is_refused = ["refused.txt", "refused-at-start.txt"].iter().any(|file| case.join(file).exists());
            let mut files = documents(&case).into_iter().map(|file| fs::read_to_string(file).expect("cases are text"));
            if is_refused && files.all(|text| validate(&text).is_ok()) {
                let name = case.file_name().expect("a case has a name").to_string_lossy().into_owned();
                beyond.insert(format!("{kind}/{name}"));
            }
        }
    }
    assert_eq!(beyond, BEYOND_A_SCHEMA.map(str::to_owned).into_iter().collect());
}

/// Of everything that is written here about filters and networks: what does not validate, the program does not take either, not
/// without a warning.
#[test]
fn what_does_not_validate_is_not_taken_without_a_warning() {
    let mut judged = 0;
    for folder in ["reconcile-tests/conformance", "reconcile-tests/cases-fixed", "src/stock", "state"] {
        for file in documents(&manifest().join(folder)) {
            let text = fs::read_to_string(&file).expect("cases are text");
            let Err(fault) = validate(&text) else { continue };
            let check = Command::new(env!("CARGO_BIN_EXE_bridgeward")).args(["check", "--strict"]).arg(&file).output().expect("it runs");
            assert_eq!(check.status.code(), Some(1), "{} is taken: {fault}", file.display());
            judged += 1;
        }
    }
    assert!(judged > 40, "only {judged} files do not validate");
}

#[test]
fn what_is_wrong_does_not_validate() {
    for document in [
        "<network/>",
        "<network><name>a/b</name></network>",
        "<network><name>a</name><bridge name='br+'/></network>",
        "<network><name>a</name><forward mode='NAT'/></network>",
        "<network><name>a</name><ip address='10.0.0.1' family='ipv6'/></network>",
        "<network><name>a</name><ip address='010.0.0.1'/></network>",
        "<filter/>",
        "<filter name='a' chain='tcp'/>",
        "<filter name='a'><rule action='ACCEPT' direction='in'/></filter>",
        "<filter name='a'><rule action='accept' direction='in'><tcp/><udp/></rule></filter>",
        "<filter name='a'><rule action='accept' direction='in'><tcp dstportstrat='80'/></rule></filter>",
        "<filter name='a'><rule action='accept' direction='in'><tcp dstportstart='80000'/></rule></filter>",
        "<filter name='a'><rule action='accept' direction='in'><bogus/></rule></filter>",
        "<filter name='a'><filterref filter='b'><parameter name='IP' value='10.0.0.1/24'/></filterref></filter>",
        "<filterbinding><portdev name='vnet0'/></filterbinding>",
        "<interface type='bridge'><mac address='52-54-00-00-00-01'/></interface>",
        "<domain><name>a</name><devices><interface type='bridge'><target dev='a name of 16'/></interface></devices></domain>",
    ] {
        assert!(validate(document).is_err(), "{document}");
    }
}

#[test]
fn status_documents_validate_like_what_they_wrap() {
    let network = "<network><name>a</name><bridge name='virbr0' stp='on' delay='0'/></network>";
    validate(&format!("<networkstatus><class_id bitmap='0-2'/><floor sum='0'/>{network}</networkstatus>")).unwrap();
    let domain = "<domain><name>a</name><devices><disk type='file'/><interface type='user'/></devices></domain>";
    validate(&format!("<domstatus state='running' pid='1'><monitor path='p'/>{domain}</domstatus>")).unwrap();
}

#[test]
fn the_filter_schema_knows_exactly_the_attributes_that_the_program_knows() {
    let text = fs::read_to_string(manifest().join("schemas/filter.rng")).expect("the schema is there");
    let schema = roxmltree::Document::parse(&text).expect("the schema is XML");
    for (name, protocol) in Protocol::ELEMENTS {
        let element = schema
            .descendants()
            .find(|node| node.has_tag_name(in_rng("element")) && node.attribute("name") == Some(name))
            .unwrap_or_else(|| panic!("the schema has no <{name}>"));
        let other_names = ["match", "msg-age", "msg-age-hi"];
        let known: BTreeSet<&str> = attributes(&schema, element).into_iter().filter(|name| !other_names.contains(name)).collect();
        let expected: BTreeSet<&str> = protocol.attributes().iter().map(|spec| spec.xml).collect();
        assert_eq!(known, expected, "<{name}>");
    }
}

/// The attribute names of a pattern, its references followed; values (which are references, too) have none.
fn attributes<'text>(schema: &'text roxmltree::Document, pattern: roxmltree::Node<'text, 'text>) -> Vec<&'text str> {
    let named = |node: &roxmltree::Node<'text, 'text>| node.attribute("name").expect("attributes and references have names");
    let mut found: Vec<&str> =
        pattern.descendants().filter(|node| node.has_tag_name(in_rng("attribute"))).map(|node| named(&node)).collect();
    for reference in pattern.descendants().filter(|node| node.has_tag_name(in_rng("ref"))) {
        let define =
            schema.descendants().find(|node| node.has_tag_name(in_rng("define")) && node.attribute("name") == reference.attribute("name"));
        found.extend(define.into_iter().flat_map(|define| attributes(schema, define)));
    }
    found
}

/// A name in the namespace of RELAX NG.
fn in_rng(name: &str) -> (&str, &str) {
    ("http://relaxng.org/ns/structure/1.0", name)
}
