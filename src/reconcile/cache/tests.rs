//! The law of the cache: what it gives equals, in everything that anybody can see, what is worked out from nothing.

use std::fmt::Write as _;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::compile::Layout;
use crate::diagnostic::{self, Style};
use crate::load::{LoadedFile, Stamp};
use crate::model::learned::{Finding, Knowledge, Source, Until};
use crate::ruleset::{Family, words};

const GUEST: &str = "<interface type='bridge'><mac address='52:54:00:00:00:0N'/><target dev='vnetN'/><filterref filter='FILTER'>PARAMETER</filterref></interface>";
const FILTER: &str = "<filter name='web' chain='root'><filterref filter='INCLUDED'/><rule action='ACTION' direction='in'><tcp dstportstart='443'/></rule></filter>";
const OPEN: &str = "<filter name='inner' chain='ipv4-x'><rule action='accept' direction='out'><ip protocol='PROTOCOL'/></rule></filter>";
const NETWORK: &str =
    "<network><name>lab</name><bridge name='br-lab'/><forward mode='MODE'/><ip address='10.0.0.1' prefix='24'/></network>";

/// A file as it may be: several texts, sound and faulty ones, moved down by some lines or not.
fn file(name: &'static str, texts: Vec<String>) -> impl Strategy<Value = Option<(&'static str, String)>> {
    prop::option::weighted(0.8, (select(texts), 0..2_usize).prop_map(move |(text, lines)| (name, format!("{}{text}", "\n".repeat(lines)))))
}

fn guest(number: usize) -> Vec<String> {
    let parameters =
        [String::new(), format!("<parameter name='IP' value='10.0.0.{number}'/>"), "<parameter name='IP' value='x'/>".to_owned()];
    let filters = ["clean-traffic", "web", "inner", "missing"];
    let texts = filters.iter().flat_map(|filter| {
        parameters
            .iter()
            .map(move |parameter| GUEST.replace('N', &number.to_string()).replace("FILTER", filter).replace("PARAMETER", parameter))
    });
    texts.chain(["<interface".to_owned()]).collect()
}

fn state() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let web = ["clean-traffic", "inner", "missing", "web"].iter().flat_map(|included| {
        ["accept", "drop", "reject"].iter().map(move |action| FILTER.replace("INCLUDED", included).replace("ACTION", action))
    });
    let inner = ["tcp", "udp", "nonsense"].iter().map(|protocol| OPEN.replace("PROTOCOL", protocol));
    let inner = inner.chain([OPEN.replace("'inner'", "'no-mac-spoofing'")]);
    let network = ["nat", "open", "sideways"].iter().map(|mode| NETWORK.replace("MODE", mode));
    let files = (
        file("a.xml", guest(1)),
        file("b.xml", guest(2)),
        file("c.xml", guest(1)),
        file("d.xml", guest(3)),
        file("e.xml", web.collect()),
        file("f.xml", inner.collect()),
        file("g.xml", network.collect()),
    );
    files.prop_map(|(a, b, c, d, e, f, g)| [a, b, c, d, e, f, g].into_iter().flatten().collect())
}

fn loaded(files: &[(&str, String)]) -> Loaded {
    let file = |(name, text): &(&str, String)| LoadedFile { path: (*name).into(), text: text.as_str().into(), stamp: Stamp::OF_NO_FILE };
    Loaded { files: files.iter().map(file).collect(), ..Loaded::default() }
}

/// Everything that can be seen of a result, as text with places instead of numbers.
fn visible(computed: &Computed) -> String {
    let mut text = format!("{:?} incomplete={}\n", computed.counts, computed.resolved.incomplete);
    for fault in &computed.diagnostics {
        text.push_str(&diagnostic::render(fault, &computed.sources, Style::Plain));
    }
    let place = |span| computed.sources.position(span).to_string();
    for span in &computed.broken {
        writeln!(text, "broken at {}", place(*span)).expect("a String takes everything");
    }
    for held in computed.resolved.held.iter().chain(&computed.compiled.held) {
        writeln!(text, "{} held at {}: {} {}", held.object, place(held.span), held.code, held.message).expect("a String takes everything");
    }
    for (object, rules) in &computed.compiled.objects {
        writeln!(text, "{object} {:?}", rules.keys).expect("a String takes everything");
        for (chain, placed) in rules.blocks() {
            writeln!(text, "  {} {} {}", chain.family, chain.table, chain.chain).expect("a String takes everything");
            for placed in placed {
                text.push_str("    ");
                words::rule(chain.family, &placed.rule, &mut text);
                writeln!(text, " # {:?}", placed.place.map(place)).expect("a String takes everything");
            }
        }
    }
    text
}

/// An address for every guest that learns, another one for every lease but 0: then nothing is known.
fn lease_to_all(loaded: &Loaded, reading: Reading, lease: u8) -> Learned {
    let computed = compute::compute(loaded, &[], &Learned::default(), reading);
    let learners = computed.resolved.guests.iter().filter(|_| lease > 0).filter_map(|guest| guest.learning());
    Learned(learners.map(|learning| (learning.claimant.clone(), leased(lease))).collect())
}

fn leased(lease: u8) -> Knowledge {
    let address = IpAddr::from([10, 0, 1, lease]);
    Knowledge { findings: vec![Finding { address, source: Source::Use, until: Until::Forever }], first: Some(address) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_changes_nothing_that_can_be_seen(
        states in prop::collection::vec((state(), 0..4_u8), 1..5),
        quirks in select(vec![Quirks::Fixed, Quirks::Libvirt]),
        strict in any::<bool>(),
    ) {
        let reading = Reading { quirks, strict, layout: Layout::default() };
        let mut cache = Cache::default();
        for (files, lease) in states {
            let loaded = loaded(&files);
            let learned = lease_to_all(&loaded, reading, lease);
            let fresh = compute::compute(&loaded, &[], &learned, reading);
            prop_assert_eq!(visible(&cache.compute(&loaded, &[], &learned, reading)), visible(&fresh));
        }
    }
}

#[test]
fn what_did_not_change_is_the_same_value() {
    let reading = Reading::default();
    let guest = |number: usize, address: &str| {
        let parameter = format!("<parameter name='IP' value='{address}'/>");
        GUEST.replace('N', &number.to_string()).replace("FILTER", "clean-traffic").replace("PARAMETER", &parameter)
    };
    let mut cache = Cache::default();
    let before =
        cache.compute(&loaded(&[("a.xml", guest(1, "10.0.0.1")), ("c.xml", guest(3, "10.0.0.3"))]), &[], &Learned::default(), reading);
    let files = [("a.xml", guest(1, "10.0.0.1")), ("b.xml", guest(2, "10.0.0.2")), ("c.xml", guest(3, "10.0.0.4"))];
    let after = cache.compute(&loaded(&files), &[], &Learned::default(), reading);
    let same: Vec<bool> =
        before.compiled.objects.iter().map(|(object, rules)| Arc::ptr_eq(rules, &after.compiled.objects[object])).collect();
    assert_eq!(same, [true, false]);
    assert_eq!(after.compiled.objects.len(), 3);
    assert!(after.compiled.objects.values().all(|rules| rules.families().all(|family| family == Family::Bridge)));
}

#[test]
fn another_lease_concerns_the_guest_that_has_it_and_no_other() {
    let reading = Reading::default();
    let guest = |number: usize| GUEST.replace('N', &number.to_string()).replace("FILTER", "clean-traffic").replace("PARAMETER", "");
    let loaded = loaded(&[("a.xml", guest(1)), ("b.xml", guest(2))]);
    let mut cache = Cache::default();
    let mut learned = lease_to_all(&loaded, reading, 1);
    let before = cache.compute(&loaded, &[], &learned, reading);
    let renewed = learned.0.values_mut().next().expect("both guests learn");
    *renewed = leased(2);
    let after = cache.compute(&loaded, &[], &learned, reading);
    let same: Vec<bool> =
        before.compiled.objects.iter().map(|(object, rules)| Arc::ptr_eq(rules, &after.compiled.objects[object])).collect();
    assert_eq!(same, [false, true]);
}

#[test]
fn guests_from_memory_spend_the_budget_of_their_file() {
    let reading = Reading::default();
    let addresses = |count: usize| {
        let parameter = |at: usize| format!("<parameter name='IP' value='10.{}.{}.1'/>", at / 250, at % 250);
        (0..count).map(parameter).collect::<String>()
    };
    let many =
        "<filter name='many' chain='ipv4'><rule action='accept' direction='out'><ip srcipaddr='$IP' dstipaddr='$IP[@2]'/></rule></filter>";
    let guest = |number: usize, count: usize| {
        GUEST.replace('N', &number.to_string()).replace("FILTER", "many").replace("PARAMETER", &addresses(count))
    };
    // The second guest stands first, so that it stays in its place when the first one grows.
    let domain =
        |first: usize| format!("<domain type='kvm'><name>g</name><devices>{}{}</devices></domain>", guest(2, 200), guest(1, first));
    let state = |first: usize| loaded(&[("a.xml", domain(first)), ("f.xml", many.to_owned())]);
    let mut cache = Cache::default();
    for (count, objects) in [(100, 2), (100, 2), (200, 1), (150, 2), (250, 1)] {
        let (kept, fresh) = (
            cache.compute(&state(count), &[], &Learned::default(), reading),
            compute::compute(&state(count), &[], &Learned::default(), reading),
        );
        assert_eq!(visible(&kept), visible(&fresh));
        assert_eq!(kept.compiled.objects.len(), objects, "{count}: {:?}", kept.diagnostics);
    }
}

#[test]
fn numbers_ascend_and_those_that_are_given_stay() {
    let ids =
        |known: &[Option<u32>]| number(known.iter().map(|id| id.map(FileId))).map(|ids| ids.iter().map(|id| id.0).collect::<Vec<_>>());
    assert_eq!(ids(&[]), Some(vec![]));
    assert_eq!(ids(&[None, None]), Some(vec![STEP, 2 * STEP]));
    assert_eq!(ids(&[Some(5), None, Some(30), None]), Some(vec![5, 8, 30, 30 + STEP]));
    assert_eq!(ids(&[Some(5), None, None, Some(8)]), Some(vec![5, 6, 7, 8]));
    assert_eq!(ids(&[Some(5), None, None, Some(7)]), None, "there is no room");
    assert_eq!(ids(&[Some(7), Some(5)]), None, "the order changed");
}

#[test]
fn a_thousand_files_that_come_one_after_another_find_room() {
    let mut ids = vec![FileId(10), FileId(10 + STEP)];
    let mut renumbered = 0;
    for _ in 0..1000 {
        let known = ids[..ids.len() - 1].iter().copied().map(Some).chain([None, ids.last().copied()]);
        ids = number(known).unwrap_or_else(|| {
            renumbered += 1;
            number(ids.iter().map(|_| None).chain([None])).expect("room for all")
        });
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
    assert!(renumbered < 30, "{renumbered} times");
}
