//! What a node is told about itself, in the words of either contract.

use serde_json::{Value, json};

use super::Serves;

/// What a node is told when it asks, in no contract's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// The platform's number for the node.
    pub node_id: i64,
    /// Open an incident from so many packets a second on.
    pub pps_threshold: Option<u64>,
    /// What the platform takes for normal.
    pub mean_pps: u64,
    /// What it takes for normal's end.
    pub p99_pps: u64,
    /// Patterns to look for.
    pub patterns: Vec<Pattern>,
    /// Commands to show or to run.
    pub commands: Vec<Command>,
    /// Whether the account is suspended. Only the resource contract has a word for it.
    pub suspended: bool,
}

/// A pattern to look for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// Its number.
    pub id: i64,
    /// What it shows.
    pub name: String,
    /// The family it belongs to.
    pub family: String,
    /// Where to look.
    pub protocol: String,
    /// The bytes, as text.
    pub pattern: String,
}

/// A command that waits for the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Its number.
    pub id: i64,
    /// What it is for.
    pub title: String,
    /// `iptables`, `xdp` or `shell`.
    pub kind: String,
    /// Its text.
    pub text: String,
}

impl NodeConfig {
    /// A configuration that sets this threshold and nothing else.
    #[must_use]
    pub fn threshold(pps: u64) -> Self {
        Self {
            node_id: 1,
            pps_threshold: Some(pps),
            ..Self::default()
        }
    }

    /// The answer in the words of the contracts that are served.
    pub(super) fn answer(&self, serves: Serves) -> Value {
        let (seed, resource) = (serves != Serves::Resource, serves != Serves::Seed);
        let mut answer = json!({"pps_threshold": self.pps_threshold});
        let mut put = |is_ours: bool, name: &str, value: Value| {
            if let Some(members) = answer.as_object_mut().filter(|_| is_ours) {
                members.insert(name.to_owned(), value);
            }
        };
        put(seed, "node_id", self.node_id.into());
        let baseline = json!({"p99_pps": self.p99_pps, "mean_pps": self.mean_pps});
        put(seed, "baseline", baseline);
        put(resource, "suspended", self.suspended.into());
        put(resource, "dynamic_threshold", true.into());
        let patterns = self.patterns.iter().map(|known| {
            let ours = json!({"id": known.id, "name": known.name, "protocol": known.protocol});
            let theirs = json!({
                "pattern": known.pattern,
                "attack_name": known.name,
                "attack_family": known.family,
            });
            joined(ours, seed, theirs, resource)
        });
        put(true, "ioc_patterns", patterns.collect());
        let commands = self.commands.iter().map(|command| {
            let ours = json!({"id": command.id, "command": command.text});
            let theirs = json!({
                "id": command.id,
                "command_type": command.kind,
                "command_text": command.text,
                "title": command.title,
            });
            joined(ours, seed, theirs, resource)
        });
        put(true, "pending_commands", commands.collect());
        answer
    }
}

/// The members of the objects that count, in one.
fn joined(one: Value, with_one: bool, other: Value, with_other: bool) -> Value {
    let parts = [(one, with_one), (other, with_other)];
    let members = parts.into_iter().filter_map(|(part, counts)| match part {
        Value::Object(members) if counts => Some(members),
        _ => None,
    });
    Value::Object(members.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NodeConfig {
        NodeConfig {
            node_id: 311,
            pps_threshold: Some(36_000),
            mean_pps: 2_710,
            p99_pps: 9_050,
            patterns: vec![Pattern {
                id: 1,
                name: "mirai-variant".to_owned(),
                family: "syn_flood".to_owned(),
                protocol: "udp".to_owned(),
                pattern: "marker".to_owned(),
            }],
            commands: vec![Command {
                id: 88,
                title: "Drop".to_owned(),
                kind: "iptables".to_owned(),
                text: "iptables -I INPUT -s 203.0.113.77 -j DROP".to_owned(),
            }],
            suspended: false,
        }
    }

    #[test]
    fn each_contract_is_told_in_its_own_words() {
        assert_eq!(
            config().answer(Serves::Seed),
            json!({
                "node_id": 311,
                "pps_threshold": 36_000,
                "baseline": {"p99_pps": 9_050, "mean_pps": 2_710},
                "ioc_patterns": [{"id": 1, "name": "mirai-variant", "protocol": "udp"}],
                "pending_commands":
                    [{"id": 88, "command": "iptables -I INPUT -s 203.0.113.77 -j DROP"}],
            })
        );
        assert_eq!(
            config().answer(Serves::Resource),
            json!({
                "suspended": false,
                "pps_threshold": 36_000,
                "dynamic_threshold": true,
                "ioc_patterns": [{
                    "pattern": "marker",
                    "attack_name": "mirai-variant",
                    "attack_family": "syn_flood",
                }],
                "pending_commands": [{
                    "id": 88,
                    "command_type": "iptables",
                    "command_text": "iptables -I INPUT -s 203.0.113.77 -j DROP",
                    "title": "Drop",
                }],
            })
        );
        let both = config().answer(Serves::Both);
        assert_eq!(both["pending_commands"][0]["title"], "Drop");
        assert!(both["pending_commands"][0]["command"].is_string());
        assert!(both["baseline"].is_object() && both["suspended"] == false);
    }
}
