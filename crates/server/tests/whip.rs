//! WHIP over HTTP (RFC 9725): who may begin a session, and who may change and end it.

mod support;

use support::{Client, http, server, sign, token};
use visavis_server::{
    Server,
    token::{Claims, VideoGrant},
};

fn section(mid: u8, direction: &str, ufrag: &str) -> String {
    let fingerprint = ["AA"; 32].join(":");
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na={direction}\r\na=msid:stream track{mid}\r\n\
         a=ice-ufrag:{ufrag}\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:actpass\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
    )
}

fn offer(sections: &[String]) -> String {
    let mids: Vec<String> = (0..sections.len()).map(|mid| mid.to_string()).collect();
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n{}",
        mids.join(" "),
        sections.concat()
    )
}

async fn request(
    server: &Server,
    method: &str,
    path: &str,
    token: Option<&str>,
    more: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = more.to_vec();
    headers.extend(
        authorization
            .as_deref()
            .map(|value| ("authorization", value)),
    );
    http(server, method, path, &headers, body.as_bytes()).await
}

fn header(answer: &str, name: &str) -> String {
    answer
        .lines()
        .find_map(|line| {
            line.split_once(": ")
                .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        })
        .map(|(_, value)| value.to_owned())
        .unwrap_or_default()
}

async fn begin(server: &Server, token: &str) -> (String, String) {
    let sdp = ("content-type", "application/sdp");
    let body = offer(&[section(0, "sendonly", "abcd")]);
    let (status, answer) = request(server, "POST", "/whip/a", Some(token), &[sdp], &body).await;
    assert_eq!(status, 201, "{answer}");
    (header(&answer, "location"), header(&answer, "etag"))
}

const FRAGMENT: (&str, &str) = ("content-type", "application/trickle-ice-sdpfrag");
const END: &str = "a=end-of-candidates\r\n";

/// Another token of the same key: one second later, so that it differs.
fn token_again(room: &str, identity: &str) -> String {
    let grant = VideoGrant {
        room_join: true,
        room: room.into(),
        ..VideoGrant::default()
    };
    sign(&Claims {
        identity: identity.into(),
        name: "again".into(),
        video: Some(grant),
        ..Claims::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_obeys_the_bearer_of_its_token_alone() {
    let server = server().await;
    let ada = token("a", "ada");
    let (session, etag) = begin(&server, &ada).await;
    let patch = [FRAGMENT, ("if-match", etag.as_str())];
    for method in ["PATCH", "DELETE"] {
        let none = request(&server, method, &session, None, &patch, END).await;
        assert_eq!(none.0, 401, "{method}");
        let noise = request(&server, method, &session, Some("x.y.z"), &patch, END).await;
        assert_eq!(noise.0, 401, "{method}");
        let grace = token("a", "grace");
        let other = request(&server, method, &session, Some(&grace), &patch, END).await;
        assert_eq!(other.0, 403, "{method}");
    }
    let own = request(&server, "PATCH", &session, Some(&ada), &patch, END).await;
    assert_eq!(own.0, 204);
    let newer = token_again("a", "ada");
    assert_ne!(newer, ada);
    assert_eq!(
        request(&server, "PATCH", &session, Some(&newer), &patch, END)
            .await
            .0,
        204
    );
    assert_eq!(
        request(&server, "DELETE", &session, Some(&newer), &[], "")
            .await
            .0,
        200
    );
    assert_eq!(
        request(&server, "DELETE", &session, Some(&ada), &[], "")
            .await
            .0,
        404
    );
    assert_eq!(server.participants().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_trickle_and_ice_restarts_by_patch() {
    let server = server().await;
    let ada = token("a", "ada");
    let (session, etag) = begin(&server, &ada).await;
    let patch = async |matches: &str, body: &str| {
        let headers = [FRAGMENT, ("if-match", matches)];
        request(&server, "PATCH", &session, Some(&ada), &headers, body).await
    };
    let missing = request(&server, "PATCH", &session, Some(&ada), &[FRAGMENT], END).await;
    assert_eq!(missing.0, 428);
    let plain = [("content-type", "text/plain"), ("if-match", "*")];
    assert_eq!(
        request(&server, "PATCH", &session, Some(&ada), &plain, END)
            .await
            .0,
        415
    );
    assert_eq!(patch("\"old\"", END).await.0, 412);
    assert_eq!(patch(&etag, "{}").await.0, 400);
    let candidate = "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1 1 udp 2122260223 127.0.0.1 61764 typ host\r\n";
    let (status, answer) = patch(&etag, candidate).await;
    assert_eq!((status, header(&answer, "etag")), (204, String::new()));
    let restart = candidate.replace("abcd\r", "efgh\r");
    let (status, answer) = patch("*", &restart).await;
    assert_eq!(status, 200, "{answer}");
    let second = header(&answer, "etag");
    assert!(!second.is_empty() && second != etag);
    assert!(
        answer.contains("a=ice-ufrag:")
            && answer.contains("a=ice-pwd:")
            && answer.contains("a=candidate:")
    );
    // The first ETag names credentials that are gone.
    assert_eq!(patch(&etag, END).await.0, 412);
    assert_eq!(patch(&second, END).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_no_session_can_have_are_refused() {
    let server = server().await;
    let ada = token("a", "ada");
    let sdp = ("content-type", "application/sdp");
    let post = async |body: &str| {
        request(&server, "POST", "/whip/a", Some(&ada), &[sdp], body)
            .await
            .0
    };
    let two = offer(&[
        section(0, "sendonly", "abcd"),
        section(1, "sendonly", "abcd"),
    ]);
    assert_eq!(post(&two).await, 406);
    assert_eq!(post(&offer(&[section(0, "recvonly", "abcd")])).await, 406);
    assert_eq!(post("v=0\r\nnoise").await, 400);
    assert_eq!(post(&"v".repeat(100_000)).await, 413);
    let silent = support::token_with(
        "a",
        "ada",
        VideoGrant {
            can_publish: Some(false),
            ..VideoGrant::default()
        },
    );
    let one = offer(&[section(0, "sendonly", "abcd")]);
    let refused = request(&server, "POST", "/whip/a", Some(&silent), &[sdp], &one).await;
    assert_eq!(refused.0, 403);
    let elsewhere = token("b", "ada");
    let refused = request(&server, "POST", "/whip/a", Some(&elsewhere), &[sdp], &one).await;
    assert_eq!(refused.0, 403);
    // Nothing of them stays.
    assert_eq!(server.participants().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_participant_is_removed_is_gone() {
    let server = server().await;
    let ada = token("a", "ada");
    let (session, etag) = begin(&server, &ada).await;
    // The same identity comes in by the front door.
    let (_client, _) = Client::join(&server, &ada).await;
    let headers = [FRAGMENT, ("if-match", etag.as_str())];
    let gone = request(&server, "PATCH", &session, Some(&ada), &headers, END).await;
    assert_eq!(gone.0, 404);
}
