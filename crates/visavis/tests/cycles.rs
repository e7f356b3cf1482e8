//! Connections come and go, and leave nothing behind. `VISAVIS_CYCLES=10000` runs more of them.

use std::time::Duration;

use visavis::{ChannelOptions, Configuration, Endpoint, PeerConnection, Settings};

/// Bytes of memory that the process uses.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    pages.and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096
}

/// Waits until a connection is over.
async fn over(connection: &PeerConnection) {
    let end = async { while connection.next_event().await.is_some() {} };
    let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
    assert!(ended.is_ok(), "not over within 20 s");
}

async fn cycle(here: &Endpoint, there: &Endpoint) {
    let near = here.peer_connection(Configuration::default()).unwrap();
    let far = there.peer_connection(Configuration::default()).unwrap();
    let channel = near
        .create_data_channel("x", ChannelOptions::default())
        .unwrap();
    near.set_local_description(None).await.unwrap();
    let offer = near.gathered().await.unwrap();
    far.set_remote_description(&offer).unwrap();
    far.set_local_description(None).await.unwrap();
    near.set_remote_description(&far.gathered().await.unwrap())
        .unwrap();
    tokio::time::timeout(Duration::from_secs(20), channel.opened())
        .await
        .expect("open within 20 s")
        .unwrap();
    near.close();
    far.close();
    over(&near).await;
    over(&far).await;
}

#[tokio::test]
async fn connections_leave_no_memory_behind() {
    let cycles = std::env::var("VISAVIS_CYCLES");
    let cycles: u32 = cycles.ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let here = Endpoint::new(Settings::loopback()).unwrap();
    let there = Endpoint::new(Settings::loopback()).unwrap();
    // Buffers, tables and the allocator's pools grow at first.
    for _ in 0..100 {
        cycle(&here, &there).await;
    }
    let before = resident();
    for _ in 0..cycles {
        cycle(&here, &there).await;
    }
    let grown = resident().saturating_sub(before);
    eprintln!("{grown} bytes more after {cycles} connections, from {before}");
    assert!(
        grown < 2 << 20,
        "{grown} bytes more after {cycles} connections"
    );
}
