//! The record as text: JSON that a person can read, one rule a line, in the words of `*-restore`. There are two files, what is installed and what is about to
//! be: the first is as long as the rule set, the second as a change.
//!
//! The types here are the file's format, versioned; those of the program may change without it. Everything is sorted, so equal records are equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

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

/// Either file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    boot_id: String,
    namespace: String,
    serial: u64,
    /// As `ebtables nat libvirt-J-vnet0`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    made: BTreeSet<String>,
    /// By `network NAME` and `interface DEVICE`.
    #[serde(default)]
    objects: BTreeMap<String, Entry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    direct: BTreeMap<String, Owned>,
}

/// Chains and objects in the same words, for who keeps them in a file of their own.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Half {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    made: BTreeSet<String>,
    #[serde(default)]
    objects: BTreeMap<String, Entry>,
}

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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    keys: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chains: BTreeMap<String, Vec<String>>,
    /// Chains of ebtables whose end returns.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    returning: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    shared: BTreeMap<String, Vec<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    direct: BTreeMap<String, Vec<String>>,
}

/// The whole file.
pub(super) fn write(page: &Page, identity: &Identity) -> Vec<u8> {
    let Half { made, objects } = Half::of(&page.made, &page.objects);
    let document = Document {
        version: VERSION,
        boot_id: identity.boot_id.clone(),
        namespace: identity.namespace.to_string(),
        serial: page.serial,
        made,
        objects,
        direct: page.direct.iter().map(|(chain, possession)| (chain_text(chain), Owned::of(chain.family, possession))).collect(),
    };
    let mut bytes = Vec::new();
    // A blank a level: tens of thousands of lines are indented.
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, serde_json::ser::PrettyFormatter::with_indent(b" "));
    document.serialize(&mut serializer).expect("strings, lists and string maps are JSON, and memory takes every write");
    bytes.push(b'\n');
    bytes
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
    let (made, objects) = Half { made: document.made, objects: document.objects }.parse()?;
    let direct = document.direct.into_iter().map(|(chain, owned)| {
        let chain = parse_chain(&chain)?;
        let possession = owned.parse(chain.family)?;
        Ok((chain, possession))
    });
    Ok(Some(Page { serial: document.serial, made, objects, direct: direct.collect::<Result<_, String>>()? }))
}

impl Half {
    pub(super) fn of(made: &BTreeSet<ChainId>, objects: &BTreeMap<Object, RecordedObject>) -> Self {
        Self {
            made: made.iter().map(chain_text).collect(),
            objects: objects.iter().map(|(object, recorded)| (object_text(object), Entry::of(recorded))).collect(),
        }
    }

    pub(super) fn parse(self) -> Result<(BTreeSet<ChainId>, BTreeMap<Object, RecordedObject>), String> {
        let made = self.made.iter().map(|text| parse_chain(text)).collect::<Result<_, _>>()?;
        let objects = self.objects.into_iter().map(|(name, entry)| Ok((parse_object(&name)?, entry.parse()?)));
        Ok((made, objects.collect::<Result<_, String>>()?))
    }
}

impl Entry {
    fn of(recorded: &RecordedObject) -> Self {
        Self {
            source: recorded.source.clone(),
            keys: recorded.rules.keys.iter().map(key_text).collect(),
            chains: rules_text(&recorded.rules.chains),
            returning: recorded.rules.returning.iter().map(chain_text).collect(),
            shared: rules_text(&recorded.rules.shared),
            direct: rules_text(&recorded.rules.direct),
        }
    }

    fn parse(self) -> Result<RecordedObject, String> {
        let keys = self.keys.iter().map(|text| parse_key(text)).collect::<Result<_, _>>()?;
        let [chains, shared, direct] = [&self.chains, &self.shared, &self.direct].map(parse_rules);
        let returning = self.returning.iter().map(|text| parse_chain(text)).collect::<Result<_, _>>()?;
        let rules = ObjectRules { keys, chains: chains?, returning, shared: shared?, direct: direct? };
        Ok(RecordedObject { rules: Arc::new(rules), source: self.source })
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

fn rules_text(chains: &BTreeMap<ChainId, Vec<PlacedRule>>) -> BTreeMap<String, Vec<String>> {
    let texts = |chain: &ChainId, rules: &[PlacedRule]| rules.iter().map(|placed| rule_text(chain.family, &placed.rule)).collect();
    chains.iter().map(|(chain, rules)| (chain_text(chain), texts(chain, rules))).collect()
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
