//! Files that the service manager hands over: systemd.exec(5), Credentials.

use std::borrow::Cow;
use std::io;
use std::path::Path;

/// What a path begins with that names a credential, as in `cred:tls.key`.
const PREFIX: &str = "cred:";

/// Where a file is: the path itself, or that of the credential that it names.
///
/// Errors: `NotFound`, when no credentials were handed over; `InvalidInput` for a name that is a path.
pub(super) fn locate(path: &Path) -> io::Result<Cow<'_, Path>> {
    locate_in(path, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref().map(Path::new))
}

fn locate_in<'a>(path: &'a Path, folder: Option<&Path>) -> io::Result<Cow<'a, Path>> {
    let Some(name) = path.to_str().and_then(|path| path.strip_prefix(PREFIX)) else {
        return Ok(Cow::Borrowed(path));
    };
    if name.is_empty() || name.contains('/') {
        let problem = "the name of a credential has no slash, as in cred:tls.key";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let Some(folder) = folder else {
        let problem = format!(
            "the service manager has handed over no credentials; add LoadCredential={name}:FILE to the unit"
        );
        return Err(io::Error::new(io::ErrorKind::NotFound, problem));
    };
    Ok(Cow::Owned(folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_found_in_its_folder_and_a_path_where_it_is() {
        let folder = Some(Path::new("/run/credentials/ringway.service"));
        let found = |path: &str, folder| {
            locate_in(Path::new(path), folder)
                .map(Cow::into_owned)
                .map_err(|error| error.to_string())
        };
        let key = "/run/credentials/ringway.service/tls.key";
        assert_eq!(found("cred:tls.key", folder), Ok(key.into()));
        assert_eq!(found("/etc/tls.key", folder), Ok("/etc/tls.key".into()));
        assert!(found("cred:tls.key", None).unwrap_err().contains("LoadCredential=tls.key:FILE"));
        for name in ["cred:", "cred:../key", "cred:/etc/key"] {
            assert!(found(name, folder).unwrap_err().contains("has no slash"), "{name}");
        }
    }
}
