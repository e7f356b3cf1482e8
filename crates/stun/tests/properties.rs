//! Round trips of every attribute, and bytes of every kind at every parser.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use visavis_stun::attributes::*;
use visavis_stun::{
    Attribute, AttributeType, ChannelData, ChannelNumber, Class, IntegrityKey, Message,
    MessageBuilder, Method, PasswordAlgorithmId, StreamDecoder, StreamFraming, TransactionId,
    Verdict, channel_data_header, classify, pad_to_word,
};

fn round_trip<'a, A>(attribute: A, id: TransactionId) -> Result<(), TestCaseError>
where
    A: Attribute<'a> + PartialEq + std::fmt::Debug,
{
    let mut buffer = vec![0x55; 2000];
    let len = MessageBuilder::new(&mut buffer, Class::Request, Method::ALLOCATE, id)
        .add(&attribute)
        .finish()
        .unwrap();
    // The value's lifetime is free, so that borrowed attributes can be compared.
    let bytes: &'static [u8] = buffer[..len].to_vec().leak();
    let message = Message::parse(bytes).unwrap();
    prop_assert_eq!(message.get::<A>(), Some(attribute));
    Ok(())
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn transactions() -> impl Strategy<Value = TransactionId> {
    any::<[u8; 12]>().prop_map(TransactionId)
}

proptest! {
    #[test]
    fn every_attribute_reads_what_it_wrote(
        id in transactions(),
        address in addresses(),
        text in "\\PC{0,60}",
        bytes in vec(any::<u8>(), 0..300),
        number in any::<u64>(),
        hash in any::<[u8; 32]>(),
        code in 300u16..700,
        hashes in vec(any::<u32>(), 0..=4),
        types in vec(any::<u16>(), 0..10),
    ) {
        let (n32, n16, n8) = (number as u32, number as u16, number as u8);
        let text = text.as_str();
        let bytes = bytes.as_slice();
        // Leaked: a few kilobytes per case, and it keeps one helper for borrowed and owned.
        let text: &'static str = text.to_owned().leak();
        let bytes: &'static [u8] = bytes.to_vec().leak();
        round_trip(MappedAddress(address), id)?;
        round_trip(XorMappedAddress(address), id)?;
        round_trip(XorPeerAddress(address), id)?;
        round_trip(XorRelayedAddress(address), id)?;
        round_trip(AlternateServer(address), id)?;
        round_trip(ResponseOrigin(address), id)?;
        round_trip(OtherAddress(address), id)?;
        round_trip(SourceAddress(address), id)?;
        round_trip(ChangedAddress(address), id)?;
        round_trip(Username(text), id)?;
        round_trip(Realm(text), id)?;
        round_trip(Software(text), id)?;
        round_trip(AlternateDomain(text), id)?;
        round_trip(Origin(text), id)?;
        round_trip(ThirdPartyAuthorization(text), id)?;
        round_trip(ErrorCode { code, reason: text }, id)?;
        round_trip(AddressErrorCode { family: AddressFamily::V6, code, reason: text }, id)?;
        round_trip(Nonce(bytes), id)?;
        round_trip(Data(bytes), id)?;
        round_trip(Padding(bytes), id)?;
        round_trip(MobilityTicket(bytes), id)?;
        round_trip(AccessToken(bytes), id)?;
        round_trip(DtlsInStun(bytes), id)?;
        round_trip(PasswordAlgorithms(bytes), id)?;
        round_trip(PasswordAlgorithm { algorithm: PasswordAlgorithmId(n16), parameters: bytes }, id)?;
        round_trip(UserHash(hash), id)?;
        round_trip(ReservationToken(number.to_be_bytes()), id)?;
        round_trip(IceControlled(number), id)?;
        round_trip(IceControlling(number), id)?;
        round_trip(Lifetime(n32), id)?;
        round_trip(ConnectionId(n32), id)?;
        round_trip(Priority(n32), id)?;
        round_trip(Nomination(n32), id)?;
        round_trip(CacheTimeout(n32), id)?;
        round_trip(ResponsePort(n16), id)?;
        round_trip(Channel { number: n16 }, id)?;
        round_trip(RequestedTransport(n8), id)?;
        round_trip(RequestedAddressFamily { number: n8 }, id)?;
        round_trip(AdditionalAddressFamily { number: n8 }, id)?;
        round_trip(EvenPort { reserve_next: n8 & 1 != 0 }, id)?;
        round_trip(ChangeRequest { change_ip: n8 & 1 != 0, change_port: n8 & 2 != 0 }, id)?;
        round_trip(Icmp { kind: n8, code: n16 as u8, data: n32 }, id)?;
        round_trip(GoogNetworkInfo { network_id: n16, network_cost: n32 as u16 }, id)?;
        round_trip(GoogMiscInfo { goog_ping_version: n16 }, id)?;
        round_trip(TransactionTransmitCounter { request: n8, response: n16 as u8 }, id)?;
        round_trip(DtlsInStunAck::new(&hashes), id)?;
        round_trip(types.into_iter().map(AttributeType).collect::<UnknownAttributes>(), id)?;
        round_trip(UseCandidate, id)?;
        round_trip(DontFragment, id)?;
    }

    #[test]
    fn any_bytes_parse_or_fail(mut bytes in vec(any::<u8>(), 0..400), mend in any::<bool>()) {
        if mend && bytes.len() >= 20 {
            bytes.truncate(bytes.len() / 4 * 4);
            bytes[0] &= 0x3f;
            let length = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            bytes[4..8].copy_from_slice(&visavis_stun::MAGIC_COOKIE.to_be_bytes());
        }
        classify(&bytes);
        ChannelData::parse(&bytes);
        if let Ok(message) = Message::parse_classic(&bytes) {
            let key = IntegrityKey::short_term("x");
            message.authenticate(&key);
            message.check_fingerprint();
            let total: usize = message.attributes().map(|a| 4 + a.value.len()).sum();
            prop_assert!(total <= bytes.len() - 20);
        }
    }

    #[test]
    fn frames_survive_any_split(
        frames in vec((any::<bool>(), vec(any::<u8>(), 1..80)), 1..20),
        cuts in vec(1usize..40, 1..60),
    ) {
        for framing in [StreamFraming::Turn, StreamFraming::Rfc4571] {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (message, payload) in &frames {
                let mut frame = vec![0; 200];
                match framing {
                    StreamFraming::Turn if *message => {
                        let id = TransactionId([3; 12]);
                        let len = MessageBuilder::new(&mut frame, Class::Indication, Method::SEND, id)
                            .add(&Data(payload))
                            .finish()
                            .unwrap();
                        frame.truncate(len);
                        stream.extend_from_slice(&frame);
                    }
                    StreamFraming::Turn => {
                        frame = channel_data_header(ChannelNumber::MIN, payload.len() as u16).to_vec();
                        frame.extend_from_slice(payload);
                        stream.extend_from_slice(&frame);
                        stream.resize(stream.len() + pad_to_word(frame.len()) - frame.len(), 0);
                    }
                    StreamFraming::Rfc4571 => {
                        frame = payload.clone();
                        stream.extend_from_slice(&(payload.len() as u16).to_be_bytes());
                        stream.extend_from_slice(payload);
                    }
                }
                expected.push(frame);
            }
            let mut decoder = StreamDecoder::new(framing, 200);
            let mut got = Vec::new();
            let mut cuts = cuts.iter().cycle();
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let (mut piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = behind;
                while !piece.is_empty() {
                    piece = &piece[decoder.push(piece)..];
                    while let Some(frame) = decoder.next_frame().unwrap() {
                        got.push(frame.to_vec());
                    }
                }
            }
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(decoder.buffered(), 0);
        }
    }

    #[test]
    fn any_stream_ends_in_frames_or_an_error(bytes in vec(any::<u8>(), 0..2000), turn in any::<bool>()) {
        let framing = if turn { StreamFraming::Turn } else { StreamFraming::Rfc4571 };
        let mut decoder = StreamDecoder::new(framing, 500);
        let mut rest = bytes.as_slice();
        'stream: while !rest.is_empty() {
            let taken = decoder.push(rest);
            rest = &rest[taken..];
            let mut frames = 0;
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => {
                        prop_assert!(!frame.is_empty() && frame.len() <= 520);
                        frames += 1;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        prop_assert_eq!(decoder.next_frame().unwrap_err(), error);
                        break 'stream;
                    }
                }
            }
            prop_assert!(taken != 0 || frames != 0, "the decoder is stuck");
            prop_assert!(decoder.buffered() <= 520);
        }
    }

    #[test]
    fn long_term_keys_of_both_algorithms_verify(
        user in "\\PC{1,20}", realm in "\\PC{1,20}", password in "\\PC{0,90}", sha256 in any::<bool>()
    ) {
        let algorithm = if sha256 { PasswordAlgorithmId::SHA256 } else { PasswordAlgorithmId::MD5 };
        let key = IntegrityKey::long_term(&user, &realm, &password, algorithm).unwrap();
        let mut buffer = [0; 400];
        let len = MessageBuilder::new(&mut buffer, Class::Request, Method::REFRESH, TransactionId([1; 12]))
            .add(&Username(&user))
            .integrity(&key)
            .integrity_sha256(&key)
            .finish()
            .unwrap();
        let message = Message::parse(&buffer[..len]).unwrap();
        prop_assert_eq!(message.check_integrity(&key), Verdict::Valid);
        prop_assert_eq!(message.check_integrity_sha256(&key), Verdict::Valid);
        let other = IntegrityKey::long_term(&user, &realm, "other \u{0}", algorithm).unwrap();
        prop_assert_eq!(message.authenticate(&other), Verdict::Invalid);
    }
}

#[test]
fn a_frame_beyond_the_limit_ends_the_stream_before_it_arrives() {
    let mut decoder = StreamDecoder::new(StreamFraming::Turn, 1500);
    assert_eq!(decoder.push(&[0x40, 0x00, 0xff, 0xff]), 4);
    assert!(decoder.next_frame().is_err());
    let mut decoder = StreamDecoder::new(StreamFraming::Turn, 1500);
    decoder.push(b"GET / HTTP/1.1");
    assert!(decoder.next_frame().is_err(), "no HTTP on the TURN port");
}
