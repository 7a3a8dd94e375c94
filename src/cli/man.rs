//! The man page: one page for the program and all its commands, made of the same definitions as `--help`.
//!
//! `clap_mangen` would refer to a page per command, which nobody installs, and would fill the examples like prose. So its sections
//! are used one by one, with every command below a heading of its own and its examples as they are written.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// The page in roff.
///
/// # Errors
/// Never, as long as writing to memory cannot fail.
pub fn man(program: &Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let page = Man::new(program.clone()).section("8");
    page.render_title(&mut out)?;
    page.render_name_section(&mut out)?;
    page.render_synopsis_section(&mut out)?;
    heading("COMMANDS", &mut out)?;
    for command in program.get_subcommands() {
        self::command(command, command.get_name(), &mut out)?;
        for verb in command.get_subcommands() {
            self::command(verb, &format!("{} {}", command.get_name(), verb.get_name()), &mut out)?;
        }
    }
    page.render_options_section(&mut out)?;
    heading("NOTES", &mut out)?;
    as_written(program, &mut out)?;
    Ok(out)
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
        let page = String::from_utf8(man(&program).expect("writing to memory")).expect("roff is text");
        let verbs = program.get_subcommands().flat_map(|command| {
            command.get_subcommands().map(move |verb| (format!("\"{} {}\"", command.get_name(), verb.get_name()), verb))
        });
        let commands = program.get_subcommands().map(|command| (command.get_name().to_owned(), command));
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
