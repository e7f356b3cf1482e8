//! Idle connections of the crate `webrtc`: over loopback sockets, in real time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use webrtc::data_channel::DataChannel;

use crate::process::{cpu_seconds, resident};
use crate::webrtc_end::{End, opened, runtime};

const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(10);

/// Two ends, one channel open; the handles are kept.
async fn connect() -> ([End; 2], Arc<dyn DataChannel>) {
    let (mut a, mut b) = (End::new().await, End::new().await);
    let created = a.connection.create_data_channel("idle", None);
    let channel = created.await.expect("a channel");
    let offer = a.offer().await;
    let answer = b.answer(offer).await;
    a.accept(answer).await;
    opened(&*channel).await;
    ([a, b], channel)
}

/// What so many pairs take.
pub fn measure(count: usize) -> Value {
    runtime().block_on(async {
        // One before, so that what all share is there.
        let _first = connect().await;
        // It says nowhere that it has done with coming up: what it still does is not the others' cost.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (memory, cpu) = (resident(), cpu_seconds());
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            pairs.push(connect().await);
        }
        let setup = (cpu_seconds() - cpu) * 1e3 / count as f64;
        tokio::time::sleep(SETTLE).await;
        let cpu = cpu_seconds();
        tokio::time::sleep(IDLE).await;
        let ends = (2 * count) as f64;
        let idle = (cpu_seconds() - cpu) * 1e6 / ends / IDLE.as_secs_f64();
        json!({ "kib": (resident() - memory) / 1024.0 / ends, "setup": setup, "idle": idle })
    })
}
