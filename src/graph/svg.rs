//! A picture as SVG, drawn without Graphviz: every group is a frame, in it the boxes stand in ranks along their arrows.
//!
//! The layout is ours and simple: ranks by the longest way, each rank ordered by where its boxes' predecessors stand, wide ranks
//! broken into rows, frames set side by side like words in a line. The crates there are either need Graphviz or panic on small
//! pictures (layout-rs 0.1.3 asserts on four boxes with labelled arrows). Arrows run behind boxes. The same picture is the same text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Arrow, BoxId, Graph, Group, Line};
use crate::diagnostic::visible::is_unruly;

/// Pixels of a letter in the fixed-width font of 12 pixels, and from line to line.
const LETTER: usize = 8;
const LINE_HEIGHT: usize = 16;
/// Between two boxes side by side, and between two ranks, where the labels of arrows stand.
const GAP: usize = 28;
const RANK_GAP: usize = 52;
/// Around what is in a frame, and between frames.
const MARGIN: usize = 24;
/// Rows of boxes and of frames are broken here; a single box may be wider.
const WIDTH: usize = 1600;
/// Pale enough to read on, and told apart by those who see no red or green.
const COLORS: [&str; 6] = ["#dbeafe", "#fef3c7", "#dcfce7", "#f3e8ff", "#fee2e2", "#e5e7eb"];

/// A rectangle in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Area {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// Writes the picture.
pub fn write(graph: &Graph) -> String {
    let (frames, boxes) = place(graph);
    let right = frames.iter().chain(boxes.values()).map(|area| area.x + area.width).max().unwrap_or(0);
    let bottom = frames.iter().chain(boxes.values()).map(|area| area.y + area.height).max().unwrap_or(0);
    let (width, height) = (right + MARGIN, bottom + MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>{}</title>\n\
         <defs><marker id=\"head\" markerWidth=\"9\" markerHeight=\"7\" refX=\"9\" refY=\"3.5\" orient=\"auto\">\
         <polygon points=\"0 0, 9 3.5, 0 7\" fill=\"#374151\"/></marker></defs>\n\
         <style>rect {{ stroke: #6b7280 }} text {{ font: 12px monospace; fill: #111827; white-space: pre }} .title {{ font-weight: bold }} \
         .label {{ font-size: 11px; fill: #4b5563; text-anchor: middle }} path {{ fill: none; stroke: #374151; marker-end: url(#head) }} \
         .dashed {{ stroke-dasharray: 5 4 }}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\" style=\"stroke: none\"/>\n",
        escape(&graph.title)
    );
    for (group, frame) in graph.groups.iter().zip(&frames) {
        rectangle(&mut text, *frame, "none");
        line(&mut text, frame.x + LETTER, frame.y + LINE_HEIGHT, "title", &group.title);
    }
    let mut labels = String::new();
    for arrow in &graph.arrows {
        draw_arrow(&mut text, &mut labels, arrow, boxes[&arrow.from], boxes[&arrow.to]);
    }
    for (number, group) in graph.groups.iter().enumerate() {
        for it in &group.boxes {
            let area = boxes[&it.id];
            rectangle(&mut text, area, COLORS[number % COLORS.len()]);
            for (number, words) in it.lines.iter().enumerate() {
                line(&mut text, area.x + LETTER, area.y + (number + 1) * LINE_HEIGHT + 4, "line", words);
            }
        }
    }
    text + &labels + "</svg>\n"
}

/// Where the frames and the boxes stand.
fn place(graph: &Graph) -> (Vec<Area>, BTreeMap<BoxId, Area>) {
    let mut frames = Vec::new();
    let mut boxes = BTreeMap::new();
    let (mut x, mut y, mut row_height) = (MARGIN, MARGIN, 0);
    for group in &graph.groups {
        let inside = place_group(group, &graph.arrows);
        let right = inside.iter().map(|(_, area)| area.x + area.width).max().unwrap_or(0);
        let bottom = inside.iter().map(|(_, area)| area.y + area.height).max().unwrap_or(0);
        let width = (right + 2 * MARGIN).max((group.title.chars().count() + 2) * LETTER);
        let height = bottom + 2 * MARGIN + LINE_HEIGHT;
        if x > MARGIN && x + width > WIDTH {
            (x, y, row_height) = (MARGIN, y + row_height + MARGIN * 2, 0);
        }
        frames.push(Area { x, y, width, height });
        boxes.extend(
            inside.into_iter().map(|(id, area)| (id, Area { x: area.x + x + MARGIN, y: area.y + y + MARGIN + LINE_HEIGHT, ..area })),
        );
        x += width + MARGIN * 2;
        row_height = row_height.max(height);
    }
    (frames, boxes)
}

/// The boxes of a group, from its upper left corner.
fn place_group(group: &Group, arrows: &[Arrow]) -> Vec<(BoxId, Area)> {
    let own: BTreeSet<BoxId> = group.boxes.iter().map(|it| it.id).collect();
    let inside = arrows.iter().filter(|arrow| arrow.from != arrow.to && own.contains(&arrow.from) && own.contains(&arrow.to));
    let ahead: BTreeMap<BoxId, Vec<BoxId>> = without_loops(&own, inside.map(|arrow| (arrow.from, arrow.to)));
    let mut behind: BTreeMap<BoxId, BTreeSet<BoxId>> = BTreeMap::new();
    for (&from, to) in &ahead {
        for &to in to {
            behind.entry(to).or_default().insert(from);
        }
    }
    let ranks = ranks(&own, &ahead);
    // No rank is empty: above a box of any but the first stands one that leads to it.
    let mut rows: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    group.boxes.iter().for_each(|it| rows.entry(ranks[&it.id]).or_default().push(it));
    let mut centres: BTreeMap<BoxId, usize> = BTreeMap::new();
    let mut placed = Vec::new();
    let mut y = 0;
    for mut row in rows.into_values() {
        row.sort_by_cached_key(|it| mean(behind.get(&it.id).into_iter().flatten().map(|from| centres[from])));
        let (mut x, mut row_height) = (0, 0);
        for it in row {
            let widest = it.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
            let (width, height) = ((widest + 2) * LETTER, (it.lines.len() + 1) * LINE_HEIGHT);
            if x > 0 && x + width > WIDTH - 4 * MARGIN {
                (x, y, row_height) = (0, y + row_height + GAP, 0);
            }
            placed.push((it.id, Area { x, y, width, height }));
            centres.insert(it.id, x + width / 2);
            x += width + GAP;
            row_height = row_height.max(height);
        }
        y += row_height + RANK_GAP;
    }
    placed
}

/// The arrows by where they begin; one that closes a loop is left out: it will lead back.
fn without_loops(own: &BTreeSet<BoxId>, arrows: impl Iterator<Item = (BoxId, BoxId)>) -> BTreeMap<BoxId, Vec<BoxId>> {
    let mut all: BTreeMap<BoxId, Vec<BoxId>> = own.iter().map(|&id| (id, Vec::new())).collect();
    for (from, to) in arrows {
        all.entry(from).or_default().push(to);
    }
    let mut kept: BTreeMap<BoxId, Vec<BoxId>> = own.iter().map(|&id| (id, Vec::new())).collect();
    let (mut open, mut done) = (BTreeSet::new(), BTreeSet::new());
    for &start in own {
        // Depth first without recursion: a box, and the number of its next arrow.
        let mut path = if done.contains(&start) { Vec::new() } else { vec![(start, 0)] };
        while let Some((from, next)) = path.pop() {
            open.insert(from);
            let Some(&to) = all[&from].get(next) else {
                open.remove(&from);
                done.insert(from);
                continue;
            };
            path.push((from, next + 1));
            if !open.contains(&to) {
                kept.entry(from).or_default().push(to);
                if !done.contains(&to) {
                    path.push((to, 0));
                }
            }
        }
    }
    kept
}

/// How many arrows the longest way to each box has.
fn ranks(own: &BTreeSet<BoxId>, ahead: &BTreeMap<BoxId, Vec<BoxId>>) -> BTreeMap<BoxId, usize> {
    let mut ranks: BTreeMap<BoxId, usize> = own.iter().map(|&id| (id, 0)).collect();
    let mut waiting: BTreeMap<BoxId, usize> = own.iter().map(|&id| (id, 0)).collect();
    for &to in ahead.values().flatten() {
        *waiting.entry(to).or_default() += 1;
    }
    let mut ready: Vec<BoxId> = own.iter().copied().filter(|id| waiting[id] == 0).collect();
    while let Some(from) = ready.pop() {
        for &to in &ahead[&from] {
            let rank = ranks[&from] + 1;
            ranks.entry(to).and_modify(|known| *known = rank.max(*known));
            let left = waiting.entry(to).or_default();
            *left -= 1;
            if *left == 0 {
                ready.push(to);
            }
        }
    }
    ranks
}

/// The mean, rounded down; boxes without predecessors stay where they are listed, at the left.
fn mean(values: impl Iterator<Item = usize>) -> usize {
    let (sum, count) = values.fold((0, 0), |(sum, count), value| (sum + value, count + 1));
    usize::checked_div(sum, count).unwrap_or(0)
}

/// A curve from side to side: down to what stands below, across to what stands beside, and round to what stands above.
fn draw_arrow(text: &mut String, labels: &mut String, arrow: &Arrow, from: Area, to: Area) {
    let middle = |area: Area| (area.x + area.width / 2, area.y + area.height / 2);
    let ((from_x, from_y), (to_x, to_y)) = (middle(from), middle(to));
    let right = |area: Area| area.x + area.width;
    let (start, one, two, end) = if to.y >= from.y + from.height {
        let (start, end) = (from.y + from.height, to.y);
        let bend = (end - start) / 2;
        ((from_x, start), (from_x, start + bend), (to_x, end - bend), (to_x, end))
    } else if to.x >= right(from) {
        let bend = (to.x - right(from)) / 2;
        ((right(from), from_y), (right(from) + bend, from_y), (to.x - bend, to_y), (to.x, to_y))
    } else {
        let out = right(from).max(right(to)) + GAP;
        ((right(from), from_y), (out, from_y), (out, to_y), (right(to), to_y))
    };
    let class = if arrow.line == Line::Dashed { "dashed" } else { "solid" };
    let point = |(x, y): (usize, usize)| format!("{x},{y}");
    writeln!(text, "<path class=\"{class}\" d=\"M {} C {} {} {}\"/>", point(start), point(one), point(two), point(end)).expect(INTO_STRING);
    if !arrow.label.is_empty() {
        line(labels, usize::midpoint(start.0, end.0), usize::midpoint(start.1, end.1) + 4, "label", &arrow.label);
    }
}

fn rectangle(text: &mut String, area: Area, color: &str) {
    let Area { x, y, width, height } = area;
    writeln!(text, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{color}\"/>").expect(INTO_STRING);
}

fn line(text: &mut String, x: usize, y: usize, class: &str, words: &str) {
    writeln!(text, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>", escape(words)).expect(INTO_STRING);
}

const INTO_STRING: &str = "writing to a string cannot fail";

/// Text that no XML reader takes for anything else, without what XML cannot hold.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            _ if is_unruly(letter) => escaped.push(' '),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SVG: &str = "http://www.w3.org/2000/svg";

    fn picture(boxes: usize, arrows: &[(usize, usize, bool)]) -> Graph {
        let mut graph = Graph::new("a <title> & \"more\"");
        graph.begin_group("one");
        let mut ids = Vec::new();
        for number in 0..boxes {
            if number == 6 {
                graph.begin_group("two");
            }
            ids.push(graph.add_box(vec![format!("box {number}"), "<x>&'\"\u{1b}".to_owned()]));
        }
        for &(from, to, labelled) in arrows {
            graph.add_arrow(ids[from % boxes], ids[to % boxes], Line::Dashed, if labelled { "a & b" } else { "" });
        }
        graph
    }

    fn overlap(one: &Area, other: &Area) -> bool {
        one.x < other.x + other.width && other.x < one.x + one.width && one.y < other.y + other.height && other.y < one.y + one.height
    }

    #[test]
    fn what_users_wrote_stays_text() {
        let text = write(&picture(2, &[(0, 1, true)]));
        let document = roxmltree::Document::parse(&text).expect("the picture is XML");
        let texts: Vec<&str> =
            document.descendants().filter(|node| node.has_tag_name((SVG, "text"))).filter_map(|node| node.text()).collect();
        assert_eq!(texts.iter().filter(|text| **text == "<x>&'\" ").count(), 2, "{text}");
        assert!(texts.contains(&"a & b") && texts.contains(&"one"), "{text}");
    }

    #[test]
    fn what_an_arrow_leads_to_stands_below() {
        let graph = picture(4, &[(0, 1, false), (1, 2, true), (0, 2, false), (2, 0, false), (3, 3, false)]);
        let (_, boxes) = place(&graph);
        let y = |number: usize| boxes[&BoxId(number)].y;
        assert!(y(0) < y(1) && y(1) < y(2) && y(3) == y(0), "{boxes:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Loops, arrows there and back, several between the same two boxes: all is drawn, apart, inside its frame and every time alike.
        #[test]
        fn every_picture_is_drawn(boxes in 1_usize..60, arrows in proptest::collection::vec((0_usize..60, 0_usize..60, any::<bool>()), 0..90)) {
            let graph = picture(boxes, &arrows);
            let text = write(&graph);
            let document = roxmltree::Document::parse(&text).expect("the picture is XML");
            let count = |name| document.descendants().filter(|node| node.has_tag_name((SVG, name))).count();
            prop_assert_eq!(count("path"), graph.arrows.len());
            prop_assert_eq!(count("rect"), 1 + graph.groups.len() + boxes);
            let (frames, areas) = place(&graph);
            for (group, frame) in graph.groups.iter().zip(&frames) {
                for it in &group.boxes {
                    let area = &areas[&it.id];
                    prop_assert!(frame.x < area.x && area.x + area.width < frame.x + frame.width && frame.y < area.y && area.y + area.height < frame.y + frame.height);
                    prop_assert!(areas.iter().all(|(other, taken)| *other == it.id || !overlap(area, taken)));
                }
            }
            prop_assert_eq!(text, write(&graph));
        }
    }
}
