//! The laws of whole states, from text to plan: names of files and their order mean nothing, a broken file changes nothing, what `render` prints is what a
//! restore makes, and no text whatever adds a line to restore input.

use std::collections::BTreeMap;
use std::sync::Arc;

use bridgeward::backend::fake::Fake;
use bridgeward::compile::{ObjectRules, PlacedRule};
use bridgeward::model::learned::Learned;
use bridgeward::model::{Object, Quirks};
use bridgeward::plan::desire::{self, Choices, Installed};
use bridgeward::plan::ownership::BASES;
use bridgeward::plan::{self, Desired, show};
use bridgeward::reconcile::compute::{self, Reading};
use bridgeward::ruleset::rule::{IpMatch, Rule};
use bridgeward::ruleset::{Family, LiveRule, Observation, Observed, save};
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use crate::fixture::{FILTER, NETWORK, guest};
use crate::nightly::times;
use crate::plan_laws::chains;
use crate::restore_law;
use crate::strategy::comment;

/// What stands in values of mutated XML: ends of words and lines, options, numbers of every kind, and what looks like something else.
const NASTY: [&str; 40] = [
    "",
    " ",
    "-",
    "--",
    "-j ACCEPT",
    "; reboot",
    "$(reboot)",
    "`reboot`",
    "&#10;-A INPUT -j ACCEPT",
    "&#13;",
    "&#9;",
    "&quot;",
    "&apos;",
    "\\",
    "\\&quot;",
    "#",
    "!",
    "COMMIT",
    "*filter",
    "vnet0",
    "vnet+",
    "../x",
    "%s",
    "0",
    "-1",
    "65536",
    "4294967296",
    "18446744073709551616",
    "0x10",
    "010",
    "1e3",
    "\u{ff11}",
    "\u{202e}",
    "\u{2028}",
    "\u{85}",
    "$IP",
    "$IP[@1]",
    "255.0.255.0",
    "::ffff:1.2.3.4",
    "yes",
];

/// A change somewhere in a text.
#[derive(Debug, Clone)]
enum Mutation {
    /// The value of an attribute becomes another one.
    Value(Index, String),
    /// Something is put in anywhere.
    Insert(Index, String),
    /// Something is left out.
    Cut(Index, usize),
    /// An element's or attribute's name becomes another one of the same text.
    Swap(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let text = || prop_oneof![4 => select(NASTY.to_vec()).prop_map(str::to_owned), 1 => any::<String>(), 1 => "[ -~]{0,12}"];
    prop_oneof![
        5 => (any::<Index>(), text()).prop_map(|(at, text)| Mutation::Value(at, text)),
        1 => (any::<Index>(), text()).prop_map(|(at, text)| Mutation::Insert(at, text)),
        1 => (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Mutation::Cut(at, length)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn mutate(text: &str, mutation: &Mutation) -> String {
    let boundary = |at: usize| text.floor_char_boundary(at);
    match mutation {
        Mutation::Value(at, value) => {
            let quotes: Vec<usize> = text.match_indices('\'').map(|(at, _)| at).collect();
            if quotes.len() < 2 {
                return text.to_owned();
            }
            let first = at.index(quotes.len() / 2) * 2;
            format!("{}{value}{}", &text[..=quotes[first]], &text[quotes[first + 1]..])
        }
        Mutation::Insert(at, inserted) => {
            let at = boundary(at.index(text.len() + 1));
            format!("{}{inserted}{}", &text[..at], &text[at..])
        }
        Mutation::Cut(at, length) => {
            let from = boundary(at.index(text.len() + 1));
            let to = boundary((from + length).min(text.len())).max(from);
            format!("{}{}", &text[..from], &text[to..])
        }
        Mutation::Swap(a, b) => {
            let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 2).collect();
            if words.is_empty() {
                return text.to_owned();
            }
            text.replacen(words[a.index(words.len())], words[b.index(words.len())], 1)
        }
    }
}

/// A rule for every kind of protocol and match, so that mutations meet all of them.
const RICH: &str = "<filter name='rich' chain='root' priority='-100'>
  <uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d0c1fff</uuid>
  <filterref filter='clean-traffic'/>
  <rule action='accept' direction='in' priority='10'><mac srcmacaddr='52:54:00:00:00:01' srcmacmask='ff:ff:ff:00:00:00' protocolid='0x800' comment='a'/></rule>
  <rule action='drop' direction='out' priority='20'><vlan vlanid='5' encap-protocol='0x800' comment='b'/></rule>
  <rule action='drop' direction='inout'><arp opcode='Request' hwtype='1' protocoltype='0x800' arpsrcmacaddr='52:54:00:00:00:01' arpsrcipaddr='10.0.0.1' gratuitous='true'/></rule>
  <rule action='return' direction='out'><ip srcipaddr='$IP' dstipaddr='10.0.0.0' dstipmask='8' protocol='tcp' dstportstart='80' dstportend='90' dscp='10'/></rule>
  <rule action='accept' direction='out'><ipv6 srcipaddr='fd00::1' srcipmask='64' protocol='udp' srcportstart='53'/></rule>
  <rule action='accept' direction='in' statematch='false'><tcp srcipaddr='10.0.0.1' dstportstart='$PORT' flags='SYN/ALL' state='NEW' comment='c' ipset='friends' ipsetflags='src,dst'/></rule>
  <rule action='reject' direction='in'><udp srcipfrom='10.0.0.1' srcipto='10.0.0.9' dstportstart='53' connlimit-above='5'/></rule>
  <rule action='accept' direction='in'><icmp type='8' code='0' dscp='0x2'/></rule>
  <rule action='accept' direction='in'><sctp dstportstart='1' srcmacaddr='52:54:00:00:00:01'/></rule>
  <rule action='accept' direction='in'><tcp-ipv6 dstipaddr='fd00::2' dstportstart='22' option='3'/></rule>
  <rule action='drop' direction='inout' priority='500'><all comment='d &amp; e'/></rule>
</filter>
";

const OPEN: &str = "<network ipv6='yes'>
  <name>open</name>
  <bridge name='br-open'/>
  <forward mode='route' dev='eth0'/>
  <ip address='10.41.0.1' netmask='255.255.255.0'><tftp root='/srv'/></ip>
  <route address='10.42.0.0' prefix='24' gateway='10.41.0.2'/>
</network>
";

/// The sound files of which states are made.
fn pool() -> Vec<String> {
    let rich =
        guest(3, "rich").replace("</filterref>", "<parameter name='PORT' value='80'/><parameter name='PORT' value='443'/></filterref>");
    let guests = [guest(0, "web"), guest(1, "clean-traffic"), guest(2, "web"), rich];
    [NETWORK, FILTER, RICH, OPEN].into_iter().map(str::to_owned).chain(guests).collect()
}

fn state() -> impl Strategy<Value = Vec<String>> {
    subsequence(pool(), 1..=8)
}

fn named(texts: &[String], name: impl Fn(usize) -> String) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = texts.iter().enumerate().map(|(at, text)| (name(at), text.clone())).collect();
    files.sort();
    files
}

fn borrowed(files: &[(String, String)]) -> Vec<(&str, &str)> {
    files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
}

fn without_places(desired: &Desired) -> BTreeMap<Object, ObjectRules> {
    let mut objects: BTreeMap<Object, ObjectRules> =
        desired.objects.iter().map(|(object, rules)| (object.clone(), ObjectRules::clone(rules))).collect();
    for rules in objects.values_mut().flat_map(|rules| [&mut rules.chains, &mut rules.shared, &mut rules.direct]) {
        rules.values_mut().flatten().for_each(|placed| placed.place = None);
    }
    objects
}

fn empty() -> Observed {
    Observed { families: Family::ALL.map(|family| (family, Observation::Read(BTreeMap::new()))).into() }
}

/// The rules of every chain but the jumps to base chains, which may stay; those of chains that objects share stand in the order in which these came.
fn in_any_order(observed: &Observed) -> BTreeMap<String, Vec<String>> {
    let is_hook = |rule: &LiveRule| BASES.iter().any(|base| *rule == LiveRule::Known(base.jump()));
    let sorted = chains(observed).map(|(family, table, name, rules)| {
        let mut rules: Vec<String> = rules.iter().filter(|rule| !is_hook(rule)).map(|rule| format!("{rule:?}")).collect();
        rules.sort();
        (format!("{family} {table} {name}"), rules)
    });
    sorted.filter(|(_, rules)| !rules.is_empty()).collect()
}

/// The comments of all rules.
fn comments(desired: &Desired) -> Vec<Arc<str>> {
    let rules = desired.objects.values().flat_map(|object| object.blocks()).flat_map(|(_, rules)| rules);
    let of = |placed: &PlacedRule| match &placed.rule {
        Rule::Ip(rule) => rule.matches.clone(),
        Rule::Bridge(_) => Vec::new(),
    };
    let text = |one| if let IpMatch::Comment(text) = one { Some(text) } else { None };
    rules.flat_map(of).filter_map(text).collect()
}

fn quirks() -> impl Strategy<Value = Quirks> {
    select(vec![Quirks::Fixed, Quirks::Libvirt])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: times(60, 10_000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_text_every_line_of_restore_input_is_meant(
        which in any::<Index>(),
        mutations in prop::collection::vec(mutation(), 1..6),
        quirks in quirks(),
    ) {
        // In the place of its sound self, for two files of one name would both be held, and a filter without a guest becomes no line.
        let mut texts = pool();
        let text = which.get_mut(&mut texts);
        *text = mutations.iter().fold(text.clone(), |text, mutation| mutate(&text, mutation));
        restore_law::judge(&borrowed(&named(&texts, |at| format!("{at}.xml"))), Reading { quirks, ..Reading::default() });
    }

    #[test]
    fn whatever_a_comment_says_it_is_a_word_of_its_rules_or_refused(comment in comment(), quirks in quirks()) {
        // As references, for as they are the blanks among them would become blanks.
        let escaped = |c: char| if "&<'\n\r\t".contains(c) { format!("&#{};", u32::from(c)) } else { c.to_string() };
        let attribute: String = comment.chars().map(escaped).collect();
        let filter = format!(
            "<filter name='web'><rule action='accept' direction='in'><tcp dstportstart='443' comment='{attribute}'/></rule>
            <rule action='drop' direction='in'><all-ipv6 comment='{attribute}'/></rule></filter>"
        );
        let files = [("filter.xml", &*filter), ("guest.xml", &*guest(0, "web"))];
        let (computed, desired) = restore_law::judge(&files, Reading { quirks, ..Reading::default() });
        let is_allowed = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
        // What begins with a dollar sign is a variable.
        let is_text = comment.chars().all(is_allowed) && !comment.starts_with('$');
        let allowed = is_text && (comment.len() <= 255 || quirks == Quirks::Libvirt);
        prop_assert_eq!(computed.has_errors(), !allowed, "{:?}", computed.diagnostics);
        let kept = &comment[..comment.floor_char_boundary(255)];
        let said = comments(&desired);
        prop_assert!(said.iter().all(|said| **said == *kept), "{:?}", said);
        prop_assert_eq!(said.is_empty(), !allowed);
    }

    #[test]
    fn names_and_order_of_files_mean_nothing(texts in state(), keys in prop::collection::vec(any::<u32>(), 8)) {
        let one = named(&texts, |at| format!("{at}.xml"));
        let other = named(&texts, |at| format!("{}-{at}.xml", keys[at]));
        let of = |files: &[(String, String)]| without_places(&restore_law::judge(&borrowed(files), Reading::default()).1);
        prop_assert_eq!(of(&one), of(&other));
    }

    #[test]
    fn a_file_that_breaks_changes_nothing(texts in state(), which in any::<Index>(), at in any::<Index>(), cut in any::<bool>()) {
        let sound = named(&texts, |at| format!("{at}.xml"));
        let (_, desired) = restore_law::judge(&borrowed(&sound), Reading::default());
        let mut live = empty();
        plan::apply(&plan::plan(&desired, &live).expect("all families can be read"), &mut live);
        let installed = Installed {
            keys: desired.objects.values().flat_map(|rules| rules.keys.clone()).collect(),
            objects: desired.objects,
            ..Installed::default()
        };
        let mut broken = sound;
        let text = &mut broken[which.index(texts.len())].1;
        // Before the end of the last tag.
        let at = at.index(text.trim_end().len());
        if cut { text.truncate(at) } else { text.insert(at, '<') }
        let computed = compute::compute(&restore_law::loaded(&borrowed(&broken)), &[], &Learned::default(), Reading::default());
        let (resolved, compiled) = (&computed.resolved, &computed.compiled);
        let (now, _) = desire::desire(resolved, compiled, &BTreeMap::new(), &installed, &live, Choices::default());
        let plan = plan::plan(&now, &live).expect("all families can be read");
        prop_assert!(plan.is_empty(), "{:?}\n{plan:#?}", broken);
    }

    #[test]
    fn whatever_is_broken_every_other_object_becomes_what_its_file_says(
        (before, after) in (state(), state()),
        moved in select(vec![("", ""), ("10.40.0.", "10.50.0."), ("br-lab", "br-new"), ("mode='nat'", "mode='open'"), ("mode='route'", "mode='nat'")]),
        reading in quirks().prop_map(|quirks| Reading { quirks, ..Reading::default() }),
    ) {
        let (_, old) = restore_law::judge(&borrowed(&named(&before, |at| format!("{at}.xml"))), reading);
        let mut live = empty();
        plan::apply(&plan::plan(&old, &live).expect("all families can be read"), &mut live);
        let installed = Installed {
            keys: old.objects.values().flat_map(|rules| rules.keys.clone()).collect(),
            objects: old.objects.clone(),
            ..Installed::default()
        };
        let after: Vec<String> = after.iter().map(|text| text.replace(moved.0, moved.1)).collect();
        let sound = named(&after, |at| format!("{at}.xml"));
        let desired = |files: &[(&str, &str)]| {
            let computed = compute::compute(&restore_law::loaded(files), &[], &Learned::default(), reading);
            let (resolved, compiled) = (&computed.resolved, &computed.compiled);
            desire::desire(resolved, compiled, &BTreeMap::new(), &installed, &live, Choices::default()).0
        };
        let mut expected = desired(&borrowed(&sound));
        // What no file defines is not deleted while one of them is broken.
        for (object, rules) in old.objects {
            expected.objects.entry(object).or_insert(rules);
        }
        let mut fresh = empty();
        plan::apply(&plan::plan(&expected, &fresh).expect("all families can be read"), &mut fresh);
        let mut broken = borrowed(&sound);
        broken.push(("broken.xml", "<network>"));
        let plan = plan::plan(&desired(&broken), &live).expect("all families can be read");
        plan::apply(&plan, &mut live);
        prop_assert_eq!(in_any_order(&live), in_any_order(&fresh));
    }

    #[test]
    fn what_is_rendered_is_what_a_restore_makes(texts in state()) {
        let files = named(&texts, |at| format!("{at}.xml"));
        let (_, desired) = restore_law::judge(&borrowed(&files), Reading::default());
        let mut expected = empty();
        plan::apply(&plan::plan(&desired, &expected).expect("all families can be read"), &mut expected);
        for family in Family::ALL {
            let kernel = Fake::default();
            kernel.feed(family, &show::render(&desired, family, None)).expect("what is rendered can be restored");
            let found = save::parse(family, &kernel.save(family)).expect("a save can be read");
            let Some(Observation::Read(expected)) = expected.families.get(&family) else { unreachable!("it was read") };
            for (table, rules) in expected {
                for (name, chain) in &rules.chains {
                    let found: &[LiveRule] = found.get(table).and_then(|table| table.chains.get(name)).map_or(&[], |chain| &chain.rules);
                    prop_assert_eq!(found, chain.rules.as_slice(), "{} {} {}", family, table, name);
                }
            }
        }
    }
}

/// What the laws are about has to be there: a pool whose guests are held would keep all of them.
#[test]
fn every_object_of_the_pool_has_rules_some_of_them_with_quoted_words() {
    let texts = pool();
    for quirks in [Quirks::Fixed, Quirks::Libvirt] {
        let files = named(&texts, |at| format!("{at}.xml"));
        let (computed, desired) = restore_law::judge(&borrowed(&files), Reading { quirks, ..Reading::default() });
        assert!(computed.resolved.held.is_empty() && computed.compiled.held.is_empty(), "{:?}", computed.diagnostics);
        assert_eq!(desired.objects.len(), 6, "two networks and four guests");
        assert!(comments(&desired).iter().any(|comment| comment.contains(' ')));
    }
}
