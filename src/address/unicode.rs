//! What of Unicode may stand in a mailbox (RFC 6531 §3.3), and the ASCII form of a domain that is written in it.
//!
//! The API has a parser of its own, and what stands behind it others: nothing may pass that one of them reads as another
//! address than the next, or that no person can see.

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::AddressError;

/// Whether these characters can be a local part: in NFC (RFC 6532 §3.1), each visible, and none that some normalization
/// turns into syntax.
///
/// # Errors
/// `NotNormal`, or `Character`.
pub(super) fn check_local(local: &str) -> Result<(), AddressError> {
    if !ComposingNormalizerBorrowed::new_nfc().is_normalized(local) {
        return Err(AddressError::NotNormal);
    }
    // What a mark would be drawn on: a blank, a dot or a quote is the address's syntax, and so is what stands before it.
    let mut base = false;
    for c in local.chars() {
        if !c.is_ascii() && (is_unseen(c) || is_syntax_elsewhere(c) || (is_mark(c) && !base)) {
            return Err(AddressError::Character);
        }
        base = !c.is_ascii() || c.is_ascii_alphanumeric();
    }
    Ok(())
}

/// The text in NFC: how people and programs write it who do not know of normal forms.
pub(super) fn composed(text: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc().normalize_iter(text.chars()).collect()
}

/// The A-labels (RFC 5890 §2.3.2.1) of a domain that has U-labels, in lower case.
///
/// The U-labels must be such already but for their case: what UTS #46 would map for people who type (full-width forms,
/// other dots, decomposed letters) is refused, because not every parser maps it alike.
///
/// # Errors
/// `Domain`.
pub(super) fn ascii_domain(domain: &str) -> Result<String, AddressError> {
    let uts46 = Uts46::new();
    let (deny, hyphens) = (AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    let ascii = uts46.to_ascii(domain.as_bytes(), deny, hyphens, DnsLength::Verify);
    let ascii = ascii.map_err(|_| AddressError::Domain)?.into_owned();
    let (unicode, _) = uts46.to_unicode(domain.as_bytes(), deny, hyphens);
    let lower = |label: &str| label.chars().flat_map(char::to_lowercase).collect::<String>();
    let is_written_so = |(label, mapped): (&str, &str)| label.is_ascii() || lower(label) == mapped;
    let same = domain.split('.').count() == unicode.split('.').count()
        && domain.split('.').zip(unicode.split('.')).all(is_written_so);
    if same { Ok(ascii) } else { Err(AddressError::Domain) }
}

/// Controls, format characters, blanks, private and unassigned code points: nobody sees which they are.
fn is_unseen(c: char) -> bool {
    let unseen = GeneralCategoryGroup::Other.union(GeneralCategoryGroup::Separator);
    unseen.contains(CodePointMapData::<GeneralCategory>::new().get(c))
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<BidiControl>().contains(c)
}

/// Whether a compatibility normalization (NFKC), or the mapping of domains (UTS #46), makes ASCII punctuation of it:
/// full-width @ and dot, one dot leader, the ideographic full stop.
fn is_syntax_elsewhere(c: char) -> bool {
    let compatible = DecomposingNormalizerBorrowed::new_nfkd().normalize_iter(std::iter::once(c));
    matches!(c, '\u{3002}' | '\u{ff61}') || { compatible }.any(|c| c.is_ascii() && !c.is_ascii_alphanumeric())
}

fn is_mark(c: char) -> bool {
    GeneralCategoryGroup::Mark.contains(CodePointMapData::<GeneralCategory>::new().get(c))
}
