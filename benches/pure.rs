//! The pure half of a pass, step by step, at the sizes that `make bench` measures whole: `cargo bench`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bridgeward::compile::{self, Layout};
use bridgeward::load::{Loaded, LoadedFile, Stamp};
use bridgeward::model::Quirks;
use bridgeward::model::learned::Learned;
use bridgeward::plan::desire::{self, Choices, Installed};
use bridgeward::plan::{self, Desired, script};
use bridgeward::reconcile::cache::Cache;
use bridgeward::reconcile::compute::{self, Computed, Reading};
use bridgeward::resolve;
use bridgeward::ruleset::{Family, Observation, Observed, save};

const GUESTS: [usize; 4] = [100, 1_000, 3_000, 10_000];

fn main() {
    divan::main();
}

/// Guests on clean-traffic, a tenth of them behind a TCP filter as well.
fn loaded(guests: usize) -> Loaded {
    let service = "<filter name='service'><filterref filter='clean-traffic'/>\
                   <rule action='accept' direction='in'><tcp dstportstart='443'/></rule></filter>";
    let guest = |number: usize| {
        let filter = if number.is_multiple_of(10) { "service" } else { "clean-traffic" };
        let [_, high, middle, low] = u32::try_from(number).expect("few guests").to_be_bytes();
        let text = format!(
            "<interface type='bridge'><mac address='52:54:00:{high:02x}:{middle:02x}:{low:02x}'/><target dev='vnet{number}'/>\
             <filterref filter='{filter}'><parameter name='IP' value='10.{high}.{middle}.{low}'/></filterref></interface>"
        );
        (format!("vnet{number:05}.xml"), text)
    };
    let texts = (0..guests).map(guest).chain([("zz.xml".to_owned(), service.to_owned())]);
    let files = texts.map(|(path, text)| LoadedFile { path: path.into(), text: text.into(), stamp: Stamp::OF_NO_FILE });
    Loaded { files: files.collect(), ..Loaded::default() }
}

fn computed(guests: usize) -> Computed {
    compute::compute(&loaded(guests), &[], &Learned::default(), Reading::default())
}

fn desired(computed: &Computed) -> Desired {
    let nothing = Observed::default();
    let (resolved, compiled) = (&computed.resolved, &computed.compiled);
    desire::desire(resolved, compiled, &BTreeMap::new(), &Installed::default(), &nothing, Choices::default()).0
}

/// A kernel with no rules, and one that holds what is desired.
fn kernels(desired: &Desired) -> (Observed, Observed) {
    let empty = || Observation::Read(BTreeMap::new());
    let mut full = Observed { families: Family::ALL.into_iter().map(|family| (family, empty())).collect() };
    let bare = full.clone();
    plan::apply(&plan::plan(desired, &bare).expect("an empty kernel can be planned for"), &mut full);
    (bare, full)
}

/// What `ebtables-save` prints of it.
fn saved(desired: &Desired) -> String {
    let mut text = String::from("*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n");
    let blocks = || desired.objects.values().flat_map(|rules| rules.blocks()).filter(|(id, _)| id.family == Family::Bridge);
    for (id, _) in blocks().filter(|(id, _)| !id.chain.as_str().contains("ROUTING")) {
        writeln!(text, ":{} ACCEPT", id.chain).expect("a String takes everything");
    }
    for (id, placed) in blocks() {
        for placed in placed {
            write!(text, "-A {} ", id.chain).expect("a String takes everything");
            bridgeward::ruleset::words::rule(id.family, &placed.rule, &mut text);
            text.push('\n');
        }
    }
    text + "# Completed\n"
}

#[divan::bench(args = GUESTS)]
fn parse(bencher: divan::Bencher, guests: usize) {
    let loaded = loaded(guests);
    bencher.bench(|| compute::read(&loaded, Reading::default()));
}

#[divan::bench(args = GUESTS)]
fn resolve_all(bencher: divan::Bencher, guests: usize) {
    let documents = compute::read(&loaded(guests), Reading::default());
    bencher.bench(|| resolve::resolve(&documents.parsed, &documents.stock, &[], &Learned::default(), Quirks::Fixed));
}

#[divan::bench(args = GUESTS)]
fn compile_all(bencher: divan::Bencher, guests: usize) {
    let resolved = computed(guests).resolved;
    bencher.bench(|| compile::compile(&resolved, Quirks::Fixed, Layout::default()));
}

#[divan::bench(args = GUESTS)]
fn compute_after_one_change(bencher: divan::Bencher, guests: usize) {
    let before = loaded(guests);
    let mut after = before.clone();
    after.files[0].text = Arc::from(after.files[0].text.replace("10.0.0.0", "10.99.0.1"));
    let mut cache = Cache::default();
    cache.compute(&before, &[], &Learned::default(), Reading::default());
    let mut changed = false;
    bencher.bench_local(|| {
        changed = !changed;
        cache.compute(if changed { &after } else { &before }, &[], &Learned::default(), Reading::default())
    });
}

#[divan::bench(args = GUESTS)]
fn parse_save(bencher: divan::Bencher, guests: usize) {
    let text = saved(&desired(&computed(guests)));
    bencher.bench(|| save::parse(Family::Bridge, &text).expect("it is what the tool prints"));
}

#[divan::bench(args = GUESTS)]
fn plan_from_nothing(bencher: divan::Bencher, guests: usize) {
    let desired = desired(&computed(guests));
    let (bare, _) = kernels(&desired);
    bencher.bench(|| plan::plan(&desired, &bare));
}

#[divan::bench(args = GUESTS)]
fn plan_in_sync(bencher: divan::Bencher, guests: usize) {
    let desired = desired(&computed(guests));
    let (_, full) = kernels(&desired);
    bencher.bench(|| plan::plan(&desired, &full));
}

#[divan::bench(args = GUESTS)]
fn spell_restore(bencher: divan::Bencher, guests: usize) {
    let desired = desired(&computed(guests));
    let (bare, _) = kernels(&desired);
    let plan = plan::plan(&desired, &bare).expect("an empty kernel can be planned for");
    bencher.bench(|| {
        let phases = plan.phases.iter().flat_map(|phase| &phase.families);
        phases.map(|(family, tables)| script::script(*family, tables).text.len()).sum::<usize>()
    });
}
