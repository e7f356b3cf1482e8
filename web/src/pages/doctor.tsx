// Tests what a meeting needs, from this browser on this network to this server and back: two
// participants in one page meet in a room of their own.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { ConnectionState, Room, RoomEvent, Track, VideoPresets } from 'livekit-client';
import * as server from '../lib/api';
import { explainDevice, explainJoin } from '../lib/errors';
import { randomKey } from '../lib/rooms';
import { bitrate, milliseconds, percent } from '../lib/words';
import { pathKind, pathName, type Severity } from '../meeting/diagnosis';
import { summarise, type ConnectionReport, type Report } from '../meeting/stats';
import { Icon, type Sign } from '../ui/icons';
import { Brand, Foot, ThemeButton } from '../ui/parts';
import { explainHosts, explainIpv6, explainRelay, explainStun, verdict, type Finding, type Gathered } from './doctor-words';

type State = { name: string; state: 'waiting' | 'busy' | 'done'; finding?: Finding };

const NAMES = [
  'Browser', 'Microphone and camera', 'Server', 'Own addresses', 'Public address (STUN)', 'Relay (TURN)', 'Signalling', 'Path of the media', 'IPv6',
  'Data channel', 'Sound and picture', 'Fallback to TCP', 'Reconnection',
] as const;
type Name = (typeof NAMES)[number];

const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout>;
  const late = new Promise<never>((_, reject) => (timer = setTimeout(() => reject(new Error(`${what}: no answer within ${ms / 1000} seconds.`)), ms)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const once = (room: Room, event: RoomEvent) => new Promise<void>((resolve) => void room.once(event, () => resolve()));

async function gather(iceServers: RTCIceServer[]): Promise<Gathered[]> {
  const connection = new RTCPeerConnection({ iceServers });
  const found: Gathered[] = [];
  try {
    connection.createDataChannel('test');
    const done = new Promise<void>((resolve) => {
      connection.onicecandidate = ({ candidate }) => {
        if (!candidate) return resolve();
        if (!candidate.candidate) return;
        found.push({
          type: candidate.type ?? '', protocol: candidate.protocol ?? '', address: candidate.address ?? '', port: candidate.port ?? 0,
          relayProtocol: (candidate as RTCIceCandidate & { relayProtocol?: string }).relayProtocol ?? undefined,
          relatedPort: candidate.relatedPort, tcpType: candidate.tcpType,
        });
      };
    });
    await connection.setLocalDescription();
    await Promise.race([done, wait(8000)]);
  } finally {
    connection.close();
  }
  return found;
}

async function report(room: Room): Promise<ConnectionReport | undefined> {
  const transport = room.engine.pcManager?.publisher;
  const stats = (await transport?.getStats()) as unknown as Report | undefined;
  return stats && transport && summarise('Connection', transport.getConnectionState(), new Map(stats));
}

function drawn(): MediaStreamTrack {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width: 640, height: 360 });
  const context = canvas.getContext('2d')!;
  let frame = 0;
  const timer = setInterval(() => {
    frame++;
    for (let x = 0; x < 16; x++) {
      context.fillStyle = `hsl(${(x * 24 + frame * 5) % 360} 60% 50%)`;
      context.fillRect(x * 40, 0, 40, 360);
    }
  }, 50);
  const track = canvas.captureStream(20).getVideoTracks()[0]!;
  const stop = track.stop.bind(track);
  track.stop = () => {
    clearInterval(timer);
    stop();
  };
  return track;
}

function tone(context: AudioContext): MediaStreamTrack {
  const out = context.createMediaStreamDestination();
  const oscillator = context.createOscillator();
  oscillator.frequency.value = 440;
  oscillator.connect(out);
  oscillator.start();
  return out.stream.getAudioTracks()[0]!;
}

async function examine(tell: (name: Name, finding?: Finding) => void): Promise<boolean> {
  const good = (name: Name, fact: string, words: string, details?: string[]) => tell(name, { severity: 'good', fact, words, ...(details ? { details } : {}) });
  const other = (name: Name, severity: Severity, fact: string, words: string) => tell(name, { severity, fact, words });

  tell('Browser');
  if (typeof RTCPeerConnection !== 'function') {
    other('Browser', 'bad', 'no WebRTC', 'This browser has no WebRTC, or a policy or an extension has turned it off. Use a recent Chrome, Edge, Firefox or Safari.');
    return false;
  }
  const encoded = 'RTCRtpScriptTransform' in window || 'createEncodedStreams' in RTCRtpSender.prototype;
  if (!window.isSecureContext) {
    other('Browser', 'bad', 'not secure', 'The page was not loaded over https or from localhost, so browsers give out no camera and no microphone. Open it by its https address.');
  } else good('Browser', 'WebRTC', `Everything needed is there${encoded ? ', end-to-end encryption too' : '; end-to-end encryption is not'}.`);

  tell('Microphone and camera');
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    const [camera] = stream.getVideoTracks();
    const { width, height } = camera?.getSettings() ?? {};
    good('Microphone and camera', `${width}×${height}`, 'Both can be opened.', stream.getTracks().map((track) => track.label));
    for (const track of stream.getTracks()) track.stop();
  } catch (error) {
    const sound = await navigator.mediaDevices?.getUserMedia?.({ audio: true }).catch(() => undefined);
    for (const track of sound?.getTracks() ?? []) track.stop();
    const { title, advice } = explainDevice(error, 'camera');
    other('Microphone and camera', 'warn', sound ? 'microphone only' : 'none', `${title}. ${advice}`);
  }

  tell('Server');
  let config: server.ServerConfig;
  try {
    const start = performance.now();
    config = await within(server.config(), 10000, 'The server');
    good('Server', milliseconds(performance.now() - start), `The server answers over HTTP${config.version ? `; it runs version ${config.version}` : ''}.`);
  } catch (error) {
    const { title, advice } = explainJoin(error);
    other('Server', 'bad', 'no answer', `${title}. ${advice}`);
    return false;
  }

  tell('Own addresses');
  tell('Public address (STUN)');
  tell('Relay (TURN)');
  const iceServers = config.iceServers ?? [];
  const urls = iceServers.flatMap((entry) => entry.urls);
  const gathered = await gather(iceServers).catch(() => [] as Gathered[]);
  tell('Own addresses', explainHosts(gathered));
  tell('Public address (STUN)', explainStun(gathered, urls.length));
  tell('Relay (TURN)', explainRelay(gathered, urls.some((url) => url.startsWith('turn'))));

  tell('Signalling');
  const options = { adaptiveStream: false, dynacast: false };
  const [first, second] = [new Room(options), new Room(options)];
  const sound = new AudioContext();
  const tracks: MediaStreamTrack[] = [];
  try {
    const name = `doctor-${randomKey().slice(0, 12).toLowerCase().replace(/[^a-z0-9]/g, '0')}`;
    const [one, two] = await within(Promise.all([server.join(name, 'Test'), server.join(name, 'Test')]), 10000, 'The server');
    const start = performance.now();
    try {
      await within(first.connect(one.url, one.token, { maxRetries: 0, peerConnectionTimeout: 15000 }), 25000, 'The meeting');
    } catch (error) {
      const { title, advice } = explainJoin(error);
      const media = first.engine?.latestJoinResponse !== undefined;
      if (media) good('Signalling', 'WebSocket', 'Signalling works.');
      else other('Signalling', 'bad', 'failed', `${title}. ${advice}`);
      other('Path of the media', 'bad', 'none', media ? `${title}. ${advice}` : 'Not tried, because signalling failed.');
      return false;
    }
    const took = performance.now() - start;
    good('Signalling', milliseconds(took), 'A WebSocket to the server opens, and a room was joined.');
    await within(second.connect(two.url, two.token, { maxRetries: 0 }), 25000, 'The meeting');

    tell('Path of the media');
    // The first offer with media brings the connection up, where it is not up yet.
    tracks.push(drawn(), tone(sound));
    await first.localParticipant.publishTrack(tracks[0]!, { source: Track.Source.Camera, simulcast: false, videoEncoding: VideoPresets.h360.encoding });
    await first.localParticipant.publishTrack(tracks[1]!, { source: Track.Source.Microphone, dtx: false });
    let path: ConnectionReport | undefined;
    for (let tries = 0; tries < 40 && !path?.local; tries++) {
      path = await report(first);
      if (!path?.local) await wait(250);
    }
    if (!path?.local || !path.remote) {
      other('Path of the media', 'bad', 'none', 'Signalling works, but no packet of media gets through. A firewall blocks UDP and TCP to the server: ask for the server’s media ports to be opened.');
      return false;
    }
    const kind = pathKind(path.local, path.remote);
    const details = [`here ${path.local.type} ${path.local.protocol} ${path.local.address}:${path.local.port}`, `server ${path.remote.type} ${path.remote.address}:${path.remote.port}`, `DTLS ${path.dtls ?? ''} ${path.group ?? ''} ${path.cipher ?? ''}`];
    tell('Path of the media', {
      severity: kind === 'direct-udp' ? 'good' : kind === 'relay-udp' ? 'note' : 'warn',
      fact: pathName(path),
      words: {
        'direct-udp': 'Sound and picture go straight to the server over UDP: the best there is.',
        'direct-tcp': 'Sound and picture go over TCP, because UDP is blocked. It works, but stutters where packets are lost.',
        'relay-udp': 'Sound and picture go over a relay, because no direct way works.',
        'relay-tcp': 'Sound and picture go over a relay by TCP or TLS: only web traffic gets out of this network.',
        none: '',
      }[kind],
      details,
    });
    tell('IPv6', explainIpv6(gathered, path.remote.address));

    tell('Data channel');
    const trips: number[] = [];
    const decoder = new TextDecoder();
    let answered: (at: number) => void = () => {};
    first.on(RoomEvent.DataReceived, (bytes, _, __, topic) => topic === 'pong' && answered(Number(decoder.decode(bytes))));
    second.on(RoomEvent.DataReceived, (bytes, _, __, topic) => {
      if (topic === 'ping') void second.localParticipant.publishData(bytes as Uint8Array<ArrayBuffer>, { reliable: true, topic: 'pong' });
    });
    for (let round = 0; round < 10; round++) {
      const begun = performance.now();
      const back = new Promise<number>((resolve) => (answered = resolve));
      await first.localParticipant.publishData(new TextEncoder().encode(String(round)), { reliable: true, topic: 'ping' });
      await within(back, 8000, 'The data channel');
      trips.push(performance.now() - begun);
    }
    // Less than servers buffer for a slow receiver.
    const size = 900_000;
    const arrived = new Promise<number>((resolve) => {
      second.registerByteStreamHandler('bulk', (reader) => {
        void (async () => {
          let total = 0;
          for await (const chunk of reader) total += chunk.length;
          resolve(total);
        })();
      });
    });
    const begun = performance.now();
    const writer = await first.localParticipant.streamBytes({ topic: 'bulk', totalSize: size });
    await writer.write(crypto.getRandomValues(new Uint8Array(65536)));
    for (let sent = 65536; sent < size; sent += 65536) await writer.write(new Uint8Array(Math.min(65536, size - sent)).fill(sent));
    await writer.close();
    await within(arrived, 30000, 'The data channel');
    const speed = (size * 8) / ((performance.now() - begun) / 1000);
    const median = trips.sort((a, b) => a - b)[trips.length >> 1]!;
    good('Data channel', milliseconds(median), `Data goes to the server, to another participant and back in ${milliseconds(median)}; 0.9 MB travelled at ${bitrate(speed)}.`);

    tell('Sound and picture');
    await within((async () => {
      const complete = () => [...second.remoteParticipants.values()].some((participant) =>
        [Track.Source.Camera, Track.Source.Microphone].every((source) => participant.getTrackPublication(source)?.track));
      while (!complete()) await wait(200);
    })(), 15000, 'Sound and picture');
    const receiver = second.engine.pcManager?.subscriber ?? second.engine.pcManager?.publisher;
    const look = async () => new Map((await receiver?.getStats()) as unknown as Report);
    for (const participant of second.remoteParticipants.values()) {
      // A picture that is attached nowhere is not decoded.
      participant.getTrackPublication(Track.Source.Camera)?.track?.attach();
    }
    await wait(1500);
    const early = await look();
    await wait(4000);
    const sum = summarise('Connection', 'connected', await look(), early);
    const picture = sum.received.find((stream) => stream.kind === 'video');
    const voice = sum.received.find((stream) => stream.kind === 'audio');
    const alive = (picture?.fps ?? 0) > 0 && (voice?.bitrate ?? 0) > 0;
    const loss = Math.max(picture?.loss ?? 0, voice?.loss ?? 0);
    if (!alive) other('Sound and picture', 'bad', 'nothing', 'What was sent did not come back from the server.');
    else {
      tell('Sound and picture', {
        severity: loss > 0.02 ? 'warn' : 'good', fact: `${percent(loss)} lost`,
        words: loss > 0.02 ? `Both come back from the server, but ${percent(loss)} of the packets were lost. A cable instead of Wi-Fi helps most.` : 'Both come back from the server without noticeable loss.',
        details: [`picture ${picture!.codec} ${picture!.width}×${picture!.height}, ${Math.round(picture!.fps)} frames per second, ${bitrate(picture!.bitrate)}`, `sound ${voice!.codec}, ${bitrate(voice!.bitrate)}, jitter ${milliseconds(voice!.jitter)}`],
      });
    }

    tell('Fallback to TCP');
    if (path.local.protocol === 'tcp' || kind.startsWith('relay')) other('Fallback to TCP', 'note', 'in use', 'The connection runs that way already.');
    else {
      try {
        const again = once(first, RoomEvent.Reconnected);
        await first.simulateScenario('force-tcp');
        await within(again, 12000, 'TCP');
        await wait(700);
        const now = await report(first);
        if (now?.local?.protocol === 'tcp' || now?.local?.type === 'relay') good('Fallback to TCP', pathName(now), 'If UDP were blocked, the meeting would go on over TCP.');
        else other('Fallback to TCP', 'note', 'not needed', 'The server kept to UDP, so the fallback was not seen.');
      } catch {
        other('Fallback to TCP', 'note', 'not reachable', 'TCP to the media port does not get through from here. It is needed only where UDP is blocked.');
      }
    }

    tell('Reconnection');
    try {
      if (first.state !== ConnectionState.Connected) await within(once(first, RoomEvent.Reconnected), 15000, 'The connection');
      const again = once(first, RoomEvent.Reconnected);
      const lost = performance.now();
      await first.simulateScenario('signal-reconnect');
      await within(again, 15000, 'The server');
      good('Reconnection', milliseconds(performance.now() - lost), 'After a lost signalling connection the meeting goes on by itself.');
    } catch {
      other('Reconnection', 'warn', 'failed', 'After a lost signalling connection the meeting did not come back within 15 seconds.');
    }
    return true;
  } catch (error) {
    throw error;
  } finally {
    for (const track of tracks) track.stop();
    void sound.close();
    await Promise.all([first.disconnect(), second.disconnect()]).catch(() => {});
  }
}

const SIGNS: Record<Severity, Sign> = { good: 'ok', note: 'info', warn: 'warn', bad: 'alert' };

export function Doctor() {
  const checks = useSignal<State[]>(NAMES.map((name) => ({ name, state: 'waiting' })));
  const phase = useSignal<'ready' | 'running' | 'done'>('ready');
  const connected = useSignal(false);
  useEffect(() => {
    document.title = 'Connection test · Visavis';
  }, []);

  const run = async () => {
    phase.value = 'running';
    checks.value = NAMES.map((name) => ({ name, state: 'waiting' }));
    const tell = (name: Name, finding?: Finding) => {
      checks.value = checks.value.map((check) => (check.name === name ? { name, state: finding ? 'done' : 'busy', ...(finding ? { finding } : {}) } : check));
    };
    try {
      connected.value = await examine(tell);
    } catch (error) {
      const busy = checks.value.find((check) => check.state === 'busy');
      if (busy) tell(busy.name as Name, { severity: 'bad', fact: 'failed', words: error instanceof Error ? error.message : String(error) });
    }
    checks.value = checks.value.map((check) => (check.state === 'busy' ? { name: check.name, state: 'waiting' } : check));
    phase.value = 'done';
  };

  const done = checks.value.flatMap((check) => (check.finding ? [{ name: check.name, severity: check.finding.severity }] : []));
  const summary = verdict(done, connected.value);
  const busy = checks.value.find((check) => check.state === 'busy');
  const text = () => checks.value.filter((check) => check.finding)
    .map((check) => `${check.finding!.severity.padEnd(5)} ${check.name}: ${check.finding!.fact}. ${check.finding!.words}${(check.finding!.details ?? []).map((line) => `\n        ${line}`).join('')}`)
    .join('\n');

  return (
    <div class="page">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="report">
        <header>
          <h1>Connection test</h1>
          <p class="lead">Tries everything that a meeting needs, between this browser and this server, and says in words what it found. It takes about twenty seconds; nothing is recorded.</p>
        </header>
        <div aria-live="polite">
          {phase.value === 'ready' && <button class="primary large" onClick={() => void run()}>Start the test</button>}
          {phase.value === 'running' && (
            <div class="verdict"><Icon sign="busy" size={24} /><div><strong>Testing…</strong><p>{busy?.name ?? ''}</p></div></div>
          )}
          {phase.value === 'done' && (
            <div class={`verdict ${summary.severity}`}>
              <Icon sign={SIGNS[summary.severity]} size={24} />
              <div>
                <strong>{summary.title}</strong>
                <p>{summary.text}</p>
                <div class="row" style={{ marginTop: '12px' }}>
                  <button onClick={() => void run()}><Icon sign="refresh" size={16} /> Test again</button>
                  <button onClick={() => void navigator.clipboard.writeText(`${navigator.userAgent}\n${text()}`)}><Icon sign="copy" size={16} /> Copy the report</button>
                </div>
              </div>
            </div>
          )}
        </div>
        <ol class="checks" style={{ margin: 0, padding: 0, listStyle: 'none' }}>
          {checks.value.map(({ name, state, finding }) => (
            <li key={name} class={`check ${finding?.severity ?? state}`} data-check={name} data-severity={finding?.severity ?? ''}>
              {state === 'busy' ? <Icon sign="busy" /> : finding ? <Icon sign={SIGNS[finding.severity]} /> : <span class="dot" />}
              <span class="check-name">{name}</span>
              <span class="check-fact">{finding?.fact}</span>
              {finding && (
                <div class="check-words">
                  {finding.words}
                  {finding.details && finding.details.length > 0 && <ul>{finding.details.map((line) => <li key={line}><code>{line}</code></li>)}</ul>}
                </div>
              )}
            </li>
          ))}
        </ol>
      </main>
      <Foot />
    </div>
  );
}
