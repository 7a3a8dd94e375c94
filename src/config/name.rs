//! The names of an operator's choices: one spelling for the command line, the configuration, the daemon's protocol and its status.
//!
//! The core's own enums know nothing of clap and serde; each has its named twin here, made by one macro so that neither can gain a variant that
//! the other lacks. The comments of the variants are the help texts of the command line.

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, Serialize};

use crate::compile::Layout;
use crate::model::Quirks;
use crate::plan::{HookPlacement, Scope};

/// An enum whose variants have the same names, in kebab case, wherever they are written.
macro_rules! names {
    ($(#[$about:meta])* $name:ident for $choice:ty { $($(#[$help:meta])* $variant:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$help])* $variant,)*
        }

        impl From<$choice> for $name {
            fn from(choice: $choice) -> Self {
                match choice {
                    $(<$choice>::$variant => Self::$variant,)*
                }
            }
        }

        impl From<$name> for $choice {
            fn from(name: $name) -> Self {
                match name {
                    $($name::$variant => Self::$variant,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.to_possible_value().expect("no variant is hidden").get_name())
            }
        }
    };
}

names! {
    /// See [`Quirks`].
    QuirksName for Quirks {
        /// The rule that the XML means, or an error where there is none
        Fixed,
        /// libvirt 9.0 rule for rule
        Libvirt,
    }
}

names! {
    /// See [`Layout`].
    LayoutName for Layout {
        /// In chains of their own, as libvirt has since 5.1
        Chains,
        /// In INPUT, OUTPUT, FORWARD and POSTROUTING: the rules that libvirt made up to 5.0
        Classic,
        /// There too: the rules that libvirt's own description of its firewall lists
        ClassicDocument,
    }
}

names! {
    /// See [`Scope`].
    ScopeName for Scope {
        /// What the state or the record names; the rest is left alone
        Shared,
        /// Everything in libvirt's name space
        Exclusive,
    }
}

names! {
    /// See [`HookPlacement`].
    HooksName for HookPlacement {
        /// Once, anywhere in the chain
        Present,
        /// At the head, in our order
        First,
    }
}

/// How the daemon's log is written. The core has no such choice, so there is no twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogName {
    /// To journald with fields where stderr is the journal, else text
    #[default]
    Auto,
    /// Lines for people, on stderr
    Text,
    /// One JSON object a line, on stderr
    Json,
    /// To journald with fields
    Journald,
}

/// What the daemon does about differences between the files and the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Make the kernel what the files say, and keep it so
    #[default]
    Enforce,
    /// Say what differs, and write nothing
    Observe,
    /// Write a plan to a file, for `apply --plan`
    Plan,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().expect("no variant is hidden").get_name())
    }
}

/// Reads a choice by its name: `#[serde(deserialize_with = "named::<QuirksName, _, _>")]`.
pub(super) fn named<'de, Name, Choice, D>(deserializer: D) -> Result<Choice, D::Error>
where
    Name: Deserialize<'de>,
    Choice: From<Name>,
    D: Deserializer<'de>,
{
    Name::deserialize(deserializer).map(Choice::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_has_the_same_name_on_the_command_line_in_files_and_in_the_protocol() {
        for layout in LayoutName::value_variants() {
            let written = serde_json::to_value(layout).expect("a name is text");
            assert_eq!(written, layout.to_string());
            assert_eq!(LayoutName::from_str(&layout.to_string(), false), Ok(*layout));
            assert_eq!(LayoutName::from(Layout::from(*layout)), *layout);
        }
    }
}
