//! Servers in processes of their own, and what they use.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use visavis_net::udp::{ReceiveBatch, UdpSocket};
use visavis_sfu::{
    Config, ConnectionConfig, ConnectionId, Description, ParticipantId, PublishOptions, RoomId,
    Sfu, SubscribeOptions, TrackId,
};

/// A server that speaks offers and answers on its standard streams, a line of JSON each.
pub(crate) struct Served {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Served {
    pub(crate) fn start(what: &str) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    /// Sockets whose datagrams a process of its own takes and drops; their ports.
    pub(crate) async fn sinks(count: usize) -> io::Result<(Self, Vec<u16>)> {
        let mut sinks = Self::start("serve-sinks")?;
        sinks
            .input
            .write_all(format!("{count}\n").as_bytes())
            .await?;
        let line = sinks.output.next_line().await?.unwrap_or_default();
        let ports = serde_json::from_str(&line)?;
        Ok((sinks, ports))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// The answer to a client's offer. The client gets all tracks of its room that it has not.
    pub(crate) async fn offer(&mut self, client: u64, room: u64, sdp: &str) -> io::Result<String> {
        let line = json!({"client": client, "room": room, "sdp": sdp}).to_string() + "\n";
        self.input.write_all(line.as_bytes()).await?;
        let answer = self.output.next_line().await?;
        let answer = answer.ok_or_else(|| io::Error::other("the server ended"))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let sdp = answer["sdp"].as_str();
        sdp.map(str::to_owned)
            .ok_or_else(|| io::Error::other(answer.to_string()))
    }
}

/// Takes datagrams and drops them.
pub(crate) async fn serve_sinks() -> io::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let count = lines.next_line().await?.unwrap_or_default();
    let mut ports = Vec::new();
    for _ in 0..count.trim().parse().unwrap_or(0) {
        let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        ports.push(socket.local_addr().port());
        tokio::spawn(async move {
            let mut batch = ReceiveBatch::new(2);
            while socket.recv(&mut batch).await.is_ok() {}
        });
    }
    let line = json!(ports).to_string() + "\n";
    let mut output = tokio::io::stdout();
    output.write_all(line.as_bytes()).await?;
    output.flush().await?;
    while lines.next_line().await?.is_some() {}
    Ok(())
}

/// This project's media plane behind the lines of JSON.
pub(crate) async fn serve_visavis() -> io::Result<()> {
    let config = Config {
        udp: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        workers: 1,
        ..Config::default()
    };
    let (sfu, mut events) = Sfu::start(config)?;
    tokio::spawn(async move { while events.next().await.is_some() {} });
    let mut known: HashMap<u64, (ConnectionId, Vec<TrackId>)> = HashMap::new();
    let mut tracks: HashMap<u64, Vec<(u64, TrackId)>> = HashMap::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut output = tokio::io::stdout();
    while let Some(line) = lines.next_line().await? {
        let ask: Value = serde_json::from_str(&line)?;
        let answer = answer(&sfu, &mut known, &mut tracks, &ask).await;
        let answer = match answer {
            Ok(sdp) => json!({"sdp": sdp}),
            Err(error) => json!({"error": error.to_string()}),
        };
        output
            .write_all((answer.to_string() + "\n").as_bytes())
            .await?;
        output.flush().await?;
    }
    Ok(())
}

async fn answer(
    sfu: &Sfu,
    known: &mut HashMap<u64, (ConnectionId, Vec<TrackId>)>,
    tracks: &mut HashMap<u64, Vec<(u64, TrackId)>>,
    ask: &Value,
) -> visavis_sfu::Result<String> {
    let number = |name: &str| ask[name].as_u64().unwrap_or(0);
    let (client, room) = (number("client"), number("room"));
    let (connection, mut has) = match known.remove(&client) {
        Some(known) => known,
        None => {
            let made = sfu.create_connection(
                RoomId(room),
                ParticipantId(client),
                ConnectionConfig::default(),
            );
            (made.await?, Vec::new())
        }
    };
    let offer = Description::offer(ask["sdp"].as_str().unwrap_or_default());
    sfu.set_remote_description(connection, offer).await?;
    let in_room = tracks.entry(room).or_default();
    let mut can_receive = false;
    for section in sfu.sections(connection).await? {
        can_receive |= section.free;
        let is_new = section.receives && has.is_empty();
        if is_new {
            let made = sfu
                .publish(connection, section.mid, PublishOptions::default())
                .await;
            if let Ok(track) = made {
                in_room.push((client, track));
            }
        }
    }
    if can_receive {
        for &(publisher, track) in in_room.iter() {
            if publisher == client || has.contains(&track) {
                continue;
            }
            let options = SubscribeOptions {
                stream: format!("s{publisher}"),
                track: format!("t{}", track.get()),
                ..SubscribeOptions::default()
            };
            sfu.subscribe(track, connection, options).await?;
            has.push(track);
        }
    }
    let answer = sfu.create_answer(connection).await?;
    known.insert(client, (connection, has));
    Ok(answer.sdp)
}
