//! Planning from what is known: while nobody writes, a pass does not read the rules before it commits; whoever writes is noticed, when ever it is.
//!
//! Most cases have the kernel in memory, which says what it was asked for and in which order; everything from files to record is real.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use bridgeward::backend::fake::{Call, Fake};
use bridgeward::backend::{Kernel, Refusal, RefusalKind, namespace};
use bridgeward::model::learned::Learned;
use bridgeward::plan::script::Script;
use bridgeward::plan::{HookPlacement, Scope};
use bridgeward::reconcile::cache::Cache;
use bridgeward::reconcile::compute::{Computed, Reading};
use bridgeward::reconcile::report::Report;
use bridgeward::reconcile::trial::Urge;
use bridgeward::reconcile::{Failure, Reconciler};
use bridgeward::ruleset::{Family, Observation, Observed};
use bridgeward::store::Store;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::nightly::{Dice, times};
use crate::world::{Daemon, World};

const LOOK: Call = Call::Observe;
const BRIDGE: Call = Call::Commit(Family::Bridge);
/// A flush of one chain of vnet0.
const FLUSH: &str = "*nat\n-F libvirt-I-vnet0\nCOMMIT\n";

/// A kernel in memory whose tools may be legacy ones, and where somebody may write just after the generation was asked for.
#[derive(Default)]
struct Shown {
    fake: Fake,
    legacy: bool,
    /// After so many more questions, this is fed to ebtables.
    intruder: Mutex<Option<(u32, &'static str)>>,
}

impl Kernel for &Shown {
    async fn observe(&self, families: &[Family]) -> Observed {
        self.fake.observe(families).await
    }

    fn generation(&self) -> Option<u32> {
        if self.legacy {
            return None;
        }
        let mut intruder = self.intruder.lock().expect("nobody panics with it");
        match intruder.take() {
            Some((0, text)) => self.fake.feed(Family::Bridge, text).expect("it is well-formed"),
            Some((left, text)) => *intruder = Some((left - 1, text)),
            None => {}
        }
        self.fake.generation()
    }

    async fn commit(&self, family: Family, script: &Script) -> Result<(), Refusal> {
        self.fake.commit(family, script).await
    }
}

/// A state directory with guests, a record, and a reconciler that has verified that the kernel holds their rules.
struct Host<'k> {
    directory: tempfile::TempDir,
    kernel: &'k Shown,
    reconciler: Reconciler<&'k Shown>,
    /// What makes unchanged rules the very same ones.
    cache: Cache,
}

impl<'k> Host<'k> {
    async fn in_sync(kernel: &'k Shown) -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        fs::create_dir(directory.path().join("state")).expect("a new directory");
        let store = Store::open(&directory.path().join("run"), namespace::identity().expect("/proc is mounted"));
        let reconciler = Reconciler::new(kernel, store.expect("a directory for the record"), Scope::Shared, HookPlacement::Present);
        let mut host = Self { directory, kernel, reconciler, cache: Cache::default() };
        host.guest(0, "10.40.0.10");
        host.pass().await;
        host
    }

    fn guest(&self, number: usize, address: &str) {
        let text = guest(number, "clean-traffic").replace(&format!("10.40.0.1{number}"), address);
        self.write(&format!("vnet{number}.xml"), &text);
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join("state").join(name), text).expect("the state directory takes files");
    }

    fn delete(&self, name: &str) {
        // It may be gone already.
        let _ = fs::remove_file(self.directory.path().join("state").join(name));
    }

    fn computed(&mut self) -> Computed {
        let loaded = bridgeward::load::load(&[self.directory.path().join("state")]).expect("the state can be read");
        self.cache.compute(&loaded, &[], &Learned::default(), Reading::default())
    }

    /// What the files say, while the rules are read ahead; that alone is then what the kernel was asked for.
    async fn computed_looking_ahead(&mut self) -> Computed {
        let computed = self.computed();
        self.kernel.fake.calls();
        self.reconciler.look_ahead().await;
        computed
    }

    async fn try_pass(&mut self) -> Result<Report, Failure> {
        self.kernel.fake.calls();
        let computed = self.computed();
        self.reconciler.pass(&computed).await
    }

    /// A pass that ends well, and what it asked the kernel for.
    async fn pass(&mut self) -> Vec<Call> {
        let report = self.try_pass().await.expect("the host is fine");
        assert!(report.is_done(), "{}", report.text());
        self.kernel.fake.calls()
    }

    /// Whether the rules are what a pass that reads everything makes them.
    async fn assert_in_sync(&mut self) {
        self.reconciler.look_anew();
        assert_eq!(self.pass().await, [LOOK]);
    }

    fn holds(&self, words: &str) -> bool {
        self.kernel.fake.save(Family::Bridge).contains(words)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_ahead_serves_one_pass_that_somebody_asked_for() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    let computed = host.computed_looking_ahead().await;
    for looks in [1, 2] {
        let report = host.reconciler.urged(&computed, Urge::Apply).await.expect("the host is fine");
        assert!(report.is_done(), "{}", report.text());
        assert_eq!(host.kernel.fake.calls(), [LOOK], "look {looks}");
    }
    host.guest(1, "10.40.0.11");
    let computed = host.computed_looking_ahead().await;
    host.reconciler.urged(&computed, Urge::Apply).await.expect("the host is fine");
    assert_eq!(host.kernel.fake.calls(), [LOOK, BRIDGE, LOOK], "what was written is verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_ahead_is_read_again_once_somebody_wrote() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    let computed = host.computed_looking_ahead().await;
    host.kernel.fake.feed(Family::Bridge, FLUSH).expect("it is well-formed");
    let preview = host.reconciler.preview(&computed).await.expect("the host is fine");
    assert!(!preview.plan.is_empty(), "the flush was not seen");
    host.reconciler.look_ahead().await;
    host.kernel.fake.feed(Family::Bridge, "*nat\n-N own\nCOMMIT\n").expect("it is well-formed");
    host.reconciler.urged(&computed, Urge::Apply).await.expect("the host is fine");
    assert_eq!(host.kernel.fake.calls(), [LOOK, LOOK, LOOK, LOOK, BRIDGE, LOOK]);
    host.assert_in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_legacy_tools_nothing_is_read_ahead() {
    let kernel = Shown { legacy: true, ..Shown::default() };
    let mut host = Host::in_sync(&kernel).await;
    host.computed_looking_ahead().await;
    assert_eq!(host.kernel.fake.calls(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_committed_unread_and_read_afterwards() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    host.guest(1, "10.40.0.11");
    assert_eq!(host.pass().await, [BRIDGE, LOOK], "added");
    host.guest(1, "10.40.0.51");
    assert_eq!(host.pass().await, [BRIDGE, LOOK], "changed");
    assert!(host.holds("10.40.0.51") && !host.holds("10.40.0.11"));
    host.delete("vnet1.xml");
    assert_eq!(host.pass().await, [BRIDGE, LOOK], "removed");
    assert!(!host.holds("vnet1"));
    assert_eq!(host.pass().await, [], "what is known to be in sync is neither read nor written");
    host.assert_in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_a_look_at_the_kernel_gets_one() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    host.reconciler.look_anew();
    assert_eq!(host.pass().await, [LOOK], "the full look of every minute");
    host.guest(1, "10.40.0.11");
    kernel.fake.calls();
    let computed = host.computed();
    host.reconciler.urged(&computed, Urge::Apply).await.expect("the host is fine");
    assert_eq!(kernel.fake.calls(), [LOOK, BRIDGE, LOOK], "`apply`");
    host.reconciler.preview(&computed).await.expect("the host is fine");
    assert_eq!(kernel.fake.calls(), [LOOK], "`diff`");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_writing_since_the_last_pass_is_read_before_anything_is_planned() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    host.guest(1, "10.40.0.11");
    kernel.fake.feed(Family::Bridge, FLUSH).expect("it is well-formed");
    assert_eq!(host.pass().await, [LOOK, BRIDGE, LOOK]);
    assert!(host.holds("-A libvirt-I-vnet0 ") && host.holds("-A libvirt-I-vnet1 "));
    host.assert_in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_writing_between_plan_and_commit_makes_the_plan_void() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    host.guest(1, "10.40.0.11");
    // The first question is the one before the plan.
    *kernel.intruder.lock().expect("nobody panics with it") = Some((1, FLUSH));
    assert_eq!(host.pass().await, [LOOK, BRIDGE, LOOK], "nothing was committed before the look");
    host.assert_in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_writing_right_before_the_commit_is_mended_by_the_look_after_it() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    host.guest(1, "10.40.0.11");
    kernel.fake.intrude_next(Family::Bridge, FLUSH);
    assert_eq!(host.pass().await, [BRIDGE, LOOK, BRIDGE, LOOK]);
    host.assert_in_sync().await;
    // Also where the commit cannot be made on what is there now.
    host.guest(0, "10.40.0.50");
    kernel.fake.intrude_next(Family::Bridge, "*nat\n-F I-vnet0-ipv4-ip\nCOMMIT\n");
    assert_eq!(host.pass().await, [BRIDGE, LOOK, BRIDGE, LOOK]);
    host.assert_in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_what_is_known() {
    for kind in [RefusalKind::Input(None), RefusalKind::Input(Some(3)), RefusalKind::Busy] {
        let kernel = Shown::default();
        let mut host = Host::in_sync(&kernel).await;
        host.guest(1, "10.40.0.11");
        kernel.fake.refuse_next(kind);
        let report = host.try_pass().await.expect("the host is fine");
        assert_eq!(kernel.fake.calls()[..2], [BRIDGE, LOOK], "{kind:?}");
        assert!(report.verified);
    }
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    host.guest(1, "10.40.0.11");
    kernel.fake.refuse_next(RefusalKind::Environment);
    host.try_pass().await.expect_err("the tool does not run");
    assert_eq!(host.pass().await, [LOOK, BRIDGE, LOOK], "the pass after one that failed");
    host.assert_in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_while_somebody_else_commits_blames_nobody() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    host.guest(1, "10.40.0.11");
    for _ in 0..5 {
        // To a table of his own, so that what we see stays the same.
        kernel.fake.intrude_next(Family::Ipv4, "*filter\nCOMMIT\n");
        kernel.fake.refuse_next(RefusalKind::Input(Some(3)));
    }
    let report = host.try_pass().await.expect("the host is fine");
    assert!(report.is_clean() && report.verified, "{}", report.text());
    host.assert_in_sync().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_legacy_tools_every_pass_reads() {
    let kernel = Shown { legacy: true, ..Shown::default() };
    let mut host = Host::in_sync(&kernel).await;
    assert_eq!(host.pass().await, [LOOK]);
    host.guest(1, "10.40.0.11");
    assert_eq!(host.pass().await, [LOOK, BRIDGE, LOOK]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_could_not_be_read_is_tried_in_every_pass() {
    let kernel = Shown::default();
    for answer in [Observation::Missing("no ip6tables".into()), Observation::Unreadable("incompatible".into())] {
        kernel.fake.answer(Family::Ipv6, Some(answer));
        let mut host = Host::in_sync(&kernel).await;
        assert_eq!(host.pass().await, [LOOK]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_a_libvirtd_is_writing_is_looked_at_again() {
    let kernel = Shown::default();
    let mut host = Host::in_sync(&kernel).await;
    kernel.fake.feed(Family::Bridge, "*nat\n-N libvirt-J-vnet0\nCOMMIT\n").expect("it is well-formed");
    let report = host.try_pass().await.expect("the host is fine");
    assert_eq!((kernel.fake.calls(), report.parked.len()), (vec![LOOK], 1));
    host.try_pass().await.expect("the host is fine");
    assert_eq!(kernel.fake.calls(), [LOOK]);
}

/// One thing that happens to files or kernel, the same on both hosts.
fn happen(hosts: [&Host<'_>; 2], dice: &mut Dice) {
    let number = dice.below(5);
    let name = format!("vnet{number}.xml");
    let act: Box<dyn Fn(&Host<'_>)> = match dice.below(9) {
        0..=2 => {
            let address = format!("10.40.0.{}", 50 + dice.below(2));
            Box::new(move |host| host.guest(usize::try_from(number).expect("it is small"), &address))
        }
        3 => Box::new(move |host| host.write(&name, &guest(usize::try_from(number).expect("it is small"), "web"))),
        4 => Box::new(move |host| host.delete(&name)),
        5 => Box::new(move |host| host.write(&name, "<filterbinding")),
        6 => {
            let port = 443 + dice.below(2);
            Box::new(move |host| host.write("web.xml", &FILTER.replace("443", &port.to_string())))
        }
        7 => {
            let name = if dice.below(2) == 0 { "one" } else { "lab" };
            Box::new(move |host| host.write("lab.xml", &NETWORK.replace("<name>lab", &format!("<name>{name}"))))
        }
        _ => {
            let text = format!("*nat\n-F libvirt-I-vnet{number}\nCOMMIT\n");
            // Refused where there is no such chain.
            Box::new(move |host| drop(host.kernel.fake.feed(Family::Bridge, &text)))
        }
    };
    hosts.into_iter().for_each(act);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_what_a_pass_that_reads_would_commit() {
    let kernels = [Shown::default(), Shown::default()];
    let [mut believing, mut reading] = [Host::in_sync(&kernels[0]).await, Host::in_sync(&kernels[1]).await];
    let mut dice = Dice::new();
    let mut unread = 0;
    for round in 0..times(150, 5_000) {
        happen([&believing, &reading], &mut dice);
        reading.reconciler.look_anew();
        let [known, read] = [believing.try_pass().await, reading.try_pass().await].map(|report| report.expect("the host is fine"));
        unread += u32::from(kernels[0].fake.calls().first().is_some_and(|call| *call != LOOK));
        let [one, other] = kernels.each_ref().map(|kernel| kernel.fake.commits());
        assert_eq!(one, other, "round {round}");
        assert_eq!((known.held.len(), known.verified), (read.held.len(), read.verified), "round {round}");
    }
    assert!(unread > 20, "only {unread} passes committed what they had not read");
}

/// Notes the tools' starts.
const WRAPPER: &str = "#!/bin/sh\necho \"${0##*/}\" >>\"${0%/*}/starts\"\nexec \"${0##*/}\" \"$@\"\n";

/// A daemon that is in sync, whose tools note when they are started.
struct Noted {
    world: World,
    daemon: Daemon,
}

impl Noted {
    fn new() -> Self {
        let world = World::new();
        let wrappers = world.scratch("wrappers");
        fs::create_dir(&wrappers).expect("the scratch directory takes directories");
        let mut config = String::from("[tools]\n");
        for tool in ["iptables", "ip6tables", "ebtables"] {
            for part in ["", "-save", "-restore"] {
                let path = wrappers.join(format!("{tool}{part}"));
                fs::write(&path, WRAPPER).expect("the directory takes files");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
            }
            writeln!(config, "{tool} = \"{}/{tool}\"", wrappers.display()).expect("writing to a string cannot fail");
        }
        let path = world.scratch("bridgeward.toml");
        fs::write(&path, config).expect("the scratch directory takes files");
        world.write("lab.xml", NETWORK);
        world.write("web.xml", FILTER);
        world.write("vnet0.xml", &guest(0, "web"));
        let state = world.state();
        let environment = [("BRIDGEWARD_CONFIG", path.to_str()), ("BRIDGEWARD_STATE", state.to_str())];
        let environment = environment.map(|(name, path)| (name, path.expect("scratch paths are UTF-8")));
        let mut daemon = world.run_with(&environment, &[]);
        daemon.wait_until_log("state applied");
        Self { world, daemon }
    }

    /// The tools that were started since the last call of this, first to last.
    fn starts(&self) -> Vec<String> {
        let path = self.world.scratch("wrappers/starts");
        let starts = fs::read_to_string(&path).expect("a tool was started").lines().map(str::to_owned).collect();
        fs::remove_file(path).expect("it is there");
        starts
    }

    /// Does it, and waits until the daemon has said these words about it.
    fn until(&mut self, words: &str, act: impl FnOnce(&World)) {
        let said = self.daemon.log().len();
        act(&self.world);
        self.daemon.wait_until_log_from(said, words);
    }
}

#[test]
fn a_real_kernel_is_read_after_the_commit_of_a_dropped_file_and_before_it_where_somebody_wrote() {
    let mut noted = Noted::new();
    noted.starts();
    noted.until("state applied", |world| world.write("vnet1.xml", &guest(1, "clean-traffic")));
    let starts = noted.starts();
    assert_eq!(starts[0], "ebtables-restore", "{starts:?}");
    let saves: Vec<&String> = starts.iter().filter(|start| start.ends_with("-save")).collect();
    assert_eq!((starts.len(), saves.len()), (4, 3), "one commit, and one look at each family: {starts:?}");
    noted.until("state applied", |world| {
        world.sh("ebtables -t nat -F libvirt-I-vnet0");
        world.delete("vnet1.xml");
    });
    let starts = noted.starts();
    assert!(starts[0].ends_with("-save"), "{starts:?}");
    noted.world.assert_in_sync();
    assert!(!noted.world.save("ebtables").contains("vnet1"));
}
