//! Paths between this stack and the browsers: names instead of addresses, one family alone, relays, and
//! handshakes that ride in other messages.

use interop_browser::{Call, Kind, Plan, Side, tests, within};
use interop_turn::coturn::Coturn;
use interop_turn::link::any_certificate;
use serde_json::{Value, json};
use visavis::{DataChannel, IceServer, TransportPolicy};
use visavis_datagram::Protocol;

/// A message each way.
async fn exchange(call: &Call, channel: &mut DataChannel) {
    within("feed", channel.feed("from here")).await.unwrap();
    let got = within("a message", call.page.eval("messages(1)")).await;
    assert_eq!(got, json!(["from here"]));
    call.page.eval("dc.send('from the page')").await;
    let text = within("text", channel.recv()).await;
    assert_eq!(text, Some("from the page".into()));
}

/// The candidates of the pair in use, as the page names them: local and remote.
async fn pair(page: &interop_browser::Page) -> Value {
    page.eval(
        "(async () => {
           let [all, pair] = [[]];
           while (!pair) {
             all = [...(await pc.getStats()).values()];
             pair = all.find((s) => s.type === 'candidate-pair' && s.nominated && s.state === 'succeeded');
             await pause(20);
           }
           return [pair.localCandidateId, pair.remoteCandidateId].map((id) => all.find((s) => s.id === id));
         })()",
    )
    .await
}

fn word(candidate: &str, index: usize) -> &str {
    candidate.split(' ').nth(index).unwrap_or_default()
}

/// Both ends hide their addresses behind names, and each finds the other's.
async fn names(kind: Kind, offerer: Side) {
    let flag = match kind {
        // Who may use the camera need not hide.
        Kind::Chromium => "!--use-fake-ui-for-media-stream",
        Kind::Firefox => "media.peerconnection.ice.obfuscate_host_addresses=true",
    };
    let mut plan = Plan::new(kind);
    plan.flags = vec![flag];
    plan.settings.mdns_candidates = true;
    plan.candidates = |candidate| word(candidate, 4).ends_with(".local");
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(offerer).await;
    exchange(&call, &mut channel).await;
    let ours = call.connection.local_description().expect("ours").sdp;
    let theirs = call.connection.remote_description().expect("theirs").sdp;
    assert!(theirs.contains(".local "), "{theirs}");
    let mut candidates = ours.lines().filter(|line| line.starts_with("a=candidate:"));
    assert!(candidates.all(|line| line.contains(".local ")), "{ours}");
}

/// IPv6 and nothing else.
async fn ipv6(kind: Kind, offerer: Side) {
    let mut plan = Plan::new(kind);
    plan.candidates = |candidate| word(candidate, 4).contains(':');
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(offerer).await;
    exchange(&call, &mut channel).await;
    let remote = call.connection.with_core(|core| {
        let pair = core.ice().selected_pair().expect("a pair");
        pair.path.remote
    });
    assert!(remote.is_ipv6(), "{remote}");
}

/// Browsers open TCP connections and take none: we listen.
async fn tcp(kind: Kind, offerer: Side) {
    let mut plan = Plan::new(kind);
    plan.settings.tcp_passive = true;
    plan.candidates = |candidate| word(candidate, 2).eq_ignore_ascii_case("tcp");
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(offerer).await;
    exchange(&call, &mut channel).await;
    let path = call.connection.with_core(|core| {
        let pair = core.ice().selected_pair().expect("a pair");
        pair.path
    });
    assert_eq!(path.protocol, Protocol::Tcp, "{path:?}");
}

/// How a TURN server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Tls,
}

/// One end, or both, may use relayed candidates alone.
async fn relayed(kind: Kind, way: Way, ours: bool, theirs: bool) {
    let Some(server) = Coturn::start([198, 51, 100, 1].into(), &[]) else {
        return;
    };
    let url = match way {
        Way::Udp => format!("turn:{}?transport=udp", server.plain),
        Way::Tcp => format!("turn:{}?transport=tcp", server.plain),
        Way::Tls => format!("turns:{}?transport=tcp", server.tls),
    };
    let mut plan = Plan::new(kind);
    if kind == Kind::Chromium && way == Way::Tls {
        plan.flags = vec!["--ignore-certificate-errors"];
    }
    if ours {
        plan.settings.tls = Some(any_certificate());
        let server = IceServer::turn(&url, "alice", "correct horse");
        plan.configuration.ice_servers = vec![server];
        plan.configuration.ice_transport_policy = TransportPolicy::Relay;
    }
    if theirs {
        plan.page = json!({ "iceTransportPolicy": "relay", "iceServers": [
            { "urls": url, "username": "alice", "credential": "correct horse" } ] });
    }
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(Side::Page).await;
    exchange(&call, &mut channel).await;
    let pair = pair(&call.page).await;
    if theirs {
        let protocol = format!("{way:?}").to_lowercase();
        assert_eq!(pair[0]["candidateType"], "relay", "{pair}");
        assert_eq!(pair[0]["relayProtocol"], protocol, "{pair}");
    }
    if ours {
        let kind = call.connection.with_core(|core| {
            let pair = core.ice().selected_pair().expect("a pair");
            format!("{:?}", pair.local.kind)
        });
        assert_eq!(kind, "Relayed", "{pair}");
    }
}

/// Chromium's field trials: SCTP's handshake in descriptions (draft-hancke-tsvwg-snap), DTLS in STUN
/// (draft-hancke-webrtc-sped), or both.
async fn early_handshakes(offerer: Side, snap: bool, sped: bool) {
    let mut plan = Plan::new(Kind::Chromium);
    plan.flags =
        vec!["--force-fieldtrials=WebRTC-Sctp-Snap/Enabled/WebRTC-IceHandshakeDtls/Enabled/"];
    plan.configuration.advanced.snap = snap;
    plan.configuration.advanced.sped = sped;
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(offerer).await;
    exchange(&call, &mut channel).await;
    let (ours, theirs) = (
        call.connection.local_description().expect("ours").sdp,
        call.connection.remote_description().expect("theirs").sdp,
    );
    assert_eq!(ours.contains("a=sctp-init:"), snap, "{ours}");
    // Chromium answers with one only where one was offered.
    let expected = snap || offerer == Side::Page;
    assert_eq!(theirs.contains("a=sctp-init:"), expected, "{theirs}");
    // The first flight rode in STUN, from whoever is DTLS client: then there was a path.
    let stats = call.connection.with_core(|core| core.transport_stats());
    let rode = stats.dtls_in_stun_received + stats.dtls_in_stun_acknowledged;
    assert_eq!(rode > 0, sped, "{stats:?}");
}

tests! {
    chromium_and_we_find_names_as_we_offer: names(Kind::Chromium, Side::Here);
    chromium_and_we_find_names_as_it_offers: names(Kind::Chromium, Side::Page);
    chromium_over_ipv6_as_we_offer: ipv6(Kind::Chromium, Side::Here);
    chromium_over_ipv6_as_it_offers: ipv6(Kind::Chromium, Side::Page);
    chromium_connects_over_tcp_as_we_offer: tcp(Kind::Chromium, Side::Here);
    chromium_connects_over_tcp_as_it_offers: tcp(Kind::Chromium, Side::Page);
    chromium_and_we_relay_over_udp: relayed(Kind::Chromium, Way::Udp, true, true);
    chromium_and_we_relay_over_tcp: relayed(Kind::Chromium, Way::Tcp, true, true);
    chromium_and_we_relay_over_tls: relayed(Kind::Chromium, Way::Tls, true, true);
    chromium_relays_and_we_do_not: relayed(Kind::Chromium, Way::Udp, false, true);
    we_relay_and_chromium_does_not: relayed(Kind::Chromium, Way::Udp, true, false);
    chromium_takes_snap: early_handshakes(Side::Here, true, false);
    chromium_offers_snap: early_handshakes(Side::Page, true, false);
    chromium_takes_dtls_in_stun: early_handshakes(Side::Here, false, true);
    chromium_offers_dtls_in_stun: early_handshakes(Side::Page, false, true);
    chromium_takes_both: early_handshakes(Side::Here, true, true);
    chromium_offers_both: early_handshakes(Side::Page, true, true);

    firefox_and_we_find_names_as_we_offer: names(Kind::Firefox, Side::Here);
    firefox_and_we_find_names_as_it_offers: names(Kind::Firefox, Side::Page);
    firefox_over_ipv6_as_we_offer: ipv6(Kind::Firefox, Side::Here);
    firefox_over_ipv6_as_it_offers: ipv6(Kind::Firefox, Side::Page);
    firefox_connects_over_tcp_as_we_offer: tcp(Kind::Firefox, Side::Here);
    firefox_connects_over_tcp_as_it_offers: tcp(Kind::Firefox, Side::Page);
    firefox_and_we_relay_over_udp: relayed(Kind::Firefox, Way::Udp, true, true);
    firefox_and_we_relay_over_tcp: relayed(Kind::Firefox, Way::Tcp, true, true);
    we_relay_over_tls_and_firefox_does_not: relayed(Kind::Firefox, Way::Tls, true, false);
}
