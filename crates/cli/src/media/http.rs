//! The one request of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer is posted, the answer comes back, and a URL to
//! be deleted at the end.

use hyper::{Method, header};
use url::Url;
use visavis::{Description, PeerConnection};

use crate::exit::Exit;
use crate::http::{HttpError, Question, ask};

/// Redirects that are followed (RFC 9725 section 4.5).
const MOST_REDIRECTS: usize = 3;

/// A session at a server.
pub(crate) struct Session {
    url: Option<Url>,
    token: Option<String>,
    insecure: bool,
}

/// Offers what the connection has, and takes the answer.
pub(crate) async fn negotiate(
    connection: &PeerConnection,
    endpoint: &str,
    token: Option<&str>,
    insecure: bool,
) -> Result<Session, (Exit, String)> {
    let mut url = Url::parse(endpoint)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            let text = format!("{endpoint:?} is no endpoint: use https://HOST/PATH");
            (Exit::Failure, text)
        })?;
    let failed = |error: visavis::Error| (Exit::Failure, error.to_string());
    connection
        .set_local_description(None)
        .await
        .map_err(failed)?;
    let offer = connection.gathered().await;
    let offer = offer.ok_or((Exit::Failure, "the connection closed".to_owned()))?;
    for _ in 0..=MOST_REDIRECTS {
        let question = Question {
            method: Method::POST,
            url: &url,
            token,
            body: Some(("application/sdp", offer.sdp.clone())),
            insecure,
        };
        let answer = ask(question).await.map_err(|error| match error {
            HttpError::Stream(error) => (Exit::Unreachable, format!("cannot reach {url}: {error}")),
            error => (Exit::Failure, format!("{url} does not speak HTTP: {error}")),
        })?;
        let location = answer
            .header(header::LOCATION)
            .and_then(|location| url.join(location).ok());
        match (answer.status, location) {
            (201, location) => {
                let sdp = String::from_utf8_lossy(&answer.body).into_owned();
                connection
                    .set_remote_description(&Description::answer(sdp))
                    .map_err(|error| {
                        (
                            Exit::Failure,
                            format!("the server's answer is wrong: {error}"),
                        )
                    })?;
                return Ok(Session {
                    url: location,
                    token: token.map(str::to_owned),
                    insecure,
                });
            }
            (301 | 302 | 307 | 308, Some(location)) => url = location,
            (401 | 403, _) => {
                let text = format!(
                    "{url} refuses the token: {}. Give one by --token or VISAVIS_TOKEN",
                    answer.text()
                );
                return Err((Exit::Declined, text));
            }
            (status, _) => {
                let text = format!("{url} answers {status}: {}", answer.text());
                return Err((Exit::Failure, text));
            }
        }
    }
    Err((Exit::Failure, format!("{endpoint} redirects in a circle")))
}

impl Session {
    /// Tells the server that it is over.
    pub(crate) async fn end(self) {
        let Some(url) = &self.url else { return };
        let question = Question {
            method: Method::DELETE,
            url,
            token: self.token.as_deref(),
            body: None,
            insecure: self.insecure,
        };
        // A server that is gone knows it already.
        let _ = ask(question).await;
    }
}
