//! Pictures as values, and their text in the notations that other programs draw.
//!
//! What goes in are boxes in groups and arrows between them; what comes out is DOT for Graphviz, Mermaid for web pages, or SVG (`svg`). Whatever
//! text users wrote ends up inside quotes, with nothing in it that could end them. [`filter`] makes the picture of a filter, [`host`] that of all that the state defines.

pub mod filter;
pub mod host;
mod svg;

use std::fmt::Write as _;

use crate::diagnostic::visible::is_unruly;

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    /// What it shows.
    pub title: String,
    /// Its boxes, in groups.
    pub groups: Vec<Group>,
    /// Its arrows.
    pub arrows: Vec<Arrow>,
    boxes: usize,
}

/// Boxes that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub title: String,
    /// The boxes from top to bottom.
    pub boxes: Vec<TextBox>,
}

/// A box with text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextBox {
    /// Unique in its picture.
    pub id: BoxId,
    /// Its lines.
    pub lines: Vec<String>,
}

/// A box of one picture, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BoxId(usize);

/// An arrow between two boxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrow {
    /// Where it begins.
    pub from: BoxId,
    /// Where it ends.
    pub to: BoxId,
    /// What it says; may be empty.
    pub label: String,
    /// How it is drawn.
    pub line: Line,
}

/// How an arrow is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// For what comes next, or belongs to it.
    Solid,
    /// For what is visited and left again.
    Dashed,
}

/// A language for pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// Graphviz.
    Dot,
    /// Mermaid's flow charts.
    Mermaid,
    /// What browsers show.
    Svg,
}

impl Graph {
    /// An empty picture.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Adds a group; the boxes that are added next stand in it.
    pub fn begin_group(&mut self, title: impl Into<String>) {
        self.groups.push(Group { title: title.into(), boxes: Vec::new() });
    }

    /// Adds a box to the last group.
    pub fn add_box(&mut self, lines: Vec<String>) -> BoxId {
        let id = BoxId(self.boxes);
        self.boxes += 1;
        if self.groups.is_empty() {
            self.begin_group("");
        }
        if let Some(group) = self.groups.last_mut() {
            group.boxes.push(TextBox { id, lines });
        }
        id
    }

    /// Adds an arrow.
    pub fn add_arrow(&mut self, from: BoxId, to: BoxId, line: Line, label: impl Into<String>) {
        self.arrows.push(Arrow { from, to, label: label.into(), line });
    }

    /// The picture as text, ending with a newline.
    pub fn write(&self, notation: Notation) -> String {
        let mut text = String::new();
        let outcome = match notation {
            Notation::Dot => self.write_dot(&mut text),
            Notation::Mermaid => self.write_mermaid(&mut text),
            Notation::Svg => return svg::write(self),
        };
        outcome.expect("a string takes everything");
        text
    }

    fn write_dot(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "digraph \"{}\" {{", dot(&self.title))?;
        writeln!(text, "  node [shape=box, fontname=\"monospace\"];")?;
        for (number, group) in self.groups.iter().enumerate() {
            writeln!(text, "  subgraph cluster_{number} {{\n    label=\"{}\";", dot(&group.title))?;
            for TextBox { id: BoxId(id), lines } in &group.boxes {
                // `\l` ends a line that is set flush left.
                let label: String = lines.iter().map(|line| dot(line) + "\\l").collect();
                writeln!(text, "    n{id} [label=\"{label}\"];")?;
            }
            writeln!(text, "  }}")?;
        }
        for Arrow { from: BoxId(from), to: BoxId(to), label, line } in &self.arrows {
            let style = if *line == Line::Dashed { "dashed" } else { "solid" };
            let label = if label.is_empty() { String::new() } else { format!(", label=\"{}\"", dot(label)) };
            writeln!(text, "  n{from} -> n{to} [style={style}{label}];")?;
        }
        writeln!(text, "}}")
    }

    fn write_mermaid(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "flowchart TB")?;
        for (number, group) in self.groups.iter().enumerate() {
            writeln!(text, "  subgraph g{number}[\"{}\"]", mermaid(&group.title))?;
            for TextBox { id: BoxId(id), lines } in &group.boxes {
                let label: Vec<String> = lines.iter().map(|line| mermaid(line)).collect();
                writeln!(text, "    n{id}[\"{}\"]", label.join("<br/>"))?;
            }
            writeln!(text, "  end")?;
        }
        for Arrow { from: BoxId(from), to: BoxId(to), label, line } in &self.arrows {
            let arrow = if *line == Line::Dashed { "-.->" } else { "-->" };
            let label = if label.is_empty() { String::new() } else { format!("|\"{}\"|", mermaid(label)) };
            writeln!(text, "  n{from} {arrow}{label} n{to}")?;
        }
        Ok(())
    }
}

/// Text between quotes of DOT, where a backslash begins an escape.
fn dot(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            _ if is_unruly(letter) => quoted.push(' '),
            _ => quoted.push(letter),
        }
    }
    quoted
}

/// Text between quotes of Mermaid, which reads HTML and, after a backtick, Markdown; its escapes are `#NUMBER;`.
fn mermaid(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '#' | '<' | '>' | '&' | '`' | ';' | '\\' => {
                write!(quoted, "#{};", u32::from(letter)).expect("a string takes everything");
            }
            _ if is_unruly(letter) => quoted.push(' '),
            _ => quoted.push(letter),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Graph {
        let mut graph = Graph::new("a \"b\"\\");
        graph.begin_group("one <group>");
        let (first, second) = (graph.add_box(vec!["x".into(), "y;\n\"z\"".into()]), graph.add_box(vec!["w".into()]));
        graph.add_arrow(first, second, Line::Solid, "");
        graph.add_arrow(second, first, Line::Dashed, "`#back`");
        graph
    }

    #[test]
    fn dot_keeps_text_between_its_quotes() {
        let expected = r#"digraph "a \"b\"\\" {
  node [shape=box, fontname="monospace"];
  subgraph cluster_0 {
    label="one <group>";
    n0 [label="x\ly; \"z\"\l"];
    n1 [label="w\l"];
  }
  n0 -> n1 [style=solid];
  n1 -> n0 [style=dashed, label="`#back`"];
}
"#;
        assert_eq!(picture().write(Notation::Dot), expected);
    }

    #[test]
    fn mermaid_keeps_text_between_its_quotes() {
        let expected = r##"flowchart TB
  subgraph g0["one #60;group#62;"]
    n0["x<br/>y#59; #34;z#34;"]
    n1["w"]
  end
  n0 --> n1
  n1 -.->|"#96;#35;back#96;"| n0
"##;
        assert_eq!(picture().write(Notation::Mermaid), expected);
    }
}
