// The operator's view: what every participant's connection does, and why.
import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import * as server from '../lib/api';
import { ApiError, explainJoin } from '../lib/errors';
import { bitrate, duration, milliseconds, percent } from '../lib/words';
import { Icon } from '../ui/icons';
import { Avatar, Brand, Curve, ThemeButton } from '../ui/parts';
import { receivedBps, measure, remember, type History } from './memory';
import type { InspectedConnection, InspectedEnd, InspectedParticipant, Inspection } from './inspection';

/** Milliseconds between two looks. */
const PERIOD = 2000;

const place = (end: InspectedEnd | undefined) => {
  if (!end?.address) return '–';
  return `${end.address.includes(':') ? `[${end.address}]` : end.address}:${end.port ?? ''}`;
};

const path = (connection: InspectedConnection | undefined) => {
  const remote = connection?.pair?.remote;
  if (!remote) return !connection ? 'no connection' : connection.state === 'connected' ? '' : 'no path';
  const protocol = (remote.protocol ?? connection?.pair?.local?.protocol ?? '').toUpperCase();
  return `${remote.type === 'relay' ? 'Relayed' : 'Direct'}, ${protocol}`;
};

const SOURCES: Record<string, string> = { camera: 'Camera', microphone: 'Microphone', screen_share: 'Screen', screen_share_audio: 'Screen’s sound' };

interface ParticipantProps {
  participant: InspectedParticipant;
  history: History | undefined;
  names: Map<string, string>;
  now: number;
}

function Participant({ participant, history, names, now }: ParticipantProps) {
  const { connections = [], tracks = [], subscriptions = [], client } = participant;
  const main = connections[0];
  const sent = connections.reduce((total, connection) => total + (connection.sentBps ?? 0), 0);
  const loss = Math.max(0, ...connections.flatMap((connection) => [connection.sentLoss ?? 0, connection.receivedLoss ?? 0]));
  const name = participant.name || participant.identity;
  const curve = history?.lossReceived?.length ? history.lossReceived.map((value, index) => Math.max(value, history.lossSent?.[index] ?? 0)) : history?.lossSent;
  return (
    <details class="who" data-identity={participant.identity}>
      <summary>
        <Avatar name={name} />
        <span class="who-name"><span>{name}</span><small>{[client?.browser, client?.os].filter(Boolean).join(', ') || participant.identity}</small></span>
        <span class="cell path-cell"><span class={`state ${main?.state ?? participant.state ?? ''}`}>{main?.state ?? participant.state ?? '–'}</span><small>{path(main)}</small></span>
        <span class="cell">{milliseconds(main?.rttMs)}<small>round trip</small></span>
        <span class="cell">{bitrate(receivedBps(participant))}<small>from them</small></span>
        <span class="cell">{bitrate(sent)}<small>to them</small></span>
        <span class="cell">{curve && curve.length > 1 ? <Curve values={curve} ceiling={0.05} label={`Loss of ${name}`} /> : percent(loss)}<small>{percent(loss)} lost</small></span>
        <Icon sign="down" size={16} />
      </summary>
      <div class="who-body">
        {participant.diagnosis && <p class="diagnosis">{participant.diagnosis}</p>}
        {history && (
          <div class="tiles-row">
            {([
              ['Round trip', history.rttMs, milliseconds, 50], ['Lost to them', history.lossSent, percent, 0.05], ['Lost from them', history.lossReceived, percent, 0.05],
              ['Sent', history.sentBps, bitrate, 0], ['Received', history.receivedBps, bitrate, 0], ['Estimate', history.estimateBps, bitrate, 0],
            ] as const).filter(([, values]) => values && values.length > 0).map(([label, values, word, ceiling]) => (
              <div class="curves" style={{ display: 'block' }} key={label}>
                <figure><figcaption>{label} <b>{word(values!.at(-1))}</b></figcaption><Curve values={values!} ceiling={ceiling} label={label} /></figure>
              </div>
            ))}
          </div>
        )}
        {connections.length > 0 && (
          <div class="scroll">
            <table>
              <caption>Connections</caption>
              <thead><tr><th>Role</th><th>State</th><th>Server</th><th>Client</th><th>Round trip</th><th>Estimate to them</th><th>Lost to / from</th><th>Protection</th></tr></thead>
              <tbody>
                {connections.map((connection) => (
                  <tr key={connection.id}>
                    <td>{connection.role ?? '–'}</td>
                    <td><span class={`state ${connection.state ?? ''}`}>{connection.state ?? '–'}</span></td>
                    <td><code>{place(connection.pair?.local)}</code></td>
                    <td><code>{place(connection.pair?.remote)}</code> {connection.pair?.remote?.type}</td>
                    <td>{milliseconds(connection.rttMs)}</td>
                    <td>{bitrate(connection.sendEstimateBps)}</td>
                    <td>{percent(connection.sentLoss)} / {percent(connection.receivedLoss)}</td>
                    <td>{[connection.dtls && `DTLS ${connection.dtls}`, connection.group, connection.srtp?.replace(/_/g, ' ')].filter(Boolean).join(' · ') || '–'}</td>
                  </tr>
                ))}
              </tbody>
            </table>
            {connections.some((connection) => connection.candidates) && (
              <details>
                <summary><small>Candidates</small></summary>
                {connections.map((connection) => (
                  <div key={connection.id} class="cell">
                    {connection.candidates?.local?.map((line) => <code key={line}>server {line}</code>)}
                    {connection.candidates?.remote?.map((line) => <code key={line}>client {line}</code>)}
                  </div>
                ))}
              </details>
            )}
          </div>
        )}
        {tracks.length > 0 && (
          <div class="scroll">
            <table>
              <caption>Sends</caption>
              <thead><tr><th>Track</th><th>Codec</th><th>Layer</th><th>Size</th><th>Rate</th></tr></thead>
              <tbody>
                {tracks.flatMap((track) => (track.layers?.length ? track.layers : [{}]).map((layer, index) => (
                  <tr key={track.sid + index}>
                    <td>{index === 0 ? `${SOURCES[track.source ?? ''] ?? track.kind ?? track.sid}${track.muted ? ', muted' : ''}` : ''}</td>
                    <td>{index === 0 ? track.codec ?? '–' : ''}</td>
                    <td>{layer.rid || '–'}{layer.active === false ? ' (off)' : ''}</td>
                    <td>{layer.height ? `${layer.width}×${layer.height}${layer.fps ? `, ${Math.round(layer.fps)} fps` : ''}` : '–'}</td>
                    <td>{bitrate(layer.bps)}</td>
                  </tr>
                )))}
              </tbody>
            </table>
          </div>
        )}
        {subscriptions.length > 0 && (
          <div class="scroll">
            <table>
              <caption>Receives</caption>
              <thead><tr><th>From</th><th>Track</th><th>Wanted</th><th>Layer</th><th>Rate</th><th>Lost</th><th>Why</th></tr></thead>
              <tbody>
                {subscriptions.map((subscription) => (
                  <tr key={subscription.track + subscription.from}>
                    <td>{names.get(subscription.from ?? '') ?? subscription.from ?? '–'}</td>
                    <td>{SOURCES[subscription.source ?? ''] ?? subscription.track}</td>
                    <td>{subscription.wanted ?? '–'}</td>
                    <td>{subscription.paused ? 'paused' : subscription.layer ?? '–'}</td>
                    <td>{bitrate(subscription.bps)}</td>
                    <td>{percent(subscription.loss)}</td>
                    <td class="words">{subscription.why ?? ''}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        <small>{participant.identity}{participant.sid ? ` · ${participant.sid}` : ''}{participant.joinedAt ? ` · here for ${duration(now - participant.joinedAt)}` : ''}{client?.sdk ? ` · ${client.sdk} SDK ${client.version ?? ''}` : ''}</small>
      </div>
    </details>
  );
}

export function Inspect() {
  const data = useSignal<Inspection | undefined>(undefined);
  const before = useSignal<Inspection | undefined>(undefined);
  const memory = useSignal<ReadonlyMap<string, History>>(new Map());
  const problem = useSignal('');
  const locked = useSignal(false);
  const operator = useSignal(sessionStorage.getItem('visavis.operator') ?? '');
  const filter = useSignal('');

  useEffect(() => {
    document.title = 'Operator · Visavis';
    let stopped = false;
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      try {
        before.value = data.value;
        const seen = await server.inspect(operator.value);
        measure(before.value, seen);
        memory.value = remember(memory.value, seen, PERIOD);
        data.value = seen;
        problem.value = '';
        locked.value = false;
      } catch (error) {
        if (error instanceof ApiError && (error.status === 401 || error.status === 403)) locked.value = true;
        else if (error instanceof ApiError && error.status === 404) problem.value = 'This server has no inspector.';
        else problem.value = explainJoin(error).title;
      }
      if (!stopped) timer = setTimeout(() => void look(), document.hidden ? PERIOD * 5 : PERIOD);
    };
    void look();
    return () => {
      stopped = true;
      clearTimeout(timer);
    };
  }, []);

  const { rooms = [], events = [], node, now = Date.now(), startedAt, version } = data.value ?? {};
  const people = rooms.flatMap((room) => room.participants ?? []);
  const all = people.flatMap((participant) => participant.connections ?? []);
  const names = new Map(people.map((participant) => [participant.identity, participant.name || participant.identity]));
  const rate = (id: number, forwarded: number | undefined) => {
    const earlier = before.value?.node?.workers?.find((worker) => worker.id === id)?.forwarded;
    const seconds = (now - (before.value?.now ?? now)) / 1000;
    if (forwarded === undefined || earlier === undefined || seconds <= 0) return '–';
    return Math.max(0, Math.round((forwarded - earlier) / seconds)).toLocaleString();
  };
  const download = async () => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await server.inspectEvents(operator.value));
    link.download = 'visavis-events.jsonl';
    link.click();
    URL.revokeObjectURL(link.href);
  };
  const relayed = all.filter((connection) => connection.pair?.remote?.type === 'relay').length;
  const troubled = people.filter((participant) => (participant.quality ?? 5) <= 2).length;
  const wanted = filter.value.trim().toLowerCase();
  const fits = (participant: InspectedParticipant) => !wanted || `${participant.name} ${participant.identity}`.toLowerCase().includes(wanted);

  return (
    <div class="page">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="tables">
        <header class="row" style={{ justifyContent: 'space-between' }}>
          <div>
            <h1>Operator</h1>
            <p class="small">{version ? `Version ${version}` : ''}{startedAt ? ` · up for ${duration(now - startedAt)}` : ''}{node?.udp?.length ? ` · UDP ${node.udp.join(', ')}` : ''}{node?.turn ? ' · relay on' : ''}</p>
          </div>
          <input style={{ width: '220px' }} type="search" placeholder="Room or person" aria-label="Room or person" value={filter.value} onInput={(event) => (filter.value = event.currentTarget.value)} />
        </header>
        {data.value?.draining && <div class="callout warn" role="status"><Icon sign="warn" size={18} /><div><strong>The server is draining</strong><span>Nobody new is let in. It ends when the last one has left, or at its deadline.</span></div></div>}
        {problem.value && <div class="callout bad" role="alert"><Icon sign="alert" size={18} /><div><strong>{problem.value}</strong><span>The page keeps asking.</span></div></div>}
        {locked.value ? (
          <form class="room-card" style={{ padding: '20px', display: 'grid', gap: '12px', maxWidth: '420px' }} onSubmit={(event) => {
            event.preventDefault();
            sessionStorage.setItem('visavis.operator', operator.value);
            location.reload();
          }}>
            <h2>Operators only</h2>
            <label class="field"><span>Operator token</span><input type="password" autocomplete="current-password" value={operator.value} onInput={(event) => (operator.value = event.currentTarget.value)} /></label>
            <button class="primary">Open</button>
          </form>
        ) : (
          <>
            <div class="tiles-row">
              <div class="number"><span>Rooms</span><b>{rooms.length}</b></div>
              <div class="number"><span>People</span><b>{people.length}</b></div>
              <div class="number"><span>In trouble</span><b style={troubled ? { color: 'var(--warn)' } : {}}>{troubled}</b></div>
              <div class="number"><span>Relayed</span><b>{relayed}</b></div>
              <div class="number"><span>Received</span><b>{bitrate(people.reduce((sum, participant) => sum + receivedBps(participant), 0))}</b></div>
              <div class="number"><span>Sent</span><b>{bitrate(all.reduce((sum, connection) => sum + (connection.sentBps ?? 0), 0))}</b></div>
            </div>
            {node?.workers && node.workers.length > 0 && (
              <div class="room-card" style={{ padding: '14px 20px' }}>
                <div class="scroll">
                  <table>
                    <caption>Workers</caption>
                    <thead><tr><th>Worker</th><th>Load</th><th>Connections</th><th>Packets forwarded per second</th></tr></thead>
                    <tbody>{node.workers.map((worker) => <tr key={worker.id}><td>{worker.id}</td><td>{percent(worker.load)}</td><td>{worker.connections ?? '–'}</td><td>{rate(worker.id, worker.forwarded)}</td></tr>)}</tbody>
                  </table>
                </div>
              </div>
            )}
            {rooms.filter((room) => room.name.toLowerCase().includes(wanted) || (room.participants ?? []).some(fits)).map((room) => (
              <section key={room.sid ?? room.name} class="room-card">
                <header><h2>{room.name}</h2><small>{room.participants?.length ?? 0} people{room.createdAt ? ` · open for ${duration(now - room.createdAt)}` : ''}{room.sid ? ` · ${room.sid}` : ''}</small></header>
                {(room.participants ?? []).filter((participant) => room.name.toLowerCase().includes(wanted) || fits(participant)).map((participant) => (
                  <Participant key={participant.identity} participant={participant} history={memory.value.get(`${room.name} ${participant.identity}`)} names={names} now={now} />
                ))}
              </section>
            ))}
            {data.value && rooms.length === 0 && <div class="room-card" style={{ padding: '40px', textAlign: 'center', color: 'var(--soft)' }}>Nobody is here now. Rooms appear as people join.</div>}
            {events.length > 0 && (
              <section class="room-card">
                <header style={{ justifyContent: 'space-between' }}><h2>Events</h2><button class="quiet chip" onClick={() => void download()}><Icon sign="download" size={15} /> Download all</button></header>
                <ul class="events">
                  {[...events].reverse().map((event, index) => (
                    <li key={index}><time>{new Date(event.at).toLocaleTimeString([], { hour12: false })}</time><span>{[event.room, event.identity].filter(Boolean).join(' · ')}</span><div>{event.text}</div></li>
                  ))}
                </ul>
              </section>
            )}
          </>
        )}
      </main>
    </div>
  );
}
