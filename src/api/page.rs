//! The page that operators see first.

use std::fmt::Write;

use super::state::{Figures, NodeInfo};

/// What is there, and what for.
pub(super) const PLACES: [(&str, &str); 8] = [
    ("/", "this gateway's key numbers"),
    ("/metrics", "all numbers, for Prometheus"),
    ("/closes", "why connections have ended, for people"),
    ("/debug/closes", "the same for programs; see docs/closes.md"),
    ("/livez", "whether every thread turns"),
    ("/readyz", "whether clients are taken"),
    (
        "/api/{method}",
        "the server API: POST to publish, broadcast, info, channels, history, disconnect",
    ),
    ("/control/{order}", "orders to the gateway: POST to drain, reload, diff"),
];

const STYLE: &str = "\
    body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;\
    color:#1c2430;background:#fff}\
    h1{font-size:1.5rem;margin:0}\
    p{margin:.25rem 0 2rem;color:#5a6675}\
    table{border-collapse:collapse;width:100%;margin-bottom:2rem}\
    td{padding:.4rem 0;border-bottom:1px solid #dde3ea}\
    td:last-child{text-align:right;font-variant-numeric:tabular-nums}\
    table.places td:last-child{text-align:left;color:#5a6675}\
    @media(prefers-color-scheme:dark){body{color:#e4e9ef;background:#12171d}\
    td{border-color:#2b343f}p,table.places td:last-child{color:#93a0af}a{color:#7ab7ff}}";

/// The page, in HTML.
pub(super) fn render(node: &NodeInfo, figures: &Figures) -> String {
    let mut html = String::with_capacity(4096);
    let name = escape(&node.name);
    let version = escape(&node.version);
    let uptime = node.uptime().as_secs();
    let (days, hours, minutes) = (uptime / 86_400, uptime / 3600 % 24, uptime / 60 % 60);
    // Writing to a string cannot fail.
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{name} - Ringway</title>\
         <style>{STYLE}</style></head><body><h1>{name}</h1>\
         <p>Ringway {version}, up for {days} d {hours} h {minutes} min</p><table>"
    );
    for (what, number) in [
        ("Connections", figures.connections),
        ("Subscriptions", figures.subscriptions),
        ("Topics", figures.topics),
        ("Publications since the start", figures.publications),
        ("Deliveries since the start", figures.deliveries),
    ] {
        let _ = write!(html, "<tr><td>{what}</td><td>{number}</td></tr>");
    }
    html.push_str("</table><table class=\"places\">");
    for (path, what) in PLACES {
        let link = if path.contains('{') {
            path.to_owned()
        } else {
            format!("<a href=\"{path}\">{path}</a>")
        };
        let _ = write!(html, "<tr><td>{link}</td><td>{what}</td></tr>");
    }
    html.push_str("</table></body></html>\n");
    html
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_numbers_and_trusts_no_name() {
        let node = NodeInfo {
            uid: "u".into(),
            name: "<b>".into(),
            version: "1.2.3".into(),
            started: tokio::time::Instant::now().into_std(),
        };
        let figures = Figures { connections: 4711, ..Figures::default() };
        let page = render(&node, &figures);
        assert!(page.contains("<tr><td>Connections</td><td>4711</td></tr>"));
        assert!(page.contains("<h1>&lt;b&gt;</h1><p>Ringway 1.2.3, up for 0 d 0 h 0 min</p>"));
        assert!(!page.contains("<b>"));
        assert!(!page.contains("src=") && !page.contains("http"), "no external resources");
    }
}
