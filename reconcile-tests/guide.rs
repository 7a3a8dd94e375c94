//! The pages in Markdown against the program and against each other: every command that they show is run, what they show of its output is compared, and every link
//! leads somewhere.
//!
//! What a page may hold, by what stands behind the fence:
//!
//! | info | what becomes of it |
//! |---|---|
//! | `sh` | every command is run; it has to succeed, or to end with 1 if it is bridgeward |
//! | `console` | lines that begin with `# ` are run, the lines between them are what they print |
//! | `sh,host`, `console,host` | is not run, for a reason that [`ON_A_HOST`] gives |
//! | `xml`, `toml` | written to the path below /etc/bridgeward that a comment in its first line names, if there is one |
//!
//! A comment `<!-- before: COMMANDS -->` is run, too, unseen by the reader. In what is printed, `...` stands for any lines, and these are alike whatever they are: times of day
//! at the head of a line, durations, ages, process ids and the version.

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{FILTER, NETWORK, guest};
use crate::markdown::{Part, ROOT, anchor, pages, parts};
use crate::world::World;
use session::Session;

/// The blocks that no namespace can run: the page, the first command, and why.
const ON_A_HOST: &[(&str, &str, &str)] = &[
    ("README.md", "make demo", "`demo.rs` runs it; the other installs on the host, where systemd is needed besides"),
    (
        "docs/cookbook.md",
        "iptables -t nat -A PREROUTING -d 203.0.113.9 -p tcp --dport 80 -j DNAT --to 10.40.0.10",
        "`cookbook.rs` runs it on the host of the recipes",
    ),
    (
        "docs/first-steps.md",
        "apt install ./bridgeward_0.1.0-1_amd64.deb",
        "the package is built and installed by contrib/debian/test-package.sh",
    ),
    ("docs/first-steps.md", "rpm -i bridgeward-0.1.0-1.x86_64.rpm", "`packages.rs` reads what is in it"),
    ("docs/first-steps.md", "tar -xzf bridgeward-0.1.0-x86_64-linux.tar.gz", "it installs on the host"),
    ("docs/first-steps.md", "make install", "it installs on the host"),
    ("docs/first-steps.md", "systemctl stop bridgeward", "it needs systemd"),
    ("docs/first-steps.md", "systemctl enable --now bridgeward", "it needs systemd"),
    ("docs/moving.md", "bridgeward diff ", "`libvirt_move.rs` does all of the page with a real libvirtd"),
    ("docs/moving.md", "bridgeward import --quirks libvirt --dry-run", "likewise"),
    ("docs/moving.md", "bridgeward diff --quirks libvirt", "likewise"),
    ("docs/moving.md", "systemctl enable --now bridgeward", "likewise"),
    ("docs/moving.md", "systemctl disable --now libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket", "likewise"),
    ("docs/neighbours.md", "# firewall-cmd --permanent --zone=trusted --add-interface=virbr0", "`neighbours.rs` runs firewalld"),
    ("docs/schemas.md", "jing -c schemas/filter.rnc web.xml", "jing needs Java; `schemas.rs` compares both forms of the schemas"),
];

/// One test for each page with commands.
macro_rules! pages {
    ($($name:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $name() {
                run_page(Path::new($page));
            }
        )*
    };
}

pages! {
    the_readme: "README.md",
    first_steps: "docs/first-steps.md",
    modes_plans_and_trials: "docs/modes.md",
    schemas: "docs/schemas.md",
    the_state_directory: "docs/state.md",
    troubleshooting: "docs/troubleshooting.md",
}

/// Runs every block of a page, one after another, in one host of its own.
fn run_page(page: &Path) {
    let mut session = Session::new();
    for (line, part) in parts(page) {
        let place = format!("{}:{line}", page.display());
        match part {
            Part::Code(info, text) => match info.as_str() {
                "sh" => session.run_all(&place, &text),
                "console" => session.replay(&place, &text),
                "xml" => session.write(&text, "<!-- ", " -->"),
                "toml" => session.write(&text, "# ", ""),
                _ => {}
            },
            Part::Html(html) => {
                if let Some(commands) = html.trim().strip_prefix("<!-- before:") {
                    session.run_all(&place, commands.trim_end().strip_suffix("-->").expect("a comment ends").trim());
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_page_with_commands_is_run_and_the_exceptions_are_these() {
    let mut with_commands = BTreeSet::new();
    let mut exceptions = Vec::new();
    for page in pages() {
        for (line, part) in parts(&page) {
            let Part::Code(info, text) = part else { continue };
            let name = page.display().to_string();
            match info.as_str() {
                "sh" | "console" => drop(with_commands.insert(name)),
                "sh,host" | "console,host" => exceptions.push((name, text.lines().next().unwrap_or_default().to_owned())),
                "" | "xml" | "toml" => {}
                _ => panic!("{name}:{line}: `{info}` says neither that it is run nor that it is not"),
            }
        }
    }
    assert_eq!(with_commands.iter().map(String::as_str).collect::<Vec<_>>(), PAGES);
    let expected: Vec<_> = ON_A_HOST.iter().map(|(page, first, _)| ((*page).to_owned(), (*first).to_owned())).collect();
    let alike = exceptions.len() == expected.len()
        && exceptions.iter().zip(&expected).all(|(found, known)| found.0 == known.0 && found.1.starts_with(&known.1));
    assert!(alike, "in the pages: {exceptions:#?}\nin the tests: {expected:#?}");
    assert!(ON_A_HOST.iter().all(|(_, _, reason)| !reason.is_empty()));
}

/// Headings of a page by their anchors.
fn anchors(page: &Path) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings =
        parts(page).into_iter().filter_map(|(_, part)| if let Part::Heading(_, title) = part { Some(anchor(&title)) } else { None });
    headings
        .map(|anchor| {
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        for (line, part) in parts(&page) {
            let Part::Link(link) = part else { continue };
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { page.clone() } else { normal(&page.parent().expect("a page is in a directory").join(file)) };
            if !Path::new(ROOT).join(&target).exists() {
                faults.push(format!("{}:{line}: {link}: there is no {}", page.display(), target.display()));
            } else if anchor.is_some_and(|anchor| !anchors(&target).contains(anchor)) {
                faults.push(format!("{}:{line}: {link}: there is no such heading", page.display()));
            } else if page.starts_with("docs") && !target.starts_with("docs") {
                faults.push(format!("{}:{line}: {link}: the book has no such page", page.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, component| {
        match component {
            std::path::Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
        path
    })
}

#[test]
fn the_summary_lists_every_chapter_once() {
    let links =
        parts(Path::new("docs/SUMMARY.md")).into_iter().filter_map(|(_, part)| if let Part::Link(link) = part { Some(link) } else { None });
    let mut listed: Vec<String> = links.map(|link| format!("docs/{link}")).collect();
    listed.sort();
    let chapters: Vec<String> = pages()
        .iter()
        .map(|page| page.display().to_string())
        .filter(|page| page.starts_with("docs/") && page != "docs/SUMMARY.md")
        .collect();
    assert_eq!(listed, chapters);
}

/// The chains in the pictures, and in the table beside them, are those of a host with such a network and such guests.
#[test]
fn the_pictures_name_chains_that_there_are() {
    let world = World::new();
    world.write("lab.xml", NETWORK);
    world.write("filter.xml", FILTER);
    for (number, name) in [(0, "vnet-web"), (1, "vnet-db")] {
        world.write(&format!("{name}.xml"), &guest(number, "web").replace(&format!("'vnet{number}'"), &format!("'{name}'")));
    }
    let rendered = world.bridgeward(&["render"]).stdout;
    let words = |text: &str| -> BTreeSet<String> { text.split([' ', '\n', '<', '>', '`', ',', ':']).map(str::to_owned).collect() };
    let there = words(&rendered);
    let mut told =
        words(&fs::read_to_string(Path::new(ROOT).join("docs/packet.md")).expect("the page is there").replace("DEVICE", "vnet-web"));
    for picture in ["bridged", "nat", "routed", "host"] {
        let path = Path::new(ROOT).join(format!("docs/packet-{picture}.svg"));
        told.extend(words(&fs::read_to_string(path).expect("the picture is there")));
    }
    let heads = ["libvirt-", "LIBVIRT_", "FI-", "FO-", "HI-", "I-", "O-"];
    told.retain(|word| heads.iter().any(|head| word.starts_with(head)));
    assert!(told.len() > 12, "chains are told: {told:?}");
    let strange: Vec<&String> = told.difference(&there).collect();
    assert!(strange.is_empty(), "no such chains: {strange:?}\n{rendered}");
}

/// The manual pages are right for both readers of roff.
#[test]
fn the_manual_pages_have_no_fault() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    for (page, file) in
        [("bridgeward", "bridgeward.8"), ("bridgeward-state", "bridgeward-state.5"), ("bridgeward.toml", "bridgeward.toml.5")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_bridgeward")).args(["man", page]).output().expect("the program runs");
        let path = directory.path().join(file);
        fs::write(&path, output.stdout).expect("the temporary directory is ours");
        let path = path.display().to_string();
        for (program, arguments) in [("man", &["--warnings", "-l", &path][..]), ("mandoc", &["-T", "lint", "-W", "warning", &path])] {
            let output =
                Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "").env("MANWIDTH", "200").output();
            let output = output.unwrap_or_else(|error| panic!("{program}: {error}: install the Debian packages man-db and mandoc"));
            let complaints = [&output.stderr[..], if program == "mandoc" { &output.stdout[..] } else { b"" }].concat();
            assert!(output.status.success() && complaints.is_empty(), "{page}: {program}: {}", String::from_utf8_lossy(&complaints));
        }
    }
}
