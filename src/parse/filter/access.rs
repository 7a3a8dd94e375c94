//! References to variables: `$NAME`, `$NAME[N]`, `$NAME[@N]`.
//!
//! Reference: nwfilter.md 4.1, each form tried on libvirtd 9.0. A variable is the whole value of an attribute, never a part of one.

use crate::model::filter::{Access, Element};
use crate::parse::value::MAX_NAME;

use super::laxity::Laxity;
use super::literal::{Reading, Refusal, Sign, skip_blanks, unsigned};

/// The highest number of an iterator.
const LAST_ITERATOR: u32 = 1000;

/// Reads the text after the `$`.
pub(super) fn read(text: &str) -> Result<Reading<Access>, Refusal> {
    let end = text.bytes().position(|byte| !is_name_byte(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.len() > MAX_NAME {
        return Err(Refusal::new("name-too-long", format!("expected a variable's name of at most {MAX_NAME} bytes")));
    }
    let index = match rest.strip_prefix('[') {
        None if rest.is_empty() => Index { element: Element::Iterated(0), laxity: None },
        None => return Err(refusal()),
        Some(inside) => read_index(inside).ok_or_else(refusal)?,
    };
    // libvirt keeps `$` as a variable without a name, which nothing can give a value to.
    let laxity = if name.is_empty() { Some(Laxity::NamelessVariable) } else { index.laxity };
    Ok(Reading { value: Access { name: name.into(), element: index.element }, laxity })
}

/// True for the characters that names of variables and parameters are made of.
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

struct Index {
    element: Element,
    laxity: Option<Laxity>,
}

/// Reads what follows the `[`; blanks may stand anywhere but inside the number.
fn read_index(text: &str) -> Option<Index> {
    let text = skip_blanks(text);
    let (iterator, text) = match text.strip_prefix('@') {
        Some(rest) => (true, skip_blanks(rest)),
        None => (false, text),
    };
    let (inside, after) = text.split_once(']')?;
    let number = unsigned(inside.trim_end_matches(' '), 10)?;
    let element = if iterator {
        Element::Iterated(u16::try_from(number.value).ok().filter(|&iterator| u32::from(iterator) <= LAST_ITERATOR)?)
    } else {
        Element::Fixed(number.value)
    };
    let laxity = match number.sign {
        Sign::Negative => Some(Laxity::NegativeNumber(number.value)),
        Sign::Positive if !after.is_empty() => Some(Laxity::TextAfterIndex),
        Sign::Positive => None,
    };
    Some(Index { element, laxity })
}

fn refusal() -> Refusal {
    Refusal::new("invalid-variable-reference", "expected `$NAME`, `$NAME[@ITERATOR]` or `$NAME[INDEX]`")
        .help("a name has letters, digits and `_` only, an iterator is 0 to 1000, and nothing may stand before or after")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(text: &str) -> Access {
        let reading = read(text).unwrap_or_else(|_| panic!("`${text}` was refused"));
        assert_eq!(reading.laxity, None, "`${text}`");
        reading.value
    }

    fn access(name: &str, element: Element) -> Access {
        Access { name: name.into(), element }
    }

    #[test]
    fn a_bare_name_walks_with_iterator_zero() {
        assert_eq!(good("IP"), access("IP", Element::Iterated(0)));
        assert_eq!(good("1_a"), access("1_a", Element::Iterated(0)));
    }

    #[test]
    fn iterators_and_indexes_may_have_blanks_around_them() {
        for text in ["A[@7]", "A[ @7]", "A[@ 7]", "A[@7 ]", "A[ @ 7 ]", "A[@07]", "A[@+7]"] {
            assert_eq!(good(text), access("A", Element::Iterated(7)), "{text}");
        }
        for text in ["A[7]", "A[ 7]", "A[7 ]", "A[007]", "A[+7]"] {
            assert_eq!(good(text), access("A", Element::Fixed(7)), "{text}");
        }
        assert_eq!(good("A[@1000]"), access("A", Element::Iterated(1000)));
        assert_eq!(good("A[4294967295]"), access("A", Element::Fixed(u32::MAX)));
    }

    #[test]
    fn a_name_has_255_bytes_at_most() {
        assert_eq!(good(&"A".repeat(255)).name.len(), 255);
        assert_eq!(read(&"A".repeat(256)).map_err(|refusal| refusal.code), Err("name-too-long"));
    }

    #[test]
    fn every_other_form_is_refused() {
        for text in [
            "{A}",
            "A-",
            "$A",
            "A b",
            "A ",
            "A [1]",
            "A[",
            "A[]",
            "A[@]",
            "A[1",
            "A[0x1]",
            "A[1 x]",
            "A[@@1]",
            "A[@1001]",
            "A[@-1]",
            "A[a]",
            "A[4294967296]",
            "Ä",
            "A\n",
        ] {
            assert!(read(text).is_err(), "`${text}`");
        }
    }

    #[test]
    fn what_libvirt_alone_accepts_is_marked() {
        for (text, value, laxity) in [
            ("", access("", Element::Iterated(0)), Laxity::NamelessVariable),
            ("[1]", access("", Element::Fixed(1)), Laxity::NamelessVariable),
            ("A[1]x", access("A", Element::Fixed(1)), Laxity::TextAfterIndex),
            ("A[1]]", access("A", Element::Fixed(1)), Laxity::TextAfterIndex),
            ("A[-1]", access("A", Element::Fixed(u32::MAX)), Laxity::NegativeNumber(u32::MAX)),
        ] {
            assert_eq!(read(text), Ok(Reading { value, laxity: Some(laxity) }), "`${text}`");
        }
    }
}
