//! Simulcast in offers and answers (RFC 8853, webrtc-pc section 5.4.1).

use visavis_sdp::RidDirection;

use super::*;
use crate::parameters::Encoding;

fn three_layers(end: &mut End) -> TransceiverId {
    let init = TransceiverInit {
        send_encodings: ["q", "h", "f"].map(Encoding::with_rid).to_vec(),
        ..TransceiverInit::default()
    };
    end.jsep.add_transceiver(Kind::Video, init).unwrap()
}

#[test]
fn rids_are_offered_and_received() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let id = three_layers(&mut a);
    let (offer, answer) = negotiate(&mut a, &mut b);
    let video = &offer.media[0].attributes;
    assert_eq!(video.simulcast().unwrap().to_string(), "send q;h;f");
    assert_eq!(video.rids().count(), 3);
    assert_eq!(video.ssrcs().count(), 0);
    let answered = answer.media[0].attributes.simulcast().unwrap();
    assert_eq!(answered.to_string(), "recv q;h;f");
    assert_eq!(b.jsep.transceivers[0].receiver.rids, ["q", "h", "f"]);
    let encodings = &a.jsep.transceiver(id).unwrap().sender.encodings;
    assert_eq!(encodings.len(), 3);
}

#[test]
fn an_answer_without_simulcast_leaves_the_first_encoding() {
    let mut settings = settings();
    settings.receive_simulcast = false;
    let (mut a, mut b) = (End::new(1), End::with(settings, 2));
    let id = three_layers(&mut a);
    let (_, answer) = negotiate(&mut a, &mut b);
    assert!(answer.media[0].attributes.simulcast().is_none());
    let sender = &a.jsep.transceiver(id).unwrap().sender;
    assert_eq!((sender.encodings.len(), sender.sources.len()), (1, 1));
    assert_eq!(sender.encodings[0].rid, "");
}

#[test]
fn an_answer_may_drop_rids() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    let id = three_layers(&mut a);
    let offer = a.offer();
    a.set_local(&offer);
    b.set_remote(&offer);
    let answer = b
        .answer()
        .sdp
        .replace("a=rid:h recv\r\n", "")
        .replace("recv q;h;f", "recv q;f");
    a.set_remote(&Description::answer(answer));
    let sender = &a.jsep.transceiver(id).unwrap().sender;
    let rids: Vec<_> = sender.encodings.iter().map(|e| e.rid.as_str()).collect();
    assert_eq!(rids, ["q", "f"]);
    assert_eq!(sender.sources.len(), 2);
}

#[test]
fn an_offer_to_receive_simulcast_shapes_the_sender_until_rollback() {
    let (mut a, mut b) = (End::new(1), End::new(2));
    a.add_track(Kind::Video);
    let id = b.add_track(Kind::Video);
    let layers = "a=rid:1 recv\r\na=rid:2 recv\r\na=simulcast:recv 1;2\r\n";
    let offer = Description::offer(format!("{}{layers}", a.offer().sdp));
    b.set_remote(&offer);
    let rids = |end: &End| -> Vec<String> {
        let sender = &end.jsep.transceiver(id).unwrap().sender;
        sender.encodings.iter().map(|e| e.rid.clone()).collect()
    };
    assert_eq!(rids(&b), ["1", "2"]);
    b.set_remote(&Description::rollback());
    assert_eq!(rids(&b), [""]);
    b.set_remote(&offer);
    let answer = parse(&b.answer());
    let simulcast = answer.media[0].attributes.simulcast().unwrap();
    assert_eq!(simulcast.streams(RidDirection::Send).len(), 2);
    assert_eq!(b.jsep.transceiver(id).unwrap().sender.sources.len(), 2);
}
