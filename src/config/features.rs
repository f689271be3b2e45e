//! Feature gates: etcd's names for what it has on trial, in one flag.

use crate::config::error::ConfigError;
use crate::config::parse::Notice;
use crate::config::value::{ValueError, boolean};

/// What is on trial in etcd and on here (`--feature-gates`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// What is left of long leases is logged now and then (`LeaseCheckpoint`). It always outlives
    /// a restart, as in a cluster of etcd 3.6 or later.
    pub lease_checkpoint: bool,
}

/// How far something on trial has come; what is beta is on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
}

/// What becomes of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It means something.
    Heeded,
    /// It steers machinery of etcd's that ringd has no counterpart of.
    Inert,
    /// Only its default is taken.
    NotYet,
}

pub(super) const CHECKPOINT: &str = "LeaseCheckpoint";
pub(super) const PERSIST: &str = "LeaseCheckpointPersist";

/// etcd's gates.
const GATES: [(&str, Stage, Fate); 9] = [
    ("CompactHashCheck", Stage::Alpha, Fate::NotYet),
    // Renewals of one turn share one read point; there is nothing that could be waited for longer.
    ("FastLeaseKeepAlive", Stage::Beta, Fate::Inert),
    ("InitialCorruptCheck", Stage::Alpha, Fate::NotYet),
    (CHECKPOINT, Stage::Alpha, Fate::Heeded),
    (PERSIST, Stage::Alpha, Fate::Heeded),
    ("PriorityRequest", Stage::Alpha, Fate::NotYet),
    ("SetMemberLocalAddr", Stage::Alpha, Fate::NotYet),
    ("StopGRPCServiceOnDefrag", Stage::Alpha, Fate::NotYet),
    ("TxnModeWriteWithSharedBuffer", Stage::Beta, Fate::Inert),
];

/// What stands for all gates of a stage that are not named themselves.
const STAGES: [(&str, Stage); 2] = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)];

/// Gates that were named, and how they were set; the last word counts.
#[derive(Debug, Default)]
pub(super) struct Gates(Vec<(&'static str, bool)>);

impl Gates {
    /// Takes in the text of a flag: `Name=true,Other=false`.
    ///
    /// # Errors
    /// For anything else and for unknown names, in etcd's words.
    pub(super) fn take(&mut self, text: &str) -> Result<(), ValueError> {
        let rule = |text: String| ValueError::Rule(text);
        let mut pairs = Vec::new();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (name, value) = item
                .split_once('=')
                .ok_or_else(|| rule(format!("missing bool value for {}", item.trim())))?;
            let (name, value) = (name.trim(), value.trim());
            let is_on = boolean(value).map_err(|_| {
                rule(format!(
                    "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: \
                     invalid syntax"
                ))
            })?;
            pairs.push((name, is_on));
        }
        for (name, is_on) in pairs {
            let known = GATES.iter().map(|gate| gate.0).chain(STAGES.iter().map(|all| all.0));
            let known = known.into_iter().find(|known| *known == name);
            let known = known.ok_or_else(|| rule(format!("unrecognized feature gate: {name}")))?;
            self.0.push((known, is_on));
        }
        Ok(())
    }

    /// Sets one gate.
    pub(super) fn set(&mut self, name: &'static str, is_on: bool) {
        self.0.push((name, is_on));
    }

    /// How a gate is set.
    fn get(&self, name: &str, stage: Stage) -> bool {
        let last = |name: &str| self.0.iter().rev().find(|named| named.0 == name).map(|it| it.1);
        let all = STAGES.iter().find(|all| all.1 == stage).and_then(|all| last(all.0));
        last(name).or(all).unwrap_or(stage == Stage::Beta)
    }

    /// What is on, and what to say about gates without effect.
    ///
    /// # Errors
    /// A gate that ringd does not have yet, or one that needs another.
    pub(super) fn finish(&self) -> Result<(Features, Vec<Notice>), ConfigError> {
        let mut notices = Vec::new();
        for (name, stage, fate) in GATES {
            let is_on = self.get(name, stage);
            if is_on == (stage == Stage::Beta) {
                continue;
            }
            let value = format!("{name}={is_on}");
            match fate {
                Fate::Heeded => {}
                Fate::Inert => notices.push(Notice::NoEffect { flag: "feature-gates", value }),
                Fate::NotYet => {
                    return Err(ConfigError::NotYet { name: "feature-gates".to_owned(), value });
                }
            }
        }
        let lease_checkpoint = self.get(CHECKPOINT, Stage::Alpha);
        if self.get(PERSIST, Stage::Alpha) && !lease_checkpoint {
            return Err(ConfigError::GateNeeds { gate: PERSIST, needs: CHECKPOINT });
        }
        Ok((Features { lease_checkpoint }, notices))
    }
}
