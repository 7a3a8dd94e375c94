//! What earlier passes worked out from the files: the one place where the pure half of a pass remembers anything.
//!
//! The daemon keeps one [`Cache`] for its life; everybody else starts with an empty one. What comes out is the same either way, and that is tested: a file whose
//! text is the same is not parsed again, a guest that follows from the same things is neither resolved nor compiled again
//! ([`crate::resolve::Memo`], [`crate::compile::Memo`]). All three rest on spans being equal when nothing moved, so a file keeps its number as long as it is there.

use std::collections::HashMap;
use std::sync::Arc;

use super::compute::{self, Computed, Counts, Documents, Reading};
use crate::compile;
use crate::load::Loaded;
use crate::model::Quirks;
use crate::model::filter::Filter;
use crate::model::learned::Learned;
use crate::parse::{self, Parsed};
use crate::resolve::{self, Link};
use crate::source::{FileId, SourceFile, Sources};
use crate::stock;

/// State files are numbered below this, files without a text and remarks from here on, and stock filters from [`STOCK`] on: in this order in every [`Sources`].
const FAULTY: u32 = 1 << 31;
const STOCK: u32 = 3 << 30;

/// The distance between the numbers of two neighbours where there is room: files that come later find their place between them.
const STEP: u32 = 1 << 14;

/// Results of earlier passes, to be used again.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    reading: Reading,
    files: HashMap<Arc<str>, Known>,
    stock: Option<Stock>,
    resolved: resolve::Memo,
    compiled: compile::Memo,
}

/// One state file as it was.
#[derive(Debug, Clone)]
struct Known {
    id: FileId,
    file: Arc<SourceFile>,
    parsed: Arc<Parsed>,
}

/// The built-in filters, as files that show where they are in diagnostics.
#[derive(Debug, Clone)]
struct Stock {
    quirks: Quirks,
    files: Vec<Arc<SourceFile>>,
    filters: Vec<Filter>,
}

impl Cache {
    /// Parses, resolves and compiles, each as far as that was not done before.
    pub fn compute(&mut self, loaded: &Loaded, links: &[Link], learned: &Learned, reading: Reading) -> Computed {
        let documents = self.read(loaded, reading);
        let resolved = resolve::resolve_again(&documents.parsed, &documents.stock, links, learned, reading.quirks, &mut self.resolved);
        let compiled = compile::compile_again(&resolved, reading.quirks, reading.layout, &mut self.compiled);
        compute::put_together(documents, resolved, compiled, &[], reading)
    }

    /// Parses every file that is not known.
    pub fn read(&mut self, loaded: &Loaded, reading: Reading) -> Documents {
        if self.reading != reading {
            self.files.clear();
            self.reading = reading;
        }
        let mut sources = Sources::default();
        let mut before = std::mem::take(&mut self.files);
        let mut parsed: Vec<Arc<Parsed>> = Vec::with_capacity(loaded.files.len() + loaded.faults.len());
        let ids = number(loaded.files.iter().map(|file| before.get(&file.path).map(|known| known.id))).unwrap_or_else(|| {
            before.clear();
            number(loaded.files.iter().map(|_| None)).expect("all files have room when none has a number")
        });
        for (file, id) in loaded.files.iter().zip(ids) {
            let known = before.remove(&file.path).filter(|known| known.file.text == file.text);
            let source = known
                .as_ref()
                .map_or_else(|| Arc::new(SourceFile::new(Arc::clone(&file.path), Arc::clone(&file.text))), |known| Arc::clone(&known.file));
            sources.enter(id, Arc::clone(&source));
            let known = known.unwrap_or_else(|| Known { id, file: source, parsed: Arc::new(parse(&sources, id, reading)) });
            parsed.push(Arc::clone(&known.parsed));
            self.files.insert(Arc::clone(&file.path), known);
        }
        let mut numbers = (FAULTY..).map(FileId);
        let mut faults: Vec<Arc<Parsed>> = Vec::with_capacity(loaded.faults.len() + loaded.remarks.len());
        faults.extend(numbers.by_ref().zip(&loaded.faults).map(|(id, fault)| Arc::new(fault.enter(id, &mut sources))));
        faults.extend(numbers.zip(&loaded.remarks).map(|(id, remark)| Arc::new(remark.enter_remark(id, &mut sources))));
        let parsed: Vec<Arc<Parsed>> = faults.into_iter().chain(parsed).collect();
        let counts = Counts {
            files: loaded.files.len() + loaded.faults.len(),
            networks: parsed.iter().map(|parsed| parsed.networks.len()).sum(),
            filters: parsed.iter().map(|parsed| parsed.filters.len()).sum(),
            interfaces: parsed.iter().map(|parsed| parsed.interfaces.len()).sum(),
        };
        let stock = self.stock.take().filter(|stock| stock.quirks == reading.quirks).unwrap_or_else(|| Stock::parse(reading.quirks));
        (STOCK..).map(FileId).zip(&stock.files).for_each(|(id, file)| sources.enter(id, Arc::clone(file)));
        let filters = stock.filters.clone();
        self.stock = Some(stock);
        Documents { sources, counts, parsed, stock: filters }
    }
}

impl Stock {
    fn parse(quirks: Quirks) -> Self {
        let mut sources = Sources::default();
        let mut stock = Self { quirks, files: Vec::new(), filters: Vec::new() };
        for (id, (name, xml)) in (STOCK..).map(FileId).zip(stock::stock_filters()) {
            let file = Arc::new(SourceFile::new(format!("<stock>/{name}.xml"), xml));
            sources.enter(id, Arc::clone(&file));
            stock.files.push(file);
            stock.filters.extend(parse::parse(&sources, id, quirks).filters);
        }
        stock
    }
}

fn parse(sources: &Sources, file: FileId, reading: Reading) -> Parsed {
    let parsed = parse::parse(sources, file, reading.quirks);
    if reading.strict { compute::strict(parsed) } else { parsed }
}

/// Numbers files in their order: those that have a number keep it, the others find theirs in between. `None` when there is no room.
fn number(known: impl Iterator<Item = Option<FileId>>) -> Option<Vec<FileId>> {
    let mut ids: Vec<FileId> = Vec::new();
    let mut waiting: u32 = 0;
    for known in known.map(Some).chain([None]) {
        let Some(id) = known.unwrap_or(Some(FileId(FAULTY))) else {
            waiting += 1;
            continue;
        };
        let low = ids.last().map_or(0, |last| last.0);
        let room = id.0.checked_sub(low + 1)?;
        // The first of the files that come may not be the last: an eighth leaves room for more behind them.
        let step = if room / 8 >= waiting { (room / 8 / waiting.max(1)).min(STEP) } else { 1 };
        if waiting > room {
            return None;
        }
        ids.extend((1..=waiting).map(|place| FileId(low + place * step)));
        waiting = 0;
        if known.is_some() {
            ids.push(id);
        }
    }
    Some(ids)
}

#[cfg(test)]
mod tests;
