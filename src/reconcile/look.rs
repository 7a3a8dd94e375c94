//! Looking without writing, and carrying out exactly a plan that somebody looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use super::compute::{Computed, Reading};
use super::prerequisite::Mending;
use super::report::Report;
use super::trial::Urge;
use super::{Failure, Pass, Reconciler, Round, crash_if_asked, memory};
use crate::backend::{Kernel, namespace};
use crate::config::name::{HooksName, LayoutName, QuirksName, ScopeName};
use crate::diagnostic::Style;
use crate::load;
use crate::plan::direct::Possession;
use crate::plan::sealed::{Bound, PlanFile};
use crate::plan::{Desired, Plan, json, show};
use crate::ruleset::{Family, Observed};

/// What a pass would do, and what it follows from.
#[derive(Debug, Clone)]
pub struct Preview {
    /// What would be done.
    pub plan: Plan,
    /// What should be there.
    pub desired: Desired,
    /// What is there.
    pub observed: Observed,
    /// The same for people, with all that is held; its edits are [`Report::only_seen`].
    pub report: Report,
}

/// The settings that a plan follows from and that only whoever read them knows.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The state.
    pub state: &'a [PathBuf],
    /// How to read it.
    pub reading: Reading,
}

impl<K: Kernel> Reconciler<K> {
    /// Reads the rules for the next pass, preview or plan on paper, which uses them if nobody has written since this began; so files can be read at the same time.
    pub async fn look_ahead(&mut self) {
        // Without a generation nobody could tell.
        let Some(generation) = self.kernel.generation() else { return };
        let observed = self.kernel.observe(&Family::ALL).await;
        self.knowledge.look_ahead(generation, observed);
    }

    /// What a pass would do now, without doing it; nothing is written, not even a note of it.
    ///
    /// # Errors
    /// When the record or a needed family cannot be read.
    pub async fn preview(&mut self, computed: &Computed) -> Result<Preview, Failure> {
        let mut pass = Self::begin(computed, self.store.peek()?);
        let plan = self.plan(&mut pass).await?;
        self.settle_report(&mut pass);
        self.look_at_host(&mut pass, Mending::Never).await;
        plan.phases.iter().for_each(|phase| pass.report.count(phase));
        pass.report.only_seen = true;
        pass.report.verified = plan.is_empty();
        pass.report.trial = self.trial_state()?;
        Ok(Preview { plan, desired: pass.desired, observed: pass.seen.observed, report: pass.report })
    }

    /// Like [`Reconciler::preview`], but never in the middle of what another bridgeward writes.
    ///
    /// # Errors
    /// As [`Reconciler::preview`]; when the other one goes on writing.
    pub async fn look(&mut self, computed: &Computed) -> Result<Preview, Failure> {
        let _lock = self.lock()?;
        self.preview(computed).await
    }

    /// Puts what was seen on paper; `made` is the time.
    pub fn seal(&self, preview: &Preview, computed: &Computed, terms: Terms<'_>, made: String) -> PlanFile {
        let bound = self.bind(computed, terms, &preview.plan, &preview.desired, &preview.observed);
        let document = json::json(&preview.plan, &preview.report.held_for_json(), &computed.sources);
        let text = show::diff(&preview.plan, &preview.observed, &computed.sources, Style::Plain);
        PlanFile::new(made, bound, &document, &text)
    }

    /// Carries out exactly this plan, or nothing: there is one commit of it and a look whether it came to what it said, no second try, no repair of what
    /// somebody else does meanwhile.
    ///
    /// # Errors
    /// [`Failure::Moved`] when anything that it was made from is another now; when a tool refuses a part of it: what was committed before that stays.
    pub async fn carry_out(&mut self, file: &PlanFile, computed: &Computed, terms: Terms<'_>, urge: Urge) -> Result<Report, Failure> {
        let _lock = self.lock()?;
        let started = Instant::now();
        self.clear_way().await?;
        self.forgive(computed);
        let mut pass = Self::begin(computed, self.store.load()?);
        pass.within = if let Urge::Try(within) = urge { Some(within) } else { None };
        self.courtesy.begin();
        self.courtesy.give_way().await;
        let plan = self.plan(&mut pass).await?;
        let bound = self.bind(computed, terms, &plan, &pass.desired, &pass.seen.observed);
        let moved = file.moved(&bound, &json::json(&plan, &[], &computed.sources));
        if !moved.is_empty() {
            return Err(Failure::Moved(moved));
        }
        if !plan.is_empty() {
            self.commit_once(&mut pass, &plan).await?;
        }
        let rest = self.plan(&mut pass).await?;
        pass.report.verified = rest.is_empty();
        if pass.report.verified {
            self.remember(&mut pass)?;
        } else {
            pass.report.generation = None;
            let left = rest.edits().count();
            pass.report.warnings.push(format!("the plan was carried out, and {left} edits more are needed by now: look at a new one"));
        }
        self.settle_report(&mut pass);
        self.look_at_host(&mut pass, Mending::Never).await;
        pass.report.took = started.elapsed();
        pass.report.trial = self.trial_state()?;
        Ok(pass.report)
    }

    async fn commit_once(&self, pass: &mut Pass<'_>, plan: &Plan) -> Result<(), Failure> {
        self.begin_trial(pass).await?;
        self.intend(pass, plan)?;
        for phase in &plan.phases {
            let failure = match self.commit(phase, &mut pass.report).await? {
                None => {
                    pass.report.count(phase);
                    continue;
                }
                Some(Round::Refused(suspects)) => suspects.complaint.into(),
                Some(Round::Busy(refusal)) => Failure::Tool { refusal, detail: String::new() },
                Some(Round::InSync | Round::Committed(_) | Round::Doubted | Round::Overtaken | Round::GivenUp) => {
                    unreachable!("a commit ends well, busy or refused")
                }
            };
            return Err(failure);
        }
        crash_if_asked();
        memory::possess(&mut pass.record, &pass.seen.observed, &pass.prospect, Possession::committed);
        Ok(())
    }

    fn bind(&self, computed: &Computed, terms: Terms<'_>, plan: &Plan, desired: &Desired, observed: &Observed) -> Bound {
        let identity = self.store.identity();
        let host = [("boot", identity.boot_id.clone()), ("namespace", identity.namespace.to_string())];
        let Reading { quirks, strict, layout } = terms.reading;
        let state: Vec<String> = load::absolute(terms.state).iter().map(|path| path.display().to_string()).collect();
        let settings = [
            ("bridgeward", env!("CARGO_PKG_VERSION").to_owned()),
            ("state", state.join(":")),
            ("quirks", QuirksName::from(quirks).to_string()),
            ("layout", LayoutName::from(layout).to_string()),
            ("strict", strict.to_string()),
            ("scope", ScopeName::from(self.scope).to_string()),
            ("hooks", HooksName::from(self.hooks).to_string()),
            // A libvirtd keeps base chains where they are.
            ("libvirtd", namespace::libvirt_daemon().map_or("none", |daemon| daemon.name).to_owned()),
        ];
        Bound::new(map(host), map(settings), &computed.sources, desired, plan, observed)
    }
}

/// The time as plans carry it: RFC 3339 in UTC, whole seconds.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn map<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}
