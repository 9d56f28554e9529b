//! What operators can have done to the gateway as a whole: `POST /control/{order}`.
//!
//! The daemon carries orders out; what it says is passed on as JSON.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
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
    /// Read the configuration again, as on SIGHUP. Answered with what changes, or why nothing does.
    Reload(oneshot::Sender<Result<Changes, String>>),
    /// Tell what this configuration would change; nothing is changed.
    Compare {
        /// The configuration.
        text: String,
        /// What it would change, or what is wrong with it.
        answer: oneshot::Sender<Result<Changes, String>>,
    },
}

/// What another configuration changes; each setting as `section.key: old -> new`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// For all, at once.
    pub live: Vec<String>,
    /// For those who connect from then on.
    pub new_connections: Vec<String>,
    /// After a restart.
    pub restart: Vec<String>,
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

/// Why an order was not carried out.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It could not be.
    Failure(Failure),
    /// The configuration is no good.
    Configuration(String),
}

/// Has the order called `name` carried out; returns the answer in JSON.
///
/// Errors: [`Failure::UnknownOrder`], [`Failure::Ending`]; [`Refusal::Configuration`].
pub(super) async fn carry_out(
    state: &Rc<State>,
    name: &str,
    text: String,
) -> Result<Vec<u8>, Refusal> {
    let changes = match name {
        "drain" => return Ok(reply::success(&ask(state, Order::Drain).await?)),
        "reload" => ask(state, Order::Reload).await?,
        "diff" => ask(state, |answer| Order::Compare { text, answer }).await?,
        _ => return Err(Failure::UnknownOrder.into()),
    };
    changes.map(|changes| reply::success(&changes)).map_err(Refusal::Configuration)
}

async fn ask<T>(
    state: &State,
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Result<T, Failure> {
    let (sender, answer) = oneshot::channel();
    state.parts.orders.send(order(sender)).map_err(|_| Failure::Ending)?;
    answer.await.map_err(|_| Failure::Ending)
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}
