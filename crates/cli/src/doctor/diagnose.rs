//! From facts to findings: what is well, what is not, what follows, and what to do.

use std::net::IpAddr;

use serde::Serialize;

use super::facts::{Dependence, Facts, Nat, PathMtu, ServerError, Transport, TurnResult};

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// As it should be.
    Good,
    /// Worth knowing; calls work all the same.
    Note,
    /// Some calls will fail or be poor.
    Bad,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A name for programs, which does not change.
    pub(crate) id: &'static str,
    pub(crate) verdict: Verdict,
    /// What is the case, in one line.
    pub(crate) title: String,
    /// What follows and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
}

/// The findings, and what they come to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Diagnosis {
    pub(crate) findings: Vec<Finding>,
    /// A paragraph for people.
    pub(crate) summary: String,
}

/// A clock that is further off than this breaks credentials and certificates.
const CLOCK_SECONDS: i64 = 60;
/// Payload that every path must carry: what stacks send until they know better.
const NEEDED_PAYLOAD: usize = 1200;

/// Says what the facts mean.
pub(crate) fn diagnose(facts: &Facts) -> Diagnosis {
    let mut findings = Findings::default();
    addresses(facts, &mut findings);
    server(facts, &mut findings);
    let udp = udp(facts, &mut findings);
    ipv6(facts, &mut findings);
    nat(facts, udp, &mut findings);
    path(facts, &mut findings);
    turn(facts, udp, &mut findings);
    local(facts, &mut findings);
    let findings = findings.0;
    let summary = summarize(facts, udp, &findings);
    Diagnosis { findings, summary }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, id: &'static str, verdict: Verdict, title: impl Into<String>, advice: &str) {
        self.0.push(Finding {
            id,
            verdict,
            title: title.into(),
            advice: (!advice.is_empty()).then(|| advice.to_owned()),
        });
    }

    fn good(&mut self, id: &'static str, title: impl Into<String>) {
        self.add(id, Verdict::Good, title, "");
    }

    fn note(&mut self, id: &'static str, title: impl Into<String>, advice: &str) {
        self.add(id, Verdict::Note, title, advice);
    }

    fn bad(&mut self, id: &'static str, title: impl Into<String>, advice: &str) {
        self.add(id, Verdict::Bad, title, advice);
    }
}

fn addresses(facts: &Facts, findings: &mut Findings) {
    let usable = |address: &&super::facts::Address| match address.ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let list: Vec<String> = facts
        .addresses
        .iter()
        .filter(usable)
        .map(|address| format!("{} ({})", address.ip, address.interface))
        .collect();
    if list.is_empty() {
        findings.bad(
            "no-network",
            "this machine has no network address",
            "Connect it to a network: a cable, Wi-Fi, or mobile data.",
        );
    } else if !facts.addresses.iter().any(|address| address.default_route) {
        findings.bad(
            "no-route",
            format!("there is no way to the internet from {}", list.join(", ")),
            "The network gave an address but no gateway. On this network calls may work; elsewhere they will not.",
        );
    } else {
        findings.good("addresses", format!("addresses: {}", list.join(", ")));
    }
}

fn server(facts: &Facts, findings: &mut Findings) {
    let Some(server) = &facts.server else {
        return;
    };
    let url = &server.url;
    match &server.error {
        None => {
            let took = server.milliseconds.unwrap_or_default();
            findings.good("server", format!("{url} answers in {took} ms"));
        }
        Some(ServerError::Name(reason)) => findings.bad(
            "server-name",
            format!("the server cannot be found: {reason}"),
            "Is the name spelt right? If other names work, ask who runs the server; if none does, this network's DNS is broken.",
        ),
        Some(ServerError::Connect(reason)) => findings.bad(
            "server-unreachable",
            format!("{url} cannot be reached by TCP: {reason}"),
            "Either the server is down or a firewall blocks its port. A server on port 443 passes most firewalls.",
        ),
        Some(ServerError::Tls(reason)) => findings.bad(
            "server-certificate",
            format!("{url} cannot be trusted: {reason}"),
            "If the certificate is not yet or no longer valid, look at this machine's clock first. If it is the server's own, use --insecure here and accept it in the browser. If it is neither, something on this network intercepts TLS.",
        ),
        Some(ServerError::Http(reason)) => findings.bad(
            "server-other",
            format!("{url} is no `visavis serve`: {reason}"),
            "Is the address right? A proxy in front of the server must pass /api on.",
        ),
    }
    match server.clock_ahead {
        Some(ahead) if ahead.abs() > CLOCK_SECONDS => {
            let (seconds, direction) = (ahead.abs(), if ahead > 0 { "fast" } else { "slow" });
            findings.bad(
                "clock",
                format!("this machine's clock is {seconds} seconds {direction}"),
                "Time-limited credentials and certificates fail with it. Switch network time on.",
            );
        }
        Some(_) => findings.good("clock", "the clock is right"),
        None => {}
    }
}

/// Whether UDP passes, as far as is known.
fn udp(facts: &Facts, findings: &mut Findings) -> Option<bool> {
    let v4: Vec<_> = facts
        .stun
        .iter()
        .filter(|stun| stun.server.is_ipv4())
        .collect();
    let names: Vec<_> = v4
        .iter()
        .filter(|stun| stun.server.ip().is_unspecified())
        .collect();
    for stun in &names {
        let reason = stun.error.as_deref().unwrap_or_default();
        findings.bad(
            "stun-name",
            format!("a STUN server cannot be found: {reason}"),
            "Is the name spelt right? If no name works, this network's DNS is broken.",
        );
    }
    let asked: Vec<_> = v4
        .iter()
        .filter(|stun| !stun.server.ip().is_unspecified())
        .collect();
    if asked.is_empty() {
        return None;
    }
    let best = asked
        .iter()
        .filter_map(|stun| stun.answer)
        .min_by_key(|answer| answer.rtt);
    if let Some(answer) = best {
        findings.good(
            "udp",
            format!(
                "UDP passes: the world sees {} ({} ms)",
                answer.mapped, answer.rtt
            ),
        );
        if answer.tries > 2 {
            findings.note(
                "udp-loss",
                format!(
                    "the STUN server answered the {}th request only",
                    answer.tries
                ),
                "Datagrams get lost on the way; calls will repair some of it.",
            );
        }
        return Some(true);
    }
    findings.bad(
        "udp-blocked",
        "UDP does not pass: no STUN server answers",
        "A firewall blocks UDP. Calls then need a relay over TCP or TLS, which costs quality. Ask for UDP to be opened, or make sure that the service has TURN over TLS on port 443.",
    );
    Some(false)
}

fn ipv6(facts: &Facts, findings: &mut Findings) {
    let global = facts.addresses.iter().any(|address| match address.ip {
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
        IpAddr::V4(_) => false,
    });
    let mut asked = facts
        .stun
        .iter()
        .filter(|stun| stun.server.is_ipv6())
        .peekable();
    if asked.peek().is_none() {
        if !global {
            findings.note("ipv6-none", "there is no IPv6 here", "");
        }
        return;
    }
    if asked.any(|stun| stun.answer.is_some()) {
        findings.good("ipv6", "IPv6 works");
    } else if global {
        findings.bad(
            "ipv6-broken",
            "IPv6 is set up but does not work",
            "Connections try it first and lose time. Repair it at the router, or switch IPv6 off on this network.",
        );
    } else {
        findings.note("ipv6-none", "there is no IPv6 here", "");
    }
}

/// Whether peers can reach us without a relay, whatever NAT they are behind.
pub(super) fn hard(nat: &Nat) -> bool {
    !nat.none
        && nat
            .mapping
            .is_some_and(|mapping| mapping != Dependence::EndpointIndependent)
}

fn nat(facts: &Facts, udp: Option<bool>, findings: &mut Findings) {
    let Some(nat) = &facts.nat else {
        if udp == Some(true) {
            findings.note(
                "nat-unknown",
                "how the NAT behaves could not be found out",
                "That takes a STUN server with two addresses (RFC 5780), or two servers.",
            );
        }
        return;
    };
    if nat.none {
        findings.good(
            "nat-none",
            "there is no NAT: this machine's own address is what the world sees",
        );
        return;
    }
    match nat.mapping {
        Some(Dependence::EndpointIndependent) => {
            findings.good("nat", "the NAT keeps one outside port per socket: direct connections are possible");
        }
        Some(_) => findings.bad(
            "nat-symmetric",
            "the NAT takes another outside port for each destination (\"symmetric\")",
            "Direct connections work only with peers whose NAT is easy or absent; all others need a relay (TURN). At home, switch the router to full-cone or endpoint-independent mapping, or use IPv6; on mobile networks nothing can be done.",
        ),
        None => findings.note(
            "nat-unknown",
            "there is a NAT; how it chooses ports could not be found out",
            "That takes a STUN server with two addresses (RFC 5780), or two servers.",
        ),
    }
    match nat.filtering {
        Some(Dependence::EndpointIndependent) => {
            findings.good("filtering", "the NAT lets anybody answer to an open port");
        }
        Some(_) => findings.note(
            "filtering",
            "the NAT lets in only whom we have sent to, which is usual",
            "",
        ),
        None => {}
    }
    match nat.hairpin {
        Some(true) => findings.good("hairpin", "two machines behind this NAT reach each other by its outside address"),
        Some(false) => findings.note(
            "hairpin-none",
            "two machines behind this NAT cannot use its outside address between them, which is usual",
            "",
        ),
        None => {}
    }
}

fn path(facts: &Facts, findings: &mut Findings) {
    if let Some(mtu) = facts.path_mtu {
        match (mtu.passed, mtu.lost) {
            (Some(passed), _) if passed >= NEEDED_PAYLOAD => {
                findings.good("mtu", format!("datagrams of {passed} bytes get through"));
            }
            (None, None) => {}
            (passed, lost) => findings.bad(
                "mtu-black-hole",
                format!(
                    "datagrams of {} bytes vanish, while {} get through",
                    lost.unwrap_or(NEEDED_PAYLOAD),
                    passed.map_or("smaller ones".to_owned(), |passed| format!("those of {passed}")),
                ),
                "Encrypted connections stall while they come up, and files hang. The cause is a tunnel or VPN with a small MTU that drops silently: set its MTU, or the interface's, to 1280 or more, or let ICMP \"packet too big\" pass.",
            ),
        }
    }
    match facts.dtls.map(|dtls| (dtls.dtls13, dtls.dtls12)) {
        Some((true, true)) => findings.good("dtls", "encryption by DTLS 1.3 and 1.2 gets through"),
        Some((false, true)) => findings.bad(
            "dtls13-blocked",
            "encryption by DTLS 1.2 gets through, by DTLS 1.3 it does not",
            "Something on the way drops what it does not know, or the server refuses it. Programs that speak 1.3 alone will not connect; look for a firewall that inspects DTLS.",
        ),
        Some((true, false)) => findings.note(
            "dtls12-blocked",
            "encryption by DTLS 1.3 gets through, by DTLS 1.2 it does not",
            "Connections with older programs may fail. Something on the way, or the server, refuses DTLS 1.2.",
        ),
        Some((false, false)) => findings.note(
            "dtls-none",
            "no handshake by DTLS came to its end",
            "Either the server does not speak DTLS at its STUN port (`visavis turn` and `visavis serve` do), or a firewall on the way lets it not through: then calls will not connect.",
        ),
        None => {}
    }
    let Some(quality) = facts.quality else {
        if let Some(reason) = &facts.quality_refused {
            findings.note(
                "quality-unknown",
                format!("loss, delay and bandwidth were not measured: {reason}"),
                "The test sends to this machine's own address through the relay, and relays refuse private and loopback addresses unless told otherwise (`visavis turn --allow-peer`). From another network it works.",
            );
        }
        return;
    };
    let loss = quality.loss * 100.0;
    let text = format!(
        "through the relay and back: {loss:.1} % loss, {:.0} ms, jitter {:.1} ms{}",
        quality.rtt,
        quality.jitter,
        quality.bandwidth.map_or(String::new(), |bits| format!(
            ", at least {:.1} Mbit/s",
            bits / 1e6
        )),
    );
    // Where large datagrams vanish, that nothing of a burst of them arrived says nothing about bandwidth.
    let carried = |mtu: PathMtu| mtu.passed.is_some_and(|passed| passed >= NEEDED_PAYLOAD);
    let large_pass = facts.path_mtu.is_none_or(carried);
    let slow = quality
        .bandwidth
        .is_some_and(|bits| bits < 1e6 && (bits > 0.0 || large_pass));
    // What lets a call's trickle through in part and of a burst almost nothing counts bytes: the loss is its doing.
    if slow {
        findings.bad("bandwidth", text, "That is enough for sound at most, not for pictures. UDP may be throttled: compare with a download over TCP, and ask who runs the network.");
    } else if quality.loss > 0.05 {
        findings.bad("loss", text, "Sound will break up. On Wi-Fi, go nearer to the access point or take a cable; stop large transfers.");
    } else if quality.jitter > 40.0 || quality.rtt > 400.0 {
        findings.bad(
            "delay",
            text,
            "People will talk over each other. Something on the way is overloaded or far away.",
        );
    } else {
        findings.good("quality", text);
    }
}

fn turn(facts: &Facts, udp: Option<bool>, findings: &mut Findings) {
    if facts.turn.is_empty() {
        let needed = udp == Some(false) || facts.nat.as_ref().is_some_and(hard);
        if needed {
            findings.bad(
                "turn-missing",
                "no TURN server is known",
                "This network needs one: name a server that has it (--server), or --turn with its credentials.",
            );
        } else {
            findings.note(
                "turn-missing",
                "no TURN server was named, so none was tried",
                "",
            );
        }
        return;
    }
    for turn in &facts.turn {
        let url = &turn.url;
        match &turn.result {
            TurnResult::Relayed(relayed) => {
                findings.good("turn", format!("{url} relays ({relayed})"));
            }
            TurnResult::Credentials => findings.bad(
                "turn-credentials",
                format!("{url} refuses the user name or the password"),
                "If they are time-limited, this machine's clock or the server's may be wrong, or they are too old. Otherwise they are mistyped, or the server's secret has changed.",
            ),
            TurnResult::Silent if turn.transport == Transport::Udp && udp != Some(true) => findings.bad(
                "turn-udp-blocked",
                format!("{url} does not answer over UDP"),
                "UDP is blocked, so only TURN over TCP or TLS can help.",
            ),
            TurnResult::Silent => findings.bad(
                "turn-silent",
                format!("{url} does not answer"),
                "The TURN server is down, its port is blocked, or it is another kind of server.",
            ),
            TurnResult::Unreachable(reason) => {
                let (id, advice) = match turn.transport {
                    Transport::Udp => ("turn-unreachable", "Is the name right?"),
                    Transport::Tcp => (
                        "turn-tcp-blocked",
                        "The server is down, or a firewall blocks this port. Port 443 passes most of them.",
                    ),
                    Transport::Tls => (
                        "turn-tls-blocked",
                        "The server is down, its certificate is not valid for this name, or a firewall inspects TLS.",
                    ),
                };
                findings.bad(id, format!("{url} cannot be reached: {reason}"), advice);
            }
            TurnResult::Refused(reason) => findings.bad(
                "turn-refused",
                format!("{url} refuses: {reason}"),
                "Its quota may be used up, or its configuration forbids it. Its log says more.",
            ),
        }
    }
}

fn local(facts: &Facts, findings: &mut Findings) {
    match &facts.mdns {
        Some(Ok(())) => findings.good("mdns", "multicast DNS works: browsers on this network find each other"),
        Some(Err(reason)) => findings.note(
            "mdns-off",
            format!("multicast DNS does not work ({reason})"),
            "Browsers hide their local addresses behind .local names; two of them on this network then meet through the NAT or a relay. Allow UDP port 5353 to 224.0.0.251 in this machine's firewall, and multicast on the Wi-Fi.",
        ),
        None => {}
    }
    match &facts.port_mapping {
        Some(Ok(external)) => findings.good(
            "port-mapping",
            format!("the router opens ports on request ({external})"),
        ),
        Some(Err(_)) => findings.note(
            "port-mapping-none",
            "the router opens no ports on request (PCP, NAT-PMP, UPnP)",
            "",
        ),
        None => {}
    }
}

fn summarize(facts: &Facts, udp: Option<bool>, findings: &[Finding]) -> String {
    let has = |id: &str| findings.iter().any(|finding| finding.id == id);
    let relayed = |transport: Option<Transport>| {
        facts.turn.iter().any(|turn| {
            matches!(turn.result, TurnResult::Relayed(_))
                && transport.is_none_or(|transport| transport == turn.transport)
        })
    };
    if has("no-network") {
        return "This machine is not on a network.".into();
    }
    if facts.stun.is_empty() && facts.turn.is_empty() {
        return match &facts.server {
            Some(server) if server.error.is_some() => {
                "The server cannot be used, so the way to the world was not tested. Mend that first.".into()
            }
            _ => "Nothing beyond this machine was tested: name a server (--server URL, or --stun and --turn).".into(),
        };
    }
    let mut text = match (udp, facts.nat.as_ref().is_some_and(hard)) {
        (Some(false), _) if relayed(Some(Transport::Tcp)) || relayed(Some(Transport::Tls)) => {
            "Calls work through a relay over TCP or TLS only, because UDP is blocked: expect delays when the network is busy.".to_owned()
        }
        (Some(false), _) => "Calls will fail: UDP is blocked, and no relay over TCP or TLS was reached.".into(),
        (_, true) if relayed(None) => {
            "Calls work: directly where the other side's NAT is easy, and through the relay elsewhere.".into()
        }
        (_, true) => "Calls work only with peers whose NAT is easy or absent: this NAT is hard, and no relay was reached.".into(),
        (Some(true), false) if relayed(None) => "Calls work: directly in most cases, through the relay in the others.".into(),
        (Some(true), false) => "Calls work directly in most cases; where both sides have a hard NAT or a firewall they will not, since no relay was reached.".into(),
        (None, false) if relayed(None) => "Calls work through the relay; whether directly was not tested.".into(),
        (None, false) => "No server could be reached.".into(),
    };
    let worries: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .filter(|finding| {
            !matches!(
                finding.id,
                "udp-blocked" | "nat-symmetric" | "turn-missing" | "turn-udp-blocked"
            )
        })
        .map(|finding| finding.title.as_str())
        .collect();
    if !worries.is_empty() {
        text.push_str(" Look at this first: ");
        text.push_str(&worries.join("; "));
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Address, Dtls, Quality, Server, Stun, StunAnswer, Turn};
    use super::*;

    /// A network as most are: a home router, a server with everything.
    fn usual() -> Facts {
        let mapped = "198.51.100.7:40000".parse().unwrap();
        let turn = |transport| Turn {
            url: format!("turn {transport:?}"),
            transport,
            result: TurnResult::Relayed("203.0.113.1:50000".parse().unwrap()),
        };
        Facts {
            addresses: vec![Address {
                interface: "eth0".into(),
                ip: "192.168.1.10".parse().unwrap(),
                default_route: true,
            }],
            server: Some(Server {
                url: "https://meet.example/".into(),
                clock_ahead: Some(1),
                milliseconds: Some(40),
                error: None,
            }),
            stun: vec![Stun {
                server: "203.0.113.1:3478".parse().unwrap(),
                answer: Some(StunAnswer {
                    mapped,
                    local: "192.168.1.10:5000".parse().unwrap(),
                    other: None,
                    rtt: 20,
                    tries: 1,
                }),
                error: None,
            }],
            nat: Some(Nat {
                none: false,
                mapping: Some(Dependence::EndpointIndependent),
                filtering: Some(Dependence::AddressAndPortDependent),
                hairpin: Some(false),
            }),
            turn: [Transport::Udp, Transport::Tcp, Transport::Tls]
                .map(turn)
                .to_vec(),
            mdns: Some(Ok(())),
            port_mapping: Some(Err("no answer".into())),
            path_mtu: Some(PathMtu {
                passed: Some(1448),
                lost: None,
            }),
            dtls: Some(Dtls {
                server: "203.0.113.1:3478".parse().unwrap(),
                dtls13: true,
                dtls12: true,
            }),
            quality: Some(Quality {
                loss: 0.0,
                jitter: 2.0,
                rtt: 40.0,
                bandwidth: Some(2e7),
            }),
            quality_refused: None,
        }
    }

    fn bad(facts: &Facts) -> Vec<&'static str> {
        let findings = diagnose(facts).findings;
        let bad = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Bad);
        bad.map(|finding| finding.id).collect()
    }

    #[test]
    fn nothing_is_wrong_with_the_usual() {
        assert_eq!(bad(&usual()), [""; 0]);
        let summary = diagnose(&usual()).summary;
        assert!(
            summary.starts_with("Calls work: directly in most cases"),
            "{summary}"
        );
    }

    #[test]
    fn each_fault_is_named_and_no_other() {
        type Break = fn(&mut Facts);
        let silent: Break = |facts| {
            facts.stun[0].answer = None;
            (facts.nat, facts.path_mtu, facts.quality) = (None, None, None);
            facts.turn[0].result = TurnResult::Silent;
        };
        let cases: [(Break, &[&str]); 15] = [
            (
                |facts| facts.dtls.as_mut().unwrap().dtls13 = false,
                &["dtls13-blocked"],
            ),
            (|facts| *facts = Facts::default(), &["no-network"]),
            (
                |facts| facts.addresses[0].default_route = false,
                &["no-route"],
            ),
            (silent, &["udp-blocked", "turn-udp-blocked"]),
            (
                |facts| {
                    facts.nat.as_mut().unwrap().mapping = Some(Dependence::AddressAndPortDependent)
                },
                &["nat-symmetric"],
            ),
            (
                |facts| {
                    facts
                        .turn
                        .iter_mut()
                        .for_each(|turn| turn.result = TurnResult::Credentials)
                },
                &["turn-credentials"; 3],
            ),
            (
                |facts| facts.turn[1].result = TurnResult::Unreachable("refused".into()),
                &["turn-tcp-blocked"],
            ),
            (
                |facts| facts.turn[2].result = TurnResult::Unreachable("refused".into()),
                &["turn-tls-blocked"],
            ),
            (
                |facts| facts.turn[0].result = TurnResult::Silent,
                &["turn-silent"],
            ),
            (
                |facts| {
                    facts.path_mtu = Some(PathMtu {
                        passed: Some(1024),
                        lost: Some(1200),
                    });
                },
                &["mtu-black-hole"],
            ),
            (
                |facts| facts.server.as_mut().unwrap().clock_ahead = Some(-7200),
                &["clock"],
            ),
            (
                |facts| {
                    facts.addresses.push(Address {
                        interface: "eth0".into(),
                        ip: "2001:db8::5".parse().unwrap(),
                        default_route: true,
                    });
                    facts.addresses[1].ip = "2a00:1::5".parse().unwrap();
                    facts.stun.push(Stun {
                        server: "[2a00:2::1]:3478".parse().unwrap(),
                        answer: None,
                        error: None,
                    });
                },
                &["ipv6-broken"],
            ),
            (
                |facts| facts.quality.as_mut().unwrap().loss = 0.1,
                &["loss"],
            ),
            (
                |facts| facts.quality.as_mut().unwrap().bandwidth = Some(3e5),
                &["bandwidth"],
            ),
            (
                |facts| {
                    facts.server.as_mut().unwrap().error = Some(ServerError::Tls("expired".into()));
                },
                &["server-certificate"],
            ),
        ];
        for (index, (break_it, expected)) in cases.into_iter().enumerate() {
            let mut facts = usual();
            break_it(&mut facts);
            assert_eq!(bad(&facts), expected, "case {index}");
        }
    }

    #[test]
    fn the_summary_says_what_will_happen() {
        let summary = |facts: &Facts| diagnose(facts).summary;
        let mut facts = usual();
        facts.stun[0].answer = None;
        facts.nat = None;
        facts.turn[0].result = TurnResult::Silent;
        assert!(summary(&facts).contains("through a relay over TCP or TLS only"));
        facts.turn.truncate(1);
        assert!(summary(&facts).starts_with("Calls will fail"));
        let mut facts = usual();
        facts.nat.as_mut().unwrap().mapping = Some(Dependence::AddressDependent);
        facts.turn.clear();
        assert!(summary(&facts).contains("no relay was reached"));
        facts.mdns = Some(Err("off".into()));
        assert_eq!(bad(&facts), ["nat-symmetric", "turn-missing"]);
    }
}
