//! What the platform asks to be run, and that it was not. Pure.
//!
//! This agent executes nothing: each command is answered as failed, with the reason, once for each number the platform
//! gave it, over restarts too. Only the resource contract has such answers.

use std::collections::VecDeque;

use super::platform::PendingCommand;

/// Answers that wait at a time. What does not fit is answered when the platform asks again.
const WAITING_MAX: usize = 256;

/// Numbers remembered as answered: twice what the published agent remembers.
const ANSWERED_MAX: usize = 1_000;

/// Why a command was not executed.
const NOT_YET: &str =
    "not executed: this agent runs no commands of the platform, it shows them to the operator";
const UNKNOWN: &str =
    "not executed: this agent does not know this form of command, it shows it to the operator";

/// Which commands are still to be answered.
#[derive(Debug, Default)]
pub(super) struct Commands {
    waiting: VecDeque<(i64, &'static str)>,
    answered: VecDeque<i64>,
}

impl Commands {
    /// The platform asks for these.
    pub(super) fn asked(&mut self, commands: &[PendingCommand]) {
        for command in commands {
            // Without a number there is nothing to answer to.
            let Some(id) = command.id else { continue };
            let is_known =
                self.answered.contains(&id) || self.waiting.iter().any(|(w, _)| *w == id);
            if is_known || self.waiting.len() >= WAITING_MAX {
                continue;
            }
            let is_unknown = command.kind == PendingCommand::UNKNOWN;
            let reason = if is_unknown { UNKNOWN } else { NOT_YET };
            self.waiting.push_back((id, reason));
        }
    }

    /// The next to answer, with the reason.
    pub(super) fn next(&self) -> Option<(i64, &'static str)> {
        self.waiting.front().copied()
    }

    /// The platform has the answer, or will never take it.
    pub(super) fn answered(&mut self, id: i64) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
        if self.answered.len() >= ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back(id);
    }

    /// The numbers answered, for the ledger.
    pub(super) fn saved(&self) -> String {
        serde_json::to_string(&self.answered).unwrap_or_default()
    }

    /// Takes over the numbers that an earlier run answered.
    pub(super) fn restore(&mut self, saved: &str) {
        let ids: Vec<i64> = serde_json::from_str(saved).unwrap_or_default();
        self.answered = ids.into_iter().take(ANSWERED_MAX).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: Option<i64>) -> PendingCommand {
        PendingCommand {
            id,
            kind: "iptables".to_owned(),
            ..PendingCommand::default()
        }
    }

    #[test]
    fn each_number_is_answered_once_over_restarts_too() {
        let mut commands = Commands::default();
        let asked = [
            command(Some(3)),
            command(None),
            command(Some(4)),
            command(Some(3)),
        ];
        commands.asked(&asked);
        let mut told = Vec::new();
        while let Some((id, reason)) = commands.next() {
            assert!(reason.starts_with("not executed: "));
            told.push(id);
            commands.answered(id);
            commands.asked(&asked);
        }
        assert_eq!(told, [3, 4]);
        let mut later = Commands::default();
        later.restore(&commands.saved());
        later.asked(&asked);
        assert_eq!(later.next(), None);
        later.restore("rubbish");
        later.asked(&asked);
        assert!(later.next().is_some());
    }

    #[test]
    fn an_unknown_form_is_said_to_be_one() {
        let mut commands = Commands::default();
        commands.asked(&[PendingCommand {
            kind: PendingCommand::UNKNOWN.to_owned(),
            ..command(Some(1))
        }]);
        assert_eq!(commands.next(), Some((1, UNKNOWN)));
    }

    #[test]
    fn ever_new_commands_are_bounded() {
        let mut commands = Commands::default();
        for id in 0..10_000 {
            commands.asked(&[command(Some(id))]);
        }
        assert_eq!(commands.waiting.len(), WAITING_MAX);
        for id in 0..10_000 {
            commands.answered(id);
        }
        assert_eq!(commands.answered.len(), ANSWERED_MAX);
    }
}
