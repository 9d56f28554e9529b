//! Which request gets which answer.

use std::fmt::Write;
use std::rc::Rc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap,
    HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Request, Response, StatusCode};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::closes::Wrong;
use super::failure::Failure;
use super::method::Method;
use super::orders::Refusal;
use super::state::{Readiness, State};
use super::{access, calls, closes, orders, page, reply};
use crate::mail::message::Refused;
use crate::metrics::{HttpStatusLabel, open_metrics};

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Paths at which there is something to look at.
const VIEWS: [&str; 8] = [
    "/",
    "/metrics",
    "/livez",
    "/readyz",
    "/closes",
    "/closes/page.js",
    "/closes/page.css",
    "/debug/closes",
];

/// How much more than a body may have is read, in bodies, before the connection is given up: who
/// sees the connection end while it still sends does not see the answer.
const EXCESS_MAX: usize = 8;

/// Answers one request.
pub(super) async fn answer(state: &Rc<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let began = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let name = if path == "/api" { Some("") } else { path.strip_prefix("/api/") };
    let response = match name {
        Some(name) => api(state, Method::of(name), request).await,
        None => match path.strip_prefix("/control/") {
            Some(name) => control(state, name, request).await,
            None if path == "/debug/closes" && is_read(&method) => closes(state, &request).await,
            None => view(state, &method, &path, request.headers()),
        },
    };
    let (status, took) = (response.status().as_u16(), began.elapsed());
    debug!(%method, path, status, ?took, "operator request");
    response
}

async fn api(
    state: &Rc<State>,
    method: Method,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let response = match call(state, method, request).await {
        Ok(json) => respond(200, JSON, json),
        Err(failure) => refuse(failure),
    };
    let status = HttpStatusLabel::of(response.status().as_u16());
    state.parts.numbers.api_request(method, status);
    response
}

async fn control(
    state: &Rc<State>,
    name: &str,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    match order(state, name, request).await {
        Ok(json) => respond(200, JSON, json),
        Err(Refusal::Failure(failure)) => refuse(failure),
        Err(Refusal::Configuration(problems)) => respond(422, JSON, reply::wrong(&problems)),
    }
}

async fn order(
    state: &Rc<State>,
    name: &str,
    request: Request<Incoming>,
) -> Result<Vec<u8>, Refusal> {
    if request.method() != hyper::Method::POST {
        return Err(Failure::NotPost.into());
    }
    access::check(&state.parts.access.borrow(), request.headers())?;
    let text = body_of(state, request).await?;
    let text = String::from_utf8(text).map_err(|_| Failure::Invalid("the body is not UTF-8"))?;
    orders::carry_out(state, name, text).await
}

/// The whole body, if it comes in time.
async fn body_of(state: &State, request: Request<Incoming>) -> Result<Vec<u8>, Failure> {
    let limits = state.parts.limits.get();
    let body = read_body(request.into_body(), limits.body_bytes_max);
    timeout(limits.body_wait, body).await.map_err(|_| Failure::BodyLate)?
}

async fn closes(state: &Rc<State>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if let Err(failure) = access::check(&state.parts.access.borrow(), request.headers()) {
        return refuse(failure);
    }
    match closes::answer(state, request.uri().query().unwrap_or_default()).await {
        Ok(json) => respond(200, JSON, json),
        Err(Wrong(message)) => respond(400, JSON, reply::wrong(&message)),
    }
}

fn is_read(method: &hyper::Method) -> bool {
    matches!(*method, hyper::Method::GET | hyper::Method::HEAD)
}

async fn call(
    state: &Rc<State>,
    method: Method,
    request: Request<Incoming>,
) -> Result<Vec<u8>, Failure> {
    if request.method() != hyper::Method::POST {
        return Err(Failure::NotPost);
    }
    access::check(&state.parts.access.borrow(), request.headers())?;
    if method == Method::Unknown {
        return Err(Failure::UnknownMethod);
    }
    let body = body_of(state, request).await?;
    calls::call(state, method, &body).await
}

/// The whole body; of one that is too large no more is kept than it may have.
async fn read_body(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let excess_max = bytes_max.saturating_mul(EXCESS_MAX);
    let too_large = Failure::BodyTooLarge(bytes_max);
    if body.size_hint().lower() > u64::try_from(excess_max).unwrap_or(u64::MAX) {
        return Err(too_large);
    }
    let mut bytes = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::BodyBroken)?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen > excess_max {
            break;
        }
        if seen > bytes_max {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(&data);
        }
    }
    if seen > bytes_max { Err(too_large) } else { Ok(bytes) }
}

fn refuse(failure: Failure) -> Response<Full<Bytes>> {
    let (status, ..) = failure.answer();
    let mut response = respond(status, JSON, reply::error(failure));
    let mut add = |name: HeaderName, value| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    match failure {
        Failure::NotPost => add(ALLOW, "POST"),
        Failure::Ask(_) | Failure::Refused(Refused::BrokerDown | Refused::BrokerSilent) => {
            add(RETRY_AFTER, "1");
        }
        Failure::BodyLate | Failure::BodyBroken | Failure::BodyTooLarge(_) => {
            add(CONNECTION, "close");
        }
        _ => {}
    }
    response
}

/// What is there to look at.
fn view(
    state: &State,
    method: &hyper::Method,
    path: &str,
    headers: &HeaderMap,
) -> Response<Full<Bytes>> {
    if !VIEWS.contains(&path) {
        let mut text = format!("There is nothing at {path}. There are:\n");
        for (path, what) in page::PLACES {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{path}  {what}");
        }
        return respond(404, TEXT, text);
    }
    if !is_read(method) {
        let mut response = respond(405, TEXT, format!("{path} can only be read: use GET.\n"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => metrics((state.parts.exporter)(), headers),
        "/livez" => live(state),
        "/readyz" => ready(state),
        "/closes" => page(closes::PAGE, "script-src 'self'; style-src 'self'; connect-src 'self'"),
        "/closes/page.js" => respond(200, SCRIPT, closes::PROGRAM),
        "/closes/page.css" => respond(200, STYLE, closes::STYLE),
        _ => {
            let text = page::render(&state.parts.node, &(state.parts.figures)());
            page(text, "style-src 'unsafe-inline'")
        }
    }
}

/// The metrics in the format that the scraper prefers; Prometheus asks for OpenMetrics.
fn metrics(text: String, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let mut wanted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if wanted.any(|list| list.contains(open_metrics::MEDIA_TYPE)) {
        return respond(200, OPEN_METRICS, open_metrics::convert(&text));
    }
    respond(200, METRICS, text)
}

/// A page that may do what `policy` says, and nothing else.
fn page(text: impl Into<Bytes>, policy: &str) -> Response<Full<Bytes>> {
    let mut response = respond(200, HTML, text);
    let rest = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let policy = HeaderValue::from_str(&format!("default-src 'none'; {policy}; {rest}"));
    if let Ok(policy) = policy {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn live(state: &State) -> Response<Full<Bytes>> {
    match state.silent_shard() {
        None => respond(200, TEXT, "ok\n"),
        Some((shard, silence)) => {
            let seconds = silence.as_secs();
            respond(503, TEXT, format!("shard {shard} has not answered for {seconds} s\n"))
        }
    }
}

fn ready(state: &State) -> Response<Full<Bytes>> {
    match state.parts.readiness.get() {
        Readiness::Starting => respond(503, TEXT, "starting: no clients are taken yet\n"),
        Readiness::Draining => respond(503, TEXT, "draining: no clients are taken any more\n"),
        Readiness::Ready => match state.lost_broker() {
            None => live(state),
            Some((broker, what)) => respond(503, TEXT, format!("the broker {broker} {what}\n")),
        },
    }
}

fn respond(
    status: u16,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
