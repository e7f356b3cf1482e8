// Offers files to whoever has the link, for as long as this page is open.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { bytes } from '../lib/words';
import { asHost } from '../transfer/connect';
import { Conversation } from '../transfer/messages';
import { Host } from '../transfer/rendezvous';
import { toLink, type Link } from '../transfer/seal';
import { outgoing, send, type Outgoing } from '../transfer/send';
import { Icon } from '../ui/icons';
import { Brand, CopyButton, Foot, Qr, ThemeButton } from '../ui/parts';
import { Meter } from './transfer-parts';

interface Receiving {
  id: number;
  done: number;
  since: number;
  state: 'connecting' | 'sending' | 'sent' | 'failed';
  fault?: string;
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export function Send() {
  const files = useSignal<Outgoing[]>([]);
  const link = useSignal('');
  const fault = useSignal('');
  const receivers = useSignal<Receiving[]>([]);
  const input = useRef<HTMLInputElement>(null);
  const total = files.value.reduce((sum, { file }) => sum + file.size, 0);

  useEffect(() => {
    document.title = 'Send files · Visavis';
  }, []);

  const change = (id: number, part: Partial<Receiving>) => {
    receivers.value = receivers.value.map((one) => (one.id === id ? { ...one, ...part } : one));
  };

  const offer = async (chosen: Outgoing[]) => {
    if (chosen.length === 0) return;
    files.value = chosen;
    const secret = crypto.getRandomValues(new Uint8Array(16));
    const key = toLink(crypto.getRandomValues(new Uint8Array(16)));
    let slot: string | undefined;
    for (;;) {
      try {
        const host = await Host.open(key, slot);
        slot = host.slot;
        const known: Link = { slot, secret };
        link.value = `${location.origin}/receive#${slot}.${toLink(secret)}`;
        fault.value = '';
        for (let guest = await host.next(); guest; guest = await host.next()) void serve(guest, host.iceServers, known, chosen);
      } catch (error) {
        fault.value = error instanceof Error ? error.message : String(error);
      }
      // The server went away: those who are connected go on without it.
      await pause(3000);
    }
  };

  const serve = async (guest: Parameters<typeof asHost>[0], ice: RTCIceServer[], known: Link, chosen: Outgoing[]) => {
    const id = receivers.value.length;
    receivers.value = [...receivers.value, { id, done: 0, since: Date.now(), state: 'connecting' }];
    try {
      const { connection, channel } = await asHost(guest, ice, known);
      change(id, { state: 'sending', since: Date.now() });
      try {
        await send(new Conversation(channel, connection), chosen, (done) => change(id, { done }));
      } finally {
        connection.close();
      }
      change(id, { state: 'sent', done: total });
    } catch (error) {
      change(id, { state: 'failed', fault: error instanceof Error ? error.message : String(error) });
    }
  };

  return (
    <div class="page transfer">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="middle" onDragOver={(event) => event.preventDefault()} onDrop={(event) => {
        event.preventDefault();
        if (files.value.length === 0) void offer(outgoing(event.dataTransfer?.files ?? []));
      }}>
        {files.value.length === 0 ? (
          <>
            <h1>Send files</h1>
            <p class="lead">Straight to the other machine, encrypted end to end, of any size. Nothing is stored on a server.</p>
            <input ref={input} type="file" multiple class="visually-hidden" id="files" aria-label="Files to send"
              onChange={(event) => void offer(outgoing(event.currentTarget.files ?? []))} />
            <button class="primary large" onClick={() => input.current?.click()}><Icon sign="plus" /> Choose files</button>
            <p class="hint">or drop them here</p>
          </>
        ) : (
          <>
            <h1>{files.value.length === 1 ? files.value[0]!.entry.path : `${files.value.length} files`} <small>{bytes(total)}</small></h1>
            {link.value && (
              <>
                <p class="lead">Pass on this link, and keep this page open:</p>
                <div class="link-row">
                  <input readonly value={link.value} aria-label="Link for the receiver" onFocus={(event) => event.currentTarget.select()} />
                  <CopyButton text={link.value} />
                </div>
                <Qr text={link.value} />
                <p class="hint">It works in any browser, and with <code>visavis receive LINK</code>.</p>
              </>
            )}
            {fault.value && <p class="wrong" role="alert">{fault.value} Trying again.</p>}
            <ul class="received" aria-live="polite">
              {receivers.value.map((one) => (
                <li key={one.id} data-state={one.state}>
                  {one.state === 'connecting' && <span>Somebody is connecting…</span>}
                  {one.state === 'sending' && <Meter done={one.done} total={total} since={one.since} />}
                  {one.state === 'sent' && <span><Icon sign="ok" size={18} /> Sent and verified</span>}
                  {one.state === 'failed' && <span class="wrong">{one.fault}</span>}
                </li>
              ))}
            </ul>
          </>
        )}
      </main>
      <Foot />
    </div>
  );
}
