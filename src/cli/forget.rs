//! `interface forget`: drops the addresses that were learned for a guest, here or by the running daemon.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;

use super::Exit;
use super::options::InterfaceForget;
use super::settings::{Settings, block_on};
use crate::backend::namespace;
use crate::daemon::ask;
use crate::daemon::control::{self, Question};
use crate::model::learned::Learned;
use crate::store::learned::{Found, LearnedStore};

/// How long another bridgeward may be writing.
const LOCK_WAIT: Duration = Duration::from_secs(30);

pub fn forget(settings: &Settings, options: &InterfaceForget) -> anyhow::Result<Exit> {
    let store = settings.store()?;
    if let Some(daemon) = ask::daemon(&store)? {
        return super::apply::relay(settings, &ask::apply(daemon, &Question::forget(&options.device))?);
    }
    let _lock = store.lock(LOCK_WAIT)?;
    let kept = LearnedStore::open(&settings.config.learned_dir, namespace::identity()?).context("learned addresses are kept there")?;
    let mut learned = match kept.load()? {
        Found::Addresses(learned) => learned,
        Found::Nothing => Learned::default(),
        Found::Corrupt { reason, moved_to } => {
            settings
                .output
                .message(&format!("warning: the file of learned addresses was corrupt ({reason}) and is now {}", moved_to.display()));
            Learned::default()
        }
    };
    let computed = block_on(settings.compute(&settings.config.state))?;
    let guest = computed.resolved.guests.iter().find(|guest| guest.device.as_str() == options.device);
    let Some(learning) = guest.and_then(|guest| guest.learning()) else {
        settings.output.error(&control::nothing_learned(&options.device));
        return Ok(Exit::Attention);
    };
    let knowledge = learned.0.remove(&learning.claimant).unwrap_or_default();
    kept.save(&learned)?;
    let addresses: Vec<IpAddr> = knowledge.findings.iter().map(|finding| finding.address).collect();
    settings.output.text(&control::forgotten(&options.device, &addresses))?;
    settings.output.message("note: no daemon runs; `apply` takes the rules away that let these addresses through");
    Ok(Exit::Done)
}
