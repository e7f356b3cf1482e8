//! Meetings on the page, as people have them. Pictures are left in `target/meeting`.

use interop_meeting::{Server, in_namespace};

/// Two people see and hear each other, mute, raise hands, react, chat, share a screen, leave and rejoin.
#[test]
fn two_people_meet() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("meet");
}

/// Who came first mutes and removes others, who are told.
#[test]
fn a_host_mutes_and_removes() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("host");
}

/// 50 MB arrive as they were sent.
#[test]
fn a_file_arrives_as_it_was() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("file");
}

/// The whole meeting over TLS, with the certificate that a server in the LAN makes itself.
#[test]
fn a_self_signed_server_is_met_over_https() {
    let Some(server) = Server::start() else {
        return;
    };
    server.secure().scenario("meet");
}

/// Two Chromiums and a Firefox.
#[test]
fn browsers_of_two_kinds_meet() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("firefox");
}

/// With the key everything works; without it nothing is seen, and the page says why.
#[test]
fn encrypted_meetings_need_the_key() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("encrypted");
}

/// The page's own connection test finds nothing wrong.
#[test]
fn the_connection_test_is_green() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("doctor");
}

/// Every view is drawn, every control has a name, and nobody else is asked for anything.
#[test]
fn every_view_is_drawn() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("views");
    server.scenario("crowd");
    server.scenario("inspect");
}

/// Missing devices, a full room and a server that is away are explained.
#[test]
fn trouble_is_explained() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("trouble");
}

/// The interface goes down for eight seconds, and the meeting goes on.
#[test]
fn a_meeting_survives_the_loss_of_its_network() {
    if !in_namespace() {
        return;
    }
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario("network");
}

/// A server that is restarted gets its people back by themselves, and unmutes nobody.
#[test]
fn a_meeting_survives_a_restart_of_the_server() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.scenario_with("restart", |server, line| {
        if line == "restart now" {
            server.restart();
        }
    });
}
