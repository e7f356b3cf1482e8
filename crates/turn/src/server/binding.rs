//! Binding (RFC 8489 section 12), for RFC 3489 clients too, and behaviour discovery (RFC 5780).

use std::net::SocketAddr;
use std::time::Instant;

use visavis_datagram::{Path, Protocol};
use visavis_stun::attributes::{
    ChangeRequest, ErrorCode, MappedAddress, OtherAddress, ResponseOrigin, ResponsePort,
    UnknownAttributes, XorMappedAddress,
};
use visavis_stun::{AttributeType, Class, Message};

use super::config::BURST;
use super::worker::Server;

impl Server {
    pub(super) fn handle_binding(&mut self, now: Instant, from: Path, message: &Message<'_>) {
        let rate = self.config.limits.bindings_per_second;
        if from.protocol == Protocol::Udp
            && !self
                .binding_limiter
                .allows(now, from.remote.ip(), rate, rate * BURST)
        {
            self.stats.rate_limited += 1;
            return;
        }
        let other = self.other_address(from);
        let is_classic = message.is_classic();
        let unknown: UnknownAttributes = message
            .unknown_required(|kind| match kind {
                AttributeType::CHANGE_REQUEST | AttributeType::RESPONSE_PORT => other.is_some(),
                // Fragments of a size that a stranger chooses: not from here.
                AttributeType::PADDING => false,
                kind => kind.is_known(),
            })
            .collect();
        // RFC 3489 clients send CHANGE-REQUEST without flags, and know no 420.
        if !is_classic && unknown.types().next().is_some() {
            self.stats.errors += 1;
            let code = ErrorCode {
                reason: "",
                ..ErrorCode::UNKNOWN_ATTRIBUTE
            };
            return self.answer(from, message, Class::Error, None, |builder| {
                builder.add(&code).add(&unknown);
            });
        }
        let mut to = from;
        if let Some(other) = other {
            if let Some(change) = message.get::<ChangeRequest>() {
                if change.change_ip {
                    to.local.set_ip(other.ip());
                }
                if change.change_port {
                    to.local.set_port(other.port());
                }
            }
            if let Some(ResponsePort(port)) = message.get() {
                to.remote.set_port(port);
            }
        }
        self.stats.successes += 1;
        self.answer(to, message, Class::Success, None, |builder| {
            if is_classic {
                builder.add(&MappedAddress(from.remote));
            } else {
                builder.add(&XorMappedAddress(from.remote));
            }
            if let Some(other) = other {
                builder
                    .add(&ResponseOrigin(to.local))
                    .add(&OtherAddress(other));
            }
        });
    }

    /// The address of which IP and port both differ from where a request arrived (RFC 5780 section 6), if there is one.
    fn other_address(&self, from: Path) -> Option<SocketAddr> {
        let second = self.config.other_address?;
        if from.protocol != Protocol::Udp || second.is_ipv4() != from.local.is_ipv4() {
            return None;
        }
        let first = self
            .config
            .listening
            .iter()
            .find(|address| address.is_ipv4() == second.is_ipv4())?;
        let ip = if from.local.ip() == second.ip() {
            first.ip()
        } else {
            second.ip()
        };
        let port = if from.local.port() == second.port() {
            first.port()
        } else {
            second.port()
        };
        Some(SocketAddr::new(ip, port))
    }
}
