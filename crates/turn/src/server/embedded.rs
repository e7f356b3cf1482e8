//! IPv4 addresses inside IPv6 addresses: each is another way to say 127.0.0.1.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Every IPv4 address that `address` may lead to: IPv4-mapped and IPv4-compatible (RFC 4291 section 2.5.5), NAT64 (RFC 6052
/// section 2.2, RFC 8215), 6to4 (RFC 3056), Teredo's server and client (RFC 4380 section 4), ISATAP (RFC 5214
/// section 6.1).
pub fn embedded_ipv4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bytes = address.octets();
    let segments = address.segments();
    let at = |a: usize, b: usize, c: usize, d: usize| {
        Ipv4Addr::new(bytes[a], bytes[b], bytes[c], bytes[d])
    };
    let last = at(12, 13, 14, 15);
    let (mut first, mut second) = (None, None);
    match segments {
        // ::ffff:0:0/96, ::ffff:0:0:0/96 (SIIT, RFC 2765), ::/96 and the well-known NAT64 prefix.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => first = Some(last),
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => first = Some(last),
        // 64:ff9b:1::/48: as a /48 prefix of RFC 6052, and as the /96 that many configure.
        [0x64, 0xff9b, 1, ..] => {
            first = Some(last);
            second = Some(at(6, 7, 9, 10));
        }
        [0x2002, ..] => first = Some(at(2, 3, 4, 5)),
        [0x2001, 0, ..] => {
            first = Some(at(4, 5, 6, 7));
            second = Some(Ipv4Addr::from_bits(!last.to_bits()));
        }
        _ => {}
    }
    // ISATAP's interface identifier stands behind any prefix: 0000:5efe or 0200:5efe.
    let isatap = segments[5] == 0x5efe && segments[4] & !0x0200 == 0;
    [first, second, isatap.then_some(last)]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::embedded_ipv4;

    #[test]
    fn every_way_to_say_127_0_0_1() {
        for text in [
            "::ffff:127.0.0.1",
            "::ffff:0:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "2002:7f00:1::1",
            "2001:0:7f00:1::",
            "2001:0:1::80ff:fffe",
            "fe80::5efe:127.0.0.1",
            "2001:db8::200:5efe:127.0.0.1",
        ] {
            let found: Vec<_> = embedded_ipv4(text.parse().unwrap()).collect();
            assert!(
                found.contains(&"127.0.0.1".parse().unwrap()),
                "{text}: {found:?}"
            );
        }
        assert_eq!(embedded_ipv4("2001:db8::1".parse().unwrap()).count(), 0);
        assert_eq!(embedded_ipv4("2600::7f00:1".parse().unwrap()).count(), 0);
    }
}
