//! A plan for machines: one JSON document whose shape only grows, until `v` says otherwise.
//!
//! `v` is the version of the shape, now 1. Lists are in the order in which things happen; every key is always there, `null`
//! where there is nothing to say.

use serde::Serialize;

use super::desire::Keeping;
use super::script::policy_name;
use super::show::rule_words;
use super::{Change, Desired, Edit, Plan};
use crate::diagnostic::visible;
use crate::model::Object;
use crate::ruleset::{Family, LiveRule};
use crate::source::{Position, Sources, Span};

/// The whole plan.
#[derive(Debug, Serialize)]
struct PlanDto<'a> {
    /// The version of this shape: 1.
    v: u32,
    /// True when there is nothing to do.
    in_sync: bool,
    /// One after another; the families of one phase at the same time.
    phases: Vec<PhaseDto<'a>>,
    /// Objects that are not as their files say.
    held: Vec<HeldDto<'a>>,
    /// What a plan cannot mend.
    remarks: Vec<RemarkDto<'a>>,
}

/// A phase.
#[derive(Debug, Serialize)]
struct PhaseDto<'a> {
    /// One restore each.
    families: Vec<FamilyDto<'a>>,
}

/// What is fed to one tool.
#[derive(Debug, Serialize)]
struct FamilyDto<'a> {
    /// `iptables`, `ip6tables` or `ebtables`.
    family: &'static str,
    /// One transaction each.
    tables: Vec<TableDto<'a>>,
}

/// One transaction.
#[derive(Debug, Serialize)]
struct TableDto<'a> {
    /// `filter`, `nat`, ...
    table: &'static str,
    /// First to last; positions count the edits before them.
    edits: Vec<EditDto<'a>>,
}

/// One edit.
#[derive(Debug, Serialize)]
struct EditDto<'a> {
    /// `new-chain`, `set-policy`, `insert`, `delete` or `delete-chain`.
    op: &'static str,
    /// The chain.
    chain: &'a str,
    /// The position from 1, for `insert`, and for a `delete` that is made by position.
    at: Option<usize>,
    /// The rule in the tool's words, for `insert` and `delete`.
    rule: Option<String>,
    /// The policy, for `set-policy`.
    policy: Option<&'static str>,
    /// Whom it is for; `null` for what all share.
    object: Option<ObjectDto<'a>>,
    /// The XML element behind it; `null` for deletions and what the record remembers.
    place: Option<PlaceDto>,
}

/// A network or an interface.
#[derive(Debug, Serialize)]
struct ObjectDto<'a> {
    /// `network` or `interface`.
    kind: &'static str,
    /// The network's name, or the interface's device.
    name: &'a str,
}

/// A place in a file.
#[derive(Debug, Serialize)]
struct PlaceDto {
    /// The file, as it was given.
    path: String,
    /// From 1.
    line: u32,
    /// From 1, in characters.
    column: u32,
}

/// An object that is held.
#[derive(Debug, Serialize)]
struct HeldDto<'a> {
    /// Which.
    object: ObjectDto<'a>,
    /// Stable: the diagnostic's code, `tool-refused` or `kept-while-broken`.
    code: &'a str,
    /// Why, for people.
    message: &'a str,
    /// What becomes of its rules, for people.
    keeping: String,
    /// The XML place at fault.
    place: Option<PlaceDto>,
}

/// A remark.
#[derive(Debug, Serialize)]
struct RemarkDto<'a> {
    /// Stable.
    code: &'a str,
    /// For people.
    message: &'a str,
}

/// An object that is held, why, and what becomes of its rules.
#[derive(Debug)]
pub struct Held<'a> {
    /// Which.
    pub object: &'a Object,
    /// The stable code of the reason.
    pub code: &'a str,
    /// The reason.
    pub message: &'a str,
    /// How it is kept.
    pub keeping: Keeping,
    /// The XML place at fault.
    pub place: Option<&'a Position>,
}

/// The plan as indented JSON with a newline at its end.
pub fn json(plan: &Plan, held: &[Held<'_>], sources: &Sources) -> String {
    let phases = plan.phases.iter().map(|phase| PhaseDto {
        families: phase
            .families
            .iter()
            .map(|(family, tables)| FamilyDto {
                family: family.tool(),
                tables: tables
                    .iter()
                    .map(|table| TableDto {
                        table: table.table.as_str(),
                        edits: table.edits.iter().map(|edit| edit_dto(*family, edit, sources)).collect(),
                    })
                    .collect(),
            })
            .collect(),
    });
    let remarks = plan.remarks.iter().map(|remark| RemarkDto { code: remark.code, message: &remark.message });
    let held = held.iter().map(|held| HeldDto {
        object: object_dto(held.object),
        code: held.code,
        message: held.message,
        keeping: held.keeping.to_string(),
        place: held.place.map(position_dto),
    });
    visible::json(&PlanDto { v: 1, in_sync: plan.is_empty(), phases: phases.collect(), held: held.collect(), remarks: remarks.collect() })
}

/// Everything that is desired, for `render`.
#[derive(Debug, Serialize)]
struct DesiredDto<'a> {
    /// The version of this shape: 1.
    v: u32,
    /// Every rule, object by object.
    rules: Vec<RuleDto<'a>>,
}

/// One desired rule.
#[derive(Debug, Serialize)]
struct RuleDto<'a> {
    /// `iptables`, `ip6tables` or `ebtables`.
    family: &'static str,
    /// `filter`, `nat`, ...
    table: &'static str,
    /// The chain.
    chain: &'a str,
    /// The rule in the tool's words.
    rule: String,
    /// Whom it is for.
    object: ObjectDto<'a>,
    /// The XML element behind it.
    place: Option<PlaceDto>,
}

/// The rules of every object in these families as indented JSON with a newline at its end; hooks and base chains, which belong
/// to nobody, are left out.
pub fn desired(desired: &Desired, families: &[Family], sources: &Sources) -> String {
    let mut rules = Vec::new();
    for (object, wanted) in &desired.objects {
        for (id, placed) in wanted.blocks().filter(|(id, _)| families.contains(&id.family)) {
            rules.extend(placed.iter().map(|placed| RuleDto {
                family: id.family.tool(),
                table: id.table.as_str(),
                chain: id.chain.as_str(),
                rule: rule_words(id.family, &placed.rule),
                object: object_dto(object),
                place: placed.place.map(|place| place_dto(sources, place)),
            }));
        }
    }
    visible::json(&DesiredDto { v: 1, rules })
}

fn edit_dto<'a>(family: Family, edit: &'a Edit, sources: &Sources) -> EditDto<'a> {
    let (op, at, rule, policy) = match &edit.change {
        Change::NewChain(_) => ("new-chain", None, None, None),
        Change::DeleteChain(_) => ("delete-chain", None, None, None),
        Change::SetPolicy { policy, .. } => ("set-policy", None, None, Some(policy_name(*policy))),
        Change::Insert { at, rule, .. } => ("insert", Some(*at), Some(rule_words(family, rule)), None),
        Change::DeleteRule { rule, .. } => ("delete", None, Some(rule_words(family, rule)), None),
        Change::DeleteAt { at, rule: LiveRule::Known(rule), .. } => ("delete", Some(*at), Some(rule_words(family, rule)), None),
        Change::DeleteAt { at, rule: LiveRule::Unknown(text), .. } => ("delete", Some(*at), Some(text.to_string()), None),
    };
    let object = edit.object.as_ref().map(object_dto);
    let place = edit.place.map(|place| place_dto(sources, place));
    EditDto { op, chain: edit.change.chain().as_str(), at, rule, policy, object, place }
}

fn object_dto(object: &Object) -> ObjectDto<'_> {
    match object {
        Object::Network(name) => ObjectDto { kind: "network", name },
        Object::Interface(device) => ObjectDto { kind: "interface", name: device.as_str() },
    }
}

fn place_dto(sources: &Sources, place: Span) -> PlaceDto {
    position_dto(&sources.position(place))
}

fn position_dto(position: &Position) -> PlaceDto {
    PlaceDto { path: position.path.to_string(), line: position.line, column: position.column }
}
