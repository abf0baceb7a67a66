//! The node's API key: carried, sent, never shown.
//!
//! Nothing that prints can print it: `Debug` and `Display` give a placeholder, and [`ApiKey::redact`] takes it out of
//! texts that came from elsewhere. Pure; on any thread.

use std::fmt;

use reqwest::header::HeaderValue;

/// Longest key taken. The documented ones have 64 characters; the rest is room for other forms of token.
const KEY_BYTES_MAX: usize = 1_024;

/// What some of the platform's keys begin with; it gives nothing away.
const PREFIX: &str = "ft_live_";

/// How much of the end may be shown, and of how long a secret at least: of a shorter one it would be too much.
const END_SHOWN: usize = 4;
const SHOWN_FROM: usize = 16;

/// A secret that stands behind `Authorization: Bearer`: a node's API key or a workspace's deploy token.
///
/// Taken as it is: whether it is right only the platform can say.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why a text cannot be a key. Never carries the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or only white space.
    #[error(
        "the API key is empty; expected the key from the node's page in the Flowtriq dashboard"
    )]
    Empty,
    /// Longer than any key.
    #[error(
        "the API key has {0} characters, expected at most 1024; was a whole file put in its place?"
    )]
    TooLong(usize),
    /// A character that cannot stand in a header.
    #[error(
        "the API key has a character that no key has at position {0}; expected letters, digits and signs, without blanks"
    )]
    Character(usize),
}

impl ApiKey {
    /// The key in `text`, without the white space around it.
    ///
    /// # Errors
    ///
    /// When there is nothing, too much, or something that cannot be sent.
    pub fn new(text: impl AsRef<str>) -> Result<Self, KeyError> {
        let key = text.as_ref().trim();
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if key.len() > KEY_BYTES_MAX {
            return Err(KeyError::TooLong(key.chars().count()));
        }
        match key.chars().position(|c| !c.is_ascii_graphic()) {
            Some(at) => Err(KeyError::Character(at + 1)),
            None => Ok(Self(key.to_owned())),
        }
    }

    /// What may be shown of it to tell two keys apart: `ft_live_…c3d4`. Of a short one, nothing.
    #[must_use]
    pub fn masked(&self) -> String {
        let (prefix, rest) = match self.0.strip_prefix(PREFIX) {
            Some(rest) => (PREFIX, rest),
            None => ("", self.0.as_str()),
        };
        let end = rest.len().checked_sub(END_SHOWN);
        // All of it is ASCII: bytes are characters.
        match end.and_then(|end| rest.get(end..)) {
            Some(end) if rest.len() >= SHOWN_FROM => format!("{prefix}…{end}"),
            _ => PLACEHOLDER.to_owned(),
        }
    }

    /// The header that proves who we are, marked so that no library prints it either.
    pub(super) fn bearer(&self) -> Option<HeaderValue> {
        // Only visible ASCII gets past `new`, so there is always one.
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// `text` with the placeholder wherever it repeats the key: an answer may quote what it was asked. Before anything is
    /// cut off `text`: a part of the key would not be recognised.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&self.0, PLACEHOLDER)
    }

    /// The same for what may be JSON, which can spell some characters in another way.
    pub(super) fn redact_json(&self, text: Vec<u8>) -> Vec<u8> {
        let quoted = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        let with_slashes = quoted.replace('/', "\\/");
        [&with_slashes, &quoted, &self.0]
            .into_iter()
            .fold(text, |text, key| without(text, key.as_bytes()))
    }
}

/// `text` with the placeholder wherever it has `key`.
fn without(text: Vec<u8>, key: &[u8]) -> Vec<u8> {
    let mut clean = Vec::new();
    let mut rest = text.as_slice();
    while let Some(at) = rest.windows(key.len()).position(|window| window == key) {
        let (before, after) = rest.split_at(at);
        clean.extend_from_slice(before);
        clean.extend_from_slice(PLACEHOLDER.as_bytes());
        rest = after.get(key.len()..).unwrap_or_default();
    }
    if clean.is_empty() {
        return text;
    }
    clean.extend_from_slice(rest);
    clean
}

/// What stands for a key wherever something is printed.
const PLACEHOLDER: &str = "(secret)";

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &str = "ft_live_MARKER0123456789";

    #[test]
    fn a_key_is_never_printed() {
        let key = ApiKey::new(format!("  {MARKER}\n")).unwrap();
        for printed in [
            format!("{key}"),
            format!("{key:?}"),
            format!("{:?}", key.bearer()),
            key.redact(&format!("key {MARKER} is unknown")),
        ] {
            assert!(!printed.contains("MARKER"), "{printed}");
        }
        assert_eq!(key.redact(MARKER), "(secret)");
        assert_eq!(key.bearer().unwrap(), format!("Bearer {MARKER}"));
    }

    #[test]
    fn a_key_is_found_in_json_however_its_characters_are_spelled() {
        let odd = "MARKER/with\"all\\signs";
        let key = ApiKey::new(odd).unwrap();
        let written = serde_json::json!({ "error": odd }).to_string();
        let by_php = written.replace('/', "\\/");
        for text in [odd, &written, &by_php, &format!("{written}{by_php}")] {
            let clean = key.redact_json(text.as_bytes().to_vec());
            let clean = String::from_utf8(clean).unwrap();
            assert!(
                !clean.contains("MARKER") && !clean.contains("signs"),
                "{clean}"
            );
            assert!(clean.contains("(secret)"));
        }
        let other = b"{\"ok\": true}".to_vec();
        assert_eq!(key.redact_json(other.clone()), other);
        assert_eq!(key.redact_json(Vec::new()), b"");
    }

    #[test]
    fn a_mask_shows_four_characters_of_a_long_key_and_none_of_a_short_one() {
        let masked = |text: &str| ApiKey::new(text).unwrap().masked();
        assert_eq!(masked("ft_live_0123456789abc3d4"), "ft_live_…c3d4");
        assert_eq!(masked(&"0123456789abcdef".repeat(4)), "…cdef");
        assert_eq!(masked("0123456789abcde"), "(secret)");
        assert_eq!(masked("ft_live_0123456789"), "(secret)");
        assert_eq!(masked("x"), "(secret)");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_without_repeating_it() {
        let long = "k".repeat(1_025);
        for (text, refused) in [
            ("", KeyError::Empty),
            (" \n", KeyError::Empty),
            ("MARKER key", KeyError::Character(7)),
            ("MARKER\u{e9}", KeyError::Character(7)),
            (&long, KeyError::TooLong(1_025)),
        ] {
            let error = ApiKey::new(text).unwrap_err();
            assert_eq!(error, refused);
            assert!(!error.to_string().contains("MARKER"));
        }
    }
}
