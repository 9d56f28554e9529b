//! What is asked of `/debug/closes`.

use std::time::{Duration, Instant};

use crate::mail::close::Filter;
use crate::metrics::Label;
use crate::metrics::close_code::CloseCodeLabel;

/// Closes in one answer, unless told otherwise; and at most.
const LIMIT: (usize, usize) = (100, 1000);

/// The longest window that is counted, and the usual one.
const WINDOW: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(300));

/// Every parameter.
pub const PARAMETERS: [&str; 7] =
    ["code", "cause", "initiator", "protocol", "since", "window", "limit"];

const SINCE: &str = "a time in seconds since 1970, or one before now like 90s, 15m or 2h";

/// The values of labels, which belong to other rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Every cause with what it means, in one sentence.
    pub causes: Vec<(&'static str, &'static str)>,
    /// Who can end a connection.
    pub initiators: Vec<&'static str>,
    /// Every client protocol.
    pub protocols: Vec<&'static str>,
}

/// A question that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) filter: Filter,
    /// How far back the recent numbers go.
    pub(super) window: Duration,
}

/// A parameter that cannot be used: which, and what it may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Wrong(pub(in crate::api) String);

impl Query {
    /// Reads the part of a target behind the question mark; `now` is `unix_now` after 1970.
    ///
    /// Errors: [`Wrong`], naming the parameter and what it may be.
    pub(super) fn parse(
        text: &str,
        words: &Words,
        now: Instant,
        unix_now: Duration,
    ) -> Result<Self, Wrong> {
        let mut query =
            Self { filter: Filter { limit: LIMIT.0, ..Filter::default() }, window: WINDOW.1 };
        let filter = &mut query.filter;
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.is_empty() {
                // What a form sends for a field that was left empty.
                require_known(name)?;
                continue;
            }
            match name {
                "code" => read_code(value, filter)?,
                "cause" => {
                    let causes: Vec<_> = words.causes.iter().map(|(label, _)| *label).collect();
                    filter.cause = Some(choose(name, value, &causes)?);
                }
                "initiator" => filter.initiator = Some(choose(name, value, &words.initiators)?),
                "protocol" => filter.protocol = Some(choose(name, value, &words.protocols)?),
                "since" => filter.since = since(value, now, unix_now)?,
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT.1).contains(limit));
                    filter.limit = limit.ok_or_else(|| {
                        wrong(name, value, &format!("a number from 1 to {}", LIMIT.1))
                    })?;
                }
                "window" => {
                    let window = duration(value).filter(|window| *window <= WINDOW.0);
                    query.window = window
                        .ok_or_else(|| wrong(name, value, "a time up to 1h, like 30s or 5m"))?;
                }
                _ => require_known(name)?,
            }
        }
        Ok(query)
    }
}

fn require_known(name: &str) -> Result<(), Wrong> {
    if PARAMETERS.contains(&name) {
        return Ok(());
    }
    let (name, known) = (shorten(name), PARAMETERS.join(", "));
    Err(Wrong(format!("there is no parameter `{name}`; there are {known}")))
}

/// A code is a number, or the label under which several of them are counted.
fn read_code(value: &str, filter: &mut Filter) -> Result<(), Wrong> {
    if let Ok(code) = value.parse() {
        filter.code = Some(code);
        return Ok(());
    }
    let texts = (0..CloseCodeLabel::COUNT).map(CloseCodeLabel::text);
    let mut groups = texts.filter(|text| text.parse::<u16>().is_err());
    filter.code_label = Some(groups.find(|text| *text == value).ok_or_else(|| {
        wrong("code", value, "a close code like 1006, or 3xxx_other, 4xxx_other or invalid")
    })?);
    Ok(())
}

fn choose(name: &str, value: &str, allowed: &[&'static str]) -> Result<&'static str, Wrong> {
    let found = allowed.iter().find(|word| **word == value);
    found.copied().ok_or_else(|| wrong(name, value, &format!("one of {}", allowed.join(", "))))
}

/// `None`: longer ago than this machine's clock reaches back, so that everything is since then.
fn since(value: &str, now: Instant, unix_now: Duration) -> Result<Option<Instant>, Wrong> {
    let ago = match value.parse().ok().and_then(|at| Duration::try_from_secs_f64(at).ok()) {
        Some(at) => Some(unix_now.saturating_sub(at)),
        None => duration(value),
    };
    let ago = ago.ok_or_else(|| wrong("since", value, SINCE))?;
    Ok(now.checked_sub(ago))
}

/// A time like `90s`, `15m` or `2h`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

fn wrong(name: &str, value: &str, allowed: &str) -> Wrong {
    Wrong(format!("`{name}` must be {allowed}, not `{}`", shorten(value)))
}

/// As much of what was sent as is worth repeating.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX_NOW: Duration = Duration::from_secs(1_700_000_000);

    fn words() -> Words {
        Words {
            causes: vec![("reset", "It was reset."), ("idle", "It was idle.")],
            initiators: vec!["client", "server"],
            protocols: vec!["raw", "echo"],
        }
    }

    fn parse(text: &str, now: Instant) -> Result<Query, String> {
        Query::parse(text, &words(), now, UNIX_NOW).map_err(|wrong| wrong.0)
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std() + Duration::from_secs(100_000)
    }

    #[test]
    fn every_parameter_is_understood_and_may_be_left_empty() {
        let now = now();
        let all = "code=1006&cause=idle&initiator=server&protocol=raw&since=90s&limit=7&window=30s";
        let filter = Filter {
            code: Some(1006),
            code_label: None,
            cause: Some("idle"),
            initiator: Some("server"),
            protocol: Some("raw"),
            since: Some(now - Duration::from_secs(90)),
            limit: 7,
        };
        let window = Duration::from_secs(30);
        assert_eq!(parse(all, now), Ok(Query { filter, window }));
        let usual = Query {
            filter: Filter { limit: 100, ..Filter::default() },
            window: Duration::from_secs(300),
        };
        assert_eq!(parse("", now), Ok(usual.clone()));
        assert_eq!(parse("code=&cause=&&since=&limit", now), Ok(usual));
        let group = parse("code=4xxx_other", now).unwrap().filter;
        assert_eq!((group.code, group.code_label), (None, Some("4xxx_other")));
    }

    #[test]
    fn since_is_a_time_or_a_time_ago() {
        let now = now();
        let since = |text: &str| parse(&format!("since={text}"), now).unwrap().filter.since;
        for (text, ago) in
            [("1699999990", 10), ("1699999999", 1), ("2m", 120), ("1h", 3600), ("1800000000", 0)]
        {
            assert_eq!(since(text), Some(now - Duration::from_secs(ago)), "{text}");
        }
        assert!(since("0").is_none_or(|since| since <= now - UNIX_NOW), "since ever");
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_can() {
        for (text, wanted) in [
            ("cause=nope", "`cause` must be one of reset, idle, not `nope`"),
            ("initiator=me", "`initiator` must be one of client, server, not `me`"),
            ("protocol=mqtt", "`protocol` must be one of raw, echo, not `mqtt`"),
            (
                "code=abc",
                "`code` must be a close code like 1006, or 3xxx_other, 4xxx_other or invalid, not \
                 `abc`",
            ),
            ("limit=0", "`limit` must be a number from 1 to 1000, not `0`"),
            ("limit=1001", "`limit` must be a number from 1 to 1000, not `1001`"),
            ("window=2h", "`window` must be a time up to 1h, like 30s or 5m, not `2h`"),
            (
                "since=-1",
                "`since` must be a time in seconds since 1970, or one before now like 90s, 15m or \
                 2h, not `-1`",
            ),
            (
                "ip=::1",
                "there is no parameter `ip`; there are code, cause, initiator, protocol, since, \
                 window, limit",
            ),
        ] {
            assert_eq!(parse(text, now()), Err(wanted.to_owned()));
        }
        let long = parse(&format!("cause={}", "x".repeat(5000)), now()).unwrap_err();
        assert!(long.len() < 200, "{long}");
        for text in ["since=NaN", "since=1e300", "since=\u{20ac}", "window=\u{20ac}", "since=s"] {
            assert!(parse(text, now()).is_err(), "{text}");
        }
    }
}
