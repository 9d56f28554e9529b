//! Certificates for tests, and clients that trust them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;

pub(crate) const ONLY_TLS12: &[&SupportedProtocolVersion] = &[&TLS12];
pub(crate) const ONLY_TLS13: &[&SupportedProtocolVersion] = &[&TLS13];

/// An authority, and a folder for what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// Files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("there are no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of tests");
        let key = KeyPair::generate().expect("keys can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it can sign itself");
        let folder = TempDir::new().expect("there is room for certificates");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("there is room");
        Self { issuer, folder }
    }

    /// The file of its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new certificate and key in the files `{file}.pem` and `{file}.key`.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> Files {
        self.sign_until(file, names, (2096, 1, 1))
    }

    /// As [`Authority::sign`], ending on this day.
    pub(crate) fn sign_until(&self, file: &str, names: &[&str], end: (i32, u8, u8)) -> Files {
        let key = KeyPair::generate().expect("keys can be made");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names are good");
        params.distinguished_name.push(DnType::CommonName, file);
        params.not_after = rcgen::date_time_ymd(end.0, end.1, end.2);
        let signed = params.signed_by(&key, &self.issuer).expect("it can sign");
        let files = Files {
            chain: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        replace(&files.chain, &signed.pem());
        replace(&files.key, &key.serialize_pem());
        files
    }

    /// A certificate of this authority among the files of another.
    pub(crate) fn sign_into(&self, other: &Self, file: &str) -> Files {
        let Files { chain, key } = self.sign(file, &["foreign.test"]);
        let moved = |from: &Path| {
            let to = other.path(from.file_name().and_then(|n| n.to_str()).expect("it has a name"));
            std::fs::copy(from, &to).expect("there is room");
            to
        };
        Files { chain: moved(&chain), key: moved(&key) }
    }

    /// How a client that trusts it goes about TLS.
    pub(crate) fn client(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Files>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is an authority");
        let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(versions)
            .expect("versions are known")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = CertificateDer::pem_file_iter(&files.chain).expect("it is there");
                let chain = chain.map(|certificate| certificate.expect("it is PEM")).collect();
                let key = PrivateKeyDer::from_pem_file(&files.key).expect("it is there");
                builder.with_client_auth_cert(chain, key).expect("they belong together")
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(16);
        Arc::new(config)
    }
}

/// Puts a new file in the place of an old one, at once.
pub(crate) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("there is room");
    std::fs::rename(&new, path).expect("it is on the same file system");
}

impl Files {
    /// The section of the configuration that names them.
    pub(crate) fn section(&self) -> String {
        format!("[[certificate]]\nchain = {:?}\nkey = {:?}\n", self.chain, self.key)
    }
}
