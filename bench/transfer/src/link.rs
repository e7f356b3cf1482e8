//! A link between two TUN devices: capacity, queue, delay and loss in user space, for kernels without `netem`. The
//! kernel cuts offloaded segments before it hands packets to a TUN device, so what is counted here is what a wire would carry.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, SyncDevice};
use visavis_datagram::Random;

/// Both directions of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bits per second of IP packets.
    pub(crate) rate: u64,
    /// One way.
    pub(crate) delay: Duration,
    /// What the queue holds, as time at `rate`; beyond it packets are dropped.
    pub(crate) queue: Duration,
    /// Probability that a packet is lost behind the queue, 0.0 to 1.0.
    pub(crate) loss: f64,
}

/// IP packets per TUN device that wait for this process.
const DEVICE_QUEUE: u32 = 10_000;
const LARGEST: usize = 2048;

/// A link that is up as long as its devices are. Its counters go on when it is dropped.
pub(crate) struct Link {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cut: AtomicBool,
    carried: AtomicU64,
}

impl Link {
    /// Makes two devices of these names in this process's namespace; they may be moved to others. Seeds decide what is lost.
    pub(crate) fn new(names: [&str; 2], shape: Shape, seed: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let device = |name: &str| -> io::Result<Arc<SyncDevice>> {
            let device = DeviceBuilder::new()
                .name(name)
                .mtu(1500)
                .enable(false)
                .build_sync()?;
            device.set_tx_queue_len(DEVICE_QUEUE)?;
            Ok(Arc::new(device))
        };
        let (a, b) = (device(names[0])?, device(names[1])?);
        for (seed, from, to) in [(seed, &a, &b), (seed + 1, &b, &a)] {
            let (sender, receiver) = channel();
            let (from, to, shared) = (Arc::clone(from), Arc::clone(to), Arc::clone(&shared));
            thread::spawn(move || read(&from, shape, Random::from_u64(seed), &shared, &sender));
            thread::spawn(move || write(&to, &receiver));
        }
        Ok(Self { shared })
    }

    /// Loses everything from now on, or no longer.
    pub(crate) fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Relaxed);
    }

    /// Bytes that came out, of both directions.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }
}

type Packet = (Instant, Box<[u8]>);

/// Until the device is gone.
fn read(
    from: &SyncDevice,
    shape: Shape,
    mut random: Random,
    shared: &Shared,
    out: &Sender<Packet>,
) {
    let mut buffer = [0; LARGEST];
    let mut free = Instant::now();
    while let Ok(len) = from.recv(&mut buffer) {
        let now = Instant::now();
        let begin = free.max(now);
        if begin - now > shape.queue {
            continue;
        }
        free = begin + Duration::from_nanos(len as u64 * 8 * 1_000_000_000 / shape.rate);
        if shared.cut.load(Ordering::Relaxed) || random.chance(shape.loss) {
            continue;
        }
        shared.carried.fetch_add(len as u64, Ordering::Relaxed);
        if out
            .send((free + shape.delay, buffer[..len].into()))
            .is_err()
        {
            return;
        }
    }
}

fn write(to: &SyncDevice, packets: &Receiver<Packet>) {
    while let Ok((due, packet)) = packets.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A device that is down takes nothing, and may come up.
        let _ = to.send(&packet);
    }
}
