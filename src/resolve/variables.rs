//! Variables: which values a rule sees, and the rules that one rule becomes for them.
//!
//! Reference: nwfilter.md section 4. A [`Scope`] is the map of 4.3 without copying it at every `<filterref>`; a [`PreparedRule`]
//! knows which variables a rule uses and which of them walk together; an [`Expansion`] collects what one guest's tree becomes.
//! What a value may be is [`super::value`]'s.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::budget::{SCOPES_PER_STEP, STEPS_PER_RULE, TOTAL_LIMIT};
use super::includes::RULE_LIMIT;
use super::value;
use super::{Condition, PolicyRule};
use crate::diagnostic::Diagnostic;
use crate::model::Quirks;
use crate::model::attribute::AttributeSpec;
use crate::model::filter::{Access, Attribute, Chain, Element, Literal, Parameter, Rule, Value};
use crate::source::Span;

/// How many faults of one guest are shown.
pub(super) const FAULT_LIMIT: usize = 64;

/// When so much has been found in all, one fault of each further guest is enough: thousands of guests can have one faulty filter.
const FLOOD: usize = 1_000;

/// One element of a variable's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its text; variables have no type until a rule uses them.
    pub text: Arc<str>,
    /// Where it was written.
    pub span: Span,
}

/// Variables with their lists, from one place.
#[derive(Debug, Default)]
pub(super) struct Bindings<'a>(BTreeMap<&'a str, Vec<Item>>);

/// What a rule sees: the variables of one place, behind those of all places around it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'s, 'a> {
    outer: Option<&'s Scope<'s, 'a>>,
    own: &'s Bindings<'a>,
    /// How many places are around it.
    depth: u32,
}

/// A rule with its variables sorted out, the same for every guest.
#[derive(Debug)]
pub(super) struct PreparedRule<'a> {
    rule: &'a Rule,
    chain: &'a Chain,
    /// What walks on its own, the one that walks fastest first.
    iterators: Vec<Iteration<'a>>,
    /// For every attribute of the rule: which iterator gives its value, and the how-manieth of its uses.
    slots: Vec<Option<(usize, usize)>>,
    /// What it becomes for every guest, where it uses no variable: all of them share it.
    constant: Option<Arc<PolicyRule>>,
}

/// Uses of variables that advance together.
#[derive(Debug)]
struct Iteration<'a> {
    /// `None` for a fixed element, which stands still on its own.
    number: Option<u16>,
    uses: Vec<Use<'a>>,
}

/// An attribute whose value a variable gives.
#[derive(Debug, Clone, Copy)]
struct Use<'a> {
    access: &'a Access,
    /// `None` for an attribute that a later element gave again: nobody reads the value.
    spec: Option<&'static AttributeSpec>,
    span: Span,
}

/// What one guest's filter tree becomes.
#[derive(Debug)]
pub(super) struct Expansion<'a> {
    /// The rules so far, in collection order.
    pub rules: Vec<Arc<PolicyRule>>,
    /// Accesses that nothing gives a value to, with their first use.
    pub missing: BTreeMap<&'a Access, Span>,
    /// Whatever else is wrong.
    pub faults: Vec<Diagnostic>,
    /// The limit that the guest exceeds, after which nothing more was added.
    pub exceeded: Option<Diagnostic>,
    /// The guest's `<filterref>`, which faults show that come from its parameters as a whole.
    binding: Span,
    quirks: Quirks,
    /// How many rules the guest may have.
    allowance: u64,
    /// How many of its faults are told.
    pub fault_limit: usize,
    /// Rules, list elements looked at, and what it cost to find the lists.
    steps: u64,
}

/// What one iterator goes through: a row for every position, a cell in it for every use. One list can have tens of thousands of rows: none has room of its own.
#[derive(Debug)]
struct Rows<T> {
    /// Cells of a row; at least one.
    width: usize,
    cells: Vec<T>,
}

/// The values of the elements; `None` where a variable makes no condition.
type Values = Rows<Option<Literal>>;

impl<T> Rows<T> {
    /// How many rows.
    fn len(&self) -> usize {
        self.cells.len() / self.width
    }

    fn row(&self, at: usize) -> &[T] {
        &self.cells[at * self.width..][..self.width]
    }
}

impl<'a> Bindings<'a> {
    /// The parameters of one `<filterref>`; a name that repeats makes a list.
    pub(super) fn of(parameters: &'a [Parameter]) -> Self {
        let mut bindings = Self::default();
        for parameter in parameters {
            let item = Item { text: Arc::clone(&parameter.value.value), span: parameter.value.span };
            bindings.0.entry(&parameter.name.value).or_default().push(item);
        }
        bindings
    }

    /// Gives a variable a list unless it has one, or the list is empty.
    pub(super) fn fall_back(&mut self, name: &'a str, list: Vec<Item>) {
        if !list.is_empty() {
            self.0.entry(name).or_insert(list);
        }
    }

    /// The list of a variable.
    pub(super) fn get(&self, name: &str) -> Option<&[Item]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The names that have a value.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().copied()
    }
}

impl<'s, 'a> Scope<'s, 'a> {
    /// What the interface itself gives.
    pub(super) fn top(own: &'s Bindings<'a>) -> Self {
        Self { outer: None, own, depth: 0 }
    }

    /// What the rules of an included filter see.
    pub(super) fn include<'t>(&'t self, own: &'t Bindings<'a>) -> Scope<'t, 'a> {
        Scope { outer: Some(self), own, depth: self.depth + 1 }
    }

    /// The list of a variable: the outermost place that names it wins (nwfilter.md 4.3).
    fn get(&self, name: &str) -> Option<&'s [Item]> {
        self.outer.and_then(|outer| outer.get(name)).or_else(|| self.own.get(name))
    }

    /// The elements that an access stands for; `None` when it is missing.
    fn access(&self, access: &Access) -> Option<&'s [Item]> {
        let list = self.get(&access.name)?;
        match access.element {
            Element::Iterated(_) => Some(list),
            Element::Fixed(index) => list.get(usize::try_from(index).ok()?).map(std::slice::from_ref),
        }
    }
}

impl<'a> PreparedRule<'a> {
    /// Sorts out a rule that stands in a filter of this chain.
    pub(super) fn new(rule: &'a Rule, chain: &'a Chain) -> Self {
        let mut prepared = Self { rule, chain, iterators: Vec::new(), slots: vec![None; rule.attributes.len()], constant: None };
        if rule.overridden.is_empty() && rule.attributes.iter().all(|attribute| matches!(attribute.value, Value::Literal(_))) {
            prepared.constant = Some(Arc::new(prepared.instance(&[], &[])));
            return prepared;
        }
        for (access, span) in &rule.overridden {
            prepared.add_use(Use { access, spec: None, span: *span });
        }
        // Iterator 0 comes first wherever it appears, the others as the attributes stand: element by element, the protocol's table within each
        // (nwfilter.md 4.4).
        for (at, attribute) in rule.attributes.iter().enumerate() {
            let Value::Variable(access) = &attribute.value else { continue };
            let Some(spec) = rule.protocol.attribute(attribute.name) else { continue };
            prepared.slots[at] = Some(prepared.add_use(Use { access, spec: Some(spec), span: attribute.span }));
        }
        prepared.put_iterator_zero_first();
        prepared
    }

    /// Adds a use; gives the number of its iterator, and its own among the uses of that.
    fn add_use(&mut self, used: Use<'a>) -> (usize, usize) {
        let number = match used.access.element {
            Element::Iterated(number) => Some(number),
            Element::Fixed(_) => None,
        };
        let known = self.iterators.iter().position(|iterator| number.is_some() && iterator.number == number);
        let at = known.unwrap_or_else(|| {
            self.iterators.push(Iteration { number, uses: Vec::new() });
            self.iterators.len() - 1
        });
        self.iterators[at].uses.push(used);
        (at, self.iterators[at].uses.len() - 1)
    }

    fn put_iterator_zero_first(&mut self) {
        let Some(zero) = self.iterators.iter().position(|iterator| iterator.number == Some(0)) else { return };
        self.iterators[..=zero].rotate_right(1);
        for (iterator, _) in self.slots.iter_mut().flatten() {
            *iterator = match *iterator {
                at if at == zero => 0,
                at if at < zero => at + 1,
                at => at,
            };
        }
    }

    fn uses(&self) -> impl Iterator<Item = &Use<'a>> {
        self.iterators.iter().flat_map(|iterator| &iterator.uses)
    }

    /// The rule with the values of one combination: `position` holds a row number for every iterator.
    fn instance(&self, values: &[Values], position: &[usize]) -> PolicyRule {
        let condition = |(attribute, slot): (&'a Attribute, &Option<(usize, usize)>)| {
            let (value, from_variable) = match (&attribute.value, *slot) {
                (Value::Literal(literal), _) => (literal.clone(), false),
                (Value::Variable(_), Some((iterator, column))) => (values[iterator].row(position[iterator])[column].clone()?, true),
                // An attribute that this protocol does not know.
                (Value::Variable(_), None) => return None,
            };
            Some(Condition { name: attribute.name, value, negated: attribute.negated, from_variable, span: attribute.span })
        };
        // One list of values can make tens of thousands of these: no room that is not used.
        let mut conditions = Vec::with_capacity(self.rule.attributes.len());
        conditions.extend(self.rule.attributes.iter().zip(&self.slots).filter_map(condition));
        PolicyRule {
            chain: self.chain.clone(),
            priority: self.rule.priority,
            action: self.rule.action,
            direction: self.rule.direction,
            state_match: self.rule.state_match,
            protocol: self.rule.protocol,
            conditions,
            place: self.rule.span,
        }
    }
}

impl<'a> Expansion<'a> {
    /// Nothing yet, for the guest with this `<filterref>`, which may have so many rules; `found` is how much there is to say about the guests before it.
    pub(super) fn new(binding: Span, quirks: Quirks, allowance: u64, found: usize) -> Self {
        let fault_limit = if found < FLOOD { FAULT_LIMIT } else { 1 };
        let (rules, missing, faults) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { rules, missing, faults, exceeded: None, binding, quirks, allowance, fault_limit, steps: 0 }
    }

    /// What this has cost so far, in rules.
    pub(super) fn cost(&self) -> u64 {
        (self.rules.len() as u64).max(self.steps / STEPS_PER_RULE)
    }

    /// Adds what one rule becomes; breaks off when the guest exceeds a limit.
    pub(super) fn add(&mut self, prepared: &PreparedRule<'a>, scope: &Scope<'_, 'a>) -> ControlFlow<()> {
        let lists: Vec<Option<&[Item]>> = prepared.uses().map(|used| scope.access(used.access)).collect();
        let elements: u64 = lists.iter().flatten().map(|list| list.len() as u64).sum();
        let lookups = lists.len() as u64 * u64::from(scope.depth) / SCOPES_PER_STEP;
        let missing = lists.iter().filter(|list| list.is_none()).count() as u64;
        self.steps = self.steps.saturating_add(elements + lookups + missing + 1);
        if self.steps > self.allowance.saturating_mul(STEPS_PER_RULE) {
            return self.too_large(prepared);
        }
        let Some(lists) = self.complete(prepared, lists) else { return ControlFlow::Continue(()) };
        let Some(values) = self.values(prepared, &lists) else { return ControlFlow::Continue(()) };
        // The product is known before the first combination is made.
        let combinations = values.iter().fold(1_u64, |product, rows| product.saturating_mul(rows.len() as u64));
        if combinations.saturating_add(self.rules.len() as u64) > self.allowance {
            return self.too_large(prepared);
        }
        let mut position = vec![0; values.len()];
        loop {
            self.rules.push(prepared.constant.clone().unwrap_or_else(|| Arc::new(prepared.instance(&values, &position))));
            if !advance(&mut position, &values) {
                return ControlFlow::Continue(());
            }
        }
    }

    /// The lists of all uses, if each has one; notes those that have none.
    fn complete<'s>(&mut self, prepared: &PreparedRule<'a>, lists: Vec<Option<&'s [Item]>>) -> Option<Vec<&'s [Item]>> {
        for (used, _) in prepared.uses().zip(&lists).filter(|(_, list)| list.is_none()) {
            self.missing.entry(used.access).or_insert(used.span);
        }
        lists.into_iter().collect()
    }

    /// The typed values of every iterator, or `None` when there is a fault among them.
    fn values(&mut self, prepared: &PreparedRule<'a>, mut lists: &[&[Item]]) -> Option<Vec<Values>> {
        let mut all = Vec::with_capacity(prepared.iterators.len());
        let mut faultless = true;
        for iterator in &prepared.iterators {
            let (own, others) = lists.split_at(iterator.uses.len());
            lists = others;
            match line_up(iterator, own, self.quirks) {
                Ok(rows) => match self.typed(prepared.rule, iterator, &rows) {
                    Some(values) => all.push(values),
                    None => faultless = false,
                },
                Err(fault) => {
                    faultless = false;
                    let binding = self.binding;
                    self.fault(|| fault.also(binding, "for the interface bound here"));
                }
            }
        }
        faultless.then_some(all)
    }

    fn typed(&mut self, rule: &Rule, iterator: &Iteration<'a>, rows: &Rows<&Item>) -> Option<Values> {
        let mut faultless = true;
        let mut cells = Vec::with_capacity(rows.cells.len());
        for (used, item) in iterator.uses.iter().cycle().zip(&rows.cells) {
            let Some(spec) = used.spec else {
                cells.push(None);
                continue;
            };
            match value::bind(&item.text, rule, spec, self.quirks) {
                Ok(value) => cells.push(value),
                Err(refusal) => {
                    faultless = false;
                    self.fault(|| refused_value(used, spec, item, refusal));
                }
            }
        }
        faultless.then_some(Rows { width: rows.width, cells })
    }

    /// Notes a fault that is not known yet; makes none beyond the limit.
    fn fault(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.faults.len() == self.fault_limit {
            return;
        }
        let fault = make();
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn too_large(&mut self, prepared: &PreparedRule<'a>) -> ControlFlow<()> {
        let message = if self.allowance == RULE_LIMIT {
            format!("the values of the variables make more than {RULE_LIMIT} rules of this filter")
        } else {
            format!("this guest has more rules than are left of the {RULE_LIMIT} for the guests of one file and the {TOTAL_LIMIT} for all")
        };
        let expected = format!("expected at most {} rules", self.allowance);
        let fault = Diagnostic::error("too-many-rules", message, self.binding, expected)
            .also(prepared.rule.span, "the limit is exceeded here")
            .help("shorten the lists, or match on a network or a range in place of single addresses and ports");
        self.exceeded = Some(fault);
        ControlFlow::Break(())
    }
}

/// The rows of one iterator, repeated ones left out (nwfilter.md 4.4); an error when its lists differ in length.
///
/// In `fixed` quirks a list of one element stands still while others advance (row 18 of section 8: `$IP` beside `$MAC`).
fn line_up<'s>(iterator: &Iteration<'_>, lists: &[&'s [Item]], quirks: Quirks) -> Result<Rows<&'s Item>, Diagnostic> {
    let length = lists.iter().map(|list| list.len()).max().unwrap_or(0);
    let fits = |list: &[Item]| list.len() == length || (quirks == Quirks::Fixed && list.len() == 1);
    if let Some(short) = lists.iter().position(|list| !fits(list)) {
        let long = lists.iter().position(|list| list.len() == length).expect("the longest list is one of them");
        return Err(uneven(iterator, (short, lists[short]), (long, lists[long])));
    }
    let width = lists.len();
    let all: Vec<&Item> = (0..length).flat_map(|at| lists.iter().map(move |list| list.get(at).unwrap_or(&list[0]))).collect();
    let texts: Vec<&str> = all.iter().map(|item| &*item.text).collect();
    let mut seen: HashSet<&[&str]> = HashSet::with_capacity(length);
    let unlike = all.chunks_exact(width).zip(texts.chunks_exact(width)).filter(|(_, texts)| seen.insert(texts));
    Ok(Rows { width, cells: unlike.flat_map(|(row, _)| row).copied().collect() })
}

/// Moves to the next combination, the first iterator fastest; false after the last one.
fn advance(position: &mut [usize], values: &[Values]) -> bool {
    for (at, rows) in position.iter_mut().zip(values) {
        *at += 1;
        if *at < rows.len() {
            return true;
        }
        *at = 0;
    }
    false
}

fn uneven(iterator: &Iteration<'_>, short: (usize, &[Item]), long: (usize, &[Item])) -> Diagnostic {
    let count = |(at, list): (usize, &[Item])| format!("`{}` has {}", iterator.uses[at].access.name, list.len());
    let message = format!("lists that are walked together differ in length: {}, {}", count(long), count(short));
    let name = &iterator.uses[short.0].access.name;
    Diagnostic::error("uneven-lists", message, iterator.uses[short.0].span, format!("expected a list of {} elements", long.1.len()))
        .also(iterator.uses[long.0].span, "walked together with this one")
        .help(format!("give `{name}` an iterator of its own, `${name}[@1]`, or name one element, `${name}[0]`"))
}

fn refused_value(used: &Use<'_>, spec: &AttributeSpec, item: &Item, refusal: value::Refusal) -> Diagnostic {
    let message = format!("`{}` is no value for `{}`, which `{}` gives", item.text, spec.xml, used.access.name);
    let fault = Diagnostic::error("invalid-variable-value", message, item.span, refusal.expected).also(used.span, "used here");
    match refusal.help {
        Some(help) => fault.help(help),
        None => fault,
    }
}
