//! Connections by ways that are not the plain one: IPv6 alone, names in place of addresses, ports of a
//! router.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use visavis::{Binding, ChannelOptions, Configuration, Endpoint, Event, PeerConnection, Settings};

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within 20 s"),
    }
}

fn connection(settings: Settings) -> PeerConnection {
    let endpoint = Endpoint::new(settings).unwrap();
    endpoint.peer_connection(Configuration::default()).unwrap()
}

/// Exchanges descriptions and a message; the candidates of both ends.
async fn talk(near: &PeerConnection, far: &PeerConnection) -> [String; 2] {
    let channel = near
        .create_data_channel("x", ChannelOptions::default())
        .unwrap();
    near.set_local_description(None).await.unwrap();
    let offer = within("an offer", near.gathered()).await.unwrap();
    far.set_remote_description(&offer).unwrap();
    far.set_local_description(None).await.unwrap();
    let answer = within("an answer", far.gathered()).await.unwrap();
    near.set_remote_description(&answer).unwrap();
    within("open", channel.opened()).await.unwrap();
    channel.feed("hello").await.unwrap();
    let mut incoming = loop {
        if let Some(Event::DataChannel(channel)) = within("a channel", far.next_event()).await {
            break channel;
        }
    };
    assert_eq!(
        within("a message", incoming.recv()).await,
        Some("hello".into())
    );
    [offer, answer].map(|description| {
        let lines = description.sdp.lines();
        let candidates = lines.filter(|line| line.starts_with("a=candidate:"));
        candidates.collect::<Vec<_>>().join("\n")
    })
}

#[tokio::test]
async fn ipv6_alone_is_enough() {
    let settings = || {
        let mut settings = Settings::loopback();
        settings.binding =
            Binding::Addresses(vec![SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0))]);
        settings
    };
    let (near, far) = (connection(settings()), connection(settings()));
    for candidates in talk(&near, &far).await {
        assert!(candidates.contains(" ::1 "), "{candidates}");
        assert!(!candidates.contains("127.0.0.1"), "{candidates}");
    }
}

/// Both ends offer names and nothing else, and each resolves the other's.
#[tokio::test]
async fn names_stand_in_for_addresses_both_ways() {
    let settings = || {
        let mut settings = Settings::loopback();
        settings.mdns_candidates = true;
        settings.mdns_resolve = true;
        settings.tcp_active = false;
        settings.mdns.interfaces = vec![Ipv4Addr::LOCALHOST];
        // A group of this test's own.
        settings.mdns.group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 1), 15_353);
        settings
    };
    let (near, far) = (connection(settings()), connection(settings()));
    for candidates in talk(&near, &far).await {
        assert!(candidates.contains(".local "), "{candidates}");
        assert!(!candidates.contains("127.0.0.1"), "{candidates}");
    }
}

/// A name that nobody answers for leads nowhere and harms nothing.
#[tokio::test]
async fn a_name_that_nobody_knows_does_not_keep_the_connection_from_coming_up() {
    let mut settings = Settings::loopback();
    settings.mdns_resolve = true;
    settings.mdns.interfaces = vec![Ipv4Addr::LOCALHOST];
    settings.mdns.group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 2), 15_354);
    settings.mdns.timeout = Duration::from_millis(300);
    let (near, far) = (connection(settings), connection(Settings::loopback()));
    let channel = near
        .create_data_channel("x", ChannelOptions::default())
        .unwrap();
    near.set_local_description(None).await.unwrap();
    let offer = within("an offer", near.gathered()).await.unwrap();
    far.set_remote_description(&offer).unwrap();
    far.set_local_description(None).await.unwrap();
    let mut answer = within("an answer", far.gathered()).await.unwrap();
    let nobody = "a=candidate:9 1 udp 2130706431 00000000-0000-4000-8000-000000000000.local 9 typ host\r\na=candidate:";
    answer.sdp = answer.sdp.replacen("a=candidate:", nobody, 1);
    near.set_remote_description(&answer).unwrap();
    within("open", channel.opened()).await.unwrap();
}

/// A router that knows NAT-PMP (RFC 6886 section 3) gives ports, which are offered and given back.
#[cfg(feature = "port-mapping")]
#[tokio::test]
async fn a_port_of_the_router_is_a_candidate_until_the_endpoint_goes() {
    use tokio::net::UdpSocket;
    use visavis::net::portmap::PortMapOptions;

    let gateway = Ipv4Addr::new(127, 0, 0, 12);
    let Ok(router) = UdpSocket::bind((gateway, 5351)).await else {
        eprintln!("skipped: {gateway}:5351 is taken");
        return;
    };
    let (given_back, released) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let mut given_back = Some(given_back);
        let mut buffer = [0; 64];
        while let Ok((length, from)) = router.recv_from(&mut buffer).await {
            let answer: Vec<u8> = match buffer[..length] {
                // PCP: unsupported version.
                [2, ..] => vec![0, 128, 0, 1, 0, 0, 0, 9],
                [0, 0] => vec![0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7],
                [0, op, _, _, a, b, ..] => {
                    // A lifetime of 0 gives the port back (section 3.4).
                    if buffer[8..12] == [0; 4]
                        && let Some(given_back) = given_back.take()
                    {
                        let _ = given_back.send(());
                    }
                    let mut answer = vec![0, 128 + op, 0, 0, 0, 0, 0, 9, a, b];
                    answer.extend_from_slice(&4242u16.to_be_bytes());
                    answer.extend_from_slice(&buffer[8..12]);
                    answer
                }
                _ => continue,
            };
            router.send_to(&answer, from).await.unwrap();
        }
    });
    let mut settings = Settings::loopback();
    let mut options = PortMapOptions::default();
    options.gateway = Some(gateway);
    settings.port_mapping = Some(options);
    let near = connection(settings);
    let far = connection(Settings::loopback());
    talk(&near, &far).await;
    // It may have come before the description or after.
    within("a candidate", async {
        loop {
            let description = near.local_description().unwrap();
            if description.sdp.contains("203.0.113.7 4242 typ srflx") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    near.close();
    drop(near);
    within("the port's return", released).await.unwrap();
}
