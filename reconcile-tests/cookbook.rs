//! docs/cookbook.md against the kernel. The XML of each recipe is taken out of the page, and so are its tables: each row is a packet that is really sent, and that
//! arrives, or does not, as the row says.
//!
//! A recipe is a section. A block of XML whose first line is a comment with a path is that file of the state. A table whose first columns are `from`, `to` and `packet`
//! is tried, row by row, after one `apply` of the files above it. Commands (`sh,host`) are run where they stand, on the host without rules of ours as well.

mod lab;
mod packet;

use std::path::Path;

use crate::markdown::{Part, Placed, parts};
use lab::{Lab, PLACES};

/// One test for each recipe, by the heading of its section.
macro_rules! recipes {
    ($($name:ident: $title:literal,)*) => {
        const TITLES: &[&str] = &[$($title),*];
        $(
            #[test]
            fn $name() {
                try_recipe($title);
            }
        )*
    };
}

recipes! {
    a_guest_that_cannot_lie: "A guest that cannot lie, with several addresses",
    dhcp_from_one_server: "Addresses by DHCP, from one server only",
    a_web_server: "A web server",
    isolated_guests: "Guests that reach the gateway and not each other",
    proxy_and_names_only: "Nothing but a proxy and names",
    connection_limit: "A limit of connections",
    ipv6_with_guard: "IPv6, and no guest is a router",
    no_mail: "No mail past the relay",
    one_vlan: "One VLAN and one MAC",
    nat_with_ports: "A NAT network with an address and ports of its own",
    routed_subnet: "A routed network behind one device",
    quarantine: "Quarantine by one file",
}

/// A row of a table.
struct Row {
    line: usize,
    from: String,
    to: String,
    packet: String,
    outcome: String,
}

/// The files, the commands and the tables of a section, in their order.
enum Step {
    File { name: String, text: String },
    Commands(String),
    Table(Vec<Row>),
}

fn page() -> Vec<Placed> {
    parts(Path::new("docs/cookbook.md"))
}

fn titles() -> Vec<String> {
    let headings = page().into_iter().filter_map(|(_, part)| if let Part::Heading(2, title) = part { Some(title) } else { None });
    headings.filter(|title| title != "The host of the recipes").collect()
}

fn steps(title: &str) -> Vec<Step> {
    let mut within = false;
    let mut steps = Vec::new();
    for (line, part) in page() {
        match part {
            Part::Heading(2, heading) => within = heading == title,
            Part::Code(info, text) if within && info == "xml" => {
                let name = text.lines().next().and_then(|line| line.strip_prefix("<!-- ")?.strip_suffix(" -->"));
                let name = name.unwrap_or_else(|| panic!("docs/cookbook.md:{line}: the first line names no file"));
                steps.push(Step::File { name: name.to_owned(), text });
            }
            Part::Code(info, text) if within && info == "sh,host" => steps.push(Step::Commands(text)),
            Part::Table(rows) if within && rows[0].starts_with(&["from".to_owned(), "to".to_owned(), "packet".to_owned()]) => {
                // Behind the names of the columns and the line below them.
                let rows = rows[1..].iter().enumerate().map(|(number, cells)| {
                    let [from, to, packet, outcome] = cells.as_slice() else { panic!("docs/cookbook.md:{line}: four columns") };
                    Row { line: line + 2 + number, from: from.clone(), to: to.clone(), packet: packet.clone(), outcome: outcome.clone() }
                });
                steps.push(Step::Table(rows.collect()));
            }
            _ => {}
        }
    }
    steps
}

/// Sends every packet of the recipe, and compares.
fn try_recipe(title: &str) {
    let steps = steps(title);
    let mut open = Lab::new();
    let mut guarded = Lab::new();
    let mut faults = Vec::new();
    let mut outcomes = Vec::new();
    for step in &steps {
        match step {
            Step::File { name, text } => guarded.write(name, text),
            Step::Commands(text) => [&open, &guarded].iter().for_each(|lab| drop(lab.world.sh(text))),
            Step::Table(rows) => {
                let checked = guarded.world.bridgeward(&["check", "--strict"]);
                assert_eq!(checked.code, Some(0), "{checked}");
                guarded.world.apply();
                for row in rows {
                    let seen = open.try_packet(&row.from, &row.to, &row.packet);
                    if seen.is_none() {
                        faults.push(format!("docs/cookbook.md:{}: without rules it does not arrive either", row.line));
                    }
                    let seen = guarded.try_packet(&row.from, &row.to, &row.packet);
                    let found = lab::outcome(seen.as_ref(), &row.outcome);
                    if found != row.outcome {
                        faults.push(format!("docs/cookbook.md:{}: {} to {}: {}: {found}", row.line, row.from, row.to, row.packet));
                    }
                    outcomes.push(row.outcome == "dropped");
                }
            }
        }
    }
    assert!(outcomes.contains(&true) && outcomes.contains(&false), "{title}: a recipe shows what passes and what is dropped");
    assert!(faults.is_empty(), "{}\n{}", faults.join("\n"), guarded.world.save_all());
}

#[test]
fn every_recipe_is_tried() {
    assert_eq!(titles(), TITLES, "left: docs/cookbook.md, right: the tests");
}

#[test]
fn the_page_tells_of_every_place() {
    let table = page().into_iter().find_map(|(_, part)| if let Part::Table(rows) = part { Some(rows) } else { None });
    let told: Vec<String> = table.expect("the places").into_iter().skip(1).map(|row| row.join(" ")).collect();
    let places: Vec<String> =
        PLACES.iter().map(|place| format!("{} {} {} {} {}", place.name, place.port, place.mac(), place.ipv4, place.ipv6)).collect();
    assert_eq!(told, places);
}
