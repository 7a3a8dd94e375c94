//! The lint cases: `lint/<behaviour>/*.xml` beside all that `check` says about these files, notes included.
//!
//! A folder whose name ends in `-libvirt-quirks` is read with those quirks, all others with `fixed` ones. After a change of wording run
//! the tests once with `UPDATE_EXPECTED=1` and review the difference like code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bridgeward::diagnostic::{Diagnostic, Style, render};
use bridgeward::load::load;
use bridgeward::model::learned::Learned;
use bridgeward::model::{Object, Quirks};
use bridgeward::reconcile::compute::{Computed, Reading, check};
use bridgeward::resolve::Treatment;
use bridgeward::resolve::order::{self, Side, Standing, Step};
use bridgeward::ruleset::{ChainId, ChainName, Family, Table};
use bridgeward::stock::stock_filters;

/// Every remark of the lint.
const CODES: [&str; 10] = [
    "address-outside-network",
    "duplicate-address",
    "duplicate-mac",
    "late-mac-check",
    "overlapping-subnets",
    "routed-past-filter",
    "rule-never-matches",
    "unfiltered-guest",
    "unreachable-rule",
    "unused-filter",
];

#[test]
fn every_case_is_remarked_on_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut differences = Vec::new();
    for folder in cases() {
        let shown = remarks(&folder);
        let expected_path = folder.join("expected.txt");
        if update {
            fs::write(&expected_path, &shown).expect("the cases can be written");
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if shown != expected || !expected_path.exists() {
            differences.push(format!("{}\n--- expected\n{expected}\n--- shown\n{shown}", folder.display()));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_remark_has_a_case() {
    let texts: String = cases().iter().map(|folder| fs::read_to_string(folder.join("expected.txt")).expect("cases have a text")).collect();
    let missing: Vec<_> = CODES.iter().filter(|code| !texts.contains(&format!("[{code}]"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_stock_filter_is_remarked_on() {
    for (name, _) in stock_filters() {
        let text = format!(
            "<filterbinding>
  <owner><name>vm</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1000</uuid></owner>
  <portdev name='vnet0'/>
  <mac address='52:54:00:40:00:01'/>
  <filterref filter='{name}'>
    <parameter name='IP' value='10.40.0.10'/>
    <parameter name='IP' value='10.40.0.11'/>
    <parameter name='IPV6' value='fd40::10'/>
    <parameter name='DHCPSERVER' value='{}'/>
    <parameter name='GATEWAY_MAC' value='52:54:00:40:00:fe'/>
  </filterref>
</filterbinding>",
            if name.contains("dhcpv6") { "fd40::1" } else { "10.40.0.1" }
        );
        let folder = tempfile::tempdir().expect("a directory for the guest");
        fs::write(folder.path().join("guest.xml"), text).expect("the guest can be written");
        for quirks in [Quirks::Fixed, Quirks::Libvirt] {
            let computed = check_folder(folder.path(), quirks);
            assert_eq!(computed.resolved.guests.len(), 1, "{name} is not applied");
            let codes = codes(&computed.diagnostics);
            assert!(codes.iter().all(|code| !CODES.contains(code)), "{name}: {codes:?}");
        }
    }
}

#[test]
fn the_example_is_not_remarked_on() {
    let computed = check_folder(&manifest().join("state"), Quirks::Fixed);
    assert_eq!(codes(&computed.diagnostics), BTreeSet::new());
}

/// What the lint reasons about, and pictures show, is what is installed: the same rules in the same chains in the same order.
#[test]
fn rules_are_looked_at_in_the_order_in_which_they_are_compiled() {
    let mut compared = 0;
    for folder in cases().into_iter().chain([manifest().join("state")]) {
        let computed = check_folder(&folder, Quirks::Fixed);
        for guest in &computed.resolved.guests {
            let Treatment::Filtered(rules) = &guest.treatment else { continue };
            let standing: Vec<_> = rules.iter().map(|rule| (Standing::of(rule), rule.place)).collect();
            let Some(object) = computed.compiled.objects.get(&Object::Interface(guest.device.clone())) else { continue };
            for (side, root, sub) in [(Side::FromGuest, "libvirt-I-", "I-"), (Side::ToGuest, "libvirt-O-", "O-")] {
                let compiled = |chain: String| {
                    let id = ChainId { family: Family::Bridge, table: Table::Nat, chain: ChainName::new(&chain) };
                    let mut places: Vec<_> = object.chains.get(&id).into_iter().flatten().filter_map(|rule| rule.place).collect();
                    // One rule may become several in a row.
                    places.dedup();
                    places
                };
                let mut expected = Vec::new();
                for step in order::link(&standing, side) {
                    match step {
                        Step::Rule(place) => expected.push(place),
                        Step::Jump(chain) => {
                            expected.extend(chain.rules.last());
                            let mut rules = chain.rules;
                            rules.dedup();
                            assert_eq!(compiled(format!("{sub}{}-{}", guest.device, chain.name)), rules, "{}", folder.display());
                            compared += 1;
                        }
                    }
                }
                expected.dedup();
                assert_eq!(compiled(format!("{root}{}", guest.device)), expected, "{}", folder.display());
                compared += 1;
            }
        }
    }
    assert!(compared > 50, "only {compared} chains were compared");
}

fn codes(diagnostics: &[Diagnostic]) -> BTreeSet<&'static str> {
    diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

fn remarks(folder: &Path) -> String {
    let name = folder.file_name().expect("cases have a name").to_string_lossy();
    let quirks = if name.ends_with("-libvirt-quirks") { Quirks::Libvirt } else { Quirks::Fixed };
    let computed = check_folder(folder, quirks);
    assert!(!computed.has_errors(), "{name} has errors: {:#?}", computed.diagnostics);
    let shown: Vec<String> = computed.diagnostics.iter().map(|diagnostic| render(diagnostic, &computed.sources, Style::Plain)).collect();
    shown.join("\n")
}

/// What `check` finds in a folder, whose files are shown by their names.
fn check_folder(folder: &Path, quirks: Quirks) -> Computed {
    let mut loaded = load(&[folder.to_owned()]).expect("the folder can be read");
    let prefix = format!("{}/", folder.display());
    for file in &mut loaded.files {
        file.path = file.path.strip_prefix(&prefix).expect("it lies in the folder").into();
    }
    check(&loaded, &[], &Learned::default(), Reading { quirks, ..Reading::default() })
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(manifest().join("reconcile-tests/lint")).expect("there are cases");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
