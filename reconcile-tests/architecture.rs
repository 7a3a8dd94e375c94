//! The layers of the program and the shape of its files, checked against the sources themselves.
//!
//! What is asserted: a module imports only from layers below its own (the list in the library's root file, from the bottom up);
//! nothing of the pure core names a file, a process, a clock, the environment, a thread or a log; `main` stays a picture; no file
//! outgrows 600 lines; every file says at its head what it is. The checks read text, not syntax trees: comments and string
//! literals are blanked first, and what is left of Rust's path grammar is small enough to be read by words.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the bottom up; modules in one row may know each other.
const LAYERS: &[&[&str]] = &[
    &["addr", "source"],
    &["diagnostic"],
    &["model"],
    &["stock"],
    &["parse"],
    &["resolve"],
    &["graph"],
    &["ruleset"],
    &["compile"],
    &["plan"],
    &["load", "store", "state_file", "backend", "config", "output"],
    &["reconcile"],
    &["watch", "monitor", "learn"],
    &["daemon"],
    &["cli"],
    &["main"],
];

/// The highest layer of the pure core.
const PURE_UP_TO: &str = "plan";

/// What the pure core must not mention.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::process",
    "std::time",
    "std::env",
    "std::thread",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::os::unix::net",
    "tokio",
    "tracing",
    "rustix",
    "libc",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
];

/// Lines at which a file is full.
const FULL: usize = 600;

#[test]
fn imports_only_go_down() {
    let faults: Vec<String> =
        sources().iter().flat_map(|file| upward_imports(&file.layer, &file.text).map(|fault| file.says(&fault))).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|file| rank(&file.layer).is_none())
        .map(|file| file.says("is in no layer of the list in architecture.rs"))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_core_is_pure() {
    let pure = rank(PURE_UP_TO).expect("plan is a layer");
    let core = sources().into_iter().filter(|file| rank(&file.layer).is_some_and(|rank| rank <= pure) && !file.is_test());
    let faults: Vec<String> =
        core.flat_map(|file| impurities(&file.text).into_iter().map(move |word| file.says(&format!("mentions {word}")))).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The host's clock may be set back or jump. So it only dates what people read, and files and directories, whose dates are compared for being the same and never for being younger,
/// and the ends of leases, which have to outlast a reboot; whatever else waits or expires goes by a clock that only goes forward.
#[test]
fn the_hosts_clock_decides_nothing() {
    const DATED: &[&str] = &[
        "daemon/status.rs",
        "daemon/metrics.rs",
        "load.rs",
        "load/read.rs",
        "reconcile/look.rs",
        "backend/clock.rs",
        "daemon/lessons.rs",
        "watch.rs",
    ];
    let clocks = ["SystemTime", "UNIX_EPOCH", "modified()", "CLOCK_REALTIME"];
    let undated = sources()
        .into_iter()
        .filter(|file| !file.is_test() && file.layer != "cli" && !DATED.iter().any(|dated| file.path.ends_with(dated)));
    let faults: Vec<String> = undated
        .flat_map(|file| {
            let code = code_only(&file.text);
            let found: Vec<_> =
                clocks.iter().filter(|clock| contains_word(&code, clock)).map(|clock| file.says(&format!("asks {clock}"))).collect();
            found
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn main_is_a_picture() {
    let main = sources().into_iter().find(|file| file.layer == "main").expect("there is a src/main.rs");
    assert!(main.text.lines().count() < 20, "src/main.rs has 20 lines or more");
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    let files = ["src", "reconcile-tests", "contrib", "benches", "fuzz/fuzz_targets"]
        .into_iter()
        .flat_map(|folder| files_below(&manifest().join(folder)));
    let faults: Vec<String> =
        files.flat_map(|file| shape_faults(&file.text).into_iter().map(|fault| file.says(&fault)).collect::<Vec<_>>()).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A source file and the layer that it belongs to.
struct Source {
    path: PathBuf,
    layer: String,
    text: String,
}

impl Source {
    /// True for a test submodule: `tests.rs`, or a file below `tests/`.
    fn is_test(&self) -> bool {
        let inside = self.path.strip_prefix(manifest()).expect("sources lie in the project");
        inside.iter().any(|part| part == "tests" || part == "tests.rs")
    }

    fn says(&self, fault: &str) -> String {
        format!("{}: {fault}", self.path.display())
    }
}

/// Every file of the program; the root file of the library only declares modules and belongs to no layer.
fn sources() -> Vec<Source> {
    let mut files = files_below(&manifest().join("src"));
    files.retain(|file| file.layer != "lib");
    files
}

fn files_below(root: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the source folder is readable") {
            let path = entry.expect("the source folder is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(root).expect("the file was found there");
                let first = inside.iter().next().expect("a file has a name").to_string_lossy();
                let layer = first.trim_end_matches(".rs").to_owned();
                let text = fs::read_to_string(&path).expect("sources are text");
                files.push(Source { path, layer, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&layer))
}

/// The layers above `layer` that the text names; an unknown module is left to its own test.
fn upward_imports(layer: &str, text: &str) -> impl Iterator<Item = String> {
    let own = rank(layer);
    let named = named_layers(&code_only(text)).into_iter();
    named.filter(move |name| rank(name) > own).map(|name| format!("imports {name}, which is above it"))
}

/// The first segments of all paths that start at the crate's root: `crate::a`, `crate::{a, b::c}`, and `bridgeward::a` from `main`.
fn named_layers(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for root in ["crate::", "bridgeward::"] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':') {
                continue;
            }
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => names.extend(group_heads(group)),
                None => names.extend(first_word(rest)),
            }
        }
    }
    names
}

/// The first segments of the members of a `{...}` group whose opening brace is already gone.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                heads.extend(first_word(&group[start..at]));
                start = at + 1;
            }
            '}' => {
                heads.extend(first_word(&group[start..at]));
                return heads;
            }
            _ => {}
        }
    }
    heads
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!word.is_empty() && word.starts_with(char::is_lowercase)).then_some(word)
}

/// The forbidden words that the text contains; its tests may do as they like.
fn impurities(text: &str) -> Vec<&'static str> {
    let code = code_only(text);
    let code = code.split("#[cfg(test)]").next().unwrap_or_default();
    IMPURE.iter().copied().filter(|word| contains_word(code, word)).collect()
}

fn contains_word(code: &str, word: &str) -> bool {
    let inside_a_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(inside_a_name) && (word.ends_with('!') || !code[at + word.len()..].starts_with(inside_a_name)))
}

fn shape_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    // What other files include cannot begin with `//!`, and says so.
    if !text.starts_with("//!") && !text.starts_with("// Included ") {
        faults.push("does not begin with `//!`".to_owned());
    }
    let lines = text.lines().count();
    if lines > FULL {
        faults.push(format!("has {lines} lines, {FULL} are the limit"));
    }
    faults
}

/// The text with comments and the insides of string literals left out.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['/', '"', 'r', '\'']) {
        code.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = if rest.starts_with("//") {
            rest.find('\n').map_or("", |end| &rest[end..])
        } else if let Some(inside) = rest.strip_prefix('"') {
            after_string(inside)
        } else if rest.starts_with("r\"") || rest.starts_with("r#") {
            after_raw_string(rest)
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            &rest[rest[2..].find('\'').map_or(rest.len(), |end| end + 3)..]
        } else {
            let (letter, after) = rest.split_at(1);
            code.push_str(letter);
            after
        };
    }
    code + rest
}

fn after_string(inside: &str) -> &str {
    let mut escaped = false;
    for (at, letter) in inside.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return &inside[at + 1..],
            _ => {}
        }
    }
    ""
}

fn after_raw_string(text: &str) -> &str {
    let hashes = text[1..].chars().take_while(|letter| *letter == '#').count();
    let Some(inside) = text[1 + hashes..].strip_prefix('"') else {
        return &text[1 + hashes..]; // a raw identifier
    };
    let end = format!("\"{}", "#".repeat(hashes));
    inside.find(&end).map_or("", |at| &inside[at + end.len()..])
}

#[test]
fn an_upward_import_is_found_in_every_spelling() {
    let found = |text: &str| upward_imports("plan", text).count();
    assert_eq!(found("use crate::backend::Kernel;"), 1);
    assert_eq!(found("use crate::{ruleset::Table, store};"), 1);
    assert_eq!(found("use crate::{\n    ruleset::{Table, Family},\n    daemon::Event,\n};"), 1);
    assert_eq!(found("fn f() { crate::cli::run() }"), 1);
    assert_eq!(found("pub(crate) use crate::reconcile as r;"), 1);
}

#[test]
fn imports_down_and_sideways_and_words_in_comments_are_fine() {
    let text = "//! See crate::daemon.\nuse crate::ruleset::Table;\nuse super::edit;\nuse crate::plan::show;\nlet s = \"crate::cli\"; // crate::cli";
    assert_eq!(upward_imports("plan", text).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(upward_imports("plan", "use my_crate::daemon;").count(), 0);
}

#[test]
fn an_impure_word_is_found_but_not_in_tests_comments_or_longer_names() {
    assert_eq!(impurities("use std::fs;"), ["std::fs"]);
    assert_eq!(impurities("fn f() { println!(\"x\"); }"), ["println!"]);
    assert_eq!(impurities("fn f() { std::fs::read(p) }"), ["std::fs"]);
    assert!(impurities("//! no std::fs here\nuse std::net::IpAddr;\nlet s = r#\"tokio \"x\" \"#; let blueprint = 1;").is_empty());
    assert!(impurities("fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }").is_empty());
}

#[test]
fn a_file_without_a_header_or_too_long_is_found() {
    assert_eq!(shape_faults("//! A header.\n"), Vec::<String>::new());
    assert_eq!(shape_faults("use std;\n").len(), 1);
    assert_eq!(shape_faults(&format!("//! A header.\n{}", "\n".repeat(FULL))).len(), 1);
}
