//! One topic that the engine sends: its order, and what is done about gaps in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::super::history::{History, Weight};
use super::super::namespace::{Mode, Namespace};
use super::super::publication::{Epoch, Position, Publication};
use super::super::sequence::{Joined, Sequence};
use super::{Found, Gaps, Head};

/// Publications behind a gap that are kept until it is closed; more are read from the engine.
const AHEAD_MAX: usize = 256;

/// A topic that the engine sends.
#[derive(Debug)]
pub(super) struct Following {
    /// What was delivered; its history is what is remembered of that.
    sequence: Sequence,
    /// The newest offset that is known.
    head: u64,
    /// What came behind a gap, oldest first.
    ahead: VecDeque<Arc<Publication>>,
    /// The open question to the engine.
    reading: Option<Reading>,
    /// What came of another life since that was asked: an older one, or the next.
    foreign: Option<Position>,
    /// What the last reading should have brought and did not is gone, if the next does not either.
    is_stuck: bool,
    /// Where it stood when the engine could not be reached any more.
    suspended_at: Option<u64>,
    /// How often the engine had been started again, as it last said.
    restarts: u64,
}

#[derive(Debug)]
struct Reading {
    ticket: u32,
    /// What had come of another life before.
    foreign: Option<Position>,
}

/// What one step is taken with, and what follows from it.
pub(super) struct Step<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) now: Instant,
    pub(super) last_ticket: &'a mut u32,
    pub(super) gaps: &'a mut Gaps,
    pub(super) moves: Vec<Move>,
}

/// What follows from a step.
pub(super) enum Move {
    Deliver(Arc<Publication>),
    Read { ticket: u32, since: u64 },
    Lost,
}

impl Following {
    /// From `head` on; `None`: a topic without positions.
    pub(super) fn new(head: Option<Head>) -> Self {
        let restarts = head.as_ref().map_or(0, |head| head.restarts);
        let from = Position { offset: 0, epoch: Epoch::new("") };
        Self::from(head.map_or(from, |head| head.position), restarts)
    }

    fn from(Position { epoch, offset: top }: Position, restarts: u64) -> Self {
        Self {
            sequence: Sequence::new(epoch, top),
            head: top,
            ahead: VecDeque::new(),
            reading: None,
            foreign: None,
            is_stuck: false,
            suspended_at: None,
            restarts,
        }
    }

    /// What is remembered.
    pub(super) fn weight(&self) -> Weight {
        Weight::of(&self.sequence.history)
    }

    /// Whether the engine has more than was delivered.
    pub(super) fn is_behind(&self) -> bool {
        self.head > self.sequence.top
    }

    pub(super) fn is_reading(&self, ticket: u32) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.ticket == ticket)
    }

    pub(super) fn join(&self, namespace: &Namespace, since: Option<&Position>) -> Joined {
        self.sequence.join(namespace, since)
    }

    /// Whether something was delivered that the engine has forgotten since, or may have.
    pub(super) fn has_seen_more_than(&self, head: &Head) -> bool {
        let Some(top) = self.suspended_at.filter(|_| self.is_of(&head.position.epoch)) else {
            return false;
        };
        match head.restarts.saturating_sub(self.restarts) {
            0 => top > head.position.offset,
            1 => top > head.kept,
            // What it remembered the times before is not known any more.
            _ => top > 0,
        }
    }

    /// Whether the engine is still to say how far it has come.
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended_at.is_some()
    }

    /// The engine cannot be reached: what was asked is not answered.
    pub(super) fn suspend(&mut self) {
        self.reading = None;
        self.foreign = None;
        self.ahead.clear();
        // What it had beyond that it may have forgotten when it can be reached again.
        self.head = self.sequence.top;
        self.suspended_at.get_or_insert(self.sequence.top);
    }

    /// The engine sends the topic again, and has come as far as `head`.
    pub(super) fn resume(&mut self, head: &Head, step: &mut Step<'_>) {
        self.suspended_at = None;
        self.take_ahead(step);
        self.notice(&head.position, step);
        // Of the life that is now the topic's, be it the one of before or another.
        self.restarts = head.restarts;
        self.look_into_foreign(step);
    }

    /// The engine has come as far as `head`.
    fn notice(&mut self, head: &Position, step: &mut Step<'_>) {
        if !self.is_of(&head.epoch) {
            self.begin_anew(head, step);
        }
        self.head = self.head.max(head.offset);
        self.catch_up(step);
    }

    /// A publication has come.
    pub(super) fn arrived(
        &mut self,
        epoch: Epoch,
        publication: Arc<Publication>,
        step: &mut Step<'_>,
    ) {
        let Some(offset) = publication.offset.filter(|offset| *offset > 0) else { return };
        if !self.is_of(&epoch) {
            return self.meet_foreign(Position { offset, epoch }, step);
        }
        if offset <= self.sequence.top {
            return;
        }
        self.head = self.head.max(offset);
        if self.suspended_at.is_some() {
            // Until the engine has said what it remembers, this may follow on something else.
            return self.keep_ahead(publication);
        }
        // Of a topic of which only the newest counts, nothing has to be read that is older.
        if self.is_next(offset) || step.namespace.mode == Mode::Latest {
            self.deliver(publication, step);
            self.take_ahead(step);
        } else {
            self.keep_ahead(publication);
        }
        self.catch_up(step);
    }

    /// A publication of another life has come: only the engine knows which life is the topic's now.
    pub(super) fn meet_foreign(&mut self, position: Position, step: &mut Step<'_>) {
        self.foreign = Some(position);
        if self.suspended_at.is_none() {
            self.look_into_foreign(step);
        }
    }

    fn look_into_foreign(&mut self, step: &mut Step<'_>) {
        let Some(position) = self.foreign.take() else { return };
        if self.is_of(&position.epoch) {
            self.head = self.head.max(position.offset);
            return self.catch_up(step);
        }
        self.foreign = Some(position);
        self.ask(self.sequence.top, step);
    }

    /// Asks what came after `since`, unless something is asked already.
    pub(super) fn ask(&mut self, since: u64, step: &mut Step<'_>) -> Option<u32> {
        if self.reading.is_some() {
            return None;
        }
        *step.last_ticket = step.last_ticket.wrapping_add(1);
        let ticket = *step.last_ticket;
        self.reading = Some(Reading { ticket, foreign: self.foreign.take() });
        step.moves.push(Move::Read { ticket, since });
        Some(ticket)
    }

    /// The answer: what is new is delivered, what is older remembered.
    pub(super) fn found(&mut self, found: Found, step: &mut Step<'_>) {
        let asked_about = self.reading.take().and_then(|reading| reading.foreign);
        let was_behind = self.is_behind();
        if !self.is_of(&found.head.epoch) {
            self.begin_anew(&found.head, step);
        }
        if let Some(position) = asked_about.filter(|position| self.is_of(&position.epoch)) {
            self.head = self.head.max(position.offset);
        }
        let before = self.sequence.top;
        let lost = step.gaps.lost;
        let mut older = Vec::new();
        for publication in found.publications {
            let Some(offset) = publication.offset.filter(|offset| *offset > 0) else { continue };
            if offset <= before {
                older.push(publication);
                continue;
            }
            if offset > self.sequence.top && !self.is_next(offset) {
                self.jump(offset - 1, step);
            }
            if self.is_next(offset) {
                self.deliver(publication, step);
            }
        }
        if found.head.offset > self.sequence.top {
            self.jump(found.head.offset, step);
        }
        self.head = self.head.max(found.head.offset);
        self.remember(older, step);
        self.take_ahead(step);
        if was_behind && self.sequence.top > before && step.gaps.lost == lost {
            step.gaps.healed += 1;
        }
        let is_in_vain = self.is_behind() && self.sequence.top == before;
        if is_in_vain && self.is_stuck {
            self.give_up(step);
        }
        self.is_stuck = is_in_vain && !self.is_stuck;
        self.look_into_foreign(step);
        self.catch_up(step);
    }

    /// The engine can be reached and does not answer: what is missing counts as gone.
    pub(super) fn failed(&mut self, step: &mut Step<'_>) {
        self.reading = None;
        if self.is_behind() {
            let lost = step.gaps.lost;
            self.give_up(step);
            if step.gaps.lost == lost {
                // Not even the newest value could be read.
                step.gaps.lost += 1;
                step.moves.push(Move::Lost);
            }
        }
        self.catch_up(step);
    }

    /// Whether `offset` comes right behind what was delivered.
    fn is_next(&self, offset: u64) -> bool {
        self.sequence.top.checked_add(1) == Some(offset)
    }

    fn is_of(&self, epoch: &Epoch) -> bool {
        self.sequence.position().is_some_and(|position| position.epoch == *epoch)
    }

    fn catch_up(&mut self, step: &mut Step<'_>) {
        if self.is_behind() {
            self.ask(self.sequence.top, step);
        }
    }

    /// The topic has another life, in which `head` is known.
    fn begin_anew(&mut self, head: &Position, step: &mut Step<'_>) {
        // The newest value is still to be delivered where nothing else counts.
        let newest = u64::from(step.namespace.mode == Mode::Latest);
        let top = head.offset.saturating_sub(newest);
        let position = Position { offset: top, epoch: head.epoch.clone() };
        let foreign = self.foreign.take();
        // How often the engine was started again in this life is not known: too few at most, so that
        // more may count as lost, and nothing is missed.
        *self = Self { foreign, ..Self::from(position, 0) };
        self.lose(step);
    }

    /// What comes between the newest delivered and `offset`, inclusive, is gone.
    fn jump(&mut self, offset: u64, step: &mut Step<'_>) {
        self.sequence.top = offset;
        self.sequence.history = History::default();
        self.lose(step);
    }

    /// Goes on behind the gap.
    fn give_up(&mut self, step: &mut Step<'_>) {
        let next = self.ahead.front().and_then(|publication| publication.offset);
        self.jump(next.map_or(self.head, |next| next - 1), step);
        self.take_ahead(step);
    }

    fn lose(&self, step: &mut Step<'_>) {
        if step.namespace.mode != Mode::Latest {
            step.gaps.lost += 1;
            step.moves.push(Move::Lost);
        }
    }

    fn deliver(&mut self, publication: Arc<Publication>, step: &mut Step<'_>) {
        if let Some(offset) = publication.offset {
            self.sequence.top = offset;
            self.head = self.head.max(offset);
        }
        self.sequence.history.push(Arc::clone(&publication), step.namespace, step.now);
        step.moves.push(Move::Deliver(publication));
    }

    /// Keeps what came behind a gap, as far as there is room; the rest is read.
    fn keep_ahead(&mut self, publication: Arc<Publication>) {
        let is_newest = self.ahead.back().is_none_or(|last| last.offset < publication.offset);
        if self.ahead.len() < AHEAD_MAX && is_newest {
            self.ahead.push_back(publication);
        }
    }

    fn take_ahead(&mut self, step: &mut Step<'_>) {
        while let Some(publication) = self.ahead.pop_front() {
            match publication.offset {
                Some(offset) if self.is_next(offset) => self.deliver(publication, step),
                Some(offset) if offset > self.sequence.top => {
                    return self.ahead.push_front(publication);
                }
                Some(_) | None => {}
            }
        }
    }

    /// Remembers what comes right before that which is remembered.
    fn remember(&mut self, older: Vec<Arc<Publication>>, step: &mut Step<'_>) {
        let oldest =
            self.sequence.history.oldest_offset().unwrap_or(self.sequence.top.saturating_add(1));
        let mut next = oldest;
        let mut adjacent: Vec<_> = older
            .into_iter()
            .rev()
            .skip_while(|publication| publication.offset >= Some(oldest))
            .take_while(|publication| {
                next = next.saturating_sub(1);
                publication.offset == Some(next)
            })
            .collect();
        adjacent.reverse();
        self.sequence.history.extend_back(adjacent, step.namespace, step.now);
    }
}
