//! What is counted while all goes well.

use crate::gateway::Gateway;
use crate::gateway::metrics::family;

#[test]
fn messages_are_counted_each_way_for_each_protocol() {
    let gateway = Gateway::start(&[]);
    let before = gateway.metrics();
    let mut echo = gateway.open("/echo");
    for text in ["one", "two", "three"] {
        echo.send_text(text);
        assert_eq!(echo.read_text(), text);
    }
    let (mut first, mut second) = (gateway.open("/topic/t"), gateway.open("/topic/t"));
    first.send_text("to both");
    assert_eq!((first.read_text(), second.read_text()), ("to both".into(), "to both".into()));
    // It recovers what it has missed, and that is a message, too.
    let mut third = gateway.open("/topic/t?offset=0");
    assert_eq!(third.read_text(), "to both");
    let mut centrifuge = gateway.open("/connection/websocket");
    centrifuge.send_text(r#"{"id":1,"connect":{}}"#);
    centrifuge.read_text();
    centrifuge.send_text(r#"{"id":2,"subscribe":{"channel":"c"}}"#);
    centrifuge.read_text();
    gateway.api("publish", r#"{"channel":"c","data":1}"#);
    centrifuge.read_text();

    let after = gateway.metrics();
    let since = |name| after.since(&before, name);
    let by_protocol =
        |echo, raw, centrifuge| family([("echo", echo), ("raw", raw), ("centrifuge", centrifuge)]);
    assert_eq!(since("messages_received_total"), by_protocol(3, 1, 2));
    assert_eq!(since("messages_sent_total"), by_protocol(3, 3, 3));
    assert_eq!(since("deliveries_total"), family([("", 3)]));
    assert_eq!(since("publications_total"), family([("", 2)]));
    drop((echo, first, second, third, centrifuge));
    gateway.finish();
}
