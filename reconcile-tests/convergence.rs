//! A pass against kernels that misbehave: tools that are busy, that refuse without saying what, that show a rule as another one.
//!
//! The kernel is the one in memory; everything from files to record is real.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bridgeward::backend::fake::Fake;
use bridgeward::backend::{Kernel, Refusal, RefusalKind, namespace};
use bridgeward::model::Object;
use bridgeward::plan::desire::Keeping;
use bridgeward::plan::script::Script;
use bridgeward::plan::{HookPlacement, Scope};
use bridgeward::reconcile::compute::{self, Computed, Reading};
use bridgeward::reconcile::report::Report;
use bridgeward::reconcile::{Failure, Reconciler};
use bridgeward::ruleset::{Family, LiveRule, Observation, Observed, Table};
use bridgeward::store::Store;
use bridgeward::{load, ruleset};

const FILTER: &str = "<filter name='f'>
  <rule action='drop' direction='out'><mac match='no' srcmacaddr='$MAC'/></rule>
  <rule action='drop' direction='in'><tcp dstportstart='$PORT'/></rule>
</filter>";

/// A kernel in memory with a fault of its own.
struct Faulty<F> {
    fake: Fake,
    fault: F,
}

/// What a kernel does wrong.
trait Fault: Sync {
    /// Looks at what would be observed, and may change it.
    fn show(&self, observed: &mut Observed);
    /// May refuse an input instead of committing it.
    fn refuse(&self, family: Family, text: &str) -> Option<RefusalKind>;
}

impl<F: Fault> Kernel for &Faulty<F> {
    async fn observe(&self, families: &[Family]) -> Observed {
        let mut observed = self.fake.observe(families).await;
        self.fault.show(&mut observed);
        observed
    }

    async fn commit(&self, family: Family, script: &Script) -> Result<(), Refusal> {
        if let Some(kind) = self.fault.refuse(family, &script.text) {
            return Err(Refusal { command: family.tool().into(), status: "exit status 4".into(), words: "no".into(), kind });
        }
        self.fake.commit(family, script).await
    }
}

/// A state directory, a record directory and a kernel.
struct Host<F> {
    directory: tempfile::TempDir,
    kernel: Faulty<F>,
}

impl<F: Fault> Host<F> {
    fn new(guests: usize, fault: F) -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir(directory.path().join("state")).expect("a new directory");
        fs::write(directory.path().join("state/f.xml"), FILTER).expect("a new file");
        let host = Self { directory, kernel: Faulty { fake: Fake::default(), fault } };
        (0..guests).for_each(|number| host.guest(number, "80"));
        host
    }

    fn guest(&self, number: usize, port: &str) {
        let text = format!(
            "<filterbinding><owner><name>vm{number}</name><uuid>6f1d1d5e-9b8f-4b52-9f0a-7d9a3d{number:06x}</uuid></owner>
<portdev name='vnet{number}'/><mac address='52:54:00:00:00:{number:02x}'/>
<filterref filter='f'><parameter name='PORT' value='{port}'/></filterref></filterbinding>"
        );
        fs::write(self.directory.path().join(format!("state/vnet{number}.xml")), text).expect("a new file");
    }

    fn computed(&self) -> Computed {
        let loaded = load::load(&[self.directory.path().join("state")]).expect("the state can be read");
        compute::compute(&loaded, &[], &bridgeward::model::learned::Learned::default(), Reading::default())
    }

    fn reconciler(&self) -> Reconciler<&Faulty<F>> {
        let store = Store::open(Path::new(&self.directory.path().join("run")), namespace::identity().expect("/proc is mounted"));
        Reconciler::new(&self.kernel, store.expect("a directory for the record"), Scope::Shared, HookPlacement::Present)
    }

    async fn pass(&self) -> Result<Report, Failure> {
        self.reconciler().pass(&self.computed()).await
    }

    fn holds(&self, family: Family, words: &str) -> bool {
        self.kernel.fake.save(family).contains(words)
    }
}

/// Refuses every input that says `--dport 666`, and names no line.
struct Silent;

impl Fault for Silent {
    fn show(&self, _: &mut Observed) {}

    fn refuse(&self, _: Family, text: &str) -> Option<RefusalKind> {
        text.contains("--dport 666").then_some(RefusalKind::Input(None))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_guest_among_many_is_found_though_the_tool_names_no_line() {
    let host = Host::new(40, Silent);
    host.guest(23, "666");
    let report = host.pass().await.expect("the host is fine");
    let held: Vec<_> = report.held.iter().map(|held| (held.object.to_string(), held.keeping)).collect();
    assert_eq!(held, [("interface `vnet23`".to_owned(), Keeping::Closed)]);
    for number in (0..40).filter(|number| *number != 23) {
        assert!(host.holds(Family::Ipv4, &format!("-A FO-vnet{number} ")), "vnet{number}");
    }
    assert!(host.holds(Family::Bridge, "-A libvirt-I-vnet23 -j DROP") && host.holds(Family::Bridge, "-A libvirt-O-vnet23 -j DROP"));
    assert!(!host.holds(Family::Ipv4, "FO-vnet23"));
    assert!(host.kernel.fake.commits().len() < 40, "found by halving, not one by one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whose_change_is_refused_keeps_its_last_good_rules() {
    let host = Host::new(3, Silent);
    host.pass().await.expect("the host is fine");
    host.guest(1, "666");
    let report = host.pass().await.expect("the host is fine");
    assert_eq!(report.held.iter().map(|held| held.keeping).collect::<Vec<_>>(), [Keeping::LastGood]);
    assert!(host.holds(Family::Ipv4, "-A FO-vnet1 -p tcp -m tcp --dport 80 -j DROP"));
    host.kernel.fake.feed(Family::Ipv4, "*filter\n-D FO-vnet1 1\nCOMMIT\n").expect("a tampering");
    host.pass().await.expect("the host is fine");
    assert!(host.holds(Family::Ipv4, "-A FO-vnet1 -p tcp -m tcp --dport 80 -j DROP"), "drift is repaired to the last good rules");
}

/// Shows the rule for vnet1 in FO with another port than it has.
struct Misread;

impl Fault for Misread {
    fn show(&self, observed: &mut Observed) {
        let Some(Observation::Read(tables)) = observed.families.get_mut(&Family::Ipv4) else { return };
        let Some(filter) = tables.get_mut(&Table::Filter) else { return };
        let Some(chain) = filter.chains.get_mut(&ruleset::ChainName::new("FO-vnet1")) else { return };
        for rule in &mut chain.rules {
            *rule = LiveRule::Unknown("-p tcp -m tcp --dport http -j DROP".into());
        }
    }

    fn refuse(&self, _: Family, _: &str) -> Option<RefusalKind> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_reads_back_as_another_is_named_and_not_written_for_ever() {
    let host = Host::new(3, Misread);
    let mut reconciler = host.reconciler();
    let computed = host.computed();
    let report = reconciler.pass(&computed).await.expect("the host is fine");
    assert_eq!(report.stuck.iter().map(|stuck| stuck.chain.as_str()).collect::<BTreeSet<_>>(), BTreeSet::from(["FO-vnet1"]));
    assert_eq!(report.stuck[0].rule, "-p tcp -m tcp --dport 80 -j DROP");
    assert!(host.holds(Family::Ipv4, "-A FO-vnet2 -p tcp -m tcp --dport 80 -j DROP"), "the others are in place");
    let commits = host.kernel.fake.commits().len();
    assert!(commits <= 6, "{commits} commits");
    let report = reconciler.pass(&computed).await.expect("the host is fine");
    assert_eq!(report.stuck.len(), 1, "it is still reported");
    assert_eq!(host.kernel.fake.commits().len(), commits, "and left alone");
}

/// Is busy for so many commits.
struct Busy(std::sync::atomic::AtomicU32);

impl Fault for Busy {
    fn show(&self, _: &mut Observed) {}

    fn refuse(&self, _: Family, _: &str) -> Option<RefusalKind> {
        let left = self.0.load(std::sync::atomic::Ordering::SeqCst);
        self.0.store(left.saturating_sub(1), std::sync::atomic::Ordering::SeqCst);
        (left > 0).then_some(RefusalKind::Busy)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_tool_is_asked_again_and_for_ever_is_a_failure_in_its_own_words() {
    let host = Host::new(1, Busy(3.into()));
    assert!(host.pass().await.expect("it is free in time").is_clean());
    let host = Host::new(1, Busy(u32::MAX.into()));
    let failure = host.pass().await.expect_err("it is never free");
    assert!(failure.to_string().contains("failed (exit status 4): no"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_between_look_and_commit_is_seen_and_nobody_is_blamed() {
    let host = Host::new(2, Silent);
    host.pass().await.expect("the host is fine");
    host.guest(1, "8080");
    host.kernel.fake.intrude_next(Family::Ipv4, "*filter\n-D libvirt-out 1\n-D libvirt-out 1\nCOMMIT\n");
    let report = host.pass().await.expect("the host is fine");
    assert!(report.is_clean(), "{}", report.text());
    assert!(host.holds(Family::Ipv4, "-A FO-vnet1 -p tcp -m tcp --dport 8080 -j DROP"));
    assert!(host.holds(Family::Ipv4, "-A libvirt-out -m physdev --physdev-out vnet0 --physdev-is-bridged -g FO-vnet0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_family_is_never_taken_for_an_empty_one() {
    let host = Host::new(1, Silent);
    host.pass().await.expect("the host is fine");
    let before = host.kernel.fake.commits().len();
    host.kernel.fake.answer(Family::Ipv4, Some(Observation::Unreadable("incompatible, use 'nft' tool".into())));
    let failure = host.pass().await.expect_err("a needed family");
    assert!(failure.to_string().contains("incompatible, use 'nft' tool"), "{failure}");
    assert_eq!(host.kernel.fake.commits().len(), before, "nothing is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_whose_filter_is_taken_out_waits_only_for_files_that_may_define_it() {
    let faulty =
        "<domain><name>vm1</name><devices><interface type='bridge'><mac address='x'/><target dev='vnet1'/></interface></devices></domain>";
    let cases = [
        ("<filterbinding", true),
        ("<interface><target dev='vnet0'/>", true),
        // Behind the fault there may be anything.
        ("<domain><name>vm1</name><devices><interface><target dev='vnet1'/></interface>", true),
        (faulty, false),
        ("<filterbinding><portdev name='vnet1'/>", false),
        ("<filter name='other'><rule", false),
        ("<network><name>lab</name>", false),
    ];
    for (text, stays) in cases {
        let host = Host::new(3, Silent);
        let file = |name: &str| host.directory.path().join("state").join(name);
        host.pass().await.expect("the host is fine");
        let bare = "<interface type='bridge'><mac address='52:54:00:00:00:00'/><target dev='vnet0'/></interface>";
        fs::write(file("vnet0.xml"), bare).expect("writable");
        fs::remove_file(file("vnet2.xml")).expect("it is there");
        fs::write(file("broken.xml"), text).expect("writable");
        let report = host.pass().await.expect("the host is fine");
        assert_eq!(host.holds(Family::Ipv4, "FO-vnet0"), stays, "{text}: {}", report.text());
        assert!(host.holds(Family::Ipv4, "FO-vnet2"), "{text}: without a file it is absent");
        fs::remove_file(file("broken.xml")).expect("it is there");
        assert!(host.pass().await.expect("the host is fine").is_clean(), "{text}");
        assert!(!host.holds(Family::Ipv4, "FO-vnet0") && !host.holds(Family::Ipv4, "FO-vnet2"), "{text}");
        assert!(host.holds(Family::Ipv4, "FO-vnet1"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_deletes_nothing_and_what_it_defined_is_reported() {
    let host = Host::new(3, Silent);
    host.pass().await.expect("the host is fine");
    fs::remove_file(host.directory.path().join("state/vnet0.xml")).expect("it is there");
    fs::write(host.directory.path().join("state/vnet1.xml"), "<filterbinding").expect("writable");
    let report = host.pass().await.expect("the host is fine");
    let held: Vec<_> = report.held.iter().map(|held| (held.object.clone(), held.message.clone())).collect();
    let object = |name: &str| Object::Interface(bridgeward::addr::DeviceName::new(name).expect("a name"));
    assert_eq!(held[0], (object("vnet0"), "no file defines it, but nothing is deleted while a file is broken".to_owned()));
    assert_eq!(held[1], (object("vnet1"), "the file that defined it is broken".to_owned()));
    assert!(host.holds(Family::Ipv4, "FO-vnet0") && host.holds(Family::Ipv4, "FO-vnet1"));
    host.guest(1, "80");
    assert!(host.pass().await.expect("the host is fine").is_clean());
    assert!(!host.holds(Family::Ipv4, "FO-vnet0") && host.holds(Family::Ipv4, "FO-vnet1"));
}
