//! `filter undefine` and `network undefine`: a definition out of the state, unless something needs it.

use std::path::Path;

use super::Exit;
use super::define::text_of;
use super::definition::{self, Kind, Standing};
use super::options::Undefine;
use super::proposal::{Proposal, home};
use super::settings::Settings;
use crate::reconcile::compute::{self, Documents};
use crate::state_file;

/// Runs the command.
pub fn undefine(settings: &Settings, kind: Kind, options: &Undefine) -> anyhow::Result<Exit> {
    let home = home(settings)?;
    let _lock = if options.dry_run { None } else { Some(state_file::lock(home)?) };
    let loaded = settings.load()?;
    let documents = compute::read(&loaded, settings.reading());
    let path = match removable(kind, &options.name, &documents) {
        Ok(path) => path,
        Err(Refusal::Because(refusal)) => {
            settings.output.error(&refusal);
            return Ok(Exit::Attention);
        }
        Err(Refusal::Unknown) => {
            let definitions = kind.definitions(&documents.parsed);
            definition::explain_absence(settings.output, kind.noun(), &options.name, definitions.iter().map(|one| one.name));
            return Ok(Exit::Attention);
        }
    };
    let proposal = Proposal::new(settings, &loaded, Some(&path), None)?;
    if !proposal.judge(settings) {
        settings.output.error(&format!("{} `{}` has to stay; nothing was removed", kind.noun(), options.name));
        return Ok(Exit::Attention);
    }
    if options.dry_run {
        settings.output.text(&proposal.difference(settings, settings.output.data))?;
        return Ok(Exit::Done);
    }
    state_file::remove(Path::new(&path), &text_of(&loaded, &path))?;
    settings.output.text(&format!("{} `{}` undefined: {path} removed\n", kind.noun(), options.name))?;
    Ok(Exit::Done)
}

/// Why a definition cannot be removed.
enum Refusal {
    /// Nobody knows the name.
    Unknown,
    /// This.
    Because(String),
}

/// The file to remove.
fn removable(kind: Kind, name: &str, documents: &Documents) -> Result<String, Refusal> {
    let noun = kind.noun();
    let at = |span| documents.sources.position(span);
    let definitions = kind.definitions(&documents.parsed);
    let named: Vec<_> = definitions.iter().filter(|one| one.name == name).collect();
    if let Some(running) = named.iter().find(|one| one.standing == Standing::Status) {
        let place = at(running.span);
        return Err(Refusal::Because(format!("{noun} `{name}` runs ({place}): stop it with `virsh net-destroy` first")));
    }
    let file = match named[..] {
        [] if kind == Kind::Filter && documents.stock.iter().any(|filter| &*filter.name.value == name) => {
            return Err(Refusal::Because(format!("filter `{name}` is built in; only a file that replaces it can be undefined")));
        }
        [] => return Err(Refusal::Unknown),
        [one] => one,
        [first, second, ..] => {
            let message =
                format!("{noun} `{name}` is defined twice, in {} and {}: remove one of the two files", at(first.span), at(second.span));
            return Err(Refusal::Because(message));
        }
    };
    let users = kind.users(documents);
    if let Some(users) = users.get(name).map(definition::Users::text).filter(|text| !text.is_empty()) {
        return Err(Refusal::Because(format!("{noun} `{name}` is in use by {users}")));
    }
    Ok(at(file.span).path.to_string())
}
