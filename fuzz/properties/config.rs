//! A configuration is taken or refused as a whole: the same text gets the same answer, complaints name
//! a place and are bounded, and what is taken satisfies what the program relies on.

use ringway::config;

/// Longest text worth looking at.
const BYTES_MAX: usize = 4096;

/// First byte: whether the text stands behind a good beginning. Rest: the text.
pub(crate) fn check(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(&text[..text.len().min(BYTES_MAX)]) else { return };
    let beginning = "[[listener]]\naddress = \"127.0.0.1:8000\"\n";
    let text = if first & 1 == 1 { format!("{beginning}{text}") } else { text.to_owned() };
    let parsed = config::parse(&text, "fuzz.toml", &[]);
    match (&parsed, config::parse(&text, "fuzz.toml", &[])) {
        (Ok(one), Ok(two)) => assert_eq!(*one, two),
        (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
        _ => panic!("two answers"),
    }
    match parsed {
        Ok(config) => {
            assert!(!config.listeners.is_empty());
            assert!(config.http.head_bytes_max > 0 && config.websocket.message_bytes_max > 0);
            assert!(config.websocket.message_bytes_max <= config.outbox.bytes_max);
            assert!(config.outbox.soft_bytes_max <= config.outbox.bytes_max);
            assert!(config.ring.entries.is_power_of_two() && config.ring.buffers.is_power_of_two());
            for (at, namespace) in config.namespaces.iter().enumerate() {
                let others = &config.namespaces[at + 1..];
                assert!(others.iter().all(|other| other.name != namespace.name));
            }
        }
        Err(violations) => {
            let said = violations.to_string();
            assert!(said.contains("fuzz.toml"), "{said}");
            assert!(said.len() < 1024 * (1 + text.len()), "complaints without end");
        }
    }
}
