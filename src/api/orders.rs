//! What operators can have done to the gateway as a whole: `POST /control/{order}`.
//!
//! The daemon carries orders out; what it says is passed on as JSON.

use std::rc::Rc;

use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::failure::Failure;
use super::reply;
use super::state::State;

/// An order, and where the answer goes.
#[derive(Debug)]
pub enum Order {
    /// Drain and end, as on SIGTERM. Of a drain that is under way only the figures are told.
    Drain(oneshot::Sender<Drain>),
}

/// How a drain will go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Drain {
    /// Connections that are to be told.
    pub connections: u64,
    /// Time after which the process will have ended at the latest, in seconds.
    pub seconds_max: f64,
}

/// The way to the daemon.
pub type Orders = UnboundedSender<Order>;

/// Has the order called `name` carried out; returns the answer in JSON.
///
/// Errors: [`Failure::UnknownOrder`], [`Failure::Ending`].
pub(super) async fn carry_out(state: &Rc<State>, name: &str) -> Result<Vec<u8>, Failure> {
    match name {
        "drain" => ask(state, Order::Drain).await,
        _ => Err(Failure::UnknownOrder),
    }
}

async fn ask<T: Serialize>(
    state: &State,
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Result<Vec<u8>, Failure> {
    let (sender, answer) = oneshot::channel();
    state.parts.orders.send(order(sender)).map_err(|_| Failure::Ending)?;
    answer.await.map(|answer| reply::success(&answer)).map_err(|_| Failure::Ending)
}
