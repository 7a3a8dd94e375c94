//! The picture of a filter: what it includes, and in which order its rules are looked at on each side of a guest.
//!
//! What goes in are filters as written; no guest is needed, variables stay variables. Faulty trees are drawn as far as they go: a
//! reference that leads nowhere ends in a box that says so, one that closes a loop is an arrow back. A tree may be exponentially larger
//! than its files, so the walk through it is bounded.

use std::collections::BTreeMap;

use super::{BoxId, Graph, Line};
use crate::model::filter::{Action, Attribute, AttributeName, Direction, Entry, Filter, Layer, Protocol, Reference, Rule};
use crate::resolve::order::{self, Gate, Side, Standing, Step};
use crate::source::Sources;

/// How many rules are drawn. Far below, nobody can read the picture.
const RULE_LIMIT: usize = 500;
/// How many rules and references are looked at to find them, those that lead nowhere or back among them.
const ENTRY_LIMIT: usize = 10_000;
/// How many filters deep; trees beyond it are refused anyway.
const DEPTH_LIMIT: usize = 64;
/// Letters of one value.
const VALUE_LIMIT: usize = 60;

/// Filters by name, where files' filters stand before stock filters.
pub type Filters<'a> = BTreeMap<&'a str, &'a Filter>;

/// A rule with the filter that it stands in.
#[derive(Debug, Clone, Copy)]
struct WrittenRule<'a> {
    rule: &'a Rule,
    filter: &'a Filter,
}

/// The rules of a tree in collection order, while it is walked.
struct Walk<'a, 'f> {
    filters: &'f Filters<'a>,
    rules: Vec<(Standing<'a>, WrittenRule<'a>)>,
    path: Vec<&'a str>,
    entries_left: usize,
    is_cut: bool,
}

/// Draws a filter.
pub fn draw<'a>(filter: &'a Filter, filters: &Filters<'a>, sources: &Sources) -> Graph {
    let mut graph = Graph::new(&*filter.name.value);
    draw_references(&mut graph, filter, filters, sources);
    let mut walk = Walk { filters, rules: Vec::new(), path: Vec::new(), entries_left: ENTRY_LIMIT, is_cut: false };
    walk.enter(filter);
    for side in Side::ALL {
        draw_root(&mut graph, &order::link(&walk.rules, side), side, sources);
    }
    for (layer, title) in [(Layer::Ipv4, "IPv4 packets (iptables)"), (Layer::Ipv6, "IPv6 packets (ip6tables)")] {
        let rules = order::network(&walk.rules, layer);
        if !rules.is_empty() {
            graph.begin_group(format!("{title}, first to last"));
            graph.add_box(rules.into_iter().map(|rule| describe(rule, None, sources)).chain([PACKETS_END.to_owned()]).collect());
        }
    }
    if walk.is_cut {
        graph.begin_group("Not all rules are shown");
        graph.add_box(vec![format!("only the first {} rules", walk.rules.len())]);
    }
    graph
}

const END: &str = "end: accepted";
/// nwfilter.md 3.2: what the guest sends is accepted at last, what it is sent goes on through FORWARD.
const PACKETS_END: &str = "end: accepted from the guest, left to other rules to the guest";

impl<'a> Walk<'a, '_> {
    fn enter(&mut self, filter: &'a Filter) {
        let name = &*filter.name.value;
        if self.path.contains(&name) {
            return;
        }
        if self.path.len() >= DEPTH_LIMIT {
            self.is_cut = true;
            return;
        }
        self.path.push(name);
        for entry in &filter.entries {
            if self.entries_left == 0 {
                self.is_cut = true;
                break;
            }
            self.entries_left -= 1;
            match entry {
                Entry::Rule(_) if self.rules.len() >= RULE_LIMIT => self.is_cut = true,
                Entry::Rule(rule) => self.rules.push((Standing::written(rule, &filter.chain), WrittenRule { rule, filter })),
                Entry::Reference(reference) => {
                    if let Some(included) = self.filters.get(&*reference.filter.value) {
                        self.enter(included);
                    }
                }
            }
        }
        self.path.pop();
    }
}

/// One box for every filter of the tree, and an arrow for every reference.
fn draw_references<'a>(graph: &mut Graph, top: &'a Filter, filters: &Filters<'a>, sources: &Sources) {
    graph.begin_group("References");
    let mut drawn: BTreeMap<&str, BoxId> = BTreeMap::new();
    drawn.insert(&top.name.value, graph.add_box(filter_lines(top, sources)));
    let mut open = vec![top];
    while let Some(filter) = open.pop() {
        let from = drawn[&*filter.name.value];
        for reference in filter.entries.iter().filter_map(reference) {
            let name = &*reference.filter.value;
            let to = drawn.get(name).copied().unwrap_or_else(|| match filters.get(name) {
                Some(included) => {
                    open.push(included);
                    graph.add_box(filter_lines(included, sources))
                }
                None => graph.add_box(vec![short(name), "there is no such filter".to_owned()]),
            });
            drawn.insert(name, to);
            graph.add_arrow(from, to, Line::Solid, parameters(reference));
        }
    }
}

fn reference(entry: &Entry) -> Option<&Reference> {
    if let Entry::Reference(reference) = entry { Some(reference) } else { None }
}

fn parameters(reference: &Reference) -> String {
    let all = reference.parameters.iter().map(|parameter| format!("{}={}", short(&parameter.name.value), short(&parameter.value.value)));
    all.collect::<Vec<_>>().join(" ")
}

fn filter_lines(filter: &Filter, sources: &Sources) -> Vec<String> {
    let chain = &filter.chain;
    let standing =
        if &*chain.name == "root" { "chain root".to_owned() } else { format!("chain {}, priority {}", chain.name, chain.priority) };
    vec![short(&filter.name.value), standing, sources.file(filter.span.file).path.to_string()]
}

/// The root chain of one side from top to bottom, and beside it the chains that it jumps to.
fn draw_root(graph: &mut Graph, root: &[Step<'_, WrittenRule<'_>>], side: Side, sources: &Sources) {
    if root.is_empty() {
        return;
    }
    let title = match side {
        Side::FromGuest => "from the guest",
        Side::ToGuest => "to the guest",
    };
    graph.begin_group(format!("Frames {title} (ebtables), first to last"));
    let mut boxes: Vec<BoxId> = root.iter().map(|step| graph.add_box(vec![describe_step(step, side, sources)])).collect();
    boxes.push(graph.add_box(vec![END.to_owned()]));
    for pair in boxes.windows(2) {
        graph.add_arrow(pair[0], pair[1], Line::Solid, "");
    }
    if root.iter().all(|step| matches!(step, Step::Rule(_))) {
        return;
    }
    graph.begin_group(format!("Chains, {title}"));
    for (step, &from) in root.iter().zip(&boxes) {
        let Step::Jump(chain) = step else { continue };
        let mut lines = vec![format!("chain {}", chain.name)];
        lines.extend(chain.rules.iter().map(|&rule| describe(rule, Some(side), sources)));
        lines.push("end: back".to_owned());
        let to = graph.add_box(lines);
        graph.add_arrow(from, to, Line::Dashed, Gate::of(chain.name).to_string());
    }
}

fn describe_step(step: &Step<'_, WrittenRule<'_>>, side: Side, sources: &Sources) -> String {
    match step {
        Step::Rule(rule) => describe(*rule, Some(side), sources),
        Step::Jump(chain) => format!("{}: {} to chain {}", chain.priority, Gate::of(chain.name), chain.name),
    }
}

/// `PRIORITY: ACTION DIRECTION [PROTOCOL [[not] ATTRIBUTE=VALUE]..] (FILTER)`
fn describe(WrittenRule { rule, filter }: WrittenRule<'_>, side: Option<Side>, sources: &Sources) -> String {
    let mut words = vec![format!("{}:", rule.priority), action(rule.action).to_owned(), direction(rule.direction).to_owned()];
    if let Some((element, _)) = Protocol::ELEMENTS.iter().find(|(_, protocol)| *protocol == rule.protocol) {
        words.push((*element).to_owned());
    }
    words.extend(rule.attributes.iter().filter_map(|attribute| condition(rule.protocol, attribute, sources)));
    // An `inout` rule is written from the viewpoint of traffic to the guest (nwfilter.md 2.5).
    if side == Some(Side::FromGuest) && rule.direction == Direction::InOut && rule.attributes.iter().any(|it| is_of_one_end(it.name)) {
        words.push("[source and destination swapped]".to_owned());
    }
    words.push(format!("({})", short(&filter.name.value)));
    words.join(" ")
}

/// True for what a reversed rule looks for at the other end.
fn is_of_one_end(name: AttributeName) -> bool {
    use AttributeName as Name;
    matches!(
        name,
        Name::SrcMacAddr
            | Name::DstMacAddr
            | Name::ArpSrcMacAddr
            | Name::ArpDstMacAddr
            | Name::ArpSrcIpAddr
            | Name::ArpDstIpAddr
            | Name::SrcIpAddr
            | Name::DstIpAddr
            | Name::SrcPortStart
            | Name::DstPortStart
    )
}

fn condition(protocol: Protocol, attribute: &Attribute, sources: &Sources) -> Option<String> {
    let spec = protocol.attribute(attribute.name)?;
    let not = if attribute.negated { "not " } else { "" };
    Some(format!("{not}{}={}", spec.xml, short(sources.text(attribute.span))))
}

fn short(text: &str) -> String {
    let mut letters = text.chars();
    let mut short: String = letters.by_ref().take(VALUE_LIMIT).collect();
    if letters.next().is_some() {
        short.push_str("...");
    }
    short
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Accept => "accept",
        Action::Drop => "drop",
        Action::Reject => "reject",
        Action::Return => "return",
        Action::Continue => "continue",
    }
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::InOut => "inout",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Notation;
    use crate::model::Quirks;
    use crate::parse::parse;

    /// The picture of the first filter in Mermaid, its first line and the references left out.
    fn picture(texts: &[&str]) -> String {
        let mut sources = Sources::default();
        let mut filters = Vec::new();
        for text in texts {
            let file = sources.add("test.xml", *text);
            filters.extend(parse(&sources, file, Quirks::Fixed).filters);
        }
        assert_eq!(filters.len(), texts.len(), "some filter is broken");
        let by_name = filters.iter().map(|filter| (&*filter.name.value, filter)).collect();
        draw(&filters[0], &by_name, &sources).write(Notation::Mermaid)
    }

    #[test]
    fn rules_and_jumps_stand_in_the_order_of_evaluation() {
        let shown = picture(&[
            "<filter name='top'>
              <rule action='accept' direction='inout' priority='-600'><mac dstmacaddr='ff:ff:ff:ff:ff:ff'/></rule>
              <filterref filter='guard'><parameter name='NET' value='10.0.0.0'/></filterref>
              <rule action='accept' direction='out' priority='-800'><mac protocolid='arp'/></rule>
            </filter>",
            "<filter name='guard' chain='ipv4-guard'><rule action='drop' direction='out'><ip match='no' srcipaddr='$NET'/></rule></filter>",
        ]);
        let expected = "flowchart TB
  subgraph g0[\"References\"]
    n0[\"top<br/>chain root<br/>test.xml\"]
    n1[\"guard<br/>chain ipv4-guard, priority -700<br/>test.xml\"]
  end
  subgraph g1[\"Frames from the guest (ebtables), first to last\"]
    n2[\"-800: accept out mac protocolid=arp (top)\"]
    n3[\"-700: IPv4 frames to chain ipv4-guard\"]
    n4[\"-600: accept inout mac dstmacaddr=ff:ff:ff:ff:ff:ff [source and destination swapped] (top)\"]
    n5[\"end: accepted\"]
  end
  subgraph g2[\"Chains, from the guest\"]
    n6[\"chain ipv4-guard<br/>500: drop out ip not srcipaddr=$NET (guard)<br/>end: back\"]
  end
  subgraph g3[\"Frames to the guest (ebtables), first to last\"]
    n7[\"-600: accept inout mac dstmacaddr=ff:ff:ff:ff:ff:ff (top)\"]
    n8[\"end: accepted\"]
  end
  n0 -->|\"NET=10.0.0.0\"| n1
  n2 --> n3
  n3 --> n4
  n4 --> n5
  n3 -.->|\"IPv4 frames\"| n6
  n7 --> n8
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn loops_and_missing_filters_are_drawn() {
        let shown = picture(&[
            "<filter name='a'><filterref filter='b'/></filter>",
            "<filter name='b'><filterref filter='a'/><filterref filter='c'/></filter>",
        ]);
        assert!(shown.contains("n0 --> n1") && shown.contains("n1 --> n0"), "{shown}");
        assert!(shown.contains("n2[\"c<br/>there is no such filter\"]"), "{shown}");
    }

    #[test]
    fn a_tree_that_doubles_at_every_level_ends() {
        let level =
            |number: u32| format!("<filter name='f{number}'><filterref filter='f{0}'/><filterref filter='f{0}'/></filter>", number + 1);
        let mut texts: Vec<String> = (0..60).map(level).collect();
        texts.push("<filter name='f60'><rule action='drop' direction='in'/></filter>".to_owned());
        let shown = picture(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(shown.contains("Not all rules are shown"), "{shown}");
        texts[60] = "<filter name='f60'/>".to_owned();
        assert!(picture(&texts.iter().map(String::as_str).collect::<Vec<_>>()).contains("Not all"));
    }

    #[test]
    fn references_that_lead_nowhere_or_back_count() {
        for leads_to in ["nowhere", "top"] {
            let references = format!("<filterref filter='{leads_to}'/>").repeat(ENTRY_LIMIT);
            let shown = picture(&[&format!("<filter name='top'>{references}<rule action='drop' direction='in'/></filter>")]);
            assert!(shown.contains("only the first 0 rules"), "{leads_to}");
        }
    }
}
