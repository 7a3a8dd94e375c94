//! The manual pages: bridgeward(8), made of the same definitions as `--help`; bridgeward-state(5) and bridgeward.toml(5), made of the guide's chapters.
//!
//! `clap_mangen` would refer to a page per command, which nobody installs, and would fill the examples like prose. So its sections
//! are used one by one, with every command below a heading of its own and its examples as they are written.

mod markdown;

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::options::Page;
use crate::config;
use crate::config::key;

/// When the pages last said something else. Not the day of building: equal sources make equal pages.
const DATE: &str = "2026-11-25";

/// The chapter of the guide that is bridgeward-state(5).
const STATE: &str = include_str!("../../docs/state.md");

/// The page in roff.
///
/// # Errors
/// Never, as long as writing to memory cannot fail.
pub fn man(page: Page, program: &Command) -> io::Result<Vec<u8>> {
    match page {
        Page::Bridgeward => commands(program),
        Page::BridgewardState => Ok(chapter("bridgeward-state", "the XML files that bridgeward(8) makes rules of", STATE)),
        Page::BridgewardToml => Ok(chapter("bridgeward.toml", "configuration of bridgeward(8)", &key::document(&config::keys()))),
    }
}

/// A page of section 5.
fn chapter(name: &str, about: &str, text: &str) -> Vec<u8> {
    let mut page = Roff::new();
    title(name, "5", &mut page);
    page.control("SH", ["NAME"]).text([roman(format!("{name} - {about}"))]).control("SH", ["DESCRIPTION"]);
    markdown::write(text, &mut page);
    see_also(&["bridgeward(8)", "bridgeward-state(5)", "bridgeward.toml(5)"], name, &mut page);
    tidy(&page.render()).into_bytes()
}

fn title(name: &str, section: &str, page: &mut Roff) {
    let version = concat!("bridgeward ", env!("CARGO_PKG_VERSION"));
    page.control("TH", [name.to_uppercase().as_str(), section, DATE, version]);
}

/// The pages but this one, and those of the tools.
fn see_also(pages: &[&str], name: &str, page: &mut Roff) {
    let own = format!("{name}(");
    let others = pages.iter().filter(|other| !other.starts_with(&own)).chain(&["ebtables(8)", "ip6tables(8)", "iptables(8)"]);
    let mut inlines = Vec::new();
    for other in others {
        let (other, section) = other.split_once('(').expect("a page has a section");
        let comma = if inlines.is_empty() { "" } else { ", " };
        inlines.extend([roman(comma), bold(other), roman(format!("({section}"))]);
    }
    page.control("SH", ["SEE ALSO"]).text(inlines);
}

/// bridgeward(8).
fn commands(program: &Command) -> io::Result<Vec<u8>> {
    let mut head = Roff::new();
    title("bridgeward", "8", &mut head);
    let mut out = head.render().into_bytes();
    let page = Man::new(program.clone());
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    heading("COMMANDS", &mut out)?;
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        self::command(command, command.get_name(), &mut out)?;
        for verb in command.get_subcommands() {
            self::command(verb, &format!("{} {}", command.get_name(), verb.get_name()), &mut out)?;
        }
    }
    page.render_options_section(&mut out)?;
    heading("NOTES", &mut out)?;
    as_written(program, &mut out)?;
    let mut tail = Roff::new();
    see_also(&["bridgeward-state(5)", "bridgeward.toml(5)"], "bridgeward", &mut tail);
    tail.to_writer(&mut out)?;
    Ok(tidy(&String::from_utf8_lossy(&out)).into_bytes())
}

/// Without what is said twice or has no effect, of which `mandoc` warns: the definition of the apostrophe in every part but the first, line breaks beside
/// vertical space, a paragraph right below a heading.
fn tidy(page: &str) -> String {
    let definition = |line: &str| line.starts_with(".ie \\n(.g .ds Aq") || line.starts_with(".el .ds Aq");
    let parts = page.lines().enumerate().filter(|(at, line)| *at < 2 || !definition(line));
    let lines: Vec<&str> = parts.map(|(_, line)| line).collect();
    let is = |at: Option<usize>, known: &[&str]| {
        at.and_then(|at| lines.get(at)).is_some_and(|line| known.iter().any(|known| line.trim_end() == *known))
    };
    let heading = |at: Option<usize>| at.is_some_and(|at| lines[at].starts_with(".SH ") || lines[at].starts_with(".SS "));
    let kept = lines.iter().enumerate().filter(|(at, line)| match **line {
        ".br" => !is(at.checked_sub(1), &["", ".sp"]) && !is(Some(at + 1), &["", ".sp"]),
        ".PP" => !heading(at.checked_sub(1)),
        _ => true,
    });
    kept.fold(String::new(), |all, (_, line)| all + line + "\n")
}

fn heading(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    Roff::new().control("SH", [text]).to_writer(out)
}

/// What one command does, its own options, and its examples.
fn command(command: &Command, name: &str, out: &mut Vec<u8>) -> io::Result<()> {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    Roff::new().control("SS", [name]).text([roman(format!("{about}."))]).to_writer(out)?;
    let mut options = Vec::new();
    Man::new(command.clone().disable_help_flag(true)).render_options_section(&mut options)?;
    // The section's own heading would end that of the command.
    for line in String::from_utf8_lossy(&options).lines().filter(|line| !line.starts_with(".SH ")) {
        out.extend(line.bytes().chain([b'\n']));
    }
    as_written(command, out)
}

/// The text below a command's help, its line breaks and columns kept.
fn as_written(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(text) = command.get_after_help().map(ToString::to_string) else { return Ok(()) };
    let mut roff = Roff::new();
    roff.control("PP", []).control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).to_writer(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::Options;
    use clap::CommandFactory;

    #[test]
    fn the_page_explains_every_command_and_every_option_once() {
        let program = Options::command();
        let page = String::from_utf8(man(Page::Bridgeward, &program).expect("writing to memory")).expect("roff is text");
        let shown = || program.get_subcommands().filter(|command| !command.is_hide_set());
        let verbs = shown().flat_map(|command| {
            command.get_subcommands().map(move |verb| (format!("\"{} {}\"", command.get_name(), verb.get_name()), verb))
        });
        let commands = shown().map(|command| (command.get_name().to_owned(), command));
        for (name, command) in commands.chain(verbs) {
            assert_eq!(page.matches(&format!(".SS {name}\n")).count(), 1, "{page}");
            let options = command.get_arguments().chain(program.get_arguments()).filter_map(clap::Arg::get_long);
            for option in options.filter(|option| !["help", "version"].contains(option)) {
                let spelled = format!("\\-\\-{}", option.replace('-', "\\-"));
                assert!(page.contains(&spelled), "`--{option}` is missing:\n{page}");
            }
        }
        assert!(!page.contains("bridgeward\\-check"), "there is no such page:\n{page}");
    }
}
