//! Data channels between this stack and the browsers, offered by either side.

use interop_browser::{Call, Kind, Plan, Side, tests, within};
use serde_json::json;
use visavis::{
    CertificateKind, ChannelOptions, Configuration, DataChannel, Message, PeerConnection,
};

async fn exchange(call: &Call, channel: &mut DataChannel) {
    let page = &call.page;
    within("our text", channel.feed("from here")).await.unwrap();
    let bytes = vec![1, 2, 3];
    within("our bytes", channel.feed(bytes)).await.unwrap();
    within("our empty text", channel.feed("")).await.unwrap();
    let got = within("messages in the page", page.eval("messages(3)")).await;
    assert_eq!(got, json!(["from here", [1, 2, 3], ""]));
    page.eval("dc.send('from the page'); dc.send(new Uint8Array([4, 5])); dc.send('')")
        .await;
    let text = within("text", channel.recv()).await;
    assert_eq!(text, Some("from the page".into()));
    let bytes = within("bytes", channel.recv()).await;
    assert_eq!(bytes, Some(vec![4, 5].into()));
    let empty = within("empty text", channel.recv()).await;
    assert_eq!(empty, Some(Message::Text(String::new())));
}

/// As large as browsers take.
async fn exchange_large(call: &Call, channel: &mut DataChannel) {
    let large: Vec<u8> = (0..262_144u32).map(|index| (index % 251) as u8).collect();
    within("a large message", channel.feed(large.clone()))
        .await
        .unwrap();
    let sum = "messages(4).then((got) => got[3].every((b, i) => b === i % 251) && got[3].length)";
    let length = within("the large message", call.page.eval(sum)).await;
    assert_eq!(length, 262_144);
    call.page
        .eval("dc.send(new Uint8Array(262144).map((_, i) => i % 251))")
        .await;
    let back = within("the large message back", channel.recv()).await;
    assert_eq!(back, Some(large.into()));
}

/// Both ends must have spoken DTLS 1.3.
async fn tls_version(call: &Call) {
    let stats = call.page.eval("stats('transport')").await;
    if let Some(version) = stats[0]["tlsVersion"].as_str() {
        assert_eq!(version, "FEFC", "{stats}");
    }
    let version = call
        .connection
        .with_core(|core| core.dtls().expect("DTLS").version());
    assert_eq!(format!("{version:?}"), "Some(Dtls13)");
}

async fn messages(kind: Kind, offerer: Side) {
    let Some(mut call) = Call::new(Plan::new(kind)).await else {
        return;
    };
    let mut channel = call.connect(offerer).await;
    assert_eq!(channel.label(), "chat");
    exchange(&call, &mut channel).await;
    exchange_large(&call, &mut channel).await;
    tls_version(&call).await;
    channel.close();
    within("the page's channel closes", call.page.eval("over")).await;
}

/// A message of a megabyte: Firefox takes it, and we do if the configuration says so.
async fn a_megabyte_both_ways(kind: Kind) {
    let mut plan = Plan::new(kind);
    plan.configuration.advanced.max_message_size = 1 << 20;
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(Side::Page).await;
    let large: Vec<u8> = (0..1u32 << 20).map(|index| (index % 249) as u8).collect();
    within("feed", channel.feed(large.clone())).await.unwrap();
    let sum = "messages(1).then((got) => got[0].every((b, i) => b === i % 249) && got[0].length)";
    assert_eq!(within("a megabyte", call.page.eval(sum)).await, 1 << 20);
    call.page
        .eval("dc.send(new Uint8Array(1 << 20).map((_, i) => i % 249))")
        .await;
    let back = within("a megabyte back", channel.recv()).await;
    assert_eq!(back, Some(large.into()));
}

/// What a channel is arrives at the page: its reliability, its order, its protocol, and who chose its number.
async fn kinds_of_channels(kind: Kind) {
    let Some(mut call) = Call::new(Plan::new(kind)).await else {
        return;
    };
    call.page
        .eval("globalThis.channels = []; pc.ondatachannel = (e) => channels.push(e.channel)")
        .await;
    let create = |label: &str, options| {
        call.connection
            .create_data_channel(label, options)
            .expect("a channel")
    };
    let default = ChannelOptions::default;
    let ours = [
        create("plain", default()),
        create(
            "unordered",
            ChannelOptions {
                ordered: false,
                max_retransmits: Some(3),
                ..default()
            },
        ),
        create(
            "timed",
            ChannelOptions {
                max_packet_lifetime: Some(500),
                protocol: "chess".into(),
                ..default()
            },
        ),
    ];
    let mut negotiated = create(
        "negotiated",
        ChannelOptions {
            negotiated: Some(42),
            ..default()
        },
    );
    call.page
        .eval("follow(pc.createDataChannel('negotiated', { negotiated: true, id: 42 }))")
        .await;
    call.negotiate(Side::Here).await;
    for channel in &ours {
        within("an open channel", channel.opened()).await.unwrap();
    }
    let seen = within(
        "channels",
        call.page.eval(
            "(async () => { while (channels.length < 3) await pause(20);
               const by = (name) => channels.find((c) => c.label === name);
               const of = (c) => [c.ordered, c.maxRetransmits, c.maxPacketLifeTime, c.protocol, c.negotiated];
               return ['plain', 'unordered', 'timed'].map((name) => of(by(name))) })()",
        ),
    )
    .await;
    let expected = json!([
        [true, null, null, "", false],
        [false, 3, null, "", false],
        [true, null, 500, "chess", false],
    ]);
    assert_eq!(seen, expected);
    within("open", negotiated.opened()).await.unwrap();
    call.page.eval("opened.then(() => dc.send('42'))").await;
    let message = within("a message", negotiated.recv()).await;
    assert_eq!(message, Some("42".into()));
}

/// Who is DTLS client is the answerer's choice: here it is ours, and each answer is tried.
async fn dtls_role(kind: Kind, preference: visavis_peer::DtlsRolePreference, role: &str) {
    let mut configuration = Configuration::default();
    configuration.advanced.dtls_role = preference;
    let plan = Plan {
        configuration,
        ..Plan::new(kind)
    };
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(Side::Page).await;
    exchange(&call, &mut channel).await;
    let ours = call
        .connection
        .with_core(|core| core.dtls().expect("DTLS").role());
    assert_eq!(format!("{ours:?}"), role);
}

async fn we_are_client(kind: Kind) {
    dtls_role(kind, visavis_peer::DtlsRolePreference::Client, "Client").await;
}

async fn we_are_server(kind: Kind) {
    dtls_role(kind, visavis_peer::DtlsRolePreference::Server, "Server").await;
}

/// No other key exchange is allowed here, so that what connects has used the post-quantum one.
async fn post_quantum(kind: Kind, offerer: Side) {
    let mut plan = Plan::new(kind);
    let dtls = &mut plan.configuration.advanced.dtls;
    dtls.groups = vec![visavis_crypto::Group::X25519MlKem768];
    dtls.min_version = visavis_dtls::Version::Dtls13;
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(offerer).await;
    exchange(&call, &mut channel).await;
    tls_version(&call).await;
}

/// We are known by an RSA key, and so is the page.
async fn rsa(kind: Kind, offerer: Side) {
    let certificate = PeerConnection::generate_certificate(CertificateKind::Rsa2048);
    let mut plan = Plan::new(kind);
    plan.configuration.advanced.certificates = vec![certificate.await.expect("a certificate")];
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let make = "(async () => {
        const name = 'RSASSA-PKCS1-v1_5', publicExponent = new Uint8Array([1, 0, 1]);
        const certificate = await RTCPeerConnection.generateCertificate(
            { name, modulusLength: 2048, publicExponent, hash: 'SHA-256' });
        begin({ certificates: [certificate] });
    })()";
    within("a key in the page", call.page.eval(make)).await;
    let mut channel = call.connect(offerer).await;
    exchange(&call, &mut channel).await;
    let there = call.connection.with_core(|core| {
        let certificate = core.remote_certificate().expect("a certificate");
        visavis_crypto::PeerCertificate::parse(certificate).expect("a certificate")
    });
    let key = format!("{:?}", there.public_key());
    assert!(key.contains("Rsa"), "{key}");
}

/// With DTLS 1.2 and no more.
async fn dtls_12(kind: Kind, offerer: Side) {
    let mut plan = Plan::new(kind);
    plan.configuration.advanced.dtls.max_version = visavis_dtls::Version::Dtls12;
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let mut channel = call.connect(offerer).await;
    exchange(&call, &mut channel).await;
    let version = call
        .connection
        .with_core(|core| core.dtls().expect("DTLS").version());
    assert_eq!(format!("{version:?}"), "Some(Dtls12)");
}

tests! {
    chromium_answers_our_offer: messages(Kind::Chromium, Side::Here);
    chromium_offers: messages(Kind::Chromium, Side::Page);
    chromium_sees_kinds_of_channels: kinds_of_channels(Kind::Chromium);
    chromium_is_dtls_server: we_are_client(Kind::Chromium);
    chromium_is_dtls_client: we_are_server(Kind::Chromium);
    chromium_answers_with_ml_kem: post_quantum(Kind::Chromium, Side::Here);
    chromium_offers_with_ml_kem: post_quantum(Kind::Chromium, Side::Page);
    chromium_answers_with_rsa: rsa(Kind::Chromium, Side::Here);
    chromium_offers_with_rsa: rsa(Kind::Chromium, Side::Page);
    chromium_answers_with_dtls_12: dtls_12(Kind::Chromium, Side::Here);
    chromium_offers_with_dtls_12: dtls_12(Kind::Chromium, Side::Page);

    firefox_answers_our_offer: messages(Kind::Firefox, Side::Here);
    firefox_offers: messages(Kind::Firefox, Side::Page);
    firefox_takes_and_sends_a_megabyte: a_megabyte_both_ways(Kind::Firefox);
    firefox_sees_kinds_of_channels: kinds_of_channels(Kind::Firefox);
    firefox_is_dtls_server: we_are_client(Kind::Firefox);
    firefox_is_dtls_client: we_are_server(Kind::Firefox);
    firefox_answers_with_ml_kem: post_quantum(Kind::Firefox, Side::Here);
    firefox_offers_with_ml_kem: post_quantum(Kind::Firefox, Side::Page);
    firefox_answers_with_rsa: rsa(Kind::Firefox, Side::Here);
    firefox_offers_with_rsa: rsa(Kind::Firefox, Side::Page);
    firefox_answers_with_dtls_12: dtls_12(Kind::Firefox, Side::Here);
    firefox_offers_with_dtls_12: dtls_12(Kind::Firefox, Side::Page);
}
