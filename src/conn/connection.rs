//! The phases of one connection.

use std::time::Instant;

use crate::dialect::cause::{Cause, Farewell, Protocol};
use crate::dialect::client_id::ClientId;
use crate::dialect::{Answer, Ticket};
use crate::topic::name::TopicName;
use crate::ws::close::CloseCode;
use crate::ws::receiver::Receiver;

use super::closing::{Ending, Epitaph, Verdict};
use super::guest::{Lack, Room};
use super::last_words::{Hearing, LastWords};
use super::open::{Open, Read, TICKETS_MAX};
pub use super::stage::{Leave, Stage};
use super::upgrade::{Admission, Head, Step};
use super::{Context, Settings};

mod transport;

/// Received bytes that may wait for the hub; then the connection is not read.
const CARRY_BYTES_MAX: usize = 64 * 1024;

/// One client.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    ending: Ending,
    /// The client protocol, once upgraded.
    protocol: Option<Protocol>,
    /// Received bytes that could not be handled yet.
    carry: Vec<u8>,
    /// Questions to the hub that are open.
    pending: u16,
    /// The hub takes no questions for now.
    stalled: bool,
    /// The peer sends nothing behind the carried bytes; why that ends the connection.
    fin: Option<Cause>,
    /// By which listener it came.
    listener: u16,
}

#[derive(Debug)]
enum Phase {
    /// The request head is on its way.
    Head(Head),
    /// The hub decides whether it is upgraded.
    Admitting(Box<Admission>),
    /// Upgraded.
    Open(Open),
    /// Our last word is written.
    LastWords(LastWords),
    /// Nothing more is to be done.
    Over(Leave, Epitaph),
}

impl Connection {
    /// A connection that has just been accepted by listener number `listener`.
    pub fn new(listener: u16, room: Room, now: Instant, settings: &Settings) -> Self {
        Self {
            phase: Phase::Head(Head::new(now + settings.head_timeout, room)),
            ending: Ending::default(),
            protocol: None,
            carry: Vec::new(),
            pending: 0,
            stalled: false,
            fin: None,
            listener,
        }
    }

    /// What the socket is to do now.
    pub fn stage(&self) -> Stage {
        match &self.phase {
            Phase::Head(_) | Phase::Admitting(_) | Phase::Open(_) => Stage::Talking,
            Phase::LastWords(_) => Stage::LastWords,
            Phase::Over(leave, _) => Stage::Over(*leave),
        }
    }

    /// The client protocol; `None` unless the connection was upgraded.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The client's id, where its protocol has one, while it is open.
    pub fn client_id(&self) -> Option<ClientId> {
        match &self.phase {
            Phase::Open(open) => open.session.client_id(),
            _ => None,
        }
    }

    /// Whether the client may refer to its earlier messages, for which memory is kept.
    pub fn keeps_context(&self) -> bool {
        match &self.phase {
            Phase::Open(open) => open.keeps_context(),
            Phase::Admitting(admission) => admission.keeps_context(),
            Phase::Head(_) | Phase::LastWords(_) | Phase::Over(..) => false,
        }
    }

    /// Whether messages may come compressed.
    pub fn inflates(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.inflates())
    }

    /// By which listener it came.
    pub fn listener(&self) -> u16 {
        self.listener
    }

    /// What is to be remembered of it.
    pub fn epitaph(&self) -> Epitaph {
        match &self.phase {
            Phase::Open(open) => Epitaph { client: open.session.client_id(), ..Epitaph::default() },
            Phase::LastWords(LastWords { epitaph, .. }) | Phase::Over(_, epitaph) => {
                epitaph.clone()
            }
            Phase::Head(_) | Phase::Admitting(_) => Epitaph::default(),
        }
    }

    /// Why the connection has ended; only meaningful when it is over.
    pub fn verdict(&self) -> Verdict {
        self.ending.verdict()
    }

    /// Whether bytes may be read from the socket now. After our last word they always are: the
    /// peer's Close and FIN are among them.
    pub fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Head(_) | Phase::LastWords(_) | Phase::Over(..) => true,
            Phase::Admitting(_) => false,
            Phase::Open(_) => !self.is_blocked() && self.carry.len() < CARRY_BYTES_MAX,
        }
    }

    /// Whether received bytes wait that can be handled at once: call [`Connection::resume`].
    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Open(_)) && !self.carry.is_empty() && !self.is_blocked()
    }

    /// When [`Connection::handle_timeout`] is to be called; `None` when it is over.
    pub fn deadline(&self, settings: &Settings) -> Option<Instant> {
        match &self.phase {
            Phase::Head(head) => Some(head.deadline),
            Phase::Admitting(admission) => Some(admission.deadline),
            Phase::Open(open) => Some(open.deadline(settings)),
            Phase::LastWords(last) => Some(last.deadline),
            Phase::Over(..) => None,
        }
    }

    /// The hub takes no questions of this connection for now, or does again. Returns what was so
    /// before.
    pub fn set_stalled(&mut self, stalled: bool) -> bool {
        std::mem::replace(&mut self.stalled, stalled)
    }

    /// Why there is no room for this connection, while its request is on the way.
    pub fn lack(&self) -> Option<Lack> {
        match &self.phase {
            Phase::Head(head) => head.lack(),
            Phase::Admitting(_) | Phase::Open(_) | Phase::LastWords(_) | Phase::Over(..) => None,
        }
    }

    /// Bytes have arrived.
    pub fn receive(&mut self, input: &mut [u8], cx: &mut Context<'_>) {
        let input = match cx.guest.as_deref_mut() {
            Some(guest) if guest.is_awaited() => {
                let used = self.read_proxy_header(input, cx);
                &mut input[used..]
            }
            _ => input,
        };
        if !input.is_empty() {
            self.receive_own(input, cx);
        }
    }

    /// Bytes on the heap that this connection owns.
    pub fn heap_bytes(&self) -> usize {
        let phase = match &self.phase {
            Phase::Admitting(admission) => admission.heap_bytes(),
            Phase::Open(open) => open.heap_bytes(),
            Phase::LastWords(last) => last.heap_bytes(),
            Phase::Head(_) | Phase::Over(..) => 0,
        };
        self.carry.capacity() + phase
    }

    /// The client's own bytes have arrived. Behind messages that wait for a later turn they wait, too.
    fn receive_own(&mut self, input: &mut [u8], cx: &mut Context<'_>) {
        if self.is_ready() {
            self.carry.extend_from_slice(input);
        } else if self.carry.is_empty() {
            let used = self.consume(input, cx);
            if used < input.len() && !matches!(self.phase, Phase::Over(..)) {
                self.carry = input[used..].to_vec();
            }
        } else {
            self.carry.extend_from_slice(input);
            self.resume(cx);
        }
    }

    /// Goes on with bytes that arrived before.
    pub fn resume(&mut self, cx: &mut Context<'_>) {
        let mut carry = std::mem::take(&mut self.carry);
        let used = self.consume(&mut carry, cx);
        if used < carry.len() && !matches!(self.phase, Phase::Over(..)) {
            carry.drain(..used);
            self.carry = carry;
        }
        self.settle_fin();
    }

    /// The hub has joined it to the topic of this name, which all who listen there share.
    pub fn share_name(&mut self, name: &TopicName) {
        if let Phase::Admitting(admission) = &mut self.phase {
            admission.share_name(name);
        }
    }

    /// The hub has answered a question.
    pub fn answer(&mut self, ticket: Ticket, answer: Answer, cx: &mut Context<'_>) {
        self.pending = self.pending.saturating_sub(1);
        match &mut self.phase {
            Phase::Open(open) => {
                let read = open.answer(ticket, answer, &mut self.pending, cx);
                self.after(read, cx);
            }
            Phase::Admitting(_) => self.admit(answer, cx),
            Phase::Head(_) | Phase::LastWords(_) | Phase::Over(..) => {}
        }
        self.settle_carry(cx);
    }

    /// Does what is due at `cx.now`.
    pub fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        match &mut self.phase {
            Phase::Head(head) if head.deadline <= cx.now => {
                self.ending.begin(Cause::HeadTimeout);
                // A client that has sent nothing is told nothing.
                self.phase = if self.carry.is_empty() {
                    self.over(Leave::Fin)
                } else {
                    head.time_out(cx);
                    self.last_words(None, cx)
                };
            }
            Phase::Admitting(admission) if admission.deadline <= cx.now => {
                self.ending.begin(Cause::Refused);
                admission.time_out(cx);
                self.phase = self.last_words(None, cx);
            }
            Phase::Open(open) => {
                if let Some(cause) = open.handle_timeout(cx) {
                    self.finish(cause, cx);
                }
            }
            Phase::LastWords(last) if last.deadline <= cx.now => {
                self.phase = self.over(Leave::Reset);
            }
            Phase::Head(_) | Phase::Admitting(_) | Phase::LastWords(_) | Phase::Over(..) => {}
        }
        self.settle_carry(cx);
    }

    /// The peer reads again: frames can be sent now that the socket had no room for.
    pub fn unblocked(&mut self, cx: &mut Context<'_>) {
        if let Phase::Open(open) = &mut self.phase {
            open.unblocked(cx);
        }
    }

    /// After our last word, bytes that were kept for later are only searched for the peer's Close.
    fn settle_carry(&mut self, cx: &mut Context<'_>) {
        if matches!(self.phase, Phase::LastWords(_)) {
            let mut carry = std::mem::take(&mut self.carry);
            self.consume_last(&mut carry, cx);
            self.settle_fin();
        }
    }

    fn settle_fin(&mut self) {
        let unread = matches!(self.phase, Phase::Open(_)) && !self.carry.is_empty();
        if let Some(cause) = self.fin
            && !unread
            && !matches!(self.phase, Phase::Over(..))
        {
            self.ending.begin(cause);
            self.phase = self.over(Leave::Fin);
        }
    }

    /// Publications of `topic`, which this client was subscribed to and is no more, are lost.
    pub fn lose_position(&mut self, topic: &TopicName, cx: &mut Context<'_>) {
        if let Phase::Open(open) = &mut self.phase {
            let read = open.lose_position(topic, cx);
            self.after(read, cx);
            self.settle_carry(cx);
        }
    }

    /// Ends the connection for `cause`, with the Close that its protocol has for it.
    pub fn end(&mut self, cause: Cause, cx: &mut Context<'_>) {
        self.finish(cause, cx);
        self.settle_carry(cx);
    }

    fn finish(&mut self, cause: Cause, cx: &mut Context<'_>) {
        self.ending.begin(cause);
        let over = self.over(Leave::Fin);
        match std::mem::replace(&mut self.phase, over) {
            Phase::Open(open) => {
                let protocol = open.session.protocol();
                self.ending.say(cause, protocol, cx);
                self.phase = self.last_words(Some(open.into_receiver()), cx);
            }
            Phase::Admitting(admission) => {
                admission.refuse_unavailable(cx);
                self.phase = self.last_words(None, cx);
            }
            Phase::Head(_) => {}
            phase @ (Phase::LastWords(_) | Phase::Over(..)) => self.phase = phase,
        }
    }

    /// Ends the connection with a Close of the server API's choice.
    pub fn disconnect(&mut self, farewell: &Farewell, cx: &mut Context<'_>) {
        let is_open = matches!(self.phase, Phase::Open(_));
        if is_open {
            self.ending.begin(Cause::Disconnected);
            self.ending.write(Some((CloseCode(farewell.code), &farewell.reason)), cx);
        }
        self.end(Cause::Disconnected, cx);
        if let Phase::LastWords(last) = &mut self.phase
            && is_open
        {
            last.epitaph.given = Some(Box::from(&*farewell.reason));
        }
    }

    /// Handling this connection has panicked: its state is not to be trusted any more, and what the
    /// call has written is lost.
    pub fn crash(&mut self, cx: &mut Context<'_>) {
        self.ending.begin(Cause::Internal);
        self.carry = Vec::new();
        cx.tally.control_bytes = 0;
        // Nothing can be said behind an upgrade or a Close that was not sent.
        let is_cut = cx.tally.opened.is_some() || cx.tally.close_sent.take().is_some();
        self.phase = match self.protocol {
            Some(protocol) if !is_cut => {
                self.ending.say(Cause::Internal, protocol, cx);
                self.last_words(None, cx)
            }
            Some(_) | None => self.over(Leave::Reset),
        };
    }

    /// Gives the connection up: what is queued will not be read.
    pub fn abandon(&mut self, cause: Cause) {
        self.ending.begin(cause);
        self.phase = self.over(Leave::Reset);
    }

    fn is_blocked(&self) -> bool {
        self.stalled || self.pending >= TICKETS_MAX
    }

    fn consume(&mut self, input: &mut [u8], cx: &mut Context<'_>) -> usize {
        let mut used = 0;
        if let Phase::Head(_) = self.phase {
            used = self.consume_head(input, cx);
        }
        let rest = &mut input[used..];
        match &mut self.phase {
            Phase::Head(_) | Phase::Admitting(_) => used,
            Phase::Open(_) if self.stalled || rest.is_empty() => used,
            Phase::Open(open) => {
                let (consumed, read) = open.read(rest, &mut self.ending, &mut self.pending, cx);
                self.after(read, cx);
                match self.phase {
                    Phase::Open(_) => used + consumed,
                    _ => used + consumed + self.consume_last(&mut input[used + consumed..], cx),
                }
            }
            Phase::LastWords(_) => used + self.consume_last(rest, cx),
            Phase::Over(..) => input.len(),
        }
    }

    fn consume_head(&mut self, input: &[u8], cx: &mut Context<'_>) -> usize {
        let Phase::Head(head) = &mut self.phase else { return 0 };
        let (used, step) = head.read(input, self.listener, cx);
        match step {
            Step::Incomplete => {}
            Step::Answered(cause) => {
                self.ending.begin(cause);
                self.phase = self.last_words(None, cx);
            }
            Step::Admit(admission) => {
                self.pending += 1;
                self.phase = Phase::Admitting(admission);
            }
            Step::Open(session, peer) => {
                self.protocol = Some(session.protocol());
                cx.tally.opened = self.protocol;
                self.phase = Phase::Open(Open::new(session, peer, cx));
            }
        }
        used
    }

    fn admit(&mut self, answer: Answer, cx: &mut Context<'_>) {
        let over = self.over(Leave::Fin);
        let phase = std::mem::replace(&mut self.phase, over);
        let Phase::Admitting(admission) = phase else { return };
        self.phase = match admission.answered(answer, cx) {
            Some((session, peer)) => {
                self.protocol = Some(session.protocol());
                cx.tally.opened = self.protocol;
                Phase::Open(Open::new(session, peer, cx))
            }
            None => {
                self.ending.begin(Cause::Refused);
                self.last_words(None, cx)
            }
        };
    }

    fn after(&mut self, read: Read, cx: &mut Context<'_>) {
        match read {
            Read::All | Read::Part => {}
            Read::Closed(reason) => {
                let epitaph = Epitaph { heard: reason, ..self.epitaph() };
                self.phase = Phase::LastWords(LastWords::new(None, epitaph, cx));
            }
            Read::Broken(error) => {
                if let Some(protocol) = self.protocol {
                    self.ending.fail(error, protocol, cx);
                }
                self.phase = self.last_words(None, cx);
            }
            Read::End(cause) => self.finish(cause, cx),
        }
    }

    /// Looks for the peer's Close, and throws everything else away.
    fn consume_last(&mut self, input: &mut [u8], cx: &mut Context<'_>) -> usize {
        let Phase::LastWords(last) = &mut self.phase else { return input.len() };
        if last.read(input, &mut self.ending, cx) == Hearing::Enough {
            self.phase = self.over(Leave::Reset);
        }
        input.len()
    }

    fn last_words(&self, receiver: Option<Receiver>, cx: &Context<'_>) -> Phase {
        Phase::LastWords(LastWords::new(receiver, self.epitaph(), cx))
    }

    fn over(&self, leave: Leave) -> Phase {
        Phase::Over(leave, self.epitaph())
    }
}
