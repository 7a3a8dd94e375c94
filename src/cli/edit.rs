//! `filter edit` and `network edit`: a definition in the person's own editor, and into the state when it is sound.
//!
//! The editor gets a copy. What comes back is judged as `define` judges; while it is at fault the faults are shown and the person is
//! asked whether to go on editing the same copy. Nothing that was typed is lost: a copy that is not taken over stays where it is said to be.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::Exit;
use super::define::{Deed, Draft, Original};
use super::definition::{self, Kind, Standing};
use super::options::Edit;
use super::settings::Settings;
use crate::reconcile::compute::Documents;

/// Runs the command.
pub fn edit(settings: &Settings, kind: Kind, options: &Edit) -> anyhow::Result<Exit> {
    let documents = settings.read()?;
    let Some(before) = text(kind, &options.name, &documents) else {
        let stock = documents.stock.iter().map(|filter| &*filter.name.value).filter(|_| kind == Kind::Filter);
        let definitions = kind.definitions(&documents.parsed);
        definition::explain_absence(settings.output, kind.noun(), &options.name, definitions.iter().map(|one| one.name).chain(stock));
        return Ok(Exit::Attention);
    };
    let directory = tempfile_directory()?;
    let copy = directory.join(format!("{}.xml", kind.noun()));
    std::fs::write(&copy, &before).with_context(|| format!("cannot write {}", copy.display()))?;
    let original = Original { name: &options.name, text: &before };
    loop {
        run_editor(&copy)?;
        let text = std::fs::read_to_string(&copy).with_context(|| format!("cannot read {} again", copy.display()))?;
        if text == before {
            settings.output.message(&format!("{} `{}` is unchanged", kind.noun(), options.name));
            return discard(&directory, Exit::Done);
        }
        let shown = copy.display().to_string();
        let draft = Draft { kind, shown: &shown, text: &text, original: Some(original) };
        let deed = if options.dry_run { Deed::Preview } else { Deed::Write };
        match draft.carry_out(settings, deed) {
            Ok(Exit::Done) => return discard(&directory, Exit::Done),
            outcome if wants_to_go_on()? => {
                if let Err(trouble) = outcome {
                    settings.output.error(&format!("{trouble:#}"));
                }
            }
            outcome => {
                settings.output.message(&format!("what you wrote is kept in {}", copy.display()));
                return outcome;
            }
        }
    }
}

/// The text to begin with: of the definition, broken or not, else of the stock filter, a file of which will replace it.
fn text(kind: Kind, name: &str, documents: &Documents) -> Option<String> {
    let definitions = kind.definitions(&documents.parsed);
    let own = definitions.iter().find(|one| one.name == name && one.standing != Standing::Status).map(|one| one.span);
    let stock = || documents.stock.iter().find(|filter| kind == Kind::Filter && &*filter.name.value == name).map(|filter| filter.span);
    let span = own.or_else(stock)?;
    Some(documents.sources.file(span.file).text.to_string())
}

/// A directory that nobody else can look into or put links into.
fn tempfile_directory() -> anyhow::Result<std::path::PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let above = std::env::temp_dir();
    for number in 0..1000 {
        let path = above.join(format!("bridgeward-edit-{}-{number}", std::process::id()));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path.clone()).with_context(|| format!("cannot create {}", path.display())),
        }
    }
    bail!("{} is full of old copies: remove its bridgeward-edit-* directories", above.display())
}

fn discard(directory: &Path, exit: Exit) -> anyhow::Result<Exit> {
    std::fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    Ok(exit)
}

/// `$VISUAL`, else `$EDITOR`, else `vi`; either may have arguments, as with git.
fn run_editor(file: &Path) -> anyhow::Result<()> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$@\"")).arg(&editor).arg(file).status();
    let status = status.with_context(|| format!("cannot run the editor `{editor}`"))?;
    if !status.success() {
        bail!("the editor `{editor}` ended with {status}; nothing was written, what you wrote is kept in {}", file.display());
    }
    Ok(())
}

/// Asks on a terminal; where there is none nobody could answer.
fn wants_to_go_on() -> anyhow::Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(false);
    }
    eprint!("edit it again? [Y/n] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer)?;
    Ok(read > 0 && !answer.trim_start().starts_with(['n', 'N']))
}
