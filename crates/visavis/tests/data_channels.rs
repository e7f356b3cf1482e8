//! Two connections of this crate, over loopback sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use visavis::{
    Certificate, CertificateKind, ChannelOptions, Configuration, DataChannel, DtlsState, Endpoint,
    Event, IceGatheringState, Message, PeerConnection, Role, SctpState, Settings,
};

const LIMIT: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// Lets two connections find each other, their candidates in their descriptions.
async fn negotiate(offerer: &PeerConnection, answerer: &PeerConnection) {
    offerer.set_local_description(None).await.unwrap();
    let offer = within("gathering", offerer.gathered()).await.unwrap();
    answerer.set_remote_description(&offer).unwrap();
    answerer.set_local_description(None).await.unwrap();
    let answer = within("gathering", answerer.gathered()).await.unwrap();
    offerer.set_remote_description(&answer).unwrap();
}

async fn incoming(connection: &PeerConnection) -> DataChannel {
    within("a channel", async {
        loop {
            if let Event::DataChannel(channel) = connection.next_event().await.expect("open") {
                return channel;
            }
        }
    })
    .await
}

fn endpoint() -> Endpoint {
    Endpoint::new(Settings::loopback()).unwrap()
}

fn connection(endpoint: &Endpoint) -> PeerConnection {
    endpoint.peer_connection(Configuration::default()).unwrap()
}

/// RFC 6544: one end listens, the other connects, and UDP is never tried.
#[tokio::test]
async fn messages_cross_over_tcp_alone() {
    let mut settings = Settings::loopback();
    settings.tcp_passive = true;
    let (near, far) = (connection(&endpoint()), {
        connection(&Endpoint::new(settings).unwrap())
    });
    let here = near.create_data_channel("chat", ChannelOptions::default());
    let tcp = |mut description: visavis::Description| {
        let lines = description.sdp.split_inclusive('\n');
        let is_udp = |line: &&str| line.starts_with("a=candidate:") && line.contains(" udp ");
        description.sdp = lines.filter(|line| !is_udp(line)).collect();
        description
    };
    near.set_local_description(None).await.unwrap();
    let offer = within("gathering", near.gathered()).await.unwrap();
    far.set_remote_description(&tcp(offer)).unwrap();
    far.set_local_description(None).await.unwrap();
    let answer = within("gathering", far.gathered()).await.unwrap();
    assert!(answer.sdp.contains("tcptype passive"), "{}", answer.sdp);
    near.set_remote_description(&tcp(answer)).unwrap();
    within("sending", here.unwrap().feed("hello"))
        .await
        .unwrap();
    let mut there = incoming(&far).await;
    assert_eq!(within("text", there.recv()).await, Some("hello".into()));
}

#[tokio::test]
async fn messages_cross_both_ways() {
    let (near, far) = (connection(&endpoint()), connection(&endpoint()));
    let mut here = near
        .create_data_channel("chat", ChannelOptions::default())
        .unwrap();
    negotiate(&near, &far).await;
    let mut there = incoming(&far).await;
    assert_eq!(there.label(), "chat");
    within("sending", here.feed("hello")).await.unwrap();
    assert_eq!(within("text", there.recv()).await, Some("hello".into()));
    within("sending", there.feed(vec![1, 2, 3])).await.unwrap();
    assert_eq!(
        within("bytes", here.recv()).await,
        Some(vec![1, 2, 3].into())
    );
    within("sending", here.feed("")).await.unwrap();
    assert_eq!(
        within("empty text", there.recv()).await,
        Some(Message::Text(String::new()))
    );
    near.close();
    assert_eq!(within("the end", there.recv()).await, None);
}

/// The W3C's objects, each above the next, say what the connection runs over.
#[tokio::test]
async fn transports_can_be_looked_at() {
    let (near, far) = (connection(&endpoint()), connection(&endpoint()));
    assert!(near.sctp().is_none(), "nothing is negotiated");
    let here = near.create_data_channel("chat", ChannelOptions::default());
    let sender = near.add_track(visavis::Kind::Audio, "a", &[]).unwrap();
    assert!(sender.transport().is_none(), "it has no section");
    negotiate(&near, &far).await;
    let there = incoming(&far).await;
    within("sending", here.unwrap().feed("hello"))
        .await
        .unwrap();
    let (above, beyond) = (near.sctp().unwrap(), far.sctp().unwrap());
    assert_eq!(above.state(), SctpState::Connected);
    assert_eq!(above.max_message_size(), 262_144);
    assert!(above.max_channels() >= Some(1024), "{above:?}");
    let dtls = above.transport();
    assert_eq!(dtls.state(), DtlsState::Connected);
    assert!(dtls.remote_certificate().is_some());
    assert!(sender.transport().is_some());
    let (ice, other) = (dtls.ice_transport(), beyond.transport().ice_transport());
    assert_eq!(
        (ice.role(), other.role()),
        (Role::Controlling, Role::Controlled)
    );
    assert_eq!(ice.gathering_state(), IceGatheringState::Complete);
    assert_eq!(ice.remote_parameters(), Some(other.local_parameters()));
    let (pair, mirrored) = (
        ice.selected_candidate_pair().unwrap(),
        within("a pair", async {
            loop {
                // The controlled end hears of the choice with the next check.
                match other.selected_candidate_pair() {
                    Some(pair) => break pair,
                    None => drop(far.next_event().await),
                }
            }
        })
        .await,
    );
    assert_eq!(pair.local.address(), mirrored.remote.address());
    assert!(!ice.local_candidates().is_empty() && !ice.remote_candidates().is_empty());
    drop(there);
    near.close();
    assert_eq!(above.state(), SctpState::Closed);
    assert_eq!(dtls.state(), DtlsState::Closed);
}

/// Certificates are made once and shared; one end has an RSA key.
#[tokio::test]
async fn connections_bring_their_certificates() {
    let make = PeerConnection::generate_certificate;
    let rsa = within("a key", make(CertificateKind::Rsa2048))
        .await
        .unwrap();
    let ecdsa = make(CertificateKind::EcdsaP256).await.unwrap();
    let connection = |certificate: &Certificate| {
        let mut configuration = Configuration::default();
        configuration.advanced.certificates = vec![certificate.clone()];
        endpoint().peer_connection(configuration).unwrap()
    };
    let (near, far) = (connection(&rsa), connection(&ecdsa));
    let here = near.create_data_channel("chat", ChannelOptions::default());
    negotiate(&near, &far).await;
    within("sending", here.unwrap().feed("hello"))
        .await
        .unwrap();
    let mut there = incoming(&far).await;
    assert_eq!(within("text", there.recv()).await, Some("hello".into()));
    let seen = far.with_core(|core| core.remote_certificate().map(<[u8]>::to_vec));
    assert_eq!(seen.as_deref(), Some(rsa.der()));
}

/// What waits may be given up at any time: no message is lost by it, and none is sent twice.
#[tokio::test]
async fn waiting_may_be_given_up() {
    let (near, far) = (connection(&endpoint()), connection(&endpoint()));
    let here = near
        .create_data_channel("bulk", ChannelOptions::default())
        .unwrap();
    negotiate(&near, &far).await;
    let mut there = incoming(&far).await;
    within("an open channel", here.opened()).await.unwrap();
    let count = 3000u32;
    let message = |number: u32| {
        let mut bytes = vec![0; 10_000];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    let sending = async {
        let mut given_up = 0;
        for number in 0..count {
            // Polled once, then dropped, until it is done: each is sent whole or not at all.
            while timeout(Duration::ZERO, here.feed(message(number)))
                .await
                .is_err()
            {
                given_up += 1;
                tokio::task::yield_now().await;
            }
        }
        given_up
    };
    let receiving = async {
        let mut given_up = 0;
        for number in 0..count {
            let received = loop {
                match timeout(Duration::ZERO, there.recv()).await {
                    Ok(received) => break received,
                    Err(_) => given_up += 1,
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(received, Some(message(number).into()));
        }
        given_up
    };
    let (sent, received) = within("all", async { tokio::join!(sending, receiving) }).await;
    assert!(sent > 0 && received > 0, "{sent} {received}");
}

#[tokio::test]
async fn a_slow_reader_slows_the_sender_down_and_loses_nothing() {
    let (near, far) = (connection(&endpoint()), connection(&endpoint()));
    let here = near
        .create_data_channel("bulk", ChannelOptions::default())
        .unwrap();
    negotiate(&near, &far).await;
    let mut there = incoming(&far).await;
    let count = 2000u32;
    let sender = async {
        for number in 0..count {
            let mut message = vec![0; 16_000];
            message[..4].copy_from_slice(&number.to_be_bytes());
            here.feed(message).await.unwrap();
        }
    };
    let reader = async {
        for number in 0..count {
            let message = there.recv().await.expect("a message").into_bytes();
            assert_eq!(message.len(), 16_000);
            assert_eq!(message[..4], number.to_be_bytes());
        }
    };
    within("32 MB", async { tokio::join!(sender, reader) }).await;
}

#[tokio::test]
async fn a_channel_serves_as_a_stream_of_bytes() {
    let (near, far) = (connection(&endpoint()), connection(&endpoint()));
    let here = near
        .create_data_channel("stream", ChannelOptions::default())
        .unwrap();
    negotiate(&near, &far).await;
    let mut there = incoming(&far).await.into_stream();
    let mut here = here.into_stream();
    let sent: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
    let copy = sent.clone();
    let writer = async {
        here.write_all(&copy).await.unwrap();
        here.shutdown().await.unwrap();
    };
    let reader = async {
        let mut received = Vec::new();
        there.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = within("1 MB", async { tokio::join!(writer, reader) }).await;
    assert!(
        received == sent,
        "{} bytes of {}",
        received.len(),
        sent.len()
    );
}

#[tokio::test]
async fn candidates_may_trickle() {
    let near_end = Endpoint::new(Settings::loopback()).unwrap();
    let far_end = Endpoint::new(Settings::loopback()).unwrap();
    let (near, far) = (connection(&near_end), connection(&far_end));
    let here = near
        .create_data_channel("x", ChannelOptions::default())
        .unwrap();
    near.set_local_description(None).await.unwrap();
    far.set_remote_description(&near.local_description().unwrap())
        .unwrap();
    far.set_local_description(None).await.unwrap();
    near.set_remote_description(&far.local_description().unwrap())
        .unwrap();
    let pump = |from: PeerConnection, to: PeerConnection| async move {
        while let Some(event) = from.next_event().await {
            match event {
                Event::IceCandidate(Some(candidate)) => to.add_ice_candidate(&candidate).unwrap(),
                Event::IceCandidate(None) => break,
                _ => {}
            }
        }
    };
    tokio::join!(
        within("candidates", pump(near.clone(), far.clone())),
        within("candidates", pump(far.clone(), near.clone()))
    );
    within("open", here.opened()).await.unwrap();
    drop(here);
}

#[tokio::test]
async fn a_server_has_one_port_for_all_its_clients() {
    let server = endpoint();
    let mut pairs = Vec::new();
    for _ in 0..8 {
        let (near, far) = (connection(&endpoint()), connection(&server));
        let here = near
            .create_data_channel("x", ChannelOptions::default())
            .unwrap();
        negotiate(&near, &far).await;
        pairs.push((here, far));
    }
    assert_eq!(server.local_addresses().len(), 1);
    for (number, (here, far)) in pairs.iter().enumerate() {
        let mut there = incoming(far).await;
        within("sending", here.feed(format!("for {number}")))
            .await
            .unwrap();
        assert_eq!(
            within("text", there.recv()).await,
            Some(format!("for {number}").into())
        );
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_is_told_within_bounded_time() {
    let (near, far) = (connection(&endpoint()), connection(&endpoint()));
    let mut here = near
        .create_data_channel("x", ChannelOptions::default())
        .unwrap();
    negotiate(&near, &far).await;
    let there = incoming(&far).await;
    within("open", here.opened()).await.unwrap();
    drop((there, far));
    assert_eq!(within("the end", here.recv()).await, None);
}
