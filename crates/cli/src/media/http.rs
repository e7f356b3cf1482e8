//! The one request of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): an offer is posted, the answer comes back, and a URL to
//! be deleted at the end.

use hyper::{Method, header};
use url::Url;
use visavis::{Description, PeerConnection};

use crate::exit::Exit;
use crate::http::{HttpError, Question, ask};
use crate::livekit;
use crate::stream::PATIENCE;

use super::Access;

/// Redirects that are followed (RFC 9725 section 4.5), and requests with a token after one without.
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
    access: &Access,
) -> Result<Session, (Exit, String)> {
    let insecure = access.insecure;
    let mut token = access.token.clone();
    let mut url = Url::parse(endpoint)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| {
            let text = format!("{endpoint:?} is no endpoint: use https://HOST/PATH");
            (Exit::Usage, text)
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
            token: token.as_deref(),
            body: Some(("application/sdp", offer.sdp.clone())),
            insecure,
            patience: PATIENCE,
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
                    token,
                    insecure,
                });
            }
            (301 | 302 | 307 | 308, Some(location)) => url = location,
            (401 | 403, _) => {
                if token.is_none() {
                    token = invited(&url, insecure).await;
                    if token.is_some() {
                        continue;
                    }
                }
                let text = format!(
                    "{url} refuses: {}. Give a token by --token or VISAVIS_TOKEN; `visavis keygen token` makes those of `visavis serve`",
                    answer.text()
                );
                return Err((Exit::Declined, text));
            }
            (404, _) if answer.text().is_empty() => {
                let text = format!(
                    "there is nothing at {url}: an endpoint of `visavis serve` ends in /whip/ROOM or /whep/ROOM"
                );
                return Err((Exit::Failure, text));
            }
            (status, _) => {
                let text = format!("{url} answers {status}: {}", answer.text());
                return Err((Exit::Failure, text));
            }
        }
    }
    Err((Exit::Failure, format!("{endpoint} redirects in a circle")))
}

/// A token of a `visavis serve` that lets anybody in, whose endpoints are named for their rooms.
async fn invited(url: &Url, insecure: bool) -> Option<String> {
    let path = url.path();
    let room = path
        .strip_prefix("/whip/")
        .or_else(|| path.strip_prefix("/whep/"))?;
    let room = livekit::room_of_path(room);
    livekit::invitation(url, &room, "visavis", insecure)
        .await
        .ok()
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
            patience: PATIENCE,
        };
        // A server that is gone knows it already.
        let _ = ask(question).await;
    }
}
