//! `cargo xtask bench srtp`: what SRTP costs here, in other implementations, and what the bare
//! primitives of visavis-crypto cost on the same packets.

mod stacks;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use bench_crypto::{Contestant, compare, machine};
use serde_json::{Value, json};
use stacks::{Bare, Buf, RtcSrtp, Stack, WebrtcSrtp, visavis};
use visavis_report::{Options, Table};
use visavis_srtp::{Context, Profile, Slot, protect_many};

const COLUMNS: [&str; 5] = [
    "visavis",
    "bare primitive",
    "libsrtp2",
    "rtc-srtp",
    "webrtc-srtp",
];
/// Packets per measurement.
const BATCH: usize = 64;
/// Receivers of the forwarding rows.
const RECEIVERS: usize = 100;
/// Length of the RTP header of every packet.
const HEADER: usize = 12;

fn main() -> ExitCode {
    let (options, only) = Options::from_arguments();
    let rounds = if options.quick { 60 } else { 600 };
    let mut table = Table::new(
        "SRTP: nanoseconds of CPU time per packet",
        &[
            &["work"],
            &COLUMNS[..],
            &["against the primitive", "against the best peer"],
        ]
        .concat(),
    );
    for profile in [
        Profile::Aes128CmHmacSha1_80,
        Profile::AeadAes128Gcm,
        Profile::AeadAes256Gcm,
    ] {
        for len in [1200, 160] {
            for work in ["protect", "unprotect", "protect for 100 receivers"] {
                let name = format!("{} {work}, {len} bytes", profile.name());
                if !only.is_empty() && !only.iter().any(|word| name.contains(word.as_str())) {
                    continue;
                }
                let contestants = match work {
                    "protect" => protect(profile, len),
                    "unprotect" => unprotect(profile, len),
                    _ => fan_out(profile, len),
                };
                row(&mut table, &name, &compare(rounds, contestants));
            }
        }
    }
    table.note(format!(
        "{}; median of {rounds} interleaved rounds of {BATCH} packets (100 where there are 100 \
         receivers). libsrtp2 2.5.0 over OpenSSL where it was built so; rtc-srtp 0.21 over ring, \
         webrtc-srtp 0.17, each with a replay window of 1024.",
        machine()
    ));
    table.finish(options)
}

fn row(table: &mut Table, name: &str, figures: &[(&str, f64)]) {
    let figure = |column: &str| figures.iter().find(|figure| figure.0 == column);
    let ours = figures[0].1;
    let bare = figures[1].1;
    let peer = figures[2..]
        .iter()
        .map(|figure| figure.1)
        .fold(f64::INFINITY, f64::min);
    let ratio = |value: f64| json!((value * 100.0).round() / 100.0);
    let mut cells = vec![json!(name)];
    cells.extend(
        COLUMNS
            .iter()
            .map(|column| figure(column).map_or(Value::Null, |figure| json!(figure.1.round()))),
    );
    cells.extend([ratio(ours / bare), ratio(ours / peer)]);
    table.row(cells);
    table.at_most(
        &format!("{name}: ratio to the primitive"),
        ours / bare,
        1.15,
    );
    table.at_most(&format!("{name}: ratio to the best peer"), ours / peer, 1.0);
}

/// Packets of one stream, each `len` bytes with its header, numbered on from batch to batch.
struct Packets {
    bufs: Vec<Buf>,
    lens: Vec<usize>,
    len: usize,
    sequence: u16,
}

impl Packets {
    fn new(len: usize) -> Self {
        Self {
            bufs: vec![[0; 1536]; BATCH],
            lens: vec![len; BATCH],
            len,
            sequence: 0,
        }
    }

    fn renew(&mut self) {
        for (buf, len) in self.bufs.iter_mut().zip(&mut self.lens) {
            buf[..self.len].fill(0x5a);
            buf[..HEADER].copy_from_slice(&[0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
            buf[2..4].copy_from_slice(&self.sequence.to_be_bytes());
            self.sequence = self.sequence.wrapping_add(1);
            *len = self.len;
        }
    }
}

fn protect<'a>(profile: Profile, len: usize) -> Vec<Contestant<'a>> {
    each(profile, false, |name, mut stack| {
        let packets = Rc::new(RefCell::new(Packets::new(len)));
        let prepared = Rc::clone(&packets);
        Contestant::batch(
            name,
            BATCH as u32,
            move || prepared.borrow_mut().renew(),
            move || {
                let Packets { bufs, lens, .. } = &mut *packets.borrow_mut();
                for (buf, len) in bufs.iter_mut().zip(lens) {
                    *len = stack.protect(buf, *len);
                }
            },
        )
    })
}

fn unprotect<'a>(profile: Profile, len: usize) -> Vec<Contestant<'a>> {
    each(profile, true, |name, mut stack| {
        // The primitives do not derive keys as SRTP does: they open what they sealed.
        let mut sender: Box<dyn Stack> = if name == "bare primitive" {
            Box::new(Bare::new(profile))
        } else {
            Box::new(visavis(profile))
        };
        let packets = Rc::new(RefCell::new(Packets::new(len)));
        let prepared = Rc::clone(&packets);
        Contestant::batch(
            name,
            BATCH as u32,
            move || {
                let mut packets = prepared.borrow_mut();
                packets.renew();
                let Packets { bufs, lens, .. } = &mut *packets;
                for (buf, len) in bufs.iter_mut().zip(lens) {
                    *len = sender.protect(buf, *len);
                }
            },
            move || {
                let Packets { bufs, lens, .. } = &mut *packets.borrow_mut();
                for (buf, len) in bufs.iter_mut().zip(lens) {
                    *len = stack.unprotect(buf, *len);
                }
            },
        )
    })
}

/// Every contestant but the numbering of what is sent is the same.
fn each<'a>(
    profile: Profile,
    inbound: bool,
    contestant: impl Fn(&'static str, Box<dyn Stack>) -> Contestant<'a>,
) -> Vec<Contestant<'a>> {
    let mut all = vec![
        contestant(COLUMNS[0], Box::new(visavis(profile))),
        contestant(COLUMNS[1], Box::new(Bare::new(profile))),
    ];
    #[cfg(libsrtp)]
    all.push(contestant(
        COLUMNS[2],
        Box::new(stacks::Libsrtp::new(profile, inbound)),
    ));
    let _ = inbound;
    all.push(contestant(COLUMNS[3], Box::new(RtcSrtp::new(profile))));
    all.push(contestant(COLUMNS[4], Box::new(WebrtcSrtp::new(profile))));
    all
}

/// One packet for many receivers, each with its own keys and its own header, as a forwarding
/// server sends it. Each contestant runs once unmeasured before it is measured: the keys of 100
/// receivers are then where a server that does nothing else has them, and not where the other
/// contestants left them.
fn fan_out<'a>(profile: Profile, len: usize) -> Vec<Contestant<'a>> {
    let mut all = vec![twice(COLUMNS[0], forward(profile, len))];
    let mut add = |name, new: &dyn Fn() -> Box<dyn Stack>| {
        all.push(twice(name, forward_by_one(new, len)));
    };
    add(COLUMNS[1], &|| Box::new(Bare::new(profile)));
    #[cfg(libsrtp)]
    add(COLUMNS[2], &|| {
        Box::new(stacks::Libsrtp::new(profile, false))
    });
    add(COLUMNS[3], &|| Box::new(RtcSrtp::new(profile)));
    add(COLUMNS[4], &|| Box::new(WebrtcSrtp::new(profile)));
    all
}

fn twice<'a>(name: &'static str, work: impl FnMut() + 'a) -> Contestant<'a> {
    let work = Rc::new(RefCell::new(work));
    let again = Rc::clone(&work);
    Contestant::batch(
        name,
        RECEIVERS as u32,
        move || work.borrow_mut()(),
        move || again.borrow_mut()(),
    )
}

/// With the call that is made for it.
fn forward(profile: Profile, len: usize) -> impl FnMut() {
    let payload = vec![0x5a; len - HEADER];
    let mut contexts: Vec<Context> = (0..RECEIVERS).map(|_| visavis(profile)).collect();
    let mut headers = vec![[0; HEADER]; RECEIVERS];
    let mut outs = vec![[0; 1536]; RECEIVERS];
    let mut sequence = 0u16;
    move || {
        sequence = sequence.wrapping_add(1);
        for (receiver, header) in headers.iter_mut().enumerate() {
            *header = new_header(sequence, receiver);
        }
        let slots =
            contexts
                .iter_mut()
                .zip(&headers)
                .zip(&mut outs)
                .map(|((context, header), out)| Slot {
                    context,
                    header,
                    out,
                });
        protect_many(&payload, slots, |length| assert!(length.is_ok()));
    }
}

/// Packet by packet.
fn forward_by_one(new: &dyn Fn() -> Box<dyn Stack>, len: usize) -> impl FnMut() + use<> {
    let payload = vec![0x5a; len - HEADER];
    let mut stacks: Vec<_> = (0..RECEIVERS).map(|_| new()).collect();
    let mut outs = vec![[0; 1536]; RECEIVERS];
    let mut sequence = 0u16;
    move || {
        sequence = sequence.wrapping_add(1);
        for (receiver, (stack, out)) in stacks.iter_mut().zip(&mut outs).enumerate() {
            out[..HEADER].copy_from_slice(&new_header(sequence, receiver));
            out[HEADER..len].copy_from_slice(&payload);
            stack.protect(out, len);
        }
    }
}

fn new_header(sequence: u16, receiver: usize) -> [u8; HEADER] {
    let mut header = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, receiver as u8];
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header
}
