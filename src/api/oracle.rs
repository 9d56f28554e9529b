//! What must hold of any request body, whoever wrote it: the tests and a fuzz target ask it.

use serde_json::Value;

use super::calls::read;
use super::command::{self, Channels, Disconnect, History, Publish};
use super::glob::{Glob, ITEMS_MAX};
use crate::topic::publication::Payload;

/// Limits of a small gateway.
const DATA_BYTES_MAX: usize = 200;
const HISTORY_MAX: usize = 50;

/// First byte: the method. Rest: the body of a request, or a pattern, a line break and a name.
pub fn check(data: &[u8]) {
    let Some((&method, body)) = data.split_first() else { return };
    match method % 5 {
        0 => check_publish(body),
        1 => {
            let Ok(history) = read::<History>(body) else { return };
            assert!(history.query(HISTORY_MAX).limit <= HISTORY_MAX);
            let name = object(body)["channel"].as_str().unwrap_or_default().to_owned();
            assert_eq!(history.channel, name);
            if let Ok(topic) = command::topic(&name) {
                assert_eq!(topic.as_str(), name);
            }
        }
        2 => {
            let Ok(disconnect) = read::<Disconnect>(body) else { return };
            let Ok((client, code, reason)) = disconnect.order() else { return };
            assert_eq!(object(body)["client"], *client);
            assert!(!client.is_empty() && (3000..=4999).contains(&code));
            assert!((1..=123).contains(&reason.len()));
        }
        3 => {
            let Ok(channels) = read::<Channels>(body) else { return };
            let pattern = channels.pattern.unwrap_or_default();
            assert_eq!(object(body)["pattern"].as_str().unwrap_or_default(), pattern);
        }
        _ => check_pattern(body),
    }
}

/// The body as a JSON object: what we take is one.
fn object(body: &[u8]) -> Value {
    let json: Value = serde_json::from_slice(body).expect("what is taken is JSON");
    assert!(json.is_object());
    json
}

fn check_publish(body: &[u8]) {
    let Ok(publish) = read::<Publish<'_>>(body) else { return };
    let Ok(content) = publish.content(DATA_BYTES_MAX) else { return };
    let json = object(body);
    let tags = content.tags.as_ref().map_or(0, bytes::Bytes::len);
    assert!(content.payload.bytes().len() + tags <= DATA_BYTES_MAX);
    assert!(content.key.is_none_or(|key| (1..=255).contains(&key.len())));
    match content.payload {
        Payload::Json(data) => {
            assert!(!data.contains(&b'\n') && !data.contains(&b'\r'), "a line break in a line");
            let data: Value = serde_json::from_slice(&data).expect("data is JSON");
            assert_eq!(json["data"], data);
        }
        Payload::Binary(data) => {
            let text = json["b64data"].as_str().expect("Base64 is text").len();
            assert!(data.len() <= text / 4 * 3);
        }
        Payload::Text(_) => panic!("text is no kind of data here"),
    }
}

fn check_pattern(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, ""));
    let items = pattern.bytes().filter(|byte| *byte != b'*').count();
    let glob = Glob::new(pattern);
    assert_eq!(glob.is_some(), items <= ITEMS_MAX);
    let Some(glob) = glob else { return };
    let is_match = glob.matches(name);
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // Backtracking takes for ever where there is much to try.
    if pattern.len() <= 8 && name.len() <= 12 {
        assert_eq!(is_match, matches_naively(&pattern, &name));
    }
}

/// The definition of a match, with all its backtracking.
pub(super) fn matches_naively(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => (0..=name.len()).any(|skip| matches_naively(rest, &name[skip..])),
        Some((item, rest)) => {
            let fits = name.first().is_some_and(|c| item == &'?' || item == c);
            fits && matches_naively(rest, &name[1..])
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::check;

    #[test]
    fn seeds_of_the_fuzz_target_have_its_property() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/api_body");
        let seeds: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
        assert!(seeds.len() > 10);
        seeds.into_iter().for_each(|seed| check(&std::fs::read(seed.unwrap().path()).unwrap()));
    }

    proptest! {
        #[test]
        fn bodies_say_what_they_say_or_are_refused(
            method in 0_u8..5,
            members in proptest::collection::vec(
                prop_oneof![
                    Just(r#""channel":"a""#), Just(r#""channel":7"#), Just(r#""data":{"x":1}"#),
                    Just("\"data\":[1,\r\n2]"), Just(r#""b64data":"AQI=""#), Just(r#""b64data":"?""#),
                    Just(r#""tags":{"k":"v"}"#), Just(r#""idempotency_key":"k""#), Just(r#""limit":-1"#),
                    Just(r#""since":{"offset":3,"epoch":"e"}"#), Just(r#""client":"c""#),
                    Just(r#""disconnect":{"code":4000}"#), Just(r#""disconnect":{"code":1,"reason":"r"}"#),
                    Just(r#""pattern":"a*""#), Just(r#""skip_history":true"#), Just(r#""unknown":[[]]"#),
                ],
                0..6,
            ),
            pattern in "[ab?*\n]{0,9}",
        ) {
            check(&[&[method], format!("{{{}}}", members.join(",")).as_bytes()].concat());
            check(&[&[method], pattern.as_bytes()].concat());
        }
    }
}
