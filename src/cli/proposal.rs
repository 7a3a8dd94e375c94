//! A change of one file, judged before it is made: the whole state as it would be, beside the state as it is.
//!
//! A change is refused for every fault in the new text, and for every fault elsewhere that is not there without it. Faults that are
//! there anyway are nobody's business here: a broken file of somebody else must not keep a person from mending another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::settings::{Settings, block_on};
use crate::diagnostic::{Diagnostic, Severity, Style};
use crate::load::{Loaded, LoadedFile, Stamp};
use crate::model::Object;
use crate::plan::Desired;
use crate::plan::desire::{self, Choices, Installed};
use crate::plan::show;
use crate::reconcile::compute::{self, Computed};
use crate::ruleset::Observed;
use crate::source::Position;

/// The state before and after a change.
#[derive(Debug)]
pub struct Proposal {
    before: Computed,
    after: Computed,
    /// The names under which the new texts are shown.
    shown: BTreeSet<Arc<str>>,
}

impl Proposal {
    /// Computes both states: the loaded files, and the same with the text of `replaced` (if there is one) taken out and `new` put in,
    /// which is a name to show and a text.
    ///
    /// # Errors
    /// Only when there is no runtime to ask for the host's devices with.
    pub fn new(settings: &Settings, loaded: &Loaded, replaced: Option<&str>, new: Option<(&str, &str)>) -> anyhow::Result<Self> {
        Self::of_many(settings, loaded, replaced.as_slice(), new.as_slice())
    }

    /// Like [`Proposal::new`], for any number of texts.
    ///
    /// # Errors
    /// As there.
    pub fn of_many(settings: &Settings, loaded: &Loaded, replaced: &[&str], new: &[(&str, &str)]) -> anyhow::Result<Self> {
        let links = block_on(async { Ok(settings.links().await) })?;
        let learned = settings.learned();
        let mut changed = loaded.clone();
        changed.files.retain(|file| !replaced.contains(&&*file.path));
        changed.faults.retain(|fault| !replaced.contains(&&*fault.path));
        let shown: BTreeSet<Arc<str>> = new.iter().map(|&(name, _)| name.into()).collect();
        for &(path, text) in new {
            changed.files.push(LoadedFile { path: path.into(), text: text.into(), stamp: Stamp::OF_NO_FILE });
        }
        let compute = |loaded: &Loaded| compute::check(loaded, &links, &learned, settings.reading());
        Ok(Self { before: compute(loaded), after: compute(&changed), shown })
    }

    /// The state with the change.
    pub fn after(&self) -> &Computed {
        &self.after
    }

    /// Shows what there is to say about the new text and about what it breaks elsewhere; false when it has to be refused.
    pub fn judge(&self, settings: &Settings) -> bool {
        let known: BTreeSet<_> = self.before.diagnostics.iter().map(|fault| identity(fault, &self.before)).collect();
        let is_new = |fault: &&Diagnostic| {
            let in_new_text = self.shown.contains(&self.after.sources.position(fault.span()).path);
            in_new_text || (fault.is_error() && !known.contains(&identity(fault, &self.after)))
        };
        let news: Vec<Diagnostic> = self.after.diagnostics.iter().filter(is_new).cloned().collect();
        settings.output.diagnostics(&news, &self.after.sources, settings.least.max(Severity::Warning));
        let held = |computed: &Computed| -> BTreeSet<Object> {
            computed.resolved.held.iter().chain(&computed.compiled.held).map(|held| held.object.clone()).collect()
        };
        let newly_held: Vec<String> = held(&self.after).difference(&held(&self.before)).map(ToString::to_string).collect();
        for object in &newly_held {
            settings.output.message(&format!("it would leave {object} without usable rules"));
        }
        newly_held.is_empty() && !news.iter().any(Diagnostic::is_error)
    }

    /// The rules that come and go with the change, as a unified diff; empty when there are none.
    pub fn difference(&self, settings: &Settings, style: Style) -> String {
        let desired = |computed: &Computed| -> Desired {
            let choices = Choices { scope: settings.config.scope, hooks: settings.config.hooks, libvirtd: false };
            let (resolved, compiled) = (&computed.resolved, &computed.compiled);
            desire::desire(resolved, compiled, &BTreeMap::new(), &Installed::default(), &Observed::default(), choices).0
        };
        show::change(&desired(&self.before), &desired(&self.after), &self.after.sources, style)
    }
}

/// What tells one fault of one state from those of another.
fn identity(fault: &Diagnostic, computed: &Computed) -> (Position, &'static str, String) {
    (computed.sources.position(fault.span()), fault.code, fault.message.clone())
}

/// The first given state directory: where new files go.
///
/// # Errors
/// When no directory is given.
pub fn home(settings: &Settings) -> anyhow::Result<&Path> {
    let directory = settings.config.state.iter().find(|path| path.is_dir());
    directory
        .map(std::path::PathBuf::as_path)
        .ok_or_else(|| anyhow::anyhow!("no state directory is given, only files: name one with --state DIR"))
}
