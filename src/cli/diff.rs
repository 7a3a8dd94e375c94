//! `diff`: the plan, shown and not carried out; against the kernel or against saved output of the tools.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use super::Exit;
use super::options::{Diff, Format};
use super::progress;
use super::settings::{Settings, block_on};
use crate::load;
use crate::plan::desire::{self, Choices, Installed};
use crate::plan::{self, json, show};
use crate::reconcile::compute::Computed;
use crate::reconcile::look::{Preview, now};
use crate::reconcile::report::{Held, Report};
use crate::ruleset::{Family, Observation, Observed, save};
use crate::store::plan_file;

/// The most bytes of one saved file; half a million rules are not half of it.
const SAVED_LIMIT: u64 = 256 << 20;

pub fn diff(settings: &Settings, options: &Diff) -> anyhow::Result<Exit> {
    let (computed, preview) = if options.observed.is_empty() {
        live(settings, options.out.as_deref())?
    } else {
        let computed = block_on(settings.compute(&settings.config.state))?;
        tell(settings, &computed);
        let preview = offline(settings, &computed, &options.observed)?;
        (computed, preview)
    };
    let Preview { plan, observed, report, .. } = preview;
    let text = match options.format {
        Format::Json => json::json(&plan, &report.held_for_json(), &computed.sources),
        Format::Text if options.stat => show::stat(&plan),
        Format::Text => show::diff(&plan, &observed, &computed.sources, settings.output.data),
    };
    match options.format {
        Format::Json => settings.output.data(&text)?,
        Format::Text => settings.output.text(&text)?,
    }
    report.held_lines(Held::to_string).for_each(|line| settings.output.message(&line));
    for remark in &report.remarks {
        settings.output.message(&format!("note: {}", remark.message));
    }
    settings.show_prerequisites(&report);
    let refused = options.observed.is_empty() && computed.diagnostics.iter().any(|diagnostic| diagnostic.code == load::EXPOSED);
    if refused {
        settings.output.error("`apply` refuses this state while strangers may write it");
    }
    let in_sync = plan.is_empty() && report.is_clean() && !refused && !computed.has_errors();
    Ok(if in_sync { Exit::Done } else { Exit::Attention })
}

fn tell(settings: &Settings, computed: &Computed) {
    settings.show(computed);
    settings.show_empty(computed, &settings.config.state);
}

/// Compares with the kernel, and keeps the plan where that is asked for.
fn live(settings: &Settings, out: Option<&Path>) -> anyhow::Result<(Computed, Preview)> {
    let state = &settings.config.state;
    // By absolute paths in a plan that is kept, which somebody may carry out from another directory.
    let paths = if out.is_some() { load::absolute(state) } else { state.clone() };
    block_on(async {
        let (computed, reconciler) = settings.compute_and_look(&paths).await?;
        tell(settings, &computed);
        let _step = progress::step("comparing with the kernel");
        let mut reconciler = reconciler.await?;
        let preview = reconciler.preview(&computed).await?;
        if let Some(path) = out {
            let file = reconciler.seal(&preview, &computed, settings.terms(), now());
            plan_file::write(path, &file.write()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok((computed, preview))
    })
}

/// Compares with files; families of which there is none are left out.
fn offline(settings: &Settings, computed: &Computed, paths: &[PathBuf]) -> anyhow::Result<Preview> {
    let mut observed = Observed::default();
    for path in saved_files(paths)? {
        let text = read_saved(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Some(family) = family_of(&path, &text) else {
            bail!("cannot tell which tool wrote {}: name it iptables.save, ip6tables.save or ebtables.save", path.display());
        };
        let text = if family == Family::Bridge { with_ends(&text) } else { text };
        let tables = save::parse(family, &text).with_context(|| format!("{} is not what {family} prints", path.display()))?;
        if observed.families.insert(family, Observation::Read(tables)).is_some() {
            bail!("{} is a second file of {family}", path.display());
        }
    }
    let choices = Choices { scope: settings.config.scope, hooks: settings.config.hooks, libvirtd: false };
    let (resolved, compiled) = (&computed.resolved, &computed.compiled);
    let (mut desired, kept) = desire::desire(resolved, compiled, &BTreeMap::new(), &Installed::default(), &observed, choices);
    for rules in desired.objects.values_mut().map(Arc::make_mut) {
        rules.chains.retain(|chain, _| observed.families.contains_key(&chain.family));
        rules.shared.retain(|chain, _| observed.families.contains_key(&chain.family));
        rules.direct.retain(|chain, _| observed.families.contains_key(&chain.family));
    }
    let plan = plan::plan(&desired, &observed)?;
    let mut report = Report { remarks: plan.remarks.iter().cloned().collect(), ..Report::default() };
    report.hold_faults(computed, &kept);
    Ok(Preview { plan, desired, observed, report })
}

/// The text of a saved file or a pipe. As when the tools themselves are read, bytes that are not UTF-8 (in somebody's comment) do not stop us.
fn read_saved(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(SAVED_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SAVED_LIMIT {
        return Err(io::Error::other(format!("it is larger than {} MiB", SAVED_LIMIT >> 20)));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `ebtables-save` ends a table with a comment only; a file from which comments were taken out gets its ends back.
fn with_ends(text: &str) -> String {
    let ended = |line: &str| line == "COMMIT" || line.starts_with("# Completed") || line.starts_with("Bridge table:");
    if text.lines().any(ended) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        if line.starts_with('*') && out.contains('*') {
            out.push_str("COMMIT\n");
        }
        out.push_str(line);
        out.push('\n');
    }
    out.push_str(if out.contains('*') { "COMMIT\n" } else { "" });
    out
}

/// The files given, and those in directories given.
fn saved_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut inside: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// Whose output a file is: by its first comment, else by its name, else by the form of a listing.
fn family_of(path: &Path, text: &str) -> Option<Family> {
    let named = |name: &str| match name {
        _ if name.contains("ip6tables") => Some(Family::Ipv6),
        _ if name.contains("ebtables") => Some(Family::Bridge),
        _ if name.contains("iptables") => Some(Family::Ipv4),
        _ => None,
    };
    let header = text.lines().find(|line| line.starts_with("# Generated by"));
    let by_name = || named(&path.file_name()?.to_string_lossy());
    let listing = || text.lines().any(|line| line.starts_with("Bridge table:")).then_some(Family::Bridge);
    header.and_then(named).or_else(by_name).or_else(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_file_without_comments_is_read_all_the_same() {
        let two = "*nat\n:PREROUTING ACCEPT\n*filter\n:INPUT ACCEPT\n";
        assert_eq!(with_ends(two), "*nat\n:PREROUTING ACCEPT\nCOMMIT\n*filter\n:INPUT ACCEPT\nCOMMIT\n");
        assert_eq!(with_ends("*nat\n# Completed\n"), "*nat\n# Completed\n");
        assert_eq!(with_ends(""), "");
    }

    #[test]
    fn a_saved_file_may_hold_any_bytes_but_not_too_many() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("iptables.save");
        fs::write(&path, b"-A INPUT -m comment --comment \xe9\n").expect("a file");
        assert_eq!(read_saved(&path).expect("it is read"), "-A INPUT -m comment --comment \u{fffd}\n");
        fs::File::options().write(true).open(&path).and_then(|file| file.set_len(SAVED_LIMIT + 1)).expect("a hole");
        assert!(read_saved(&path).expect_err("it is too large").to_string().contains("larger than 256 MiB"));
    }

    #[test]
    fn the_header_beats_the_name_and_the_name_the_form() {
        let family = |name: &str, text: &str| family_of(Path::new(name), text);
        assert_eq!(family("iptables.save", "# Generated by ip6tables-save v1.8.9 (nf_tables)\n*filter\n"), Some(Family::Ipv6));
        assert_eq!(family("host-ebtables.txt", "*nat\n"), Some(Family::Bridge));
        assert_eq!(family("iptables.save", "*filter\n"), Some(Family::Ipv4));
        assert_eq!(family("x", "Bridge table: nat\n"), Some(Family::Bridge));
        assert_eq!(family("x", "*filter\n"), None);
    }
}
