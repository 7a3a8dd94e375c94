//! RELAX NG in compact form, written from the form in XML, which is the one to edit.
//!
//! Only the parts of the language that our schemas use are known; any other is a failure, never left out in silence.

use std::fs;
use std::path::Path;

use roxmltree::{Document, Node};

/// Words that are no names unless a backslash stands before them.
const KEYWORDS: [&str; 19] = [
    "attribute",
    "default",
    "datatypes",
    "div",
    "element",
    "empty",
    "external",
    "grammar",
    "include",
    "inherit",
    "list",
    "mixed",
    "namespace",
    "notAllowed",
    "parent",
    "start",
    "string",
    "text",
    "token",
];

const WIDTH: usize = 130;

#[test]
fn the_compact_schemas_say_what_the_schemas_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut written = 0;
    for entry in fs::read_dir(&folder).expect("the schemas are there") {
        let path = entry.expect("the folder can be listed").path();
        if path.extension().is_none_or(|extension| extension != "rng") {
            continue;
        }
        let compact = compact(&fs::read_to_string(&path).expect("schemas are text"));
        let file = path.with_extension("rnc");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&file, &compact).expect("the schema can be written");
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(found, compact, "{}: run the tests once with UPDATE_EXPECTED=1", file.display());
        written += 1;
    }
    assert!(written >= 6, "only {written} schemas");
}

/// A grammar in compact form.
fn compact(xml: &str) -> String {
    let document = Document::parse(xml).expect("schemas are XML");
    let mut text = String::new();
    for node in document.root().children() {
        if node.is_comment() {
            text += &comment(node, "");
        }
    }
    for (prefix, namespace) in namespaces(&document) {
        text.extend(["namespace ", prefix, " = \"", namespace, "\"\n"]);
    }
    text += "\n";
    for node in document.root_element().children() {
        if node.is_comment() {
            text.extend(["\n", &comment(node, "")]);
        } else if node.is_element() {
            text += &component(node, "");
        }
    }
    text
}

fn comment(node: Node<'_, '_>, indent: &str) -> String {
    let lines = node.text().unwrap_or_default().trim().lines();
    lines.fold(String::new(), |text, line| text + &format!("{indent}# {}\n", line.trim()))
}

/// `start`, a definition or an include.
fn component(node: Node<'_, '_>, indent: &str) -> String {
    match node.tag_name().name() {
        "start" => format!("{indent}start =\n{indent}  {}\n", body(node, indent)),
        "define" => format!("{indent}{} =\n{indent}  {}\n", name(attribute(node, "name")), body(node, indent)),
        "include" => {
            let file = attribute(node, "href").replace(".rng", ".rnc");
            let parts: String = elements(node).map(|part| component(part, &format!("{indent}  "))).collect();
            let parts = if parts.is_empty() { String::new() } else { format!(" {{\n{parts}{indent}}}") };
            format!("{indent}include \"{file}\"{parts}\n")
        }
        other => panic!("<{other}> is not known here"),
    }
}

/// All children of a node, one after another.
fn body(node: Node<'_, '_>, indent: &str) -> String {
    joined(elements(node), ", ", &format!("{indent}  "), false)
}

fn joined<'a, 'i: 'a>(parts: impl Iterator<Item = Node<'a, 'i>>, operator: &str, indent: &str, grouped: bool) -> String {
    let parts: Vec<Node> = parts.collect();
    let grouped = grouped && parts.len() > 1;
    let inside = if grouped { format!("{indent}  ") } else { indent.to_owned() };
    let nested = parts.len() > 1;
    let patterns: Vec<String> = parts.iter().map(|part| pattern(*part, &inside, nested)).collect();
    let short = patterns.join(operator);
    let fits = !short.contains('\n') && short.len() + indent.len() < WIDTH;
    let text = if fits { short } else { patterns.join(&format!("{}\n{inside}", operator.trim_end())) };
    match (grouped, fits) {
        (false, _) => text,
        (true, true) => format!("({text})"),
        (true, false) => format!("(\n{inside}{text}\n{indent})"),
    }
}

/// One pattern; `nested` where another operator stands around it.
fn pattern(node: Node<'_, '_>, indent: &str, nested: bool) -> String {
    let many = |mark: &str| {
        let parts: Vec<Node> = elements(node).collect();
        let inside = match parts[..] {
            [only] => pattern(only, indent, true),
            _ => joined(parts.into_iter(), ", ", indent, true),
        };
        if inside.ends_with(['?', '*', '+']) { format!("({inside}){mark}") } else { format!("{inside}{mark}") }
    };
    match node.tag_name().name() {
        "element" | "attribute" => named(node, indent),
        "choice" => joined(elements(node), " | ", indent, nested),
        "interleave" => joined(elements(node), " & ", indent, nested),
        "group" => joined(elements(node), ", ", indent, nested),
        "optional" => many("?"),
        "zeroOrMore" => many("*"),
        "oneOrMore" => many("+"),
        "ref" => name(attribute(node, "name")),
        "value" => quoted(node.text().unwrap_or_default()),
        "text" => "text".to_owned(),
        "empty" => "empty".to_owned(),
        "data" => data(node, indent, nested),
        other => panic!("<{other}> is not known here"),
    }
}

/// `element NAMES { ... }` and `attribute NAMES { ... }`.
fn named(node: Node<'_, '_>, indent: &str) -> String {
    let kind = node.tag_name().name();
    let mut parts: Vec<Node> = elements(node).collect();
    let names = match node.attribute("name") {
        Some(name) => name.to_owned(),
        None => name_class(parts.remove(0)),
    };
    if parts.is_empty() {
        assert_eq!(kind, "attribute", "an element needs a content");
        return format!("attribute {names} {{ text }}");
    }
    let inside = joined(parts.iter().copied(), ", ", &format!("{indent}  "), false);
    if inside.contains('\n') || inside.len() + names.len() + indent.len() + 12 > WIDTH {
        format!("{kind} {names} {{\n{indent}  {inside}\n{indent}}}")
    } else {
        format!("{kind} {names} {{ {inside} }}")
    }
}

fn name_class(node: Node<'_, '_>) -> String {
    match node.tag_name().name() {
        "name" => node.text().unwrap_or_default().to_owned(),
        "choice" => elements(node).map(name_class).collect::<Vec<_>>().join(" | "),
        "anyName" => match elements(node).next() {
            None => "*".to_owned(),
            Some(except) => format!("* - ({})", elements(except).map(name_class).collect::<Vec<_>>().join(" | ")),
        },
        "nsName" => {
            let all = namespaces(node.document());
            let known = all.iter().find(|(_, namespace)| *namespace == attribute(node, "ns"));
            format!("{}:*", known.expect("every namespace was collected").0)
        }
        other => panic!("the class of names <{other}> is not known here"),
    }
}

/// The namespaces that names are taken from, with a prefix for each: the word before the version at the end of the namespace.
fn namespaces<'a>(document: &'a Document<'_>) -> Vec<(&'a str, &'a str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for namespace in document.descendants().filter(|node| node.tag_name().name() == "nsName").map(|node| attribute(node, "ns")) {
        let prefix = namespace.rsplit('/').nth(1).expect("a namespace of libvirt ends in its subject and a version");
        if !found.contains(&(prefix, namespace)) {
            found.push((prefix, namespace));
        }
    }
    found
}

/// A type with its parameters, and what is left out of it.
fn data(node: Node<'_, '_>, indent: &str, nested: bool) -> String {
    let mut text = format!("xsd:{}", attribute(node, "type"));
    let parameters: Vec<String> = elements(node)
        .filter(|part| part.has_tag_name(("http://relaxng.org/ns/structure/1.0", "param")))
        .map(|part| format!("{} = {}", attribute(part, "name"), quoted(part.text().unwrap_or_default())))
        .collect();
    if !parameters.is_empty() {
        text.extend([" { ", &parameters.join(" "), " }"]);
    }
    let except = elements(node).find(|part| part.has_tag_name(("http://relaxng.org/ns/structure/1.0", "except")));
    match except {
        None => text,
        Some(except) => {
            let without = joined(elements(except), " | ", indent, true);
            let without = if without.contains(" | ") && !without.starts_with('(') { format!("({without})") } else { without };
            let text = format!("{text} - {without}");
            if nested { format!("({text})") } else { text }
        }
    }
}

fn elements<'a, 'i: 'a>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

fn attribute<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    node.attribute(name).unwrap_or_else(|| panic!("<{}> has no `{name}`", node.tag_name().name()))
}

fn name(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("\\{name}") } else { name.to_owned() }
}

fn quoted(text: &str) -> String {
    assert!(!text.contains('"') && !text.contains('\n') && !text.contains("\\x{"), "this text needs another kind of quotes: {text}");
    format!("\"{text}\"")
}
