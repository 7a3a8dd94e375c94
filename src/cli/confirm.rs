//! `confirm`: rules on trial stay. And the guard that takes them back when nobody says so.

use std::time::Duration;

use super::Exit;
use super::options::GuardTrial;
use super::settings::{Settings, block_on};
use crate::config::Tools;
use crate::daemon::ask;
use crate::daemon::control::Question;
use crate::reconcile::trial::{Confirmation, ON_GUARD};

/// How often the guard looks whether the trial is over.
const GLANCE: Duration = Duration::from_millis(200);
/// How much later than a daemon, which can say what it did, the guard acts.
const COURTESY: Duration = Duration::from_secs(1);
/// How long the guard goes on trying where a tool or another bridgeward is in the way.
const TRIES: u32 = 600;

pub fn confirm(settings: &Settings) -> anyhow::Result<Exit> {
    let store = settings.store()?;
    if let Some(daemon) = ask::daemon(&store)? {
        let answer = ask::apply(daemon, &Question::confirm())?;
        if !answer.messages.is_empty() {
            settings.output.message(answer.messages.trim_end());
        }
        settings.output.text(&answer.data)?;
        return Ok(match answer.exit {
            0 => Exit::Done,
            1 => Exit::Attention,
            _ => Exit::Trouble,
        });
    }
    let confirmation = block_on(async { Ok(settings.reconciler().await?.confirm().await?) })?;
    match confirmation {
        Confirmation::Confirmed => settings.output.text(&format!("{confirmation}\n"))?,
        Confirmation::TooLate(_) | Confirmation::Nothing => settings.output.message(&confirmation.to_string()),
    }
    Ok(if confirmation == Confirmation::Confirmed { Exit::Done } else { Exit::Attention })
}

/// Waits until the trial is over one way or the other; takes the rules back if nobody else did. Says that it watches, and
/// nothing more: nobody listens.
pub fn guard(mut settings: Settings, options: &GuardTrial) -> anyhow::Result<Exit> {
    // Out of the session of whoever started us, which may end before the trial does. Fails where we lead a group already, which is as good.
    let _ = rustix::process::setsid();
    if let [iptables, ip6tables, ebtables] = options.tools.as_slice() {
        let (iptables, ip6tables, ebtables) = (iptables.clone(), ip6tables.clone(), ebtables.clone());
        settings.config.tools = Tools { iptables, ip6tables, ebtables, time_limit: options.time_limit };
    }
    let store = settings.store()?;
    settings.output.data(&String::from_utf8_lossy(ON_GUARD))?;
    while let Some(left) = store.trial()?.and_then(|trial| trial.left()) {
        if left.is_zero() {
            break;
        }
        std::thread::sleep(GLANCE.min(left));
    }
    if store.daemon()?.is_some() {
        std::thread::sleep(COURTESY);
    }
    block_on(async {
        let mut reconciler = settings.reconciler().await?;
        let mut tries = 0;
        loop {
            match reconciler.take_back_if_due().await {
                Ok(_) => return Ok(Exit::Done),
                Err(failure) if tries == TRIES => return Err(failure.into()),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(COURTESY).await;
        }
    })
}
