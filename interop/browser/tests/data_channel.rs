//! Data channels between this stack and the browsers, offered by either side.

use std::time::Duration;

use interop_browser::{Browser, Kind, Page, in_namespace};
use serde_json::json;
use visavis::{
    ChannelOptions, Configuration, DataChannel, Description, Event, Message, PeerConnection,
};

const LIMIT: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// What the page needs: a connection `pc`, all messages of its channel in `got`, and a promise for each
/// thing worth waiting for.
const SET_UP: &str = r"
  globalThis.pc = new RTCPeerConnection();
  globalThis.got = [];
  globalThis.follow = (dc) => {
    globalThis.dc = dc;
    dc.binaryType = 'arraybuffer';
    globalThis.opened = new Promise((done) => { dc.onopen = done; if (dc.readyState === 'open') done(); });
    dc.onmessage = (e) => {
      got.push(typeof e.data === 'string' ? e.data : [...new Uint8Array(e.data)]);
      globalThis.arrived?.();
    };
  };
  pc.ondatachannel = (e) => follow(e.channel);
  globalThis.gathered = () => new Promise((done) => {
    const look = () => { if (pc.iceGatheringState === 'complete') done(pc.localDescription.toJSON()); };
    pc.addEventListener('icegatheringstatechange', look);
    look();
  });
  globalThis.messages = async (count) => {
    while (got.length < count) await new Promise((done) => { globalThis.arrived = done; });
    return got;
  };
";

async fn page(browser: &std::sync::Arc<Browser>) -> Page {
    let page = browser.open().await;
    page.call(SET_UP, json!(null)).await;
    page
}

fn to_json(description: &Description) -> serde_json::Value {
    json!({ "type": description.kind.name(), "sdp": description.sdp })
}

fn from_json(value: &serde_json::Value) -> Description {
    let text = |key: &str| value[key].as_str().expect("a description").to_owned();
    Description::from_parts(&text("type"), text("sdp")).unwrap()
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

async fn exchange(page: &Page, mut channel: DataChannel) {
    within("our text", channel.feed("from here")).await.unwrap();
    within("our bytes", channel.feed(vec![1, 2, 3]))
        .await
        .unwrap();
    within("our empty text", channel.feed("")).await.unwrap();
    let got = within("messages in the page", page.eval("messages(3)")).await;
    assert_eq!(got, json!(["from here", [1, 2, 3], ""]));
    page.eval("opened.then(() => { dc.send('from the page'); dc.send(new Uint8Array([4, 5])); dc.send('') })")
        .await;
    assert_eq!(
        within("text", channel.recv()).await,
        Some("from the page".into())
    );
    assert_eq!(
        within("bytes", channel.recv()).await,
        Some(vec![4, 5].into())
    );
    assert_eq!(
        within("empty text", channel.recv()).await,
        Some(Message::Text(String::new()))
    );
    // As large as browsers take.
    let large: Vec<u8> = (0..262_144u32).map(|index| (index % 251) as u8).collect();
    within("a large message", channel.feed(large.clone()))
        .await
        .unwrap();
    let sum = "messages(4).then((got) => got[3].every((b, i) => b === i % 251) && got[3].length)";
    assert_eq!(within("the large message", page.eval(sum)).await, 262_144);
    page.eval("dc.send(new Uint8Array(262144).map((_, i) => i % 251))")
        .await;
    assert_eq!(
        within("the large message back", channel.recv()).await,
        Some(large.into())
    );
}

async fn we_offer(kind: Kind) {
    if !in_namespace() {
        return;
    }
    let Some(browser) = Browser::launch(kind, &[]).await else {
        return;
    };
    let page = page(&browser).await;
    let connection = PeerConnection::new(Configuration::default()).unwrap();
    let channel = connection
        .create_data_channel("chat", ChannelOptions::default())
        .unwrap();
    connection.set_local_description(None).await.unwrap();
    let offer = within("gathering", connection.gathered()).await.unwrap();
    let answer = page
        .call(
            "await pc.setRemoteDescription(argument); await pc.setLocalDescription(); return gathered()",
            to_json(&offer),
        )
        .await;
    connection
        .set_remote_description(&from_json(&answer))
        .unwrap();
    exchange(&page, channel).await;
    tls_version(&page, &connection).await;
}

async fn the_page_offers(kind: Kind) {
    if !in_namespace() {
        return;
    }
    let Some(browser) = Browser::launch(kind, &[]).await else {
        return;
    };
    let page = page(&browser).await;
    let offer = page
        .call(
            "follow(pc.createDataChannel('chat')); await pc.setLocalDescription(); return gathered()",
            json!(null),
        )
        .await;
    let connection = PeerConnection::new(Configuration::default()).unwrap();
    connection
        .set_remote_description(&from_json(&offer))
        .unwrap();
    connection.set_local_description(None).await.unwrap();
    let answer = within("gathering", connection.gathered()).await.unwrap();
    page.call("await pc.setRemoteDescription(argument)", to_json(&answer))
        .await;
    let channel = incoming(&connection).await;
    assert_eq!(channel.label(), "chat");
    exchange(&page, channel).await;
    tls_version(&page, &connection).await;
}

/// Both ends must have spoken DTLS 1.3.
async fn tls_version(page: &Page, connection: &PeerConnection) {
    let stats = page
        .eval(
            "pc.getStats().then((s) => [...s.values()].find((r) => r.type === 'transport') ?? {})",
        )
        .await;
    if let Some(version) = stats["tlsVersion"].as_str() {
        assert_eq!(version, "FEFC", "{stats}");
    }
    let version = connection.with_core(|core| core.dtls().expect("DTLS").version());
    assert_eq!(format!("{version:?}"), "Some(Dtls13)");
}

#[tokio::test]
async fn chromium_answers_our_offer() {
    we_offer(Kind::Chromium).await;
}

#[tokio::test]
async fn chromium_offers() {
    the_page_offers(Kind::Chromium).await;
}

#[tokio::test]
async fn firefox_answers_our_offer() {
    we_offer(Kind::Firefox).await;
}

#[tokio::test]
async fn firefox_offers() {
    the_page_offers(Kind::Firefox).await;
}
