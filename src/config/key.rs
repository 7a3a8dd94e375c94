//! The keys of the configuration, as values: one source for what serde reads, for the defaults, for the shipped `bridgeward.toml`, for
//! bridgeward.toml(5) and for docs/configuration.md.

use std::fmt::Write as _;

/// A key of `bridgeward.toml`, and what is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The table that it stands in; empty at the top.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it does, line by line as its doc comment has it.
    pub about: &'static [&'static str],
    /// What may be written, in words.
    pub kind: &'static str,
    /// What holds where it is absent, as TOML; `None`: nothing is set.
    pub default: Option<&'static str>,
    /// Another value, as TOML.
    pub example: &'static str,
}

/// A struct that serde reads from a TOML table, its [`Default`], and its keys. Every key gives its type, the default as Rust and as TOML, what may be written, and
/// an example; tables inside the table stand in a second pair of braces.
macro_rules! settings {
    (
        $(#[$about:meta])* $name:ident, $table:literal, $keys:ident {
            $($(#[doc = $doc:literal])* $(#[serde($($serde:tt)*)])? $key:ident: $type:ty = $value:expr; $default:expr, $kind:literal, $example:literal;)*
        }
        $({ $($(#[doc = $inner_doc:literal])* $inner:ident: $inner_type:ty;)* })?
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $doc])* $(#[serde($($serde)*)])? pub $key: $type,)*
            $($($(#[doc = $inner_doc])* pub $inner: $inner_type,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $value,)* $($($inner: <$inner_type>::default(),)*)? }
            }
        }

        const $keys: &[Key] = &[$(Key {
            table: $table,
            name: stringify!($key),
            about: &[$($doc),*],
            kind: $kind,
            default: $default,
            example: $example,
        }),*];
    };
}
pub(super) use settings;

impl Key {
    /// Its doc comment, line by line, without the space before each.
    fn lines(&self) -> impl Iterator<Item = &'static str> {
        self.about.iter().map(|line| line.strip_prefix(' ').unwrap_or(line))
    }

    /// `NAME = VALUE`.
    fn set(&self, value: &str) -> String {
        format!("{} = {value}", self.name)
    }
}

/// The shipped `bridgeward.toml`: every key with what it does and its default, and what has none commented out.
pub fn shipped(keys: &[Key]) -> String {
    let mut text = String::from(
        "# bridgeward: /etc/bridgeward/bridgeward.toml, see bridgeward.toml(5)\n#\n\
         # Every key with its default. The command line and BRIDGEWARD_* variables win over this file; an unknown key is an error.\n\
         # `bridgeward run` reads it again on SIGHUP (systemctl reload bridgeward); `run_dir`, `log` and [tools] take a restart, which the log then says.\n",
    );
    let mut table = "";
    for key in keys {
        text.push('\n');
        if key.table != table {
            table = key.table;
            text.extend(["[", table, "]\n"]);
        }
        for line in key.lines() {
            text.extend(["# ", line, "\n"]);
        }
        match key.default {
            Some(value) => text.extend([key.set(value).as_str(), "\n"]),
            None => text.extend(["# ", key.set(key.example).as_str(), "\n"]),
        }
    }
    text
}

/// docs/configuration.md, which is bridgeward.toml(5) too.
pub fn document(keys: &[Key]) -> String {
    let mut text = String::from(HEAD);
    let mut table = "";
    for key in keys {
        if key.table != table {
            table = key.table;
            let _ = write!(text, "\n## Table `[{table}]`\n");
        }
        let about = key.lines().collect::<Vec<_>>().join("\n");
        let default = key.default.map_or("not set".to_owned(), |value| format!("`{value}`"));
        let _ = write!(text, "\n### {}\n\n{about}\n\n", key.name);
        let _ =
            write!(text, "| | |\n|---|---|\n| value | {} |\n| default | {default} |\n| example | `{}` |\n", key.kind, key.set(key.example));
    }
    text.push_str(TAIL);
    text
}

const HEAD: &str = "\
# The configuration

What `/etc/bridgeward/bridgeward.toml` may say, key by key: bridgeward.toml(5). The file is TOML, and need not exist: every key has a default. `--config` or
`BRIDGEWARD_CONFIG` name another, which then has to be there. The command line wins over environment variables, and these over the file.

This page is made from the program's own definitions.

## Faults

An unknown key, a value out of range and a syntax error are shown with line and column, and the command ends with status 2. A running daemon that is told
to read a faulty file again keeps what it has and says so. As root, a file that others may write is refused.

## What takes a restart

`run` reads the file again on SIGHUP (`systemctl reload bridgeward`). `run_dir`, `log` and the table `[tools]` take a restart, which the log then says.

## Keys
";

const TAIL: &str = "
## Examples

Beside a libvirtd, on its own directories, and only looking on:

```toml
state = [\"/etc/libvirt/nwfilter\", \"/run/libvirt/network\", \"/run/libvirt/nwfilter-binding\"]
quirks = \"libvirt\"
mode = \"observe\"
```

A host of its own, strict, with switches kept and numbers for Prometheus:

```toml
strict = true
manage_sysctls = true
socket_group = \"adm\"

[metrics]
listen = \"127.0.0.1:9876\"
```
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, keys, parse};
    use crate::source::Sources;

    fn read(text: &str) -> Config {
        let mut sources = Sources::default();
        let file = sources.add("bridgeward.toml", text);
        parse(&sources, file).unwrap_or_else(|fault| panic!("{}:\n{text}", fault.message))
    }

    fn set(key: &Key, value: &str) -> String {
        let table = if key.table.is_empty() { String::new() } else { format!("[{}]\n", key.table) };
        format!("{table}{}\n", key.set(value))
    }

    #[test]
    fn every_default_is_the_default_and_every_example_is_not() {
        for key in keys() {
            if let Some(default) = key.default {
                assert_eq!(read(&set(&key, default)), Config::default(), "{}", key.name);
            }
            assert_ne!(read(&set(&key, key.example)), Config::default(), "{}", key.name);
        }
    }

    #[test]
    fn every_key_is_explained_in_whole_sentences() {
        for key in keys() {
            let lines: Vec<&str> = key.lines().collect();
            assert!(lines.last().is_some_and(|line| line.ends_with('.')), "{}: {lines:?}", key.name);
            assert!(lines.iter().all(|line| line.len() <= 160), "{}: {lines:?}", key.name);
        }
    }

    /// The shipped file and the guide's page are written by this test (`UPDATE_EXPECTED=1`).
    #[test]
    fn the_shipped_file_and_the_guide_are_made_from_the_keys() {
        for (path, text) in [("contrib/bridgeward.toml", shipped(&keys())), ("docs/configuration.md", document(&keys()))] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
            if std::env::var_os("UPDATE_EXPECTED").is_some() {
                std::fs::write(&path, &text).expect("the file can be written");
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "run the tests once with UPDATE_EXPECTED=1");
        }
        for block in document(&keys()).split("```toml\n").skip(1) {
            read(block.split("```").next().expect("a block has an end"));
        }
    }
}
