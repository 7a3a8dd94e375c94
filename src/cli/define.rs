//! `filter define` and `network define`: a definition into the state, after the whole state was resolved with it.
//!
//! The file that defines the name now is replaced; a new name gets `FOLDER/NAME.xml` in the first state directory. A definition
//! without a UUID keeps the one of its name, or gets a new one.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use uuid::Uuid;

use super::Exit;
use super::definition::{Definition, Kind, Standing};
use super::options::Define;
use super::proposal::{Proposal, home};
use super::settings::Settings;
use crate::load::{self, Loaded};
use crate::parse::xml;
use crate::reconcile::compute::{self, Documents};
use crate::source::{FileId, Sources};
use crate::state_file;

/// The name under which standard input is shown.
const STANDARD_INPUT: &str = "<standard input>";

/// A definition on its way into the state.
#[derive(Debug)]
pub struct Draft<'a> {
    /// What it is.
    pub kind: Kind,
    /// The name under which its text is shown.
    pub shown: &'a str,
    /// Its text, as the person wrote it.
    pub text: &'a str,
    /// What it is an edited copy of; `None` for a definition of its own.
    pub original: Option<Original<'a>>,
}

/// A definition that was copied to be edited.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// Its name, which has to stay.
    pub name: &'a str,
    /// Its text when it was copied.
    pub text: &'a str,
}

/// What to do with a sound definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Write it.
    Write,
    /// Show the rules that it would make and write nothing.
    Preview,
}

/// Runs the command.
pub fn define(settings: &Settings, kind: Kind, options: &Define) -> anyhow::Result<Exit> {
    let (shown, text) = if options.file == Path::new("-") {
        (STANDARD_INPUT.to_owned(), read_standard_input()?)
    } else {
        let text = std::fs::read_to_string(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
        (options.file.display().to_string(), text)
    };
    let draft = Draft { kind, shown: &shown, text: text.strip_prefix('\u{feff}').unwrap_or(&text), original: None };
    let deed = if options.dry_run { Deed::Preview } else { Deed::Write };
    draft.carry_out(settings, deed)
}

fn read_standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(load::FILE_LIMIT + 1).read_to_string(&mut text).context("cannot read the definition")?;
    if read as u64 > load::FILE_LIMIT {
        bail!("the definition is larger than {} MiB", load::FILE_LIMIT >> 20);
    }
    Ok(text)
}

impl Draft<'_> {
    /// Judges the definition together with the whole state, and writes it or shows what it would change.
    ///
    /// # Errors
    /// Trouble with the host; a fault of the definition is shown and is [`Exit::Attention`].
    pub fn carry_out(&self, settings: &Settings, deed: Deed) -> anyhow::Result<Exit> {
        let home = home(settings)?;
        let _lock = if deed == Deed::Write { Some(state_file::lock(home)?) } else { None };
        let loaded = settings.load()?;
        let documents = compute::read(&loaded, settings.reading());
        let Some((name, uuid)) = self.own(settings) else { return Ok(Exit::Attention) };
        let place = match self.place(&documents, &name, uuid, home) {
            Ok(place) => place,
            Err(refusal) => {
                settings.output.error(&refusal);
                return Ok(Exit::Attention);
            }
        };
        let replaced = place.replaced.as_deref();
        if let (Some(original), Some(path)) = (self.original, replaced)
            && text_of(&loaded, path) != original.text
        {
            settings.output.error(&format!("{path} was changed by somebody else meanwhile; nothing was written"));
            return Ok(Exit::Attention);
        }
        let proposal = Proposal::new(settings, &loaded, replaced, Some((self.shown, self.text)))?;
        if !proposal.judge(settings) {
            settings.output.error(&format!("{} `{name}` is refused; nothing was written", self.kind.noun()));
            return Ok(Exit::Attention);
        }
        if deed == Deed::Preview {
            settings.output.text(&proposal.difference(settings, settings.output.data))?;
            return Ok(Exit::Done);
        }
        let text =
            if uuid.is_some() { self.text.to_owned() } else { with_uuid(self.kind, self.text, place.uuid.unwrap_or_else(Uuid::new_v4)) };
        let seen = replaced.map(|path| text_of(&loaded, path));
        state_file::replace(&place.path, &text, seen.as_deref())?;
        let verb = if replaced.is_some() { "changed" } else { "defined" };
        settings.output.text(&format!("{} `{name}` {verb} in {}\n", self.kind.noun(), place.path.display()))?;
        Ok(Exit::Done)
    }

    /// The name and UUID in the text; `None` after showing what is wrong with it.
    fn own(&self, settings: &Settings) -> Option<(String, Option<Uuid>)> {
        let alone = Loaded { files: vec![loaded_file(self.shown, self.text)], ..Loaded::default() };
        let documents = compute::read(&alone, settings.reading());
        let broken = documents.parsed.iter().any(|parsed| !parsed.broken.is_empty());
        let definitions = self.kind.definitions(&documents.parsed);
        match definitions.first() {
            _ if broken => {
                let faults: Vec<_> = documents.parsed.iter().flat_map(|parsed| &parsed.diagnostics).cloned().collect();
                settings.output.diagnostics(&faults, &documents.sources, settings.least);
                settings.output.error("nothing was written");
            }
            Some(Definition { standing: Standing::Sound, name, .. }) if self.original.is_some_and(|original| original.name != *name) => {
                let wanted = self.original.map_or("", |original| original.name);
                settings.output.error(&format!(
                    "this is {} `{name}` and no longer `{wanted}`: to rename it, define it under the new name and undefine the old one",
                    self.kind.noun()
                ));
            }
            Some(Definition { standing: Standing::Sound, name, uuid, .. }) => return Some(((*name).to_owned(), *uuid)),
            _ => settings.output.error(&format!(
                "{} does not define a {}: its root element has to be `<{}>`",
                self.shown,
                self.kind.noun(),
                self.kind.noun()
            )),
        }
        None
    }

    /// Where the definition goes.
    ///
    /// # Errors
    /// What it clashes with.
    fn place(&self, documents: &Documents, name: &str, uuid: Option<Uuid>, home: &Path) -> Result<Target, String> {
        let noun = self.kind.noun();
        let at = |definition: &Definition<'_>| documents.sources.position(definition.span).to_string();
        let definitions = self.kind.definitions(&documents.parsed);
        let others = || definitions.iter().filter(|other| other.name != name);
        if let Some(other) = others().find(|other| uuid.is_some() && other.uuid == uuid) {
            let uuid = uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
            return Err(format!("UUID {uuid} is that of {noun} `{}` ({}): leave `<uuid>` out to get a new one", other.name, at(other)));
        }
        let current: Vec<&Definition> = definitions.iter().filter(|one| one.name == name && one.standing != Standing::Status).collect();
        if let [first, second, ..] = current[..] {
            return Err(format!("{noun} `{name}` is defined twice, in {} and {}: remove one of the two", at(first), at(second)));
        }
        let taken = definitions.iter().filter(|one| one.name == name).find_map(|one| one.uuid.map(|uuid| (uuid, at(one))));
        if let (Some(uuid), Some((taken, place))) = (uuid, &taken)
            && uuid != *taken
        {
            return Err(format!("{noun} `{name}` is already defined with UUID {taken} ({place}): leave `<uuid>` out to keep it"));
        }
        let kept = taken.map(|(uuid, _)| uuid);
        if let [current] = current[..] {
            let path = documents.sources.position(current.span).path.to_string();
            return Ok(Target { path: PathBuf::from(&path), replaced: Some(path), uuid: kept });
        }
        let mut file = PathBuf::from(format!("{name}.xml"));
        if !load::is_state_file(&file) {
            file = PathBuf::from(format!("_{name}.xml"));
        }
        let path = home.join(self.kind.folder()).join(file);
        if path.symlink_metadata().is_ok() {
            return Err(format!("{} is there already and defines something else: rename it first", path.display()));
        }
        Ok(Target { path, replaced: None, uuid: kept })
    }
}

/// Where a definition goes.
struct Target {
    path: PathBuf,
    /// The loaded file that it takes the place of.
    replaced: Option<String>,
    /// The UUID of the name, where it has one.
    uuid: Option<Uuid>,
}

/// The text of a loaded file; nothing for one without a text, which then is not what was seen.
pub fn text_of(loaded: &Loaded, path: &str) -> String {
    loaded.files.iter().find(|file| &*file.path == path).map(|file| file.text.to_string()).unwrap_or_default()
}

fn loaded_file(path: &str, text: &str) -> load::LoadedFile {
    load::LoadedFile { path: path.into(), text: text.into(), stamp: load::Stamp::OF_NO_FILE }
}

/// The text of a sound definition with a `<uuid>` put in: behind the start tag of a filter, before the name of a network, where libvirt puts it.
fn with_uuid(kind: Kind, text: &str, uuid: Uuid) -> String {
    let mut sources = Sources::default();
    let file: FileId = sources.add("", text);
    let document = xml::read(text, file);
    let root = document.root.as_ref().expect("a sound definition has a root element");
    let element = format!("<uuid>{uuid}</uuid>");
    let put = |start: usize, end: usize, new: &str| format!("{}{new}{}", &text[..start], &text[end..]);
    let range = |element: &xml::Element<'_>| (element.span.start as usize, element.span.end as usize);
    if let Some(empty) = root.child("uuid") {
        let (start, end) = range(empty);
        let end = if text[start..end].ends_with("/>") { end } else { text[end..].find('>').map_or(end, |at| end + at + 1) };
        return put(start, end, &element);
    }
    if kind == Kind::Network
        && let Some(name) = root.child("name")
    {
        let (start, _) = range(name);
        let indent: String = text[..start].chars().rev().take_while(|letter| letter.is_whitespace() && *letter != '\n').collect();
        return put(start, start, &format!("{element}\n{indent}"));
    }
    let (start, end) = range(root);
    match text[start..end].strip_suffix("/>") {
        Some(open) => put(start, end, &format!("{open}>\n  {element}\n</{}>", root.name)),
        None => put(end, end, &format!("\n  {element}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_goes_where_libvirt_puts_it_and_the_rest_stays_as_written() {
        let uuid = Uuid::nil();
        let tag = format!("<uuid>{uuid}</uuid>");
        for (kind, text, expected) in [
            (Kind::Filter, "<filter name='a'/>\n", format!("<filter name='a'>\n  {tag}\n</filter>\n")),
            (
                Kind::Filter,
                "<!-- x -->\n<filter name='a'>\n  <rule/>\n</filter>",
                format!("<!-- x -->\n<filter name='a'>\n  {tag}\n  <rule/>\n</filter>"),
            ),
            (Kind::Filter, "<filter name='a'><uuid/></filter>", format!("<filter name='a'>{tag}</filter>")),
            (Kind::Filter, "<filter name='a'><uuid></uuid></filter>", format!("<filter name='a'>{tag}</filter>")),
            (Kind::Network, "<network>\n  <name>a</name>\n</network>", format!("<network>\n  {tag}\n  <name>a</name>\n</network>")),
            (Kind::Network, "<network><name>a</name></network>", format!("<network>{tag}\n<name>a</name></network>")),
        ] {
            assert_eq!(with_uuid(kind, text, uuid), expected);
        }
    }
}
