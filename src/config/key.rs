//! The table of settings: what each is called, what it may be, and whether it can change while the agent runs.
//!
//! Everything that lists settings lists these: files, environment, `config show`, the default file, the pages. Pure.

use std::fmt;

use super::value::Kind;

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The node's API key.
    ApiKey,
    /// The node's name on the platform.
    NodeUuid,
    /// Where the platform is.
    ApiBase,
    /// Which of its two contracts to speak.
    Contract,
    /// Whether the key may travel unencrypted.
    AllowHttp,
    /// Time between two heartbeats.
    HeartbeatSeconds,
    /// What a report of traffic spans in the resource contract.
    MetricsSeconds,
    /// The workspace's token, with which nodes are made. From the environment only.
    DeployToken,
    /// What to watch.
    Interfaces,
    /// Set limit in packets/s.
    PpsThreshold,
    /// Set limit in bits/s.
    BpsThreshold,
    /// Least learned limit in packets/s.
    FloorPps,
    /// Least learned limit in bits/s.
    FloorBps,
    /// How many times the reference a learned limit is.
    Multiplier,
    /// The same in the first hour.
    WarmUpMultiplier,
    /// Speed of the watched links together.
    LinkBps,
    /// How long an attack must be gone before it is over.
    HoldSeconds,
    /// How long at most, when it keeps coming back.
    LongestHoldSeconds,
    /// How soon after its end it is the same attack.
    ReopenSeconds,
    /// Time between reports of an open incident.
    UpdateSeconds,
    /// Where state is kept.
    StateDir,
    /// How much of the disk state may take.
    QuotaMib,
    /// What is worth a line in the log.
    LogLevel,
}

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// At a reload.
    AtReload,
    /// At the next start.
    AtStart,
}

/// One line of the table.
struct Row {
    section: &'static str,
    name: &'static str,
    kind: Kind,
    takes: Takes,
    /// What it means that nobody set it and that there is no default.
    unset: &'static str,
}

/// What `api.contract` may be.
pub(super) const CONTRACTS: &[&str] = &["auto", "seed", "resource"];

/// What `log.level` may be. `trace` is left out: it is for libraries, and theirs is not ours to promise anything about.
pub(super) const LEVELS: &[&str] = &["error", "warning", "info", "debug"];

/// A learned limit below twice what is normal opens on ordinary days; above a hundred times it never opens.
const MULTIPLIERS: Kind = Kind::Factor {
    least: 2,
    most: 100,
};

/// The budget lets five heartbeats a minute through. A node that is silent for longer than five minutes is taken for down.
const HEARTBEATS: Kind = Kind::Number {
    least: 15,
    most: 300,
};

/// Rates that are averaged over more than half a minute show no attack.
const METRICS: Kind = Kind::Number { least: 1, most: 30 };

const ONE_OR_MORE: Kind = Kind::Number {
    least: 1,
    most: u64::MAX,
};

/// A hold or an interval of more than a day is a mistake.
const fn seconds(least: u64) -> Kind {
    Kind::Number {
        least,
        most: 86_400,
    }
}

impl Key {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 23] = [
        Self::ApiKey,
        Self::NodeUuid,
        Self::ApiBase,
        Self::Contract,
        Self::AllowHttp,
        Self::HeartbeatSeconds,
        Self::MetricsSeconds,
        Self::DeployToken,
        Self::Interfaces,
        Self::PpsThreshold,
        Self::BpsThreshold,
        Self::FloorPps,
        Self::FloorBps,
        Self::Multiplier,
        Self::WarmUpMultiplier,
        Self::LinkBps,
        Self::HoldSeconds,
        Self::LongestHoldSeconds,
        Self::ReopenSeconds,
        Self::UpdateSeconds,
        Self::StateDir,
        Self::QuotaMib,
        Self::LogLevel,
    ];

    const fn row(self) -> Row {
        use Takes::{AtReload, AtStart};
        let (section, name, kind, takes, unset) = match self {
            Self::ApiKey => ("api", "key", Kind::Secret, AtReload, "none"),
            Self::NodeUuid => ("api", "node_uuid", Kind::Uuid, AtReload, "none"),
            Self::ApiBase => ("api", "base", Kind::Base, AtReload, ""),
            Self::Contract => ("api", "contract", Kind::Choice(CONTRACTS), AtReload, ""),
            Self::AllowHttp => ("api", "allow_http", Kind::Switch, AtReload, ""),
            Self::HeartbeatSeconds => ("api", "heartbeat_seconds", HEARTBEATS, AtReload, ""),
            Self::MetricsSeconds => ("api", "metrics_seconds", METRICS, AtReload, ""),
            Self::DeployToken => ("api", "deploy_token", Kind::Secret, AtReload, "none"),
            Self::Interfaces => {
                let unset = "the one with the default route";
                ("capture", "interfaces", Kind::Interfaces, AtStart, unset)
            }
            Self::PpsThreshold => ("detection", "pps_threshold", ONE_OR_MORE, AtReload, LEARNED),
            Self::BpsThreshold => ("detection", "bps_threshold", ONE_OR_MORE, AtReload, LEARNED),
            Self::FloorPps => ("detection", "floor_pps", ONE_OR_MORE, AtStart, ""),
            Self::FloorBps => ("detection", "floor_bps", ONE_OR_MORE, AtStart, ""),
            Self::Multiplier => ("detection", "multiplier", MULTIPLIERS, AtStart, ""),
            Self::WarmUpMultiplier => ("detection", "warm_up_multiplier", MULTIPLIERS, AtStart, ""),
            Self::LinkBps => ("detection", "link_bps", ONE_OR_MORE, AtStart, "unknown"),
            Self::HoldSeconds => ("detection", "hold_seconds", seconds(1), AtStart, ""),
            Self::LongestHoldSeconds => {
                let kind = seconds(1);
                ("detection", "longest_hold_seconds", kind, AtStart, "")
            }
            Self::ReopenSeconds => ("detection", "reopen_seconds", seconds(0), AtStart, ""),
            Self::UpdateSeconds => ("detection", "update_seconds", seconds(1), AtStart, ""),
            Self::StateDir => ("state", "dir", Kind::Folder, AtStart, "nothing is kept"),
            Self::QuotaMib => ("state", "quota_mib", QUOTA, AtStart, ""),
            Self::LogLevel => ("log", "level", Kind::Choice(LEVELS), AtReload, ""),
        };
        Row {
            section,
            name,
            kind,
            takes,
            unset,
        }
    }

    /// Its section in the file.
    #[must_use]
    pub const fn section(self) -> &'static str {
        self.row().section
    }

    /// Its name in the section.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    pub(super) const fn kind(self) -> Kind {
        self.row().kind
    }

    /// When a change of it takes effect.
    #[must_use]
    pub const fn takes(self) -> Takes {
        self.row().takes
    }

    /// What holds while nobody has set it, where there is no default value.
    #[must_use]
    pub const fn unset(self) -> &'static str {
        self.row().unset
    }

    /// Whether it may stand in a file. A deploy token makes nodes: it belongs to the moment of installation, not on the
    /// disk of every node.
    #[must_use]
    pub const fn in_files(self) -> bool {
        !matches!(self, Self::DeployToken)
    }

    /// The environment variables that set it; a later one wins over those before it.
    #[must_use]
    pub fn variables(self) -> Vec<String> {
        let row = self.row();
        let fixed: &[&str] = match self {
            Self::ApiKey => &["FLOWTRIQ_API_KEY", "FTAGENT_API_KEY"],
            Self::NodeUuid => &["FLOWTRIQ_NODE_UUID", "FTAGENT_NODE_UUID"],
            Self::DeployToken => &["FLOWTRIQ_DEPLOY_TOKEN"],
            Self::Interfaces => &["FTAGENT_INTERFACE"],
            _ => {
                let name = format!("FTAGENT_{}_{}", row.section, row.name);
                return vec![name.to_ascii_uppercase()];
            }
        };
        fixed.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The setting that a file calls `name` in `section`. One interface may be called that.
    pub(super) fn named(section: &str, name: &str) -> Option<Self> {
        if (section, name) == ("capture", "interface") {
            return Some(Self::Interfaces);
        }
        Self::ALL
            .into_iter()
            .find(|key| (key.section(), key.name()) == (section, name))
    }

    /// Whether there is a section of that name.
    pub(super) fn is_section(name: &str) -> bool {
        Self::ALL.into_iter().any(|key| key.section() == name)
    }
}

const LEARNED: &str = "learned";

/// Less than 16 MiB would hold half a day of seconds beside the incidents; more than a TiB is a mistake of units.
const QUOTA: Kind = Kind::Number {
    least: 16,
    most: 1_048_576,
};

impl fmt::Display for Key {
    /// As messages name it: `detection.pps_threshold`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_settings_share_a_name_or_a_variable() {
        let names: BTreeSet<String> = Key::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Key::ALL.len());
        let variables: Vec<String> = Key::ALL.iter().flat_map(|key| key.variables()).collect();
        let different: BTreeSet<&String> = variables.iter().collect();
        assert_eq!(different.len(), variables.len());
    }

    #[test]
    fn settings_are_listed_by_section_and_found_by_name() {
        let mut sections: Vec<&str> = Key::ALL.iter().map(|key| key.section()).collect();
        sections.dedup();
        assert_eq!(sections, ["api", "capture", "detection", "state", "log"]);
        for key in Key::ALL {
            assert_eq!(Key::named(key.section(), key.name()), Some(key));
        }
        assert_eq!(
            Key::named("capture", "interface"),
            Some(Key::Interfaces),
            "one interface may be called that"
        );
        assert_eq!(Key::named("detection", "interface"), None);
    }

    #[test]
    fn every_setting_has_a_variable_and_the_known_ones_keep_their_names() {
        let all: Vec<String> = Key::ALL.iter().flat_map(|key| key.variables()).collect();
        for known in [
            "FLOWTRIQ_API_KEY",
            "FLOWTRIQ_NODE_UUID",
            "FLOWTRIQ_DEPLOY_TOKEN",
            "FTAGENT_API_KEY",
            "FTAGENT_NODE_UUID",
            "FTAGENT_API_BASE",
            "FTAGENT_INTERFACE",
            "FTAGENT_DETECTION_PPS_THRESHOLD",
            "FTAGENT_STATE_QUOTA_MIB",
        ] {
            assert!(all.iter().any(|name| name == known), "{known}");
        }
        assert!(Key::ALL.iter().all(|key| !key.variables().is_empty()));
    }
}
