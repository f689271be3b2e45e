//! Answers on their way to clients: what the driver makes at once, later, or by slices.

use super::driver::Work;
use super::{Outcome, Requests, World, request_id};
use crate::planted::Bug;
use ringd::api::Piece;
use ringd::shard::request::RequestId;
use ringd::shard::{Input, Ready};

impl World {
    /// Nobody waits for an answer any more.
    pub(super) fn forget(&mut self, to: RequestId) {
        self.hub.forget(to);
        self.answers.forget(to);
        self.shard.handle(Input::Forget { to });
    }

    /// Asks for more of those answers that their connections have room for.
    pub(super) fn pull_all(&mut self) {
        for at in 0..self.links.len() {
            while let Some((stream, size)) = self.links[at].session.pull() {
                let to = RequestId { stream, ..request_id(at, self.links[at].generation, 0) };
                if !self.hub.pulled(to, size) {
                    self.answers.pull(to, size);
                }
            }
        }
    }

    pub(super) fn reply(&mut self, to: RequestId, ready: Ready) {
        let at = usize::try_from(to.connection).expect("64 bits");
        let link = self.links.get(at).filter(|link| link.generation == to.generation);
        let takes = link.and_then(|link| link.session.takes(to.stream));
        let is_read = matches!(ready, Ready::Range(_));
        let postpones = is_read && self.swarm.postpones && self.dice.chance(30);
        let is_now = takes == Some(true) && !postpones;
        let mut message = Vec::new();
        let piece = self.answers.reply(&mut self.shard, to, ready, is_now, &mut message);
        if let Some(piece) = piece.map(|piece| piece.map(<[u8]>::to_vec)) {
            self.answer(to, piece);
        }
    }

    /// A piece of an answer, or all of it, leaves.
    pub(super) fn answer(&mut self, to: RequestId, result: Outcome) {
        self.mix(result.bytes());
        let is_early = self.works.iter().any(|work| matches!(work, Work::Log { .. }));
        if self.bug == Some(Bug::EarlyEvents) && is_early {
            return self.kept.push((to, result));
        }
        if let Some(&call) = self.asked.get(&to) {
            let status = match &result {
                Piece::End(status) => Some(&*status.message),
                Piece::Part(_) | Piece::Last(_) => None,
            };
            self.oracle.released(call, self.shard.header().revision.0, status);
        }
        self.is_changed = true;
        if let Piece::Part(bytes) = &result {
            if !bytes.is_empty() && self.has(Bug::LostPiece, 20) {
                return self.hand_over(to, Piece::Part(Vec::new()));
            }
            return self.hand_over(to, result);
        }
        if self.has(Bug::StaleReply, 20)
            && let Some((_, old)) = self.held.clone()
        {
            return self.hand_over(to, old);
        }
        if self.has(Bug::OtherStream, 20) {
            let to = RequestId { stream: to.stream + 2, ..to };
            return self.hand_over(to, result);
        }
        if self.has(Bug::SwappedReplies, 50) {
            match self.held.take() {
                None => self.held = Some((to, result)),
                Some((first, old)) => {
                    self.hand_over(first, result);
                    self.hand_over(to, old);
                }
            }
            return;
        }
        if self.bug == Some(Bug::StaleReply) {
            self.held = Some((to, result.clone()));
        }
        self.hand_over(to, result);
    }

    pub(super) fn hand_over(&mut self, to: RequestId, result: Outcome) {
        let at = usize::try_from(to.connection).expect("64 bits");
        let mut requests = Vec::new();
        if let Some(link) = self.links.get_mut(at).filter(|l| l.generation == to.generation) {
            let mut sink = Requests { from: to, requests: &mut requests };
            let is_wanted = link.session.reply(to.stream, result.as_slice(), &mut sink);
            if is_wanted || !matches!(result, Piece::Part(_)) {
                return self.submit(requests);
            }
        }
        if matches!(result, Piece::Part(_)) {
            self.forget(to);
        }
        self.submit(requests);
    }
}
