// What opens beside the meeting: chat with files, people, and the connection with its reasons.
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { bitrate, bytes, clock, milliseconds, percent } from '../lib/words';
import { Icon } from '../ui/icons';
import { Avatar, Curve, Progress } from '../ui/parts';
import { diagnose, pathName } from './diagnosis';
import type { SharedFile } from './files';
import type { Peer } from './peer';
import type { Message, Session } from './session';
import { panel, pinned, sheet } from './state';
import type { ConnectionReport, End, ReceivedStream } from './stats';
import { cameraTile } from './tile';

function Frame({ title, children, class: name = '' }: { title: string; children: ComponentChildren; class?: string }) {
  const element = useRef<HTMLElement>(null);
  return (
    <aside class={`panel ${name}`} aria-label={title} ref={element} onKeyDown={(event) => event.key === 'Escape' && (panel.value = undefined)}>
      <header>
        <h2>{title}</h2>
        <button class="quiet round" aria-label={`Close ${title.toLowerCase()}`} onClick={() => (panel.value = undefined)}><Icon sign="close" size={18} /></button>
      </header>
      {children}
    </aside>
  );
}

/** Text with its links as links. */
function Words({ text }: { text: string }) {
  const parts = text.split(/(https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]])/g);
  return <>{parts.map((part, index) => (index % 2 ? <a key={index} href={part} target="_blank" rel="noopener noreferrer">{part}</a> : part))}</>;
}

function FileCard({ file, session }: { file: SharedFile; session: Session }) {
  const state = file.state.value;
  const receivers = Object.entries(file.receivers.value);
  const got = receivers.filter(([, share]) => share >= 1).length;
  let status = bytes(file.size);
  if (state.at === 'preparing') status = `${status} · reading ${Math.round(state.share * 100)} %`;
  if (state.at === 'asked') status = `${status} · waiting for the sender`;
  if (state.at === 'receiving') status = `${bytes(file.size * state.share)} of ${status}`;
  if (state.at === 'done') status = `${status} · saved, checksum matches`;
  if (state.at === 'failed') status = state.why;
  if (state.at === 'withdrawn') status = `${status} · no longer there`;
  if (file.own && state.at === 'offered') status = got > 0 ? `${status} · ${got === 1 ? 'one person has' : `${got} people have`} it` : `${status} · offered`;
  const share = state.at === 'preparing' || state.at === 'receiving' ? state.share : undefined;
  return (
    <div class={`file ${state.at}`} data-file={file.name} data-state={state.at} data-sha256={file.sha256}>
      <span class="file-sign"><Icon sign={state.at === 'done' ? 'check' : 'file'} size={20} /></span>
      <div class="file-text">
        <span class="file-name" title={file.name}>{file.name}</span>
        <small>{status}</small>
        {share !== undefined && <Progress share={share} label={`${file.name}, ${Math.round(share * 100)} percent`} />}
        {receivers.filter(([, part]) => part < 1).map(([to, part]) => (
          <div class="file-to" key={to}>
            <small>{session.peer(to)?.name.value ?? 'Somebody'}</small>
            <Progress share={part} label={`Sent to ${session.peer(to)?.name.value ?? 'somebody'}`} />
          </div>
        ))}
      </div>
      {!file.own && (state.at === 'offered' || state.at === 'failed') && (
        <button class="round" aria-label={`Get ${file.name}`} title="Get" onClick={() => void session.files.ask(file)}><Icon sign="download" size={18} /></button>
      )}
      {state.at === 'done' && (
        <a class="button round" href={state.url} download={file.name} aria-label={`Save ${file.name} again`} title="Save again"><Icon sign="download" size={18} /></a>
      )}
      {((file.own && state.at === 'offered') || state.at === 'receiving' || state.at === 'asked') && (
        <button class="quiet round" aria-label={file.own ? `Withdraw ${file.name}` : `Stop ${file.name}`} title={file.own ? 'Withdraw' : 'Stop'}
          onClick={() => session.files.cancel(file)}><Icon sign="close" size={16} /></button>
      )}
    </div>
  );
}

export function Chat({ session }: { session: Session }) {
  const [text, setText] = useState('');
  const list = useRef<HTMLDivElement>(null);
  const input = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const messages = session.messages.value;
  useEffect(() => {
    session.chatOpen = true;
    session.unread.value = 0;
    input.current?.focus();
    return () => void (session.chatOpen = false);
  }, []);
  useLayoutEffect(() => {
    list.current?.scrollTo({ top: list.current.scrollHeight });
  }, [messages.length]);
  const send = () => {
    const words = text.trim();
    if (!words) return;
    setText('');
    void session.write(words);
  };
  const joined = (message: Message, before: Message | undefined) =>
    before !== undefined && before.from === message.from && message.at - before.at < 120_000;
  return (
    <Frame title="Chat" class="chat">
      <div class="messages" ref={list} role="log" aria-label="Messages" tabIndex={0}>
        {messages.length === 0 && (
          <div class="empty">
            <Icon sign="chat" size={28} />
            <p>Messages reach those who are here now, and are gone when they leave. Files go here too: drop them anywhere, or use the clip.</p>
          </div>
        )}
        {messages.map((message, index) => (
          <div key={message.id} class={`message ${message.own ? 'own' : ''} ${joined(message, messages[index - 1]) ? 'joined' : ''}`}>
            {!joined(message, messages[index - 1]) && (
              <div class="message-head">
                <strong>{message.own ? 'You' : message.name}</strong>
                <time>{clock(message.at)}</time>
              </div>
            )}
            {message.file ? <FileCard file={message.file} session={session} /> : <p><Words text={message.text ?? ''} /></p>}
          </div>
        ))}
      </div>
      <form class="composer" onSubmit={(event) => {
        event.preventDefault();
        send();
      }}>
        <input ref={picker} type="file" multiple hidden onChange={(event) => {
          for (const file of event.currentTarget.files ?? []) void session.files.offer(file);
          event.currentTarget.value = '';
        }} />
        <button type="button" class="quiet round" aria-label="Share a file" title="Share a file" onClick={() => picker.current?.click()}><Icon sign="clip" size={18} /></button>
        <textarea ref={input} rows={1} value={text} maxLength={4000} placeholder="Message everyone" aria-label="Message everyone"
          onInput={(event) => {
            const area = event.currentTarget;
            setText(area.value);
            area.style.height = 'auto';
            area.style.height = `${Math.min(140, area.scrollHeight)}px`;
          }}
          onKeyDown={(event) => {
            if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
              event.preventDefault();
              send();
              event.currentTarget.style.height = 'auto';
            }
          }} />
        <button class="round primary" type="submit" aria-label="Send" disabled={!text.trim()}><Icon sign="send" size={17} /></button>
      </form>
    </Frame>
  );
}

/** How long a removal waits for its second click, in milliseconds. */
const SECOND_THOUGHT = 5000;

/** What a host may do to somebody. Removing takes two clicks. */
function Rule({ session, peer }: { session: Session; peer: Peer }) {
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    if (!asked) return;
    const timer = setTimeout(() => setAsked(false), SECOND_THOUGHT);
    return () => clearTimeout(timer);
  }, [asked]);
  const name = peer.name.value;
  if (asked) {
    return <button class="danger" aria-label={`Remove ${name} from the meeting, really`} onClick={() => void session.removeOther(peer)}>Remove?</button>;
  }
  return (
    <>
      {peer.microphoneOn.value && (
        <button class="quiet round" aria-label={`Mute ${name}`} title="Mute for everyone" onClick={() => void session.muteOther(peer)}><Icon sign="micOff" size={16} /></button>
      )}
      <button class="quiet round" aria-label={`Remove ${name} from the meeting`} title="Remove from the meeting" onClick={() => setAsked(true)}><Icon sign="close" size={16} /></button>
    </>
  );
}

export function People({ session }: { session: Session }) {
  const people = [...session.everyone.value].sort((a, b) => {
    const hands = (a.hand.value || Infinity) - (b.hand.value || Infinity);
    return Number.isNaN(hands) || hands === 0 ? 0 : hands;
  });
  return (
    <Frame title="People">
      <div class="panel-body">
        <button class="wide" onClick={() => (sheet.value = 'invite')}><Icon sign="invite" size={17} /> Invite others</button>
        {session.host.value && session.roster.others.value.some((peer) => peer.microphoneOn.value) && (
          <button class="wide quiet" onClick={() => void session.muteOthers()}><Icon sign="micOff" size={17} /> Mute everyone else</button>
        )}
        <ul class="people">
          {people.map((peer) => (
            <li key={peer.identity}>
              <Avatar name={peer.name.value} size={36} />
              <span class="person-name">
                {peer.name.value}{peer.isLocal ? ' (you)' : ''}
                {peer.host.value && <small class="role">Host</small>}
                {(peer.quality.value === 'poor' || peer.quality.value === 'lost') && <small>{peer.quality.value === 'poor' ? 'Poor connection' : 'Connection lost'}</small>}
              </span>
              {peer.hand.value > 0 && <span role="img" aria-label="Raised a hand">✋</span>}
              {peer.screenOn.value && <span title="Shares a screen"><Icon sign="screen" size={16} /></span>}
              <span class={peer.microphoneOn.value ? (peer.speaking.value ? 'live' : '') : 'dim'} title={peer.microphoneOn.value ? 'Microphone on' : 'Muted'}>
                <Icon sign={peer.microphoneOn.value ? 'mic' : 'micOff'} size={16} />
                <span class="visually-hidden">{peer.microphoneOn.value ? 'microphone on' : 'muted'}</span>
              </span>
              <span class="person-buttons">
                <button class="quiet round" aria-label={`Pin ${peer.name.value}`} title="Keep large" aria-pressed={pinned.value === cameraTile(peer)}
                  onClick={() => (pinned.value = pinned.value === cameraTile(peer) ? undefined : cameraTile(peer))}><Icon sign="pin" size={16} /></button>
                {session.host.value && !peer.isLocal && <Rule session={session} peer={peer} />}
              </span>
            </li>
          ))}
        </ul>
      </div>
    </Frame>
  );
}

const SEVERITY = { good: 'ok', note: 'info', warn: 'warn', bad: 'alert' } as const;

const place = (end: End | undefined) => {
  if (!end) return '–';
  const address = end.address.includes(':') ? `[${end.address}]` : end.address || 'hidden';
  return `${address}:${end.port}`;
};

const KIND: Record<string, string> = {
  host: 'its own address', srflx: 'its address as STUN sees it', prflx: 'its address as the other end sees it', relay: 'a relay’s address',
};

function One({ report, session }: { report: ConnectionReport; session: Session }) {
  const names = new Map<string, string>();
  for (const peer of session.everyone.value) {
    for (const publication of peer.participant.trackPublications.values()) {
      const track = publication.track?.mediaStreamTrack.id;
      const source = { camera: 'camera', microphone: 'voice', screen_share: 'screen', screen_share_audio: 'screen’s sound' }[publication.source as string] ?? 'track';
      if (track) names.set(track, peer.isLocal ? `Your ${source}` : `${peer.name.value}, ${source}`);
    }
  }
  const detail = (stream: { codec: string; width: number; height: number; fps: number }) =>
    [stream.codec, stream.height ? `${stream.width}×${stream.height}` : '', stream.fps ? `${Math.round(stream.fps)} fps` : ''].filter(Boolean).join(' · ');
  const known = (stream: ReceivedStream) => names.has(stream.trackId);
  const received = report.received.filter((stream) => known(stream) && (stream.bitrate > 0 || stream.height > 0));
  return (
    <section class="connection">
      <h3>{report.id}<span class="tag">{pathName(report)}</span></h3>
      <ul class="findings">
        {diagnose(report).map((finding) => (
          <li key={finding.text} class={finding.severity}>
            <Icon sign={SEVERITY[finding.severity]} size={17} />
            <div>{finding.text}{finding.advice && <small>{finding.advice}</small>}</div>
          </li>
        ))}
      </ul>
      <dl class="facts">
        <div><dt>Round trip</dt><dd>{milliseconds(report.roundTrip)}</dd></div>
        <div><dt>Sending</dt><dd>{bitrate(report.sentBitrate)}</dd></div>
        <div><dt>Receiving</dt><dd>{bitrate(report.receivedBitrate)}</dd></div>
        <div><dt>Lost, up / down</dt><dd>{percent(report.sentLoss)} / {percent(report.receivedLoss)}</dd></div>
        <div><dt>Uplink estimate</dt><dd>{bitrate(report.available)}</dd></div>
        <div><dt>State</dt><dd>{report.state}</dd></div>
      </dl>
      <dl class="path">
        <div><dt>Here</dt><dd><code>{place(report.local)}</code><small>{KIND[report.local?.type ?? ''] ?? ''}{report.local ? `, ${report.local.protocol}` : ''}</small></dd></div>
        <div><dt>Server</dt><dd><code>{place(report.remote)}</code><small>{KIND[report.remote?.type ?? ''] ?? ''}{report.remote ? `, ${report.remote.protocol}` : ''}</small></dd></div>
        <div><dt>Protection</dt><dd>{report.dtls ? `DTLS ${report.dtls}` : '–'}<small>{[report.cipher?.replace(/_/g, ' '), report.group].filter(Boolean).join(' · ')}{session.encrypted ? ' · and end to end' : ''}</small></dd></div>
      </dl>
      {report.sent.length > 0 && (
        <ul class="streams" aria-label="What you send">
          {report.sent.map((stream) => (
            <li key={stream.trackId + stream.mid}>
              <span>{names.get(stream.trackId) ?? (stream.kind === 'audio' ? 'Your voice' : 'Your camera')}</span>
              <b>{bitrate(stream.bitrate)}</b>
              <small>{detail(stream)}{stream.layersPossible > 1 ? ` · ${stream.layers} of ${stream.layersPossible} layers wanted` : ''}</small>
              {stream.loss > 0.005 && <small class="lost">{percent(stream.loss)} lost</small>}
            </li>
          ))}
        </ul>
      )}
      {received.length > 0 && (
        <ul class="streams" aria-label="What you receive">
          {received.map((stream) => (
            <li key={stream.trackId}>
              <span>{names.get(stream.trackId)}</span>
              <b>{bitrate(stream.bitrate)}</b>
              <small>{detail(stream)}{stream.delay ? ` · played after ${milliseconds(stream.delay)}` : ''}</small>
              {stream.loss > 0.005 && <small class="lost">{percent(stream.loss)} lost</small>}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

export function Connection({ session }: { session: Session }) {
  const reports = session.watch.reports.value;
  const past = session.watch.past.value;
  const last = past.at(-1);
  return (
    <Frame title="Connection" class="connections">
      <div class="panel-body">
        {last && (
          <div class="curves">
            <figure><figcaption>Round trip <b>{milliseconds(last.roundTrip)}</b></figcaption><Curve values={past.map((look) => look.roundTrip)} ceiling={50} label="Round trip over the last minutes" /></figure>
            <figure><figcaption>Lost <b>{percent(last.loss)}</b></figcaption><Curve values={past.map((look) => look.loss)} ceiling={0.05} label="Loss over the last minutes" /></figure>
            <figure><figcaption>Sent <b>{bitrate(last.sent)}</b></figcaption><Curve values={past.map((look) => look.sent)} label="Sent bits per second over the last minutes" /></figure>
            <figure><figcaption>Received <b>{bitrate(last.received)}</b></figcaption><Curve values={past.map((look) => look.received)} label="Received bits per second over the last minutes" /></figure>
          </div>
        )}
        {reports.map((report) => <One key={report.id} report={report} session={session} />)}
        <a class="button wide" href="/doctor" target="_blank"><Icon sign="flask" size={17} /> Test the connection in a new tab</a>
      </div>
    </Frame>
  );
}
