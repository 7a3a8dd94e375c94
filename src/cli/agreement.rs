//! The command line against everything that tells of it: manual pages, completions, the README, the guide, and its own examples.

use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};

use super::man::man;
use super::options::{Options, Page};
use crate::config;

/// The pages that show commands.
const PAGES: &[&str] = &["README.md", "SECURITY.md", "docs"];

/// Every command that is shown, with its words: `filter list`.
fn commands() -> Vec<(String, Command)> {
    let mut program = Options::command();
    program.build();
    let mut commands = Vec::new();
    for command in program.get_subcommands().filter(|command| !command.is_hide_set()) {
        commands.push((command.get_name().to_owned(), command.clone()));
        for verb in command.get_subcommands() {
            commands.push((format!("{} {}", command.get_name(), verb.get_name()), verb.clone()));
        }
    }
    commands
}

fn options(command: &Command) -> Vec<&str> {
    command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(clap::Arg::get_long)
        .filter(|name| *name != "help")
        .collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for page in PAGES {
        let path = root.join(page);
        let directory = fs::read_dir(&path).into_iter().flatten().map(|entry| entry.expect("docs can be listed").path());
        pages.extend(if path.is_dir() { directory.collect() } else { vec![path] });
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.into_iter().map(|page| (page.clone(), fs::read_to_string(&page).expect("the page can be read"))).collect()
}

/// The arguments of a line that runs bridgeward, up to its end: a pipe, a redirection, a comment, or the next command; `None` where it runs something else.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("# ").trim_start_matches("sudo ");
    let words = line.split(' ').skip_while(|word| word.contains('=') && !word.starts_with('-'));
    let line = words.collect::<Vec<_>>().join(" ");
    let rest = line.strip_prefix("bridgeward ")?;
    // Two blanks stand before the words that explain an example.
    let rest = rest.split("  ").next().unwrap_or_default();
    let words = rest.split(' ').take_while(|word| !["|", ">", ">>", "&&", "&", "#", "2>"].contains(word));
    let words = words.filter(|word| !word.is_empty()).map(|word| word.trim_matches(['\'', '"']).trim_end_matches(';').to_owned());
    Some(std::iter::once("bridgeward".to_owned()).chain(words).collect())
}

/// A line that is to be typed as it stands.
fn assert_parses(line: &str, place: &str) {
    assert_no_fault(line, place, clap::Error::use_stderr);
}

/// Words in a sentence: they name a command and its options, and leave values to the reader.
fn assert_known(words: &str, place: &str) {
    assert_no_fault(words, place, |fault| matches!(fault.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand));
}

fn assert_no_fault(line: &str, place: &str, counts: impl Fn(&clap::Error) -> bool) {
    let Some(arguments) = arguments(line) else { return };
    if let Err(fault) = Options::try_parse_from(&arguments)
        && counts(&fault)
    {
        panic!("{place}: `{}`:\n{fault}", line.trim());
    }
}

#[test]
fn every_command_has_examples_and_every_example_can_be_said() {
    for (name, command) in commands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  ") && line.contains("bridgeward ")).collect();
        assert!(!examples.is_empty(), "`{name} --help` has no example");
        for example in examples {
            for part in example.split(" && ").flat_map(|part| part.split(" | ")) {
                assert_parses(part, &format!("{name} --help"));
            }
        }
    }
}

#[test]
fn what_the_pages_show_can_be_said() {
    let mut seen = 0;
    for (path, page) in pages() {
        let mut fenced = None;
        for (number, line) in page.lines().enumerate() {
            let place = format!("{}:{}", path.display(), number + 1);
            if let Some(info) = line.trim_start().strip_prefix("```") {
                fenced = if fenced.is_some() { None } else { Some(info) };
            } else if fenced.is_some_and(|info| info.starts_with("sh") || (info.starts_with("console") && line.starts_with("# "))) {
                assert_parses(line, &place);
                seen += usize::from(arguments(line).is_some());
            } else if fenced.is_none() {
                for code in line.split('`').skip(1).step_by(2).filter(|code| !code.contains(['[', '.', '<']) && !code.contains("COMMAND")) {
                    assert_known(code, &place);
                }
            }
        }
    }
    assert!(seen > 20, "the pages show commands, and {seen} were found");
}

#[test]
fn every_completion_knows_every_command_and_every_option() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Options::command(), "bridgeward", &mut script);
        let script = String::from_utf8(script).expect("a script is text");
        for (name, command) in commands() {
            let last = name.rsplit(' ').next().expect("a command has a name");
            assert!(script.contains(last), "{shell} does not know `{name}`");
            for option in options(&command) {
                let spelled = if shell == clap_complete::Shell::Fish { format!("-l {option}") } else { format!("--{option}") };
                assert!(script.contains(&spelled), "{shell} does not know `{name} --{option}`");
            }
        }
    }
}

#[test]
fn the_readme_and_the_manual_page_list_every_command() {
    let readme = text("README.md");
    let rows: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    let page = String::from_utf8(man(Page::Bridgeward, &Options::command()).expect("writing to memory")).expect("roff is text");
    for (name, _) in commands() {
        let (command, verb) = name.split_once(' ').unwrap_or((&name, ""));
        let row = rows.iter().find(|row| row.split('|').next().is_some_and(|cell| cell.split(['`', ' ', ',']).any(|word| word == command)));
        let row = row.unwrap_or_else(|| panic!("README.md has no row for `{command}`"));
        assert!(verb.is_empty() || row.contains(&format!("`{verb}`")), "README.md does not tell of `{name}`: {row}");
        assert!(
            page.contains(&format!(".SS {}\n", if verb.is_empty() { name.clone() } else { format!("\"{name}\"") })),
            "bridgeward(8) lacks `{name}`"
        );
    }
}

/// Whatever can be said for one run can be said for all of them, but for what concerns one run alone.
#[test]
fn every_global_option_has_its_key() {
    let keys: Vec<&str> = config::keys().iter().map(|key| key.name).collect();
    let program = Options::command();
    let run = program.find_subcommand("run").expect("there is `run`");
    for option in
        options(&program).into_iter().chain(options(run)).filter(|option| !["config", "color", "verbose", "version"].contains(option))
    {
        let key = option.trim_end_matches("-format").replace('-', "_");
        assert!(keys.contains(&key.as_str()), "`--{option}` has no key `{key}`");
    }
}

#[test]
fn every_key_stands_wherever_keys_are_told() {
    let page = String::from_utf8(man(Page::BridgewardToml, &Options::command()).expect("writing to memory")).expect("roff is text");
    let (shipped, guide) = (text("contrib/bridgeward.toml"), text("docs/configuration.md"));
    for key in config::keys() {
        assert_eq!(page.matches(&format!(".SS {}\n", key.name)).count(), 1, "bridgeward.toml(5): {}", key.name);
        assert_eq!(guide.matches(&format!("\n### {}\n", key.name)).count(), 1, "docs/configuration.md: {}", key.name);
        let set = |line: &&str| line.trim_start_matches("# ").starts_with(&format!("{} = ", key.name));
        assert_eq!(shipped.lines().filter(set).count(), 1, "contrib/bridgeward.toml: {}", key.name);
    }
}
