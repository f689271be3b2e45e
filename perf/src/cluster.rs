//! Several servers on this machine that are members of one cluster.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::Caller;
use crate::clock::{self, Clock};
use crate::failure::Failure;
use crate::gauge::{self, Gauge};
use crate::message::Status;
use crate::server::{LOOK_INTERVAL, Recipe, Server, Subject, Usage, free_address};

/// How long the members may take to agree on a leader.
const ELECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a member may take to say how it is.
const STATUS_TIME_MAX: Duration = Duration::from_secs(1);

/// The members, all of this process's children.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// They, in the order of their names.
    pub(crate) members: Vec<Server>,
}

impl Cluster {
    /// Starts `count` members on fresh directories and waits until each answers.
    ///
    /// # Errors
    /// Those of [`Server::start`].
    pub(crate) fn start(
        recipe: &Recipe,
        count: usize,
        interrupt: &AtomicBool,
    ) -> Result<Self, Failure> {
        let addresses = (0..count)
            .map(|_| Ok((free_address()?, free_address()?)))
            .collect::<Result<Vec<_>, Failure>>()?;
        let peers: Vec<_> = addresses.iter().map(|(_, peer)| *peer).collect();
        let mut members = Vec::new();
        for (index, (address, peer)) in addresses.iter().enumerate() {
            let mut recipe = recipe.clone();
            if recipe.name == "ringd" {
                // They share the machine's CPUs with each other and with the load.
                recipe.flags.insert(0, "--pin=false".to_owned());
            }
            recipe.flags.extend(flags(index, &peers));
            members.push(Server::launch(&recipe, *address, *peer)?);
        }
        for member in &mut members {
            member.await_start(interrupt)?;
        }
        Ok(Self { members })
    }

    /// Where the members serve clients.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// Which of the members leads, once one does.
    ///
    /// # Errors
    /// When none does for too long, or when interrupted.
    pub(crate) fn leader(&self, interrupt: &AtomicBool) -> Result<usize, Failure> {
        let clock = Clock::start();
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if status(member).is_ok_and(|said| said.leader == said.member) {
                    return Ok(index);
                }
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(Failure::Interrupted);
            }
            if clock.now().0 > clock::nanos(ELECTION_TIME_MAX) {
                return Err(Failure::Server("the members agree on no leader".into()));
            }
            clock::pause(LOOK_INTERVAL);
        }
    }

    /// The members' processes as they are now.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        self.members.iter().map(Server::subject).collect()
    }

    /// Adds what the members logged to a failure of their load.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        self.members.iter().fold(failure, |failure, member| member.explain(failure))
    }
}

/// What a member says of itself.
///
/// # Errors
/// When it does not answer.
pub(crate) fn status(member: &Server) -> Result<Status, Failure> {
    Caller::connect(member.address, STATUS_TIME_MAX)?.status()
}

/// What all of `subjects` have used together.
pub(crate) fn usage(subjects: &[Subject]) -> Usage {
    subjects.iter().map(Subject::usage).fold(Usage::default(), |sum, one| Usage {
        cpu: sum.cpu + one.cpu,
        rss_kib: sum.rss_kib + one.rss_kib,
        anonymous_kib: sum.anonymous_kib + one.anonymous_kib,
        peak_kib: sum.peak_kib + one.peak_kib,
    })
}

/// Looks at all of `subjects` once; none of them is no look.
pub(crate) fn look(subjects: &[Subject], clock: Clock) -> Option<Gauge> {
    let all = subjects.iter().map(|subject| gauge::look(subject, clock));
    let sum = all.reduce(|sum, one| Gauge {
        descriptors: sum.descriptors + one.descriptors,
        disk: sum.disk + one.disk,
        ..sum
    })?;
    Some(Gauge { usage: usage(subjects), ..sum })
}

/// What a member of those at `peers` is told of its cluster.
fn flags(index: usize, peers: &[SocketAddr]) -> Vec<String> {
    let all: Vec<_> =
        peers.iter().enumerate().map(|(at, peer)| format!("m{at}=http://{peer}")).collect();
    vec![
        format!("--name=m{index}"),
        format!("--initial-advertise-peer-urls=http://{}", peers[index]),
        format!("--initial-cluster={}", all.join(",")),
        format!("--initial-cluster-token=perf-{}", std::process::id()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_told_of_all() {
        let peers = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let flags = flags(1, &peers);
        assert_eq!(flags[0], "--name=m1");
        assert_eq!(flags[1], "--initial-advertise-peer-urls=http://127.0.0.1:2");
        assert_eq!(flags[2], "--initial-cluster=m0=http://127.0.0.1:1,m1=http://127.0.0.1:2");
    }

    #[test]
    fn members_are_counted_together() {
        let this = Subject::this();
        let one = look(std::slice::from_ref(&this), Clock::start()).expect("one");
        let two = look(&[this.clone(), this], Clock::start()).expect("two");
        assert!(two.descriptors >= 2 * one.descriptors && one.descriptors > 0);
        assert!(two.usage.rss_kib > one.usage.rss_kib);
        assert_eq!(look(&[], Clock::start()), None);
    }
}
