//! Elements cut out of a file, as they are written: what is around them (libvirt's warnings, states of devices, disks, secrets) stays behind.

use std::ops::Range;

use quick_xml::Reader;
use quick_xml::events::Event;

/// The first element at a path from the root, on lines of its own.
pub fn whole(text: &str, path: &[&str]) -> Option<String> {
    let element = elements(text, path).into_iter().next()?;
    Some(format!("{}\n", undented(text, element)))
}

/// A `<domain>` with its name, its UUID and its interfaces; `above` leads to it.
pub fn guest(text: &str, above: &[&str]) -> Option<String> {
    let parts = |below: &[&str]| elements(text, &[above, below].concat());
    let interfaces = parts(&["devices", "interface"]);
    if interfaces.is_empty() {
        return None;
    }
    let mut guest = String::from("<domain>\n");
    for part in [parts(&["name"]), parts(&["uuid"])].into_iter().filter_map(|found| found.into_iter().next()) {
        guest.extend(["  ", &text[part], "\n"]);
    }
    guest.push_str("  <devices>\n");
    for interface in interfaces {
        for line in undented(text, interface).lines() {
            guest.extend(["    ", line, "\n"]);
        }
    }
    guest.push_str("  </devices>\n</domain>\n");
    Some(guest)
}

/// Every element at a path from the root, first to last. The text was parsed already: what is not well-formed ends the search.
fn elements(text: &str, path: &[&str]) -> Vec<Range<usize>> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<(String, usize)> = Vec::new();
    let mut found = Vec::new();
    loop {
        let start = position(&reader);
        match reader.read_event() {
            Ok(Event::Start(tag)) => open.push((tag.name().as_ref().to_owned(), start)),
            Ok(Event::Empty(tag)) => {
                let name = tag.name().as_ref().to_owned();
                if is_at(&open, path.split_last().map_or(&[], |(_, above)| above)) && path.last() == Some(&name.as_str()) {
                    found.push(start..position(&reader));
                }
            }
            Ok(Event::End(_)) => {
                let here = is_at(&open, path);
                if let Some((_, start)) = open.pop()
                    && here
                {
                    found.push(start..position(&reader));
                }
            }
            Ok(Event::Eof) | Err(_) => return found,
            Ok(_) => {}
        }
    }
}

fn is_at(open: &[(String, usize)], path: &[&str]) -> bool {
    open.iter().map(|(name, _)| name.as_str()).eq(path.iter().copied())
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

/// The element with its lines moved left by as much as its start tag is indented.
fn undented(text: &str, element: Range<usize>) -> String {
    let line_start = text[..element.start].rfind('\n').map_or(0, |at| at + 1);
    let indent = &text[line_start..element.start];
    if indent.is_empty() || !indent.chars().all(char::is_whitespace) {
        return text[element].to_owned();
    }
    text[element].split('\n').map(|line| line.strip_prefix(indent).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_cut_out_as_it_is_written() {
        let text =
            "<!-- auto -->\n<networkstatus>\n  <floor sum='0'/>\n  <network>\n    <name>a &amp; b</name>\n  </network>\n</networkstatus>\n";
        assert_eq!(whole(text, &["networkstatus", "network"]).as_deref(), Some("<network>\n  <name>a &amp; b</name>\n</network>\n"));
        assert_eq!(whole("<filter name='a'/>", &["filter"]).as_deref(), Some("<filter name='a'/>\n"));
        assert_eq!(whole(text, &["network"]), None);
    }

    #[test]
    fn of_a_guest_only_what_decides_rules_is_taken() {
        let text = "<domain>\n  <name>x</name>\n  <uuid>u</uuid>\n  <devices>\n    <graphics passwd='secret'/>\n    <interface type='bridge'>\n      \
                    <mac address='m'/>\n    </interface>\n    <interface type='user'/>\n  </devices>\n</domain>";
        let expected = "<domain>\n  <name>x</name>\n  <uuid>u</uuid>\n  <devices>\n    <interface type='bridge'>\n      <mac address='m'/>\n    \
                        </interface>\n    <interface type='user'/>\n  </devices>\n</domain>\n";
        assert_eq!(guest(text, &["domain"]).as_deref(), Some(expected));
    }
}
