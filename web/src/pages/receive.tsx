// Receives what somebody offers by a link: straight from the other machine, verified, into the downloads.
import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { bytes, duration } from '../lib/words';
import { asGuest } from '../transfer/connect';
import { Conversation, Lost } from '../transfer/messages';
import { Receiver, type Offer } from '../transfer/receive';
import { join, Refused } from '../transfer/rendezvous';
import { parseLink, WrongLink } from '../transfer/seal';
import { Icon } from '../ui/icons';
import { Brand, Foot, ThemeButton } from '../ui/parts';
import { Meter } from './transfer-parts';

type Phase = 'connecting' | 'asking' | 'fetching' | 'waiting' | 'done' | 'failed';

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

function explain(error: unknown): string {
  if (error instanceof Refused && error.code === 'no-such-slot') return 'Nobody waits under this link any more. Ask for a new one.';
  return error instanceof Error ? error.message : String(error);
}

/** Worth another try: the other side or the network may come back. */
const passing = (error: unknown) => !(error instanceof WrongLink) && (error instanceof Lost || (error instanceof Refused && error.code !== 'no-such-slot') || (error instanceof Error && /answer|left|No way/.test(error.message)));

export function Receive() {
  const phase = useSignal<Phase>('connecting');
  const fault = useSignal('');
  const offer = useSignal<Offer | undefined>(undefined);
  const here = useSignal(0);
  const began = useSignal(0);
  const receiver = useRef(new Receiver());
  const accept = useRef<() => void>(() => undefined);

  useEffect(() => {
    document.title = 'Receive files · Visavis';
    let over = false;
    const link = parseLink(location.hash);
    const agreed = new Promise<void>((resolve) => (accept.current = resolve));
    const once = async () => {
      const { host, iceServers } = await join(link!.slot);
      const { connection, channel } = await asGuest(host, iceServers, link!);
      try {
        const conversation = new Conversation(channel, connection);
        offer.value = await receiver.current.read(conversation);
        if (began.value === 0) phase.value = 'asking';
        await agreed;
        if (began.value === 0) began.value = Date.now();
        phase.value = 'fetching';
        await receiver.current.fetch(conversation, (count) => (here.value = count));
      } finally {
        connection.close();
      }
    };
    const run = async () => {
      if (!link) throw new WrongLink();
      for (let tries = 0; !over; tries++) {
        try {
          return await once();
        } catch (error) {
          if (!passing(error) || (began.value === 0 && tries > 2) || tries > 200) throw error;
          fault.value = explain(error);
          phase.value = 'waiting';
          await pause(2000);
        }
      }
    };
    run().then(
      () => {
        phase.value = 'done';
        const entries = offer.value?.entries ?? [];
        if (entries.length === 1) save(receiver.current, 0, entries[0]!.path);
      },
      (error: unknown) => {
        fault.value = explain(error);
        phase.value = 'failed';
      },
    );
    return () => {
      over = true;
    };
  }, []);

  const files = offer.value?.entries.filter((entry) => !entry.directory) ?? [];
  const total = offer.value?.bytes ?? null;
  const title = files.length === 1 ? files[0]!.path : `${files.length} files`;
  return (
    <div class="page transfer">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="middle" data-phase={phase.value}>
        {phase.value === 'connecting' && <><h1>Connecting to the sender…</h1><p class="lead">Files come straight from the other machine, encrypted end to end.</p></>}
        {phase.value === 'asking' && (
          <>
            <h1>{title}</h1>
            <p class="lead">{total === null ? 'Size unknown' : bytes(total)}</p>
            <button class="primary large" onClick={() => accept.current()}><Icon sign="download" /> Receive</button>
          </>
        )}
        {(phase.value === 'fetching' || phase.value === 'waiting') && offer.value && (
          <>
            <h1>{title}</h1>
            <Meter done={here.value} total={total} since={began.value} />
            {phase.value === 'waiting' && <p class="wrong" role="alert">{fault.value} Trying again.</p>}
          </>
        )}
        {phase.value === 'waiting' && !offer.value && <><h1>Connecting to the sender…</h1><p class="wrong" role="alert">{fault.value} Trying again.</p></>}
        {phase.value === 'done' && (
          <>
            <h1><Icon sign="ok" size={32} /> {title}</h1>
            <p class="lead">Received and verified{began.value > 0 && ` in ${duration(Date.now() - began.value)}`}.</p>
            <ul class="received">
              {offer.value?.entries.map((entry, index) => !entry.directory && (
                <li key={index}>
                  <span>{entry.path}</span>
                  <button onClick={() => save(receiver.current, index, entry.path)}><Icon sign="download" size={17} /> Save</button>
                </li>
              ))}
            </ul>
            {files.length > 1 && <button class="primary" onClick={() => void saveAll(receiver.current, offer.value!)}><Icon sign="download" /> Save all</button>}
          </>
        )}
        {phase.value === 'failed' && (
          <>
            <h1>This did not work</h1>
            <p class="wrong" role="alert">{fault.value}</p>
            <button class="primary" onClick={() => location.reload()}>Try again</button>
          </>
        )}
      </main>
      <Foot />
    </div>
  );
}

function save(receiver: Receiver, index: number, path: string): void {
  const blob = receiver.file(index);
  if (!blob) return;
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement('a'), { href: address, download: path.split('/').at(-1) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

type Directory = FileSystemDirectoryHandle;

/** Into a directory that the user chooses, where the browser can do that; else one download after the other. */
async function saveAll(receiver: Receiver, offer: Offer): Promise<void> {
  const choose = (window as { showDirectoryPicker?: (options: object) => Promise<Directory> }).showDirectoryPicker;
  if (!choose) {
    for (const [index, entry] of offer.entries.entries()) {
      if (!entry.directory) save(receiver, index, entry.path);
      await pause(300);
    }
    return;
  }
  const root = await choose({ mode: 'readwrite' }).catch(() => undefined);
  if (!root) return;
  for (const [index, entry] of offer.entries.entries()) {
    const parts = entry.path.split('/');
    const name = entry.directory ? undefined : parts.pop()!;
    let directory = root;
    for (const part of parts) directory = await directory.getDirectoryHandle(part, { create: true });
    const blob = receiver.file(index);
    if (!name || !blob) continue;
    const out = await (await directory.getFileHandle(name, { create: true })).createWritable();
    await out.write(blob);
    await out.close();
  }
}
