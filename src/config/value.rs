//! What a setting may be, and how what somebody wrote becomes that.
//!
//! A misfit is told as what was expected and what was found. Texts are found by their length only where a secret could
//! stand in the wrong place: nobody's key is printed because it was pasted into the wrong line. Pure.

use std::fmt;
use std::path::PathBuf;

use crate::uplink::{ApiBase, ApiKey, BaseError};
use crate::words::{Thousands, Times};

/// What a setting may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A key or token.
    Secret,
    /// The node's name on the platform.
    Uuid,
    /// A URL without anything behind its path.
    Base,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// On or off.
    Switch,
    /// Names of interfaces.
    Interfaces,
    /// A whole number in these bounds.
    Number {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// How many times, in these bounds; need not be whole.
    Factor {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A directory, from the root.
    Folder,
}

/// What somebody wrote.
#[derive(Clone)]
pub(super) enum Given {
    /// A text.
    Text(String),
    /// Words that stand for whatever is expected: variables have no types.
    Words(String),
    /// A whole number.
    Integer(i128),
    /// A whole number beyond all bounds.
    Huge,
    /// A number with a fraction, or written like one.
    Fraction(f64),
    /// True or false.
    Switch(bool),
    /// A list.
    List(Vec<Given>),
    /// A time or date.
    Date,
    /// Names with values.
    Table,
    /// Bytes that are no text.
    NotText,
}

/// What a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A key or token. Never printed whole.
    Secret(ApiKey),
    /// A text.
    Text(String),
    /// One of a few words.
    Choice(&'static str),
    /// On or off.
    Switch(bool),
    /// Names of interfaces, in the order given; none for the one with the default route.
    Names(Vec<String>),
    /// A whole number, in the unit that the setting's name ends with.
    Number(u64),
    /// How many times, in permille.
    Factor(u64),
    /// A path.
    Path(PathBuf),
}

impl fmt::Display for Value {
    /// For people: numbers in groups, secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(secret) => f.write_str(&secret.masked()),
            Self::Text(text) => f.write_str(text),
            Self::Choice(word) => f.write_str(word),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Names(names) if names.is_empty() => f.write_str("auto"),
            Self::Names(names) => f.write_str(&names.join(", ")),
            Self::Number(number) => Thousands(*number).fmt(f),
            Self::Factor(permille) => Times(*permille).fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// Why what was written does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) expected: String,
    pub(super) found: String,
}

impl Misfit {
    fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// A node key has 64 characters, or about 40 in its `ft_live_` form. Fewer than 8 are the rest of one that was cut.
const SECRET_LENGTH: (usize, usize) = (8, 256);

/// A UUID has 36 characters. A node key has more, so one that was pasted in its place is noticed.
const UUID_LENGTH_MAX: usize = 40;

/// What keys begin with on the platform's pages.
pub(super) const KEY_PREFIX: &str = "ft_";

/// The longest alternative name of an interface (`ALTIFNAMSIZ` is 128 with the final zero byte).
const INTERFACE_LENGTH_MAX: usize = 127;

/// Each has a capture ring of 16 MiB: more would take a gibibyte.
const INTERFACES_MAX: usize = 64;

/// Longer texts are told by their length alone. Keys are longer, words that somebody meant to choose are not.
const SHOWN_LENGTH_MAX: usize = 24;

impl Kind {
    /// Reads what was given. Nothing in, such as an empty text, is nothing out: it counts as not set.
    pub(super) fn read(self, given: &Given) -> Result<Option<Value>, Misfit> {
        match self {
            Self::Secret => textual(given, secret),
            Self::Uuid => textual(given, uuid),
            Self::Base => textual(given, base),
            Self::Choice(words) => textual(given, |text| choice(text, words)),
            Self::Folder => textual(given, folder),
            Self::Interfaces => Ok(interfaces(given)?.map(Value::Names)),
            Self::Switch => switch(given),
            Self::Number { least, most } => number(given, least, most),
            Self::Factor { least, most } => factor(given, least, most),
        }
    }
}

impl Given {
    /// What it is, for people.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Text(_) => "a text".to_owned(),
            Self::Words(text) => shown(text),
            Self::Integer(number) => number.to_string(),
            Self::Huge => "a number of more than 38 digits".to_owned(),
            Self::Fraction(_) => "a number with a fraction".to_owned(),
            Self::Switch(on) => on.to_string(),
            Self::List(_) => "a list".to_owned(),
            Self::Date => "a date or time".to_owned(),
            Self::Table => "a table".to_owned(),
            Self::NotText => "bytes that are not UTF-8".to_owned(),
        }
    }
}

/// A text as it may be shown: in quotes, with what terminals would obey made visible, or by its length alone.
pub(super) fn shown(text: &str) -> String {
    let length = text.chars().count();
    if length > SHOWN_LENGTH_MAX || text.starts_with(KEY_PREFIX) {
        format!("a text of {length} characters")
    } else {
        format!("{text:?}")
    }
}

fn textual(
    given: &Given,
    read: impl FnOnce(&str) -> Result<Value, Misfit>,
) -> Result<Option<Value>, Misfit> {
    match given {
        Given::Text(text) | Given::Words(text) => match text.trim() {
            "" => Ok(None),
            text => read(text).map(Some),
        },
        other => Err(Misfit::new("a text in quotes", other.description())),
    }
}

fn secret(text: &str) -> Result<Value, Misfit> {
    let (least, most) = SECRET_LENGTH;
    let expected = format!("{least} to {most} visible ASCII characters");
    let length = text.chars().count();
    if !(least..=most).contains(&length) {
        return Err(Misfit::new(expected, length.to_string()));
    }
    // Not which character: it is a part of a secret.
    ApiKey::new(text)
        .map(Value::Secret)
        .map_err(|_| Misfit::new(expected, "others among them"))
}

fn uuid(text: &str) -> Result<Value, Misfit> {
    let expected = format!("the node's UUID, at most {UUID_LENGTH_MAX} visible ASCII characters");
    let length = text.chars().count();
    if text.starts_with(KEY_PREFIX) || length > UUID_LENGTH_MAX {
        let found = format!("{length} characters; an API key belongs into api.key");
        return Err(Misfit::new(expected, found));
    }
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Misfit::new(expected, "others among them"));
    }
    Ok(Value::Text(text.to_owned()))
}

/// The address without its final slashes. Whether an unencrypted one will do depends on another setting.
fn base(text: &str) -> Result<Value, Misfit> {
    match ApiBase::parse(text, true) {
        Ok(base) => Ok(Value::Text(base.to_string())),
        // What stands in it is not repeated: somebody's password may be in it.
        Err(BaseError::NoUrl { reason, .. }) => Err(Misfit::new(
            "a URL such as https://flowtriq.com/api/v1",
            format!("one that will not do: {reason}"),
        )),
        Err(BaseError::PlainHttp { .. }) => Err(Misfit::new("https://", "http://")),
    }
}

/// Whether a base would send the key unencrypted to another host.
pub(super) fn is_exposed(base: &str) -> bool {
    ApiBase::parse(base, true).is_ok_and(|base| base.is_exposed())
}

fn choice(text: &str, words: &'static [&'static str]) -> Result<Value, Misfit> {
    let meant = match text.to_ascii_lowercase().as_str() {
        // As other programs call it.
        "warn" => "warning".to_owned(),
        other => other.to_owned(),
    };
    match words.iter().find(|word| **word == meant) {
        Some(word) => Ok(Value::Choice(word)),
        None => Err(Misfit::new(one_of(words), shown(text))),
    }
}

fn one_of(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

fn folder(text: &str) -> Result<Value, Misfit> {
    // A service starts in the root directory: a relative path would mean another place than in a shell.
    if text.starts_with('/') && !text.contains('\0') {
        Ok(Value::Path(PathBuf::from(text)))
    } else {
        Err(Misfit::new("a path that begins with /", shown(text)))
    }
}

fn switch(given: &Given) -> Result<Option<Value>, Misfit> {
    let on = match given {
        Given::Switch(on) => Some(*on),
        Given::Words(text) => match text.trim() {
            "" => return Ok(None),
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    };
    match on {
        Some(on) => Ok(Some(Value::Switch(on))),
        None => Err(Misfit::new("true or false", given.description())),
    }
}

fn number(given: &Given, least: u64, most: u64) -> Result<Option<Value>, Misfit> {
    let bounds = if most == u64::MAX {
        format!("{} or more", Thousands(least))
    } else {
        format!("{} to {}", Thousands(least), Thousands(most))
    };
    let number = match given {
        Given::Integer(number) => Some(*number),
        Given::Words(text) if text.trim().is_empty() => return Ok(None),
        Given::Words(text) => text.trim().replace('_', "").parse::<i128>().ok(),
        _ => None,
    };
    let Some(number) = number else {
        let expected = format!("a whole number of {bounds}");
        return Err(Misfit::new(expected, given.description()));
    };
    match u64::try_from(number) {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(Value::Number(number))),
        Ok(_) | Err(_) => Err(Misfit::new(bounds, number.to_string())),
    }
}

/// How many times, to a thousandth.
fn factor(given: &Given, least: u64, most: u64) -> Result<Option<Value>, Misfit> {
    let bounds = format!("{} to {}", Thousands(least), Thousands(most));
    let times = match given {
        Given::Integer(number) => number.to_string().parse::<f64>().ok(),
        Given::Fraction(number) => Some(*number),
        Given::Words(text) if text.trim().is_empty() => return Ok(None),
        Given::Words(text) => text.trim().parse().ok(),
        _ => None,
    };
    let Some(times) = times else {
        let expected = format!("a number of {bounds}");
        return Err(Misfit::new(expected, given.description()));
    };
    // Beyond the bounds, and of what is no number, there are no permille.
    let permille = format!("{:.0}", times * 1_000.0).parse::<u64>();
    match permille {
        Ok(permille) if (least * 1_000..=most * 1_000).contains(&permille) => {
            Ok(Some(Value::Factor(permille)))
        }
        Ok(_) | Err(_) => {
            let found = match given {
                Given::Fraction(number) if number.abs() < 1e6 => number.to_string(),
                other => other.description(),
            };
            Err(Misfit::new(bounds, found))
        }
    }
}

/// Names of interfaces; an empty list stands for the one with the default route.
fn interfaces(given: &Given) -> Result<Option<Vec<String>>, Misfit> {
    const EXPECTED: &str = "names of interfaces";
    let names: Vec<String> = match given {
        Given::Text(name) => vec![name.clone()],
        Given::Words(names) => names.split(',').map(str::to_owned).collect(),
        Given::List(entries) => entries
            .iter()
            .map(|entry| match entry {
                Given::Text(name) => Ok(name.clone()),
                other => Err(Misfit::new(EXPECTED, other.description())),
            })
            .collect::<Result<_, _>>()?,
        other => return Err(Misfit::new(EXPECTED, other.description())),
    };
    let names: Vec<&str> = names.iter().map(|name| name.trim()).collect();
    match names.as_slice() {
        [""] => return Ok(None),
        // Said, not left out: it covers the names of lower layers.
        [] | ["auto"] => return Ok(Some(Vec::new())),
        names if names.len() > INTERFACES_MAX => {
            let expected = format!("at most {INTERFACES_MAX} interfaces");
            return Err(Misfit::new(expected, names.len().to_string()));
        }
        _ => {}
    }
    for (at, name) in names.iter().enumerate() {
        if *name == "auto" {
            return Err(Misfit::new("auto alone or names", "auto among other names"));
        }
        let fits = (1..=INTERFACE_LENGTH_MAX).contains(&name.len());
        if !fits || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(Misfit::new(EXPECTED, shown(name)));
        }
        if names.iter().take(at).any(|earlier| earlier == name) {
            let found = format!("{} twice", shown(name));
            return Err(Misfit::new("each interface once", found));
        }
    }
    Ok(Some(names.into_iter().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Given {
        Given::Text(text.to_owned())
    }

    fn words(text: &str) -> Given {
        Given::Words(text.to_owned())
    }

    #[track_caller]
    fn misfit(kind: Kind, given: &Given) -> String {
        let Misfit { expected, found } = kind.read(given).unwrap_err();
        format!("expected {expected}, found {found}")
    }

    #[test]
    fn a_number_has_a_type_in_files_and_none_in_variables() {
        let kind = Kind::Number {
            least: 1,
            most: u64::MAX,
        };
        let fifty = Ok(Some(Value::Number(50_000)));
        assert_eq!(kind.read(&Given::Integer(50_000)), fifty);
        assert_eq!(kind.read(&words("50000")), fifty);
        assert_eq!(kind.read(&words(" 50_000 ")), fifty);
        assert_eq!(kind.read(&words("")), Ok(None), "counts as not set");
        for (given, told) in [
            (Given::Integer(0), "expected 1 or more, found 0"),
            (Given::Integer(-5), "expected 1 or more, found -5"),
            (
                Given::Integer(i128::from(u64::MAX) + 1),
                "expected 1 or more, found 18446744073709551616",
            ),
            (
                text("50000"),
                "expected a whole number of 1 or more, found a text",
            ),
            (
                words("many"),
                "expected a whole number of 1 or more, found \"many\"",
            ),
            (
                words("1e6"),
                "expected a whole number of 1 or more, found \"1e6\"",
            ),
            (
                Given::Fraction(2.5),
                "expected a whole number of 1 or more, found a number with a fraction",
            ),
            (
                Given::Huge,
                "expected a whole number of 1 or more, found a number of more than 38 digits",
            ),
        ] {
            assert_eq!(misfit(kind, &given), told);
        }
        let bounded = Kind::Number {
            least: 0,
            most: 86_400,
        };
        assert_eq!(
            misfit(bounded, &Given::Integer(86_401)),
            "expected 0 to 86,400, found 86401"
        );
    }

    #[test]
    fn a_factor_need_not_be_whole() {
        let kind = Kind::Factor {
            least: 2,
            most: 100,
        };
        for (given, permille) in [
            (Given::Integer(3), 3_000),
            (Given::Fraction(2.5), 2_500),
            (Given::Fraction(3.0), 3_000),
            (Given::Fraction(2.001), 2_001),
            (Given::Fraction(2.000_4), 2_000),
            (words(" 12.25 "), 12_250),
            (words("100"), 100_000),
        ] {
            let read = kind.read(&given);
            assert_eq!(read, Ok(Some(Value::Factor(permille))));
        }
        assert_eq!(kind.read(&words("")), Ok(None), "counts as not set");
        assert_eq!(Value::Factor(2_500).to_string(), "2.5");
        for (given, told) in [
            (Given::Integer(1), "expected 2 to 100, found 1"),
            (Given::Integer(101), "expected 2 to 100, found 101"),
            (Given::Integer(-3), "expected 2 to 100, found -3"),
            (Given::Fraction(1.9), "expected 2 to 100, found 1.9"),
            (
                Given::Fraction(f64::NAN),
                "expected 2 to 100, found a number with a fraction",
            ),
            (
                Given::Fraction(1e300),
                "expected 2 to 100, found a number with a fraction",
            ),
            (words("1.5"), "expected 2 to 100, found \"1.5\""),
            (words("inf"), "expected 2 to 100, found \"inf\""),
            (
                words("four"),
                "expected a number of 2 to 100, found \"four\"",
            ),
            (text("4"), "expected a number of 2 to 100, found a text"),
            (
                Given::Huge,
                "expected a number of 2 to 100, found a number of more than 38 digits",
            ),
        ] {
            assert_eq!(misfit(kind, &given), told);
        }
    }

    #[test]
    fn a_secret_is_never_repeated() {
        for given in [
            "short",
            "with a space in it",
            "tab\there-and-more",
            "umlaut-ä-in-it",
            &"x".repeat(257),
        ] {
            let told = misfit(Kind::Secret, &text(given));
            assert!(!told.contains(given), "{told}");
        }
        assert_eq!(
            misfit(Kind::Secret, &text("short")),
            "expected 8 to 256 visible ASCII characters, found 5"
        );
        assert_eq!(
            misfit(Kind::Secret, &text("line\nbreak")),
            "expected 8 to 256 visible ASCII characters, found others among them"
        );
        assert_eq!(
            misfit(Kind::Secret, &Given::Integer(12)),
            "expected a text in quotes, found 12"
        );
        assert_eq!(
            Kind::Secret.read(&text("  ft_live_0123456789  ")),
            Ok(Some(Value::Secret(
                ApiKey::new("ft_live_0123456789").unwrap()
            )))
        );
    }

    #[test]
    fn a_key_in_the_place_of_the_uuid_is_recognised_and_not_repeated() {
        for key in [&"0123456789abcdef".repeat(4), "ft_live_0123456789"] {
            let told = misfit(Kind::Uuid, &text(key));
            assert!(
                told.ends_with("characters; an API key belongs into api.key"),
                "{told}"
            );
            assert!(!told.contains(key), "{told}");
        }
        let uuid = "5e0d1c2b-0000-4000-8000-0000000000a1";
        assert_eq!(
            Kind::Uuid.read(&text(uuid)),
            Ok(Some(Value::Text(uuid.to_owned())))
        );
        assert_eq!(
            misfit(Kind::Uuid, &text("a b")),
            "expected the node's UUID, at most 40 visible ASCII characters, found others among them"
        );
    }

    #[test]
    fn a_base_is_a_url_with_nothing_behind_its_path() {
        for (given, becomes) in [
            (
                "https://flowtriq.com/api/v1//",
                "https://flowtriq.com/api/v1",
            ),
            (
                "HTTPS://Flowtriq.com:443/api/v1/",
                "https://flowtriq.com/api/v1",
            ),
            ("http://platform.example", "http://platform.example"),
            ("http://[::1]:8080/api/v1", "http://[::1]:8080/api/v1"),
        ] {
            let base = Value::Text(becomes.to_owned());
            assert_eq!(Kind::Base.read(&text(given)), Ok(Some(base)));
        }
        for (given, found) in [
            ("flowtriq.com", "relative URL without a base"),
            (
                "ftp://flowtriq.com",
                "it begins with neither https:// nor http://",
            ),
            (
                "https://user:MARKER@flowtriq.com",
                "it has a user name or password",
            ),
            ("https://flowtriq.com/?key=MARKER", "it has a ? or a #"),
        ] {
            let told = misfit(Kind::Base, &text(given));
            let expected = "expected a URL such as https://flowtriq.com/api/v1";
            assert_eq!(
                told,
                format!("{expected}, found one that will not do: {found}")
            );
        }
    }

    #[test]
    fn interfaces_are_a_name_a_list_or_auto() {
        let names = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Ok(Some(Value::Names(names)))
        };
        let list = |names: &[&str]| Given::List(names.iter().map(|name| text(name)).collect());
        let read = |given: &Given| Kind::Interfaces.read(given);
        assert_eq!(read(&text("eth0")), names(&["eth0"]));
        assert_eq!(read(&list(&["eth0", "eth1"])), names(&["eth0", "eth1"]));
        assert_eq!(read(&words("eth0, eth1")), names(&["eth0", "eth1"]));
        for default in [text("auto"), list(&[]), list(&["auto"]), words("auto")] {
            assert_eq!(read(&default), names(&[]));
        }
        for nothing in [text(""), words("")] {
            assert_eq!(read(&nothing), Ok(None));
        }
        for (given, told) in [
            (
                list(&["auto", "eth0"]),
                "expected auto alone or names, found auto among other names",
            ),
            (
                list(&["eth0", "eth1", "eth0"]),
                "expected each interface once, found \"eth0\" twice",
            ),
            (words("eth0,"), "expected names of interfaces, found \"\""),
            (
                text("eth0 eth1"),
                "expected names of interfaces, found \"eth0 eth1\"",
            ),
            (
                text("../eth0"),
                "expected names of interfaces, found \"../eth0\"",
            ),
            (
                text("a\u{1b}[2J"),
                "expected names of interfaces, found \"a\\u{1b}[2J\"",
            ),
            (
                Given::List(vec![Given::Integer(1)]),
                "expected names of interfaces, found 1",
            ),
            (Given::Table, "expected names of interfaces, found a table"),
        ] {
            assert_eq!(misfit(Kind::Interfaces, &given), told);
        }
        let many: Vec<String> = (0..65).map(|n| format!("eth{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(
            misfit(Kind::Interfaces, &list(&many)),
            "expected at most 64 interfaces, found 65"
        );
    }

    #[test]
    fn words_to_choose_from_are_listed() {
        let kind = Kind::Choice(&["error", "warning", "info"]);
        assert_eq!(kind.read(&text("WARN")), Ok(Some(Value::Choice("warning"))));
        assert_eq!(kind.read(&text("Info")), Ok(Some(Value::Choice("info"))));
        assert_eq!(
            misfit(kind, &text("loud")),
            "expected error, warning or info, found \"loud\""
        );
        let key = "0123456789abcdef".repeat(4);
        assert_eq!(
            misfit(kind, &text(&key)),
            "expected error, warning or info, found a text of 64 characters"
        );
        assert_eq!(
            misfit(Kind::Switch, &words("perhaps")),
            "expected true or false, found \"perhaps\""
        );
        assert_eq!(
            misfit(Kind::Switch, &text("true")),
            "expected true or false, found a text"
        );
        assert_eq!(
            misfit(Kind::Folder, &text("state")),
            "expected a path that begins with /, found \"state\""
        );
    }
}
