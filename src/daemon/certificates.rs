//! The files of certificates: read at the start, and again when they change.
//!
//! What was read is judged as a whole before any of it counts: one file that is no good leaves all
//! as it was. Files that are being replaced differ from one look to the next, and are not judged
//! before they are the same twice.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use crate::api::method::Method;
use crate::config::Config;
use crate::config::tls::{CertificateFiles, ClientAuth};
use crate::config::violation::{Place, Violation};
use crate::conn::tls::certificate::{Certificate, Part};
use crate::conn::tls::offer::Offer;
use crate::conn::tls::terms::{self, Terms};
use crate::metrics::{ControlWriter, Reload};

use super::credentials::locate;
use super::source::{read_regular, unreadable};

/// Time between two looks at files that are changing.
const SETTLING: Duration = Duration::from_millis(200);

/// Certificates that end sooner are worth a word.
const SOON_SECONDS: i64 = 14 * 24 * 3600;

/// The offers of all listeners, and the files that they were made from.
pub(super) struct Keeper {
    sources: Sources,
    seen: Contents,
    /// Of the client listeners, in order.
    pub(super) clients: Vec<Option<Arc<Offer>>>,
    /// Of the operators' listener.
    pub(super) operator: Option<Arc<Offer>>,
    certificates: Vec<Certificate>,
}

/// Which files there are, and what they are for.
struct Sources {
    certificates: Vec<CertificateFiles>,
    /// What is asked of clients, with the section that says so.
    doors: Vec<Door>,
    settings: terms::Settings,
}

/// One listener, from the point of view of TLS.
struct Door {
    section: String,
    auth: Option<ClientAuth>,
}

/// Files that are good, to be taken over.
pub(super) struct Renewal {
    sources: Sources,
    seen: Contents,
    judged: Judged,
}

/// The numbers of the control thread.
type Numbers = ControlWriter<Method>;

/// What good files make: the certificates, and the terms of each door.
type Judged = (Vec<Certificate>, Vec<Option<Terms>>);

/// What the files held at one look.
type Contents = Vec<(PathBuf, Result<Vec<u8>, String>)>;

impl Keeper {
    /// Reads everything that the configuration names.
    ///
    /// Errors: all that is wrong with the files.
    pub(super) async fn load(config: &Config) -> Result<Self, Vec<Violation>> {
        let sources = Sources::of(config);
        let seen = sources.look().await;
        let (certificates, terms) = sources.judge(&seen, &[])?;
        let mut offers: Vec<_> = terms
            .into_iter()
            .map(|terms| terms.map(|terms| Arc::new(Offer::new(Arc::new(terms)))))
            .collect();
        let operator = offers.pop().flatten();
        Ok(Self { sources, seen, clients: offers, operator, certificates })
    }

    /// What operators ought to know about certificates that are good as files.
    pub(super) fn warnings(&self) -> Vec<String> {
        let now = seconds_now();
        let texts = self.certificates.iter().filter_map(|certificate| {
            let name = certificate.names().first()?;
            if certificate.not_before > now {
                let hours = (certificate.not_before - now).div_euclid(3600) + 1;
                return Some(format!("the certificate for {name} is not valid yet, for about {hours} h: clients will refuse it; check the clock"));
            }
            match certificate.not_after - now {
                left if left <= 0 => Some(format!("the certificate for {name} has expired: clients will refuse it; renew it")),
                left if left < SOON_SECONDS => Some(format!("the certificate for {name} expires in {} h: renew it", left.div_euclid(3600))),
                _ => None,
            }
        });
        texts.collect()
    }

    /// Whether there is TLS at all.
    fn is_needed(&self) -> bool {
        self.operator.is_some() || self.clients.iter().any(Option::is_some)
    }

    /// Time between two looks at the files; `None`: there is nothing to look at, or nobody wants it.
    pub(super) fn interval(&self, config: &Config) -> Option<Duration> {
        config.tls.reload_interval.filter(|_| self.is_needed())
    }

    /// Looks whether files have changed; takes them over if they are good.
    pub(super) async fn look(&mut self, numbers: &Numbers) {
        let contents = self.sources.look().await;
        if contents == self.seen {
            return;
        }
        let contents = self.sources.settle(contents).await;
        let judged = self.sources.judge(&contents, &self.former());
        // Judged once, whether good or bad.
        self.seen = contents;
        match judged {
            Ok(judged) => self.use_from_now_on(judged, numbers),
            Err(violations) => {
                numbers.tls_reload(Reload::Failure);
                for Violation { path, value, problem, .. } in violations {
                    let file = value.unwrap_or_default();
                    tracing::error!(
                        "the new certificates are refused, the old ones stay: {path} = {file}: {problem}"
                    );
                }
            }
        }
    }

    /// Reads the files that `config` names, whose listeners are the same as before; nothing changes yet.
    ///
    /// Errors: all that is wrong with them.
    pub(super) async fn prepare(&self, config: &Config) -> Result<Renewal, Vec<Violation>> {
        let sources = Sources::of(config);
        let seen = sources.settle(sources.look().await).await;
        let judged = sources.judge(&seen, &self.former())?;
        Ok(Renewal { sources, seen, judged })
    }

    /// From now on these files count.
    pub(super) fn take_over(&mut self, renewal: Renewal, numbers: &Numbers) {
        self.sources = renewal.sources;
        self.seen = renewal.seen;
        if self.is_needed() {
            self.use_from_now_on(renewal.judged, numbers);
        }
    }

    fn use_from_now_on(&mut self, (certificates, terms): Judged, numbers: &Numbers) {
        for (offer, terms) in self.offers().zip(terms) {
            if let (Some(offer), Some(terms)) = (offer, terms) {
                offer.renew(Arc::new(terms));
            }
        }
        self.certificates = certificates;
        numbers.tls_reload(Reload::Success);
        self.publish_expiries(numbers);
        tracing::info!(
            certificates = self.certificates.len(),
            "certificates were read again; connections stay"
        );
        self.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    }

    fn former(&self) -> Vec<Option<Arc<Terms>>> {
        self.offers().map(|offer| offer.map(|offer| offer.terms())).collect()
    }

    fn offers(&self) -> impl Iterator<Item = Option<&Arc<Offer>>> {
        self.clients.iter().map(Option::as_ref).chain([self.operator.as_ref()])
    }

    /// Shows when certificates end.
    pub(super) fn publish_expiries(&self, numbers: &Numbers) {
        let named = self.certificates.iter().flat_map(|certificate| {
            certificate.names().iter().map(|name| (name.clone(), certificate.not_after))
        });
        numbers.certificate_expiries(named);
    }
}

impl Sources {
    fn of(config: &Config) -> Self {
        let clients = config.listeners.iter().enumerate().map(|(index, listener)| Door {
            section: format!("listener.{index}"),
            auth: listener.tls.clone(),
        });
        let operator = Door { section: "operator".to_owned(), auth: config.operator.tls.clone() };
        Self {
            certificates: config.tls.certificates.clone(),
            doors: clients.chain([operator]).collect(),
            settings: terms::Settings {
                min_version: config.tls.min_version,
                post_quantum: config.tls.post_quantum,
            },
        }
    }

    /// Reads all files.
    async fn look(&self) -> Contents {
        let mut paths = Vec::new();
        for CertificateFiles { chain, key, ocsp, .. } in &self.certificates {
            paths.extend([chain, key]);
            paths.extend(ocsp);
        }
        paths.extend(self.doors.iter().filter_map(|door| match &door.auth {
            Some(ClientAuth::Optional(path) | ClientAuth::Required(path)) => Some(path),
            Some(ClientAuth::None) | None => None,
        }));
        let mut contents = Vec::with_capacity(paths.len());
        for path in paths {
            contents.push((path.clone(), read(path).await.map_err(|error| unreadable(&error))));
        }
        contents
    }

    /// Looks until the files are the same twice; `contents` is what they were.
    async fn settle(&self, mut contents: Contents) -> Contents {
        loop {
            if !self.certificates.is_empty() {
                sleep(SETTLING).await;
            }
            let again = self.look().await;
            if again == contents {
                return again;
            }
            contents = again;
        }
    }

    /// Makes terms for each door of what was read; `former` are the terms until now.
    fn judge(
        &self,
        contents: &Contents,
        former: &[Option<Arc<Terms>>],
    ) -> Result<Judged, Vec<Violation>> {
        let mut violations = Vec::new();
        let certificates = self.certificates.iter().filter_map(|files| {
            let read = certificate(files, contents);
            read.map_err(|mut wrong| violations.append(&mut wrong)).ok()
        });
        let certificates: Vec<_> = certificates.collect();
        let mut all = Vec::new();
        for (index, Door { section, auth }) in self.doors.iter().enumerate() {
            let former = former.get(index).and_then(Option::as_deref);
            let terms = auth.as_ref().map(|auth| {
                let (asked, path) = asked(auth, contents);
                let terms =
                    asked.and_then(|asked| Terms::new(self.settings, &certificates, asked, former));
                terms.map_err(|problem| wrong(format!("{section}.client_ca"), path, problem))
            });
            match terms.transpose() {
                Ok(terms) => all.push(terms),
                Err(violation) => violations.push(violation),
            }
        }
        if violations.is_empty() { Ok((certificates, all)) } else { Err(violations) }
    }
}

async fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_regular(&locate(path)?).await
}

fn certificate(
    files: &CertificateFiles,
    contents: &Contents,
) -> Result<Certificate, Vec<Violation>> {
    let CertificateFiles { index, chain, key, ocsp } = files;
    let at = |name: &str| format!("certificate.{index}.{name}");
    let (chain_pem, key_pem) = match (content(chain, contents), content(key, contents)) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain_read, key_read) => {
            let chain = chain_read.err().map(|problem| wrong(at("chain"), chain, problem));
            let key = key_read.err().map(|problem| wrong(at("key"), key, problem));
            return Err(chain.into_iter().chain(key).collect());
        }
    };
    // It may come later.
    let ocsp = ocsp.as_ref().and_then(|path| content(path, contents).ok()).map(<[u8]>::to_vec);
    Certificate::read(chain_pem, key_pem, ocsp).map_err(|flaw| {
        vec![match flaw.part {
            Part::Certificate => wrong(at("chain"), chain, flaw.problem),
            Part::Key => wrong(at("key"), key, flaw.problem),
        }]
    })
}

fn asked<'a>(
    auth: &'a ClientAuth,
    contents: &Contents,
) -> (Result<terms::ClientAuth, String>, &'a Path) {
    match auth {
        ClientAuth::None => (Ok(terms::ClientAuth::None), Path::new("")),
        ClientAuth::Optional(path) => {
            let pem = content(path, contents).map(<[u8]>::to_vec);
            (pem.map(terms::ClientAuth::Optional), path)
        }
        ClientAuth::Required(path) => {
            let pem = content(path, contents).map(<[u8]>::to_vec);
            (pem.map(terms::ClientAuth::Required), path)
        }
    }
}

fn content<'a>(path: &Path, contents: &'a Contents) -> Result<&'a [u8], String> {
    let found = contents.iter().find(|(of, _)| of == path);
    match found {
        Some((_, Ok(bytes))) => Ok(bytes),
        Some((_, Err(problem))) => Err(problem.clone()),
        None => Err("was not read".to_owned()),
    }
}

fn wrong(path: String, file: &Path, problem: String) -> Violation {
    let value = Some(format!("{:?}", file.display().to_string()));
    Violation { place: Place::Default, path, value, problem }
}

fn seconds_now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "certificates are valid by the calendar")]
    let now = SystemTime::now();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
