//! `import`: the definitions of a libvirt host into a state directory, so that the same rules follow from it without libvirt.
//!
//! What counts is what runs: of a running network its status, of a running guest its bindings. Networks that do not run are left out,
//! for here a definition alone has rules. Of guests that do not run only their interfaces are taken, for the next start. Nothing is
//! written unless everything can be read and the rules that follow from the copies are, object by object, those of the originals.

mod extract;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::bail;
use uuid::Uuid;

use super::Exit;
use super::options::Import;
use super::proposal::{Proposal, home};
use super::settings::{Settings, block_on};
use crate::addr::Mac;
use crate::compile::PlacedRule;
use crate::diagnostic::several;
use crate::load::{self, Loaded};
use crate::model::Object;
use crate::model::interface::{Document, Interface};
use crate::model::network;
use crate::reconcile::compute::{self, Computed, Documents};
use crate::state_file;

/// Where libvirt keeps what it was told.
const CONFIGURED: [&str; 3] = ["/etc/libvirt/nwfilter", "/etc/libvirt/qemu/networks", "/etc/libvirt/qemu"];
/// Where libvirt keeps what runs; there is nothing to find in them while nothing does.
const RUNNING: [&str; 3] = ["/run/libvirt/network", "/run/libvirt/nwfilter-binding", "/run/libvirt/qemu"];

/// The files to write, by the path below the state directory.
#[derive(Debug, Default)]
struct Copies {
    files: BTreeMap<PathBuf, String>,
    /// Networks that do not run.
    left_out: BTreeSet<String>,
}

/// Runs the command.
pub fn import(settings: &Settings, options: &Import) -> anyhow::Result<Exit> {
    let home = home(settings)?;
    let from = if options.from.is_empty() { libvirts_directories()? } else { options.from.clone() };
    let loaded = load::load(&from)?;
    let links = block_on(async { Ok(settings.links().await) })?;
    let original = compute::compute(&loaded, &links, &settings.learned(), settings.reading());
    settings.show(&original);
    if original.has_errors() {
        settings.output.error("not everything can be read as it is; nothing was written (`--quirks libvirt` reads as libvirt does)");
        return Ok(Exit::Attention);
    }
    let documents = compute::read(&loaded, settings.reading());
    let status_is_known = options.from.is_empty() || knows_what_runs(&documents);
    let copies = copies(&documents, status_is_known && !options.all);
    for name in &copies.left_out {
        settings.output.message(&format!("note: network `{name}` does not run and is left out; --all takes it all the same"));
    }
    let _lock = if options.dry_run { None } else { Some(state_file::lock(home)?) };
    write(settings, options, home, &copies, &original)
}

/// Those of libvirt's directories that are there.
fn libvirts_directories() -> anyhow::Result<Vec<PathBuf>> {
    let there: Vec<PathBuf> = CONFIGURED.iter().chain(&RUNNING).map(PathBuf::from).filter(|path| path.is_dir()).collect();
    if there.is_empty() {
        bail!("there is no libvirt here: neither {} nor the like; name a copy of its directories with --from DIR", CONFIGURED[0]);
    }
    Ok(there)
}

fn knows_what_runs(documents: &Documents) -> bool {
    documents.parsed.iter().flat_map(|parsed| &parsed.networks).any(|network| network.document == network::Document::Status)
}

/// What the state directory shall hold.
fn copies(documents: &Documents, running_only: bool) -> Copies {
    let mut copies = Copies::default();
    for filter in documents.parsed.iter().flat_map(|parsed| &parsed.filters) {
        let text = extract::whole(&documents.sources.file(filter.span.file).text, &["filter"]);
        copies.add("filters", &filter.name.value, text);
    }
    let networks = || documents.parsed.iter().flat_map(|parsed| &parsed.networks);
    let is_status = |network: &&network::Network| network.document == network::Document::Status;
    let running: BTreeSet<&str> = networks().filter(is_status).map(|network| network.name.value.as_str()).collect();
    for network in networks() {
        let name = network.name.value.as_str();
        let text = &documents.sources.file(network.span.file).text;
        match network.document {
            network::Document::Status => copies.add("networks", name, extract::whole(text, &["networkstatus", "network"])),
            network::Document::Definition if running.contains(name) => {}
            network::Document::Definition if running_only => {
                copies.left_out.insert(name.to_owned());
            }
            network::Document::Definition => copies.add("networks", name, extract::whole(text, &["network"])),
        }
    }
    let interfaces: Vec<&Interface> = documents.parsed.iter().flat_map(|parsed| &parsed.interfaces).collect();
    copies.add_guests(documents, &interfaces);
    copies
}

impl Copies {
    /// Adds a file named after what it defines.
    fn add(&mut self, folder: &str, name: &str, text: Option<String>) {
        let mut file = PathBuf::from(format!("{name}.xml"));
        if !load::is_state_file(&file) {
            file = PathBuf::from(format!("_{name}.xml"));
        }
        // What was parsed has the elements that it was parsed from.
        self.files.extend(text.map(|text| (Path::new(folder).join(file), text)));
    }

    /// Bindings, and the interfaces of guests that have a filter.
    fn add_guests(&mut self, documents: &Documents, interfaces: &[&Interface]) {
        let is_binding = |interface: &&&Interface| matches!(interface.document, Document::Binding | Document::BindingStatus);
        let bound: BTreeSet<(Option<Uuid>, Option<Mac>)> =
            interfaces.iter().filter(is_binding).map(|binding| (binding.owner_uuid, binding.mac.map(|mac| mac.value))).collect();
        let mut domains: BTreeMap<&str, &Interface> = BTreeMap::new();
        for interface in interfaces {
            let text = &documents.sources.file(interface.span.file).text;
            let device = interface.device.as_ref().map(|device| device.value.as_str());
            match interface.document {
                Document::Binding => self.add("bindings", device.unwrap_or_default(), extract::whole(text, &["filterbinding"])),
                Document::BindingStatus => {
                    self.add("bindings", device.unwrap_or_default(), extract::whole(text, &["filterbindingstatus", "filterbinding"]));
                }
                Document::Interface => self.add("guests", device.unwrap_or("interface"), extract::whole(text, &["interface"])),
                Document::Domain | Document::DomainStatus if interface.filter.is_none() => {}
                // Its binding says the same.
                Document::DomainStatus if bound.contains(&(interface.owner_uuid, interface.mac.map(|mac| mac.value))) => {}
                Document::Domain | Document::DomainStatus => {
                    let name = interface.owner.as_deref().unwrap_or("guest");
                    let known = domains.entry(name).or_insert(interface);
                    if interface.document == Document::DomainStatus {
                        *known = interface;
                    }
                }
            }
        }
        for (name, interface) in domains {
            let above: &[&str] = if interface.document == Document::DomainStatus { &["domstatus", "domain"] } else { &["domain"] };
            self.add("guests", name, extract::guest(&documents.sources.file(interface.span.file).text, above));
        }
    }
}

/// Judges the copies with what is in the state already, and writes them.
fn write(settings: &Settings, options: &Import, home: &Path, copies: &Copies, original: &Computed) -> anyhow::Result<Exit> {
    let before = settings.load()?;
    let mut new = Vec::new();
    let mut replaced = Vec::new();
    for (file, text) in &copies.files {
        let path = home.join(file).display().to_string();
        let seen = seen(&before, &path);
        if seen == Some(text.as_str()) {
            continue;
        }
        if seen.is_some() || Path::new(&path).symlink_metadata().is_ok() {
            if !options.replace {
                settings.output.error(&format!("{path} is there already and says something else; --replace overwrites it"));
                return Ok(Exit::Attention);
            }
            replaced.push(path.clone());
        }
        new.push((path, text.as_str()));
    }
    let shown: Vec<(&str, &str)> = new.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let proposal = Proposal::of_many(settings, &before, &replaced.iter().map(String::as_str).collect::<Vec<_>>(), &shown)?;
    if !proposal.judge(settings) {
        settings.output.error("the state would not be sound; nothing was written");
        return Ok(Exit::Attention);
    }
    let is_left_out = |object: &Object| matches!(object, Object::Network(name) if copies.left_out.contains(name));
    let missing: Vec<_> = differing(original, proposal.after()).into_iter().filter(|object| !is_left_out(object)).collect();
    if let [first, ..] = &missing[..] {
        bail!(
            "the rules of {first} would not be those of libvirt's files ({} in all); nothing was written",
            several(missing.len(), "object")
        );
    }
    for (path, text) in &new {
        if options.dry_run {
            settings.output.text(&format!("{path}\n"))?;
        } else {
            state_file::replace(Path::new(path), text, seen(&before, path))?;
        }
    }
    let count = |folder: &str| copies.files.keys().filter(|file| file.starts_with(folder)).count();
    settings.output.message(&format!(
        "{}, {}, {} and {}: {} {}, the rest was there; {} with the same rules as before",
        several(count("networks"), "network"),
        several(count("filters"), "filter"),
        several(count("bindings"), "binding"),
        several(count("guests"), "guest"),
        several(new.len(), "file"),
        if options.dry_run { "to write" } else { "written" },
        several(original.compiled.objects.len(), "object"),
    ));
    Ok(Exit::Done)
}

fn seen<'a>(loaded: &'a Loaded, path: &str) -> Option<&'a str> {
    loaded.files.iter().find(|file| &*file.path == path).map(|file| &*file.text)
}

/// Objects whose rules are not the same in both.
fn differing<'a>(original: &'a Computed, copy: &Computed) -> Vec<&'a Object> {
    let rules = |computed: &Computed, object: &Object| {
        let rules = computed.compiled.objects.get(object)?;
        let bare = |rules: &Vec<PlacedRule>| rules.iter().map(|placed| placed.rule.clone()).collect::<Vec<_>>();
        let all = rules.chains.iter().chain(&rules.shared).chain(&rules.direct);
        Some(all.map(|(chain, rules)| (chain.clone(), bare(rules))).collect::<Vec<_>>())
    };
    original.compiled.objects.keys().filter(|object| rules(original, object) != rules(copy, object)).collect()
}
