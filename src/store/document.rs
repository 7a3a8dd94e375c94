//! The record as text: JSON that a person can read, one rule a line, in the words of `*-restore`. There are two files, what is installed and what is about to
//! be: the first is as long as the rule set, the second as a change.
//!
//! The types here are the file's format, versioned; those of the program may change without it. Everything is sorted, so equal records are equal bytes. What
//! goes out is spelled line by line while it is written: the text of all rules takes as much memory as the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::addr::DeviceName;
use crate::backend::namespace::Identity;
use crate::compile::{Key, ObjectRules, PlacedRule};
use crate::model::Object;
use crate::plan::direct::{Pending, Possession};
use crate::ruleset::rule::Rule;
use crate::ruleset::{ChainId, ChainName, Family, LiveRule, Table, save, words};

use super::RecordedObject;
use super::header::Header;

/// Of the format below.
const VERSION: u32 = 2;

/// Either file, as it goes out.
#[derive(Serialize)]
struct Outgoing<'a> {
    version: u32,
    boot_id: &'a str,
    namespace: &'a str,
    serial: u64,
    #[serde(skip_serializing_if = "Chains::is_empty")]
    made: Chains<'a>,
    objects: Objects<'a>,
    #[serde(skip_serializing_if = "Possessions::is_empty")]
    direct: Possessions<'a>,
}

/// Either file, as it comes in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the first three are read as a header; they stand here because no other key may")]
struct Document {
    version: u32,
    boot_id: String,
    namespace: String,
    serial: u64,
    /// As `ebtables nat libvirt-J-vnet0`.
    #[serde(default)]
    made: BTreeSet<String>,
    /// By `network NAME` and `interface DEVICE`.
    #[serde(default)]
    objects: Entries,
    #[serde(default)]
    direct: BTreeMap<String, Owned>,
}

/// Objects on their way out.
pub(super) struct Objects<'a>(pub &'a BTreeMap<Object, RecordedObject>);

/// Objects as they came in.
#[derive(Deserialize, Default)]
#[serde(transparent)]
pub(super) struct Entries(BTreeMap<String, Entry>);

/// One of them on its way out.
#[derive(Serialize)]
struct Leaving<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    keys: BTreeSet<String>,
    #[serde(skip_serializing_if = "Rules::is_empty")]
    chains: Rules<'a>,
    /// Chains of ebtables whose end returns.
    #[serde(skip_serializing_if = "Chains::is_empty")]
    returning: Chains<'a>,
    #[serde(skip_serializing_if = "Rules::is_empty")]
    shared: Rules<'a>,
    #[serde(skip_serializing_if = "Rules::is_empty")]
    direct: Rules<'a>,
}

struct Chains<'a>(&'a BTreeSet<ChainId>);

struct Rules<'a>(&'a BTreeMap<ChainId, Vec<PlacedRule>>);

/// Rules of one family, first to last.
struct Listed<'a>(Family, &'a [PlacedRule]);

struct Possessions<'a>(&'a BTreeMap<ChainId, Possession>);

/// What one file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Page {
    /// Of the file of what is installed, its own number; of the other, the number of the one that it was written beside. Beside a later one it says nothing.
    pub serial: u64,
    /// Base chains that we made, or are about to.
    pub made: BTreeSet<ChainId>,
    /// Objects with their rules.
    pub objects: BTreeMap<Object, RecordedObject>,
    /// What is ours in built-in chains.
    pub direct: BTreeMap<ChainId, Possession>,
}

/// A [`Possession`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owned {
    ours: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<OwnedPending>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnedPending {
    wanted: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    foreign: Vec<String>,
}

/// One object as it came in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    keys: BTreeSet<String>,
    #[serde(default)]
    chains: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    returning: BTreeSet<String>,
    #[serde(default)]
    shared: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    direct: BTreeMap<String, Vec<String>>,
}

/// Writes the whole file.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(page: &Page, identity: &Identity, mut out: impl Write) -> io::Result<()> {
    let document = Outgoing {
        version: VERSION,
        boot_id: &identity.boot_id,
        namespace: identity.namespace.as_str(),
        serial: page.serial,
        made: Chains(&page.made),
        objects: Objects(&page.objects),
        direct: Possessions(&page.direct),
    };
    // A blank a level: tens of thousands of lines are indented.
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, serde_json::ser::PrettyFormatter::with_indent(b" "));
    document.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// What a file holds; `None` for one of another boot or namespace.
///
/// # Errors
/// What is wrong with the file, in words.
pub(super) fn read(bytes: &[u8], identity: &Identity) -> Result<Option<Page>, String> {
    let header = Header::read(bytes)?;
    if !header.same_boot(identity) || !header.same_namespace(identity) {
        return Ok(None);
    }
    header.require(VERSION)?;
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let made = document.made.iter().map(|text| parse_chain(text)).collect::<Result<_, _>>()?;
    let objects = document.objects.parse()?;
    let direct = document.direct.into_iter().map(|(chain, owned)| {
        let chain = parse_chain(&chain)?;
        let possession = owned.parse(chain.family)?;
        Ok((chain, possession))
    });
    Ok(Some(Page { serial: document.serial, made, objects, direct: direct.collect::<Result<_, String>>()? }))
}

impl Entries {
    pub(super) fn parse(self) -> Result<BTreeMap<Object, RecordedObject>, String> {
        self.0.into_iter().map(|(name, entry)| Ok((parse_object(&name)?, entry.parse()?))).collect()
    }
}

impl Serialize for Objects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(object, recorded)| (object_text(object), Leaving::of(recorded))))
    }
}

impl Serialize for Chains<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(chain_text))
    }
}

impl Serialize for Rules<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(chain, rules)| (chain_text(chain), Listed(chain.family, rules))))
    }
}

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.1.iter().map(|placed| rule_text(self.0, &placed.rule)))
    }
}

impl Serialize for Possessions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(chain, possession)| (chain_text(chain), Owned::of(chain.family, possession))))
    }
}

impl Chains<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Rules<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Possessions<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Leaving<'a> {
    fn of(recorded: &'a RecordedObject) -> Self {
        let rules = &recorded.rules;
        Self {
            source: recorded.source.as_deref(),
            keys: rules.keys.iter().map(key_text).collect(),
            chains: Rules(&rules.chains),
            returning: Chains(&rules.returning),
            shared: Rules(&rules.shared),
            direct: Rules(&rules.direct),
        }
    }
}

impl Entry {
    fn parse(self) -> Result<RecordedObject, String> {
        let keys = self.keys.iter().map(|text| parse_key(text)).collect::<Result<_, _>>()?;
        let [chains, shared, direct] = [&self.chains, &self.shared, &self.direct].map(parse_rules);
        let returning = self.returning.iter().map(|text| parse_chain(text)).collect::<Result<_, _>>()?;
        let rules = ObjectRules { keys, chains: chains?, returning, shared: shared?, direct: direct? };
        Ok(RecordedObject { rules: Arc::new(rules), source: self.source.map(Into::into) })
    }
}

impl Owned {
    fn of(family: Family, possession: &Possession) -> Self {
        let texts = |rules: &[Rule]| rules.iter().map(|rule| rule_text(family, rule)).collect();
        let pending = possession.pending.as_ref();
        let pending = pending.map(|pending| OwnedPending { wanted: texts(&pending.wanted), foreign: texts(&pending.foreign) });
        Self { ours: texts(&possession.ours), pending }
    }

    fn parse(self, family: Family) -> Result<Possession, String> {
        let rules = |texts: &[String]| texts.iter().map(|text| parse_rule(family, text)).collect::<Result<Vec<Rule>, String>>();
        let pending = match &self.pending {
            Some(pending) => Some(Pending { wanted: rules(&pending.wanted)?, foreign: rules(&pending.foreign)? }),
            None => None,
        };
        Ok(Possession { ours: rules(&self.ours)?, pending })
    }
}

fn rule_text(family: Family, rule: &Rule) -> String {
    let mut text = String::new();
    words::rule(family, rule, &mut text);
    text
}

fn parse_rules(chains: &BTreeMap<String, Vec<String>>) -> Result<BTreeMap<ChainId, Vec<PlacedRule>>, String> {
    let parse = |family: Family, text: &String| Ok(PlacedRule { rule: parse_rule(family, text)?, place: None });
    let chain = |(name, rules): (&String, &Vec<String>)| {
        let chain = parse_chain(name)?;
        let rules = rules.iter().map(|text| parse(chain.family, text)).collect::<Result<_, String>>()?;
        Ok((chain, rules))
    };
    chains.iter().map(chain).collect()
}

fn parse_rule(family: Family, text: &str) -> Result<Rule, String> {
    match save::parse_rule(family, text) {
        LiveRule::Known(rule) => Ok(rule),
        LiveRule::Unknown(_) => Err(format!("`{text}` is not a rule of {family}")),
    }
}

fn chain_text(chain: &ChainId) -> String {
    format!("{} {} {}", chain.family, chain.table, chain.chain)
}

fn parse_chain(text: &str) -> Result<ChainId, String> {
    let mut parts = text.splitn(3, ' ');
    let family = parts.next().and_then(|tool| Family::ALL.into_iter().find(|family| family.tool() == tool));
    let table = parts.next().and_then(Table::from_name);
    let chain = parts.next().filter(|name| !name.is_empty() && !name.contains(char::is_whitespace)).map(ChainName::new);
    match (family, table, chain) {
        (Some(family), Some(table), Some(chain)) => Ok(ChainId { family, table, chain }),
        _ => Err(format!("`{text}` is not a chain")),
    }
}

fn object_text(object: &Object) -> String {
    match object {
        Object::Network(name) => format!("network {name}"),
        Object::Interface(device) => format!("interface {device}"),
    }
}

fn parse_object(text: &str) -> Result<Object, String> {
    let object = match text.split_once(' ') {
        Some(("network", name)) => Some(Object::Network(name.to_owned())),
        Some(("interface", device)) => DeviceName::new(device).map(Object::Interface),
        _ => None,
    };
    object.ok_or_else(|| format!("`{text}` is not an object"))
}

fn key_text(key: &Key) -> String {
    match key {
        Key::Guest(device) => format!("guest {device}"),
        Key::Bridge(device) => format!("bridge {device}"),
        Key::Subnet(subnet) => format!("subnet {subnet}"),
    }
}

fn parse_key(text: &str) -> Result<Key, String> {
    let key = match text.split_once(' ') {
        Some(("guest", device)) => DeviceName::new(device).map(Key::Guest),
        Some(("bridge", device)) => DeviceName::new(device).map(Key::Bridge),
        Some(("subnet", subnet)) => subnet.parse().ok().map(Key::Subnet),
        _ => None,
    };
    key.ok_or_else(|| format!("`{text}` is not a key"))
}
