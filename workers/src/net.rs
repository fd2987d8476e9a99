//! The two ways out to the network: one for vendors, one for addresses that strangers chose.
//!
//! The second resolves names itself and drops every address that is not public, at the very moment of connecting, so a
//! name that changes its mind between check and use gains nothing. Redirects are checked like the first URL.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    header::LOCATION,
    redirect::Policy,
};

use crate::trace;
use shared::address::{check_url, is_public};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence before and in the middle of an answer; longer than any limit that adapters set for a whole call, or it would
/// cut those off.
const READ_TIMEOUT: Duration = Duration::from_secs(330);
/// Most redirects followed when fetching a file.
const REDIRECTS: usize = 5;
/// What we call ourselves.
const USER_AGENT: &str = concat!("Kiln/", env!("CARGO_PKG_VERSION"));

/// The client for vendors. It follows no redirect: an API that redirects is not the one we know.
///
/// # Errors
/// When TLS cannot be set up.
pub fn vendor_client() -> anyhow::Result<Client> {
    client(Policy::none()).build().context("set up the HTTP client for providers")
}

/// Talks to addresses that strangers chose.
#[derive(Debug, Clone)]
pub struct Web {
    /// For files: follows redirects, each of them checked.
    files: Client,
    /// For webhooks: follows none.
    hooks: Client,
    /// For files at vendors' own addresses: unguarded, and follows none.
    vendors: Client,
    /// Where those are.
    trusted: Arc<[url::Origin]>,
    allow_private: bool,
}

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Its address is none that may be read, today or tomorrow.
    #[error("{0}")]
    Refused(String),
    /// It could not be read this time.
    #[error("{0}")]
    Failed(String),
}

impl Web {
    /// A guarded way out; `allow_private` takes the guard away, for development.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(allow_private: bool) -> anyhow::Result<Self> {
        // A proxy would resolve names itself, past the guard.
        let guard = |builder: reqwest::ClientBuilder| {
            if allow_private { builder } else { builder.no_proxy().dns_resolver(Arc::new(PublicOnly)) }
        };
        let checked = Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS {
                return attempt.error("too many redirects");
            }
            match check_url(attempt.url().as_str(), allow_private) {
                Ok(_) => attempt.follow(),
                Err(why) => attempt.error(format!("redirect {why}")),
            }
        });
        Ok(Self {
            files: guard(client(checked)).build().context("set up the HTTP client for files")?,
            hooks: guard(client(Policy::none())).build().context("set up the HTTP client for webhooks")?,
            vendors: vendor_client()?,
            trusted: Arc::default(),
            allow_private,
        })
    }

    /// Prepares to read a file.
    ///
    /// # Errors
    /// What is wrong with the URL, in a sentence for the caller.
    pub fn get(&self, url: &str) -> Result<reqwest::RequestBuilder, String> {
        Ok(self.files.get(check_url(url, self.allow_private)?))
    }

    /// Begins to read a vendor's file, which may need `headers`, such as a key of ours. They and the trace are for the host of
    /// `url`: where it sends us on to another, that one does not get them. Vendors whose address an operator has set are not
    /// strangers, wherever they are.
    ///
    /// # Errors
    /// What went wrong, without the URL, which may be signed.
    pub async fn fetch(
        &self,
        url: &str,
        headers: &[(String, String)],
        timeout: Duration,
    ) -> Result<Response, FetchError> {
        let failed = |error: reqwest::Error| FetchError::Failed(error.without_url().to_string());
        let first = self.admit(url)?;
        let mut url = first.clone();
        for _ in 0..=REDIRECTS {
            let client = if self.is_vendors(&url) { &self.vendors } else { &self.hooks };
            let mut request = client.get(url.clone()).timeout(timeout);
            if url.origin() == first.origin() {
                request = trace::sign(request);
                for (name, value) in headers {
                    request = request.header(name, value);
                }
            }
            let response = request.send().await.map_err(failed)?;
            let Some(next) = redirect(&response).map_err(FetchError::Failed)? else { return Ok(response) };
            url = self.admit(next.as_str())?;
        }
        Err(FetchError::Failed("too many redirects".into()))
    }

    /// The same way out, which trusts the addresses of these base URLs.
    #[must_use]
    pub fn trusting(mut self, base_urls: impl Iterator<Item = String>) -> Self {
        self.trusted =
            base_urls.filter_map(|url| url::Url::parse(&url).ok()).map(|url| url.origin()).collect();
        self
    }

    fn is_vendors(&self, url: &url::Url) -> bool {
        self.trusted.contains(&url.origin())
    }

    /// An address that may be read.
    fn admit(&self, url: &str) -> Result<url::Url, FetchError> {
        match url::Url::parse(url) {
            Ok(url) if self.is_vendors(&url) => Ok(url),
            _ => check_url(url, self.allow_private).map_err(FetchError::Refused),
        }
    }

    /// Prepares to tell a stranger's server something.
    ///
    /// # Errors
    /// What is wrong with the URL, in a sentence for the caller.
    pub fn post(&self, url: &str) -> Result<reqwest::RequestBuilder, String> {
        Ok(self.hooks.post(check_url(url, self.allow_private)?))
    }
}

/// Where an answer sends us, if it does.
fn redirect(response: &Response) -> Result<Option<url::Url>, String> {
    if !response.status().is_redirection() {
        return Ok(None);
    }
    let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
    let place = place.ok_or("a redirect to nowhere")?;
    response.url().join(place).map(Some).map_err(|_| "a redirect that leads nowhere".to_owned())
}

fn client(redirects: Policy) -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(redirects)
}

/// Resolves a name to its public addresses only.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{} has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::Config};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A server that takes one request and answers it; gives what it was asked.
    async fn serve(listener: &TcpListener, answer: String) -> String {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = socket.read(&mut request).await.unwrap();
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    }

    fn sent_on(place: &str) -> String {
        format!("HTTP/1.1 302 Found\r\nlocation: {place}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    }

    fn address(listener: &TcpListener) -> String {
        format!("http://{}", listener.local_addr().unwrap())
    }

    #[tokio::test]
    async fn results_are_read_at_a_vendors_private_address_and_nowhere_else_in_that_network() {
        let (relay, neighbour) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let base_urls = ["no address".to_owned(), format!("{}/v1", address(&relay))];
        let web = Web::new(false).unwrap().trusting(base_urls.into_iter());
        let (film, second) = (format!("{}/film", address(&relay)), Duration::from_secs(1));
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfilm".to_owned();
        let (answer, _) = tokio::join!(web.fetch(&film, &[], second), serve(&relay, whole));
        assert_eq!(answer.unwrap().text().await.unwrap(), "film");

        let elsewhere = format!("{}/film", address(&neighbour));
        let refused = web.fetch(&elsewhere, &[], second).await.expect_err("not the vendor's");
        assert!(matches!(refused, FetchError::Refused(_)), "{refused}");
        let (sent_away, _) = tokio::join!(web.fetch(&film, &[], second), serve(&relay, sent_on(&elsewhere)));
        assert!(matches!(sent_away.expect_err("led away"), FetchError::Refused(_)));
        // What a caller names is a stranger's, wherever it leads.
        assert!(web.get(&film).is_err() && web.post(&film).is_err());
    }

    #[tokio::test]
    async fn no_redirect_leads_into_a_private_network() {
        let (relay, neighbour) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let web = Web::new(false).unwrap().trusting(std::iter::once(address(&relay)));
        let film = format!("{}/film", address(&relay));
        for (place, why) in [
            (format!("https://{}/film", neighbour.local_addr().unwrap()), "private network"),
            ("https://169.254.169.254/latest/meta-data".to_owned(), "private network"),
            ("https://localhost/film".to_owned(), "private network"),
            (format!("{}/film", address(&neighbour)), "must be an https URL"),
        ] {
            // What a caller names, past the check of its own address: no server of a test has a public one.
            let asked = web.files.get(&film).send();
            let (answer, _) = tokio::join!(asked, serve(&relay, sent_on(&place)));
            let refused = answer.expect_err("led away");
            assert!(refused.is_redirect() && format!("{refused:?}").contains(why), "{place}: {refused:?}");

            let asked = web.fetch(&film, &[], Duration::from_secs(5));
            let (answer, _) = tokio::join!(asked, serve(&relay, sent_on(&place)));
            let refused = answer.expect_err("led away");
            assert!(
                matches!(&refused, FetchError::Refused(said) if said.contains(why)),
                "{place}: {refused}"
            );
        }
        let nobody = neighbour.into_std().unwrap().accept().expect_err("nobody came");
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_circle_of_redirects_has_an_end() {
        let circle = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = address(&circle);
        let web = Web::new(true).unwrap();
        let lead = async || {
            for _ in 0..=REDIRECTS {
                serve(&circle, sent_on(&url)).await;
            }
        };
        let (answer, ()) = tokio::join!(web.get(&url).unwrap().send(), lead());
        let refused = answer.expect_err("led around");
        assert!(format!("{refused:?}").contains("too many redirects"), "{refused:?}");
        let (answer, ()) = tokio::join!(web.fetch(&url, &[], Duration::from_secs(5)), lead());
        assert_eq!(answer.expect_err("led around"), FetchError::Failed("too many redirects".into()));
    }

    #[tokio::test]
    async fn a_key_stays_with_the_host_it_is_for() {
        let (near, far) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let headers = [("x-key".to_owned(), "secret".to_owned())];
        let url = format!("{}/film", address(&near));
        let web = Web::new(true).unwrap();
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nfilm".to_owned();
        let servers = async {
            let first = serve(&near, sent_on("/moved")).await;
            let second = serve(&near, sent_on(&format!("{}/signed", address(&far)))).await;
            (first, second, serve(&far, whole).await)
        };
        let (answer, asked) = tokio::join!(web.fetch(&url, &headers, Duration::from_secs(5)), servers);
        assert_eq!(answer.unwrap().text().await.unwrap(), "film");
        assert!(asked.0.starts_with("GET /film ") && asked.0.contains("secret"), "{}", asked.0);
        assert!(asked.1.starts_with("GET /moved ") && asked.1.contains("secret"), "{}", asked.1);
        assert!(asked.2.starts_with("GET /signed ") && !asked.2.contains("secret"), "{}", asked.2);
    }

    #[test]
    fn no_address_breaks_the_guard_and_none_of_a_private_network_passes() {
        let (guarded, open) = (Web::new(false).unwrap(), Web::new(true).unwrap());
        let private = proptest::sample::select(vec![
            "127.1",
            "0x7f000001",
            "017700000001",
            "[::ffff:10.0.0.1]",
            "localhost.",
            "[64:ff9b::a00:1]",
        ]);
        let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
        proptest!(config, |(wild in any::<String>(), host in private, rest in "(:[0-9]{1,5})?[/?#][ -~]{0,10}")| {
            for text in [wild.clone(), format!("https://{wild}"), format!("data:{wild}"), format!("http://{host}{rest}")] {
                let _ = (open.get(&text), open.post(&text));
                let _ = (guarded.get(&text), guarded.post(&text));
            }
            let url = format!("https://{host}{rest}");
            prop_assert!(guarded.get(&url).is_err() && guarded.post(&url).is_err(), "{url}");
        });
    }

    #[tokio::test]
    async fn a_name_that_leads_home_has_no_public_address() {
        for name in ["localhost", "localhost."] {
            assert!(PublicOnly.resolve(name.parse().unwrap()).await.is_err(), "{name}");
        }
    }
}
