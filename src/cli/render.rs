//! `render`: the complete desired rule set, without looking at the kernel.

use std::collections::BTreeMap;

use super::Exit;
use super::options::{FamilyOption, Render, RenderFormat};
use super::settings::{Settings, block_on};
use crate::plan::desire::{self, Choices, Installed};
use crate::plan::{json, show};
use crate::ruleset::{Family, Observed};

pub fn render(settings: &Settings, options: &Render) -> anyhow::Result<Exit> {
    let computed = block_on(settings.compute(&settings.config.state))?;
    settings.show(&computed);
    let choices = Choices { scope: settings.config.scope, hooks: settings.config.hooks, libvirtd: false };
    let (resolved, compiled) = (&computed.resolved, &computed.compiled);
    // Nothing is known of the kernel or of a record: a held interface is shown as it would be on a fresh host, closed.
    let (desired, _) = desire::desire(resolved, compiled, &BTreeMap::new(), &Installed::default(), &Observed::default(), choices);
    let families: &[Family] = match options.family {
        Some(FamilyOption::Ipv4) => &[Family::Ipv4],
        Some(FamilyOption::Ipv6) => &[Family::Ipv6],
        Some(FamilyOption::Bridge) => &[Family::Bridge],
        None => &Family::ALL,
    };
    let text = match options.format {
        RenderFormat::Restore => {
            let explained = options.explain.then_some(&computed.sources);
            families.iter().fold(String::new(), |text, family| text + &heading(*family) + &show::render(&desired, *family, explained))
        }
        RenderFormat::Json => json::desired(&desired, families, &computed.sources),
    };
    settings.output.data(&text)?;
    Ok(if computed.has_errors() { Exit::Attention } else { Exit::Done })
}

/// Says which tool reads what follows; a comment to all of them.
fn heading(family: Family) -> String {
    format!("# {family}-restore --noflush\n")
}
