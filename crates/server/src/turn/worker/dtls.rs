//! DTLS clients.

use std::ops::Range;

use visavis_datagram::{Ecn, Path, Protocol};
use visavis_net::direct::Full;

use super::super::dtls::Opened;
use super::{Worker, flush};

impl Worker {
    pub(super) fn dtls_datagram(&mut self, path: Path, range: Range<usize>, ecn: Ecn) {
        let path = Path {
            protocol: Protocol::Dtls,
            ..path
        };
        let start = range.start;
        // Opened in place; where the pieces stand is kept, since the core needs the memory they stand in.
        let mut pieces = [(0, 0); 8];
        let mut count = 0;
        let bytes = &mut self.exchange.bytes_mut()[range];
        let base = bytes.as_ptr().addr();
        let opened = self.dtls.handle(self.now, path, bytes, |piece| {
            if let Some(slot) = pieces.get_mut(count) {
                let from = piece.as_ptr().addr() - base;
                *slot = (from, from + piece.len());
                count += 1;
            }
        });
        match opened {
            Opened::Nothing => {}
            Opened::Reply => {
                if let Some(to) = self.outgoing(path, Ecn::NotEct) {
                    let reply = std::mem::take(&mut self.dtls.reply);
                    self.queue(to, &reply, 0..0, 0);
                    self.dtls.reply = reply;
                }
            }
            Opened::Anew(index) => {
                self.core.client_gone(self.now, path);
                self.drive_dtls(index);
            }
            Opened::Client(index) => {
                for &(from, to) in &pieces[..count] {
                    self.take_client(path, start + from..start + to, ecn);
                }
                self.drive_dtls(index);
            }
        }
    }

    /// Sends what a DTLS connection has to say, and looks whether it is over.
    pub(super) fn drive_dtls(&mut self, index: usize) {
        let Some(path) = self.dtls.path(index) else {
            return;
        };
        let Some(to) = self.outgoing(path, Ecn::NotEct) else {
            return;
        };
        while self.dtls.transmit(self.now, index, &mut self.out).is_some() {
            if self.exchange.queue(to, self.out.as_slice(), 0..0, 0) == Err(Full) {
                flush(&mut self.exchange, &self.listeners, &self.relays);
                let _ = self.exchange.queue(to, self.out.as_slice(), 0..0, 0);
            }
            self.out.clear();
        }
        let mut early = Vec::new();
        let over = self.dtls.settle(self.now, index, |bytes| early.push(bytes));
        for bytes in early {
            if self.exchange.free() == 0 {
                self.finish();
            }
            if let Some(buffer) = self.exchange.take_buffer()
                && bytes.len() <= buffer.len()
            {
                let range = buffer.start..buffer.start + bytes.len();
                self.exchange.bytes_mut()[range.clone()].copy_from_slice(&bytes);
                self.take_client(path, range, Ecn::NotEct);
            }
        }
        if over {
            self.dtls.remove(index);
            self.core.client_gone(self.now, path);
        }
    }
}
