//! Transports, senders and receivers without descriptions.

mod common;

use common::{ALICE, BOB, Call};
use visavis_datagram::Random;
use visavis_dtls::Role as DtlsRole;
use visavis_ice::{RemoteParameters, Role as IceRole};
use visavis_peer::extensions::uri;
use visavis_peer::{
    ChannelOptions, CodecTable, DirectData, DirectMedia, DirectRemote, EncodingSources, Event,
    Kind, NegotiatedExtension, OfferOptions, OutgoingRtp, Received,
};
use visavis_sdp::Direction;

#[test]
fn channels_and_media_flow_without_descriptions() {
    let mut call = Call::plain(1, 0.0);
    let now = call.now();
    let parameters = [ALICE, BOB].map(|end| call.pc(end).direct_parameters());
    for end in [ALICE, BOB] {
        let other = &parameters[1 - end];
        let first = end == ALICE;
        let remote = DirectRemote {
            ice: RemoteParameters::new(other.credentials.clone()),
            fingerprints: other.fingerprints.clone(),
            ice_role: if first {
                IceRole::Controlling
            } else {
                IceRole::Controlled
            },
            dtls_role: if first {
                DtlsRole::Client
            } else {
                DtlsRole::Server
            },
            data: Some(DirectData {
                max_message_size: 65_536,
                sctp_init: other.sctp_init.clone(),
            }),
        };
        call.pc(end).start_direct(now, remote.clone()).unwrap();
        assert_eq!(
            call.pc(end).start_direct(now, remote).unwrap_err().name(),
            "InvalidStateError"
        );
        let refused = call.pc(end).create_offer(now, OfferOptions::default());
        assert_eq!(refused.unwrap_err().name(), "InvalidStateError");
    }
    call.pc(ALICE)
        .create_data_channel(now, ChannelOptions::default())
        .unwrap();
    let sources = EncodingSources {
        ssrc: 77,
        rtx: 78,
        fec: 79,
    };
    let _ = Random::from_u64(0);
    let vp8 = vec![CodecTable::default().video[0].clone()];
    let media = |direction| DirectMedia {
        kind: Kind::Video,
        mid: "v".into(),
        direction,
        send_codecs: vp8.clone(),
        send_encodings: vec![(Default::default(), sources)],
        receive_codecs: vp8.clone(),
        receive_rids: Vec::new(),
        receive_sources: vec![(77, Some(78))],
        extensions: vec![NegotiatedExtension {
            uri: uri::TRANSPORT_WIDE_CC.into(),
            id: 3,
            direction: Direction::SendRecv,
        }],
    };
    let sender = call
        .pc(ALICE)
        .set_direct_media(now, vec![media(Direction::SendOnly)])
        .unwrap()[0];
    let receiver = call
        .pc(BOB)
        .set_direct_media(now, vec![media(Direction::RecvOnly)])
        .unwrap()[0];
    // Candidates go by whatever the application has.
    for end in [ALICE, BOB] {
        let candidates: Vec<_> = std::iter::from_fn(|| call.pc(end).poll_event())
            .filter_map(|event| match event {
                Event::IceCandidate(Some(candidate)) => Some(candidate.candidate),
                _ => None,
            })
            .filter(|text| !text.is_empty())
            .collect();
        assert!(!candidates.is_empty());
        for text in candidates {
            let candidate = text.parse().unwrap();
            call.pc(1 - end)
                .add_direct_candidate(now, Some(candidate))
                .unwrap();
        }
    }
    assert!(call.run(10.0, |_, bob| {
        bob.saw(|e| matches!(e, Event::DataChannelOpen(_)))
    }));
    let now = call.now();
    let packet = OutgoingRtp {
        payload_type: 96,
        payload: b"picture",
        ..OutgoingRtp::default()
    };
    call.pc(ALICE).send_rtp(now, sender, 0, &packet).unwrap();
    assert!(call.run(1.0, |_, bob| !bob.rtp.is_empty()));
    let (Received::Rtp(received), _) = &call.end(BOB).rtp[0] else {
        panic!("not RTP");
    };
    assert_eq!((received.transceiver, received.ssrc), (receiver, 77));
}
