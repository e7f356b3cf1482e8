// The dialogs of a meeting: invite, settings, keys.
import { useEffect } from 'preact/hooks';
import { cameras, listDevices, microphones, speakers } from '../lib/devices';
import { chosen, mirror, sounds, theme } from '../lib/storage';
import { Icon } from '../ui/icons';
import { CopyButton, Dialog, Qr, Select, Switch } from '../ui/parts';
import type { Session } from './session';
import { sheet } from './state';

const close = () => (sheet.value = undefined);

function Invite({ session }: { session: Session }) {
  const link = location.href;
  const share = typeof navigator.share === 'function';
  return (
    <Dialog title="Invite others" onClose={close}>
      <p class="lead">Whoever has this link can join{session.encrypted ? '. The part behind # is the key: it never reaches the server' : ''}.</p>
      <div class="link-box"><input readOnly value={link} aria-label="Invite link" onFocus={(event) => event.currentTarget.select()} /></div>
      <div class="row">
        <CopyButton text={link} />
        {share && <button onClick={() => void navigator.share({ title: `Meeting ${session.roomName}`, url: link }).catch(() => {})}><Icon sign="send" size={17} /> Share…</button>}
      </div>
      <Qr text={link} />
      <p class="small">Point a phone’s camera here to join with it.</p>
    </Dialog>
  );
}

function Settings({ session }: { session: Session }) {
  useEffect(() => void listDevices(), []);
  const set = (which: keyof typeof chosen, kind: MediaDeviceKind) => (id: string) => {
    chosen[which].value = id;
    void session.switchDevice(kind, id);
  };
  const current = (which: keyof typeof chosen, kind: MediaDeviceKind) => session.room.getActiveDevice(kind) ?? chosen[which].value;
  return (
    <Dialog title="Settings" onClose={close}>
      <h3>Devices</h3>
      <Select label="Microphone" sign="mic" value={current('microphone', 'audioinput')} options={microphones.value} none="No microphone found" onChange={set('microphone', 'audioinput')} />
      <Select label="Camera" sign="camera" value={current('camera', 'videoinput')} options={cameras.value} none="No camera found" onChange={set('camera', 'videoinput')} />
      {speakers.value.length > 0 && (
        <Select label="Speaker" sign="sound" value={current('speaker', 'audiooutput')} options={speakers.value} none="System speaker" onChange={set('speaker', 'audiooutput')} />
      )}
      <h3>This window</h3>
      <Switch label="Mirror my picture" description="For you alone; others see you as you are." checked={mirror.value} onChange={(on) => (mirror.value = on)} />
      <Switch label="Sounds" description="When somebody comes, goes, writes or raises a hand." checked={sounds.value} onChange={(on) => (sounds.value = on)} />
      <div class="segments" role="group" aria-label="Colours">
        {(['system', 'dark', 'light'] as const).map((id) => (
          <button key={id} aria-pressed={theme.value === id} onClick={() => (theme.value = id)}>
            <Icon sign={id === 'system' ? 'system' : id === 'dark' ? 'moon' : 'sun'} size={16} /> {{ system: 'System', dark: 'Dark', light: 'Light' }[id]}
          </button>
        ))}
      </div>
    </Dialog>
  );
}

const KEYS: [string, string][] = [
  ['M', 'Microphone on or off'], ['Space', 'Talk while held'], ['V', 'Camera on or off'], ['S', 'Share a screen'], ['H', 'Raise or lower the hand'],
  ['R', 'React'], ['C', 'Chat'], ['P', 'People'], ['I', 'Connection'], ['L', 'Next view'], ['F', 'Full screen'], ['?', 'This list'], ['Esc', 'Close what is open'],
];

function Keys() {
  return (
    <Dialog title="Keyboard shortcuts" onClose={close}>
      <dl class="keys">{KEYS.map(([key, what]) => <div key={key}><dt>{what}</dt><dd><kbd>{key}</kbd></dd></div>)}</dl>
    </Dialog>
  );
}

export function Sheets({ session }: { session: Session }) {
  switch (sheet.value) {
    case 'invite': return <Invite session={session} />;
    case 'settings': return <Settings session={session} />;
    case 'keys': return <Keys />;
    default: return null;
  }
}
