//! From the checked configuration to the settings that each room takes.

use std::sync::Arc;
use std::time::Instant;

use crate::auth::crowd::{Crowd, Seats};
use crate::auth::origin::Scheme;
use crate::auth::pace::Pace;
use crate::config::{Config, Listener};
use crate::conn::guest::{AddressLimits, Door};
use crate::conn::{self, route::Routes};
use crate::dialect::cause::DrainNotice;
use crate::dialect::{self, centrifuge};
use crate::http1::head::HeadLimits;
use crate::ring::listen;
use crate::ring::uring::{self, Pool};
use crate::shard::{self, secure, teller};
use crate::topic::namespace::Namespaces;
use crate::ws::receiver::Limits;

use super::links;

/// The page at `/` of the client listeners, when the demo is on.
const DEMO_PAGE: &str = include_str!("demo/index.html");

/// Bytes of a receive buffer where each receive takes a whole one (before kernel 6.12): smaller and
/// more of them from the same memory.
const WHOLE_BUFFER_BYTES: u32 = 4096;

/// Addresses that the limits for addresses can tell apart, for each shard: 512 KiB.
const ADDRESSES_KNOWN: usize = 64 * 1024;

/// Connections for which there is no room are still heard and told so, as long as they are fewer than
/// one in this many of those for which there is, and not more than [`TURNED_AWAY_MAX`].
const TURNED_AWAY_SHARE: usize = 20;

/// See [`TURNED_AWAY_SHARE`].
const TURNED_AWAY_MAX: std::ops::RangeInclusive<usize> = 64..=1024;

/// When drained raw clients are told to come back, in milliseconds.
const DRAIN_RETRY_MS: std::ops::RangeInclusive<u32> = 500..=5000;

/// Settings of connections, shared by all shards.
pub fn of_connections(config: &Config, shards: usize, now: Instant) -> conn::Settings {
    conn::Settings {
        head: HeadLimits {
            bytes_max: config.http.head_bytes_max,
            headers_max: config.http.headers_max,
        },
        head_timeout: config.http.head_timeout,
        messages: Limits {
            message_bytes_max: config.websocket.message_bytes_max,
            fragments_max: config.websocket.fragments_max,
        },
        message_timeout: config.websocket.message_timeout,
        close_timeout: config.websocket.close_timeout,
        idle_timeout: config.websocket.idle_timeout,
        control_frames: config.websocket.control_frames,
        routes: Routes {
            raw: config.routes.raw,
            echo: config.routes.echo,
            centrifuge: config.routes.centrifuge,
        },
        doors: config.listeners.iter().map(door).collect(),
        addresses: addresses(config, shards, now),
        dialect: dialect::Settings {
            ping: config.websocket.ping,
            commands: config.limits.commands,
            centrifuge: centrifuge::Settings {
                ping: config.centrifuge.ping,
                connect_timeout: config.centrifuge.connect_timeout,
            },
        },
        namespaces: Namespaces::new(config.namespaces.iter().cloned()),
        drain: DrainNotice { code: config.drain.code, retry_ms: DRAIN_RETRY_MS },
        outbox: config.outbox,
        deflate: config.deflate.messages,
        page: config.routes.demo.then_some(DEMO_PAGE),
    }
}

fn door(listener: &Listener) -> Door {
    Door {
        origins: listener.origins.clone(),
        scheme: if listener.tls.is_some() { Scheme::Https } else { Scheme::Http },
        proxy_protocol: listener.proxy_protocol,
        trusted: listener.trusted_proxies.clone(),
    }
}

fn addresses(config: &Config, shards: usize, now: Instant) -> AddressLimits {
    let limits = &config.limits;
    let known = ADDRESSES_KNOWN * shards;
    let crowd = limits.address_connections_max.map(|max| Arc::new(Crowd::new(max, known)));
    let pace = limits.address_rate.map(|rate| Arc::new(Pace::new(rate, known, now)));
    AddressLimits { crowd, pace, exempt: limits.address_exempt.clone() }
}

/// The settings of `shards` shards. The limits on connections hold for all of them together, the
/// others are shared out among them.
pub fn of_shards(
    config: &Config,
    shards: usize,
    connections_max: usize,
    epoch_nonce: String,
    conn: Arc<conn::Settings>,
) -> shard::Settings {
    let seats = |max| Arc::new(Seats::new(max));
    let told = (connections_max / TURNED_AWAY_SHARE)
        .clamp(*TURNED_AWAY_MAX.start(), *TURNED_AWAY_MAX.end());
    shard::Settings {
        shards,
        seats: seats(connections_max),
        listener_seats: config.listeners.iter().map(|l| seats(seats_at(l))).collect(),
        buffers_bytes: buffers_bytes(config),
        turned_away_max: told.div_ceil(shards),
        handshakes_max: config.limits.handshakes_max.div_ceil(shards),
        subscriptions_max: config.limits.subscriptions_max,
        topics_max: config.limits.topics_max.div_ceil(shards),
        closes_kept: config.closes_kept,
        told: teller::Settings {
            abnormal_max: config
                .log
                .closes_rate
                .div_ceil(u32::try_from(shards).unwrap_or(u32::MAX)),
            all: config.log.access,
        },
        deflate_contexts_max: config.deflate.contexts_max.div_ceil(shards),
        epoch_nonce,
        links: links::wanted(config).into_iter().zip(shards + 1..).collect(),
        tls: secure::Settings {
            offers: Vec::new(),
            handshake_timeout: config.tls.handshake_timeout,
            handshakes_max: config.tls.handshakes_max.div_ceil(shards),
            handshakes_per_turn: config.tls.handshakes_per_turn,
            handshakes_rate: config.tls.handshakes_rate,
        },
        conn,
    }
}

/// What shards go on with that have had `former` until now: what was counted stays counted, and what
/// needs a restart is the same in `config`.
pub(super) fn renewed(
    config: &Config,
    former: &shard::Settings,
    connections_max: usize,
    now: Instant,
) -> shard::Settings {
    let shards = former.shards;
    let mut conn = of_connections(config, shards, now);
    let before = &former.conn.addresses;
    if let (Some(max), Some(crowd)) = (config.limits.address_connections_max, &before.crowd) {
        crowd.set_max(max);
        conn.addresses.crowd = Some(Arc::clone(crowd));
    }
    if config.limits.address_rate == before.pace.as_ref().map(|pace| pace.rate()) {
        conn.addresses.pace.clone_from(&before.pace);
    }
    let nonce = former.epoch_nonce.clone();
    let mut settings = of_shards(config, shards, connections_max, nonce, Arc::new(conn));
    former.seats.set_max(connections_max);
    settings.seats = Arc::clone(&former.seats);
    for (seats, listener) in former.listener_seats.iter().zip(&config.listeners) {
        seats.set_max(seats_at(listener));
    }
    settings.listener_seats.clone_from(&former.listener_seats);
    settings.tls.offers.clone_from(&former.tls.offers);
    settings
}

fn seats_at(listener: &Listener) -> usize {
    listener.connections_max.unwrap_or(usize::MAX)
}

/// Memory of a shard's receive buffers.
fn buffers_bytes(config: &Config) -> usize {
    let ring = &config.ring;
    usize::from(ring.buffers) * usize::try_from(ring.buffer_bytes).unwrap_or(usize::MAX)
}

/// Settings of the rings.
pub(super) fn of_ring(config: &Config) -> uring::Settings {
    let ring = &config.ring;
    let bytes = u64::from(ring.buffers) * u64::from(ring.buffer_bytes);
    let whole = WHOLE_BUFFER_BYTES.min(ring.buffer_bytes);
    let count = (bytes / u64::from(whole) / 2).clamp(u64::from(ring.buffers), 1 << 15);
    uring::Settings {
        submission_entries: ring.entries,
        completion_entries: ring.entries * 4,
        shared_buffers: Pool { count: ring.buffers, bytes: ring.buffer_bytes },
        whole_buffers: Pool { count: u16::try_from(count).unwrap_or(ring.buffers), bytes: whole },
        disable: ring.disable.clone(),
    }
}

/// Options of the client listeners.
pub(super) fn of_listeners(config: &Config) -> listen::Options {
    listen::Options {
        send_buffer_bytes: usize::try_from(config.socket.send_buffer).unwrap_or(usize::MAX),
        not_sent_lowat_bytes: config.socket.notsent_lowat,
        backlog: config.socket.backlog,
    }
}
