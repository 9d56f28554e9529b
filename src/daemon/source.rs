//! Where the configuration comes from.

use std::io;
use std::path::Path;

use tokio_uring::fs::File;

use crate::config::Config;
use crate::config::document::Document;
use crate::config::violation::Violations;

use super::certificates::Keeper;
use super::cli::Source;
use super::exit::Failure;

/// What the configuration is called when there is no file.
const DEFAULTS: &str = "defaults";

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Reads and checks a configuration, and the files of certificates that it names.
///
/// Errors: [`Failure::Unfit`], with every violation on a line of its own.
pub(super) async fn load(source: &Source) -> Result<(Document, Keeper), Failure> {
    let (text, origin) = read_text(source).await?;
    let document = Document::parse(&text, &origin, &source.overrides);
    let document = document.map_err(|violations| unfit(&violations))?;
    match Keeper::load(document.config()).await {
        Ok(keeper) => Ok((document, keeper)),
        Err(list) => Err(unfit(&Violations { origin, list })),
    }
}

/// The text of a configuration, and what it is called.
///
/// Errors: [`Failure::Unfit`], when it cannot be read.
pub(super) async fn read_text(source: &Source) -> Result<(String, String), Failure> {
    match &source.config {
        Some(path) => Ok((decode(path, read(path).await)?, path.display().to_string())),
        None => Ok((String::new(), DEFAULTS.to_owned())),
    }
}

/// The same without a ring: for commands that only ask the gateway that runs with it.
///
/// Errors: the same.
pub(super) fn read_text_now(source: &Source) -> Result<(String, String), Failure> {
    match &source.config {
        Some(path) => Ok((decode(path, std::fs::read(path))?, path.display().to_string())),
        None => Ok((String::new(), DEFAULTS.to_owned())),
    }
}

/// Reads and checks a configuration, and none of the files that it names.
///
/// Errors: [`Failure::Unfit`], with every violation on a line of its own.
pub(super) fn read_document(source: &Source) -> Result<Document, Failure> {
    let (text, origin) = read_text_now(source)?;
    let document = Document::parse(&text, &origin, &source.overrides);
    document.map_err(|violations| unfit(&violations))
}

/// The settings of such a configuration.
///
/// Errors: the same.
pub(super) fn read_config(source: &Source) -> Result<Config, Failure> {
    read_document(source).map(|document| document.config().clone())
}

fn unfit(violations: &Violations) -> Failure {
    Failure::Unfit(format!("bad configuration\n{violations}"))
}

fn decode(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<String, Failure> {
    let bytes = bytes
        .map_err(|error| Failure::Unfit(format!("{}: {}", path.display(), unreadable(&error))))?;
    String::from_utf8(bytes).map_err(|_| {
        let path = path.display();
        Failure::Unfit(format!("{path} is not UTF-8 text: is it the wrong file? check --config"))
    })
}

/// Why a file cannot be read, and what to do about it.
pub(super) fn unreadable(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "let the user that Ringway runs as read it",
        io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => "name the file itself",
        _ => "check the file",
    };
    format!("cannot be read: {error}; {remedy}")
}

/// Everything in a regular file: of a pipe or a device nobody knows when it ends.
///
/// Errors: of the system; `InvalidInput` when it is something else.
pub(super) async fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() || kind.is_dir() {
        return read(path).await;
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe, a socket or a device"))
}

/// Everything in a file.
///
/// Errors: of the system.
async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path).await?;
    let mut bytes = Vec::new();
    loop {
        let position = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let (read, chunk) = file.read_at(vec![0; CHUNK_BYTES], position).await;
        match read? {
            0 => break,
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
    file.close().await?;
    Ok(bytes)
}
