//! A text that is never printed.

use std::fmt;

/// A key or token. `Debug` and `Display` print a placeholder.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What a key says about itself without giving anything away.
const PREFIX: &str = "ft_live_";

/// The end of a shorter secret would be too much of it.
const LENGTH_WITH_AN_END: usize = 16;

/// How much of the end is shown: enough to tell two keys apart.
const END: usize = 4;

/// What stands for a secret wherever something is printed.
const PLACEHOLDER: &str = "(secret)";

impl Secret {
    /// The secret `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the header it travels in.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may be shown of it to recognise it by: `ft_live_…c3d4`. Of a short one, nothing.
    #[must_use]
    pub fn masked(&self) -> String {
        let (prefix, rest) = match self.0.strip_prefix(PREFIX) {
            Some(rest) => (PREFIX, rest),
            None => ("", self.0.as_str()),
        };
        let length = rest.chars().count();
        if length < LENGTH_WITH_AN_END {
            return PLACEHOLDER.to_owned();
        }
        let end: String = rest.chars().skip(length - END).collect();
        format!("{prefix}…{end}")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_shows_four_characters_of_a_long_secret_and_none_of_a_short_one() {
        let masked = |text: &str| Secret::new(text).masked();
        assert_eq!(masked("ft_live_0123456789abc3d4"), "ft_live_…c3d4");
        assert_eq!(masked(&"0123456789abcdef".repeat(4)), "…cdef");
        assert_eq!(masked("0123456789abcde"), "(secret)");
        assert_eq!(masked("ft_live_0123456789"), "(secret)");
        assert_eq!(masked(""), "(secret)");
    }

    #[test]
    fn formatting_it_gives_a_placeholder() {
        let secret = Secret::new("0123456789abcdef0123");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", [&secret]),
            "(secret) (secret) [(secret)]"
        );
    }
}
