// Before the meeting: who one is, how one looks and sounds.
import { useEffect, useRef, useState } from 'preact/hooks';
import {
  asking, cameraProblem, cameras, cameraTrack, microphoneProblem, microphones, microphoneTrack, prepare, speakers, watchLevel,
} from '../lib/devices';
import type { Explanation } from '../lib/errors';
import { follow, go } from '../lib/router';
import { keyOf, randomKey, roomPath } from '../lib/rooms';
import { cameraWanted, chosen, displayName, microphoneWanted, mirror } from '../lib/storage';
import { Icon } from '../ui/icons';
import { Avatar, Brand, Foot, Select, Switch, ThemeButton } from '../ui/parts';
import { signal } from '@preact/signals';

const encrypted = signal(false);

/** One and the same trouble with both devices is told once. */
function joinTroubles(microphone: Explanation | undefined, camera: Explanation | undefined): Explanation[] {
  if (microphone && camera && microphone.title.replace('microphone', 'camera') === camera.title) {
    return [{ ...camera, title: camera.title.replace('camera', 'microphone and camera') }];
  }
  return [microphone, camera].filter((it) => it !== undefined);
}

interface LobbyProps {
  room: string;
  joining: boolean;
  problem: Explanation | undefined;
  onJoin: () => void;
}

export function Lobby({ room, joining, problem, onJoin }: LobbyProps) {
  const video = useRef<HTMLVideoElement>(null);
  const [slow, setSlow] = useState(false);
  const meter = useRef<HTMLDivElement>(null);

  useEffect(() => {
    encrypted.value = keyOf(location.hash) !== undefined;
    const hash = () => (encrypted.value = keyOf(location.hash) !== undefined);
    addEventListener('hashchange', hash);
    return () => removeEventListener('hashchange', hash);
  }, []);

  useEffect(() => {
    if (!joining) void prepare();
  }, [joining, cameraWanted.value, microphoneWanted.value]);

  useEffect(() => {
    setSlow(false);
    if (!joining) return;
    const timer = setTimeout(() => setSlow(true), 6000);
    return () => clearTimeout(timer);
  }, [joining]);

  const camera = cameraTrack.value;
  useEffect(() => {
    if (!camera || !video.current) return;
    const element = video.current;
    camera.attach(element);
    return () => void camera.detach(element);
  }, [camera]);

  const microphone = microphoneTrack.value;
  useEffect(() => {
    if (!microphone) return;
    return watchLevel(microphone.mediaStreamTrack, (level) => {
      meter.current?.style.setProperty('--level', level.toFixed(3));
    });
  }, [microphone]);

  const toggle = (what: 'camera' | 'microphone') => {
    const wanted = what === 'camera' ? cameraWanted : microphoneWanted;
    const trouble = what === 'camera' ? cameraProblem : microphoneProblem;
    if (trouble.value) {
      trouble.value = undefined;
      wanted.value = true;
      void prepare({ [what]: true });
    } else wanted.value = !wanted.value;
  };

  const encrypt = (on: boolean) => {
    go(roomPath(room, on ? randomKey() : undefined), true);
    encrypted.value = on;
  };
  const cameraOn = cameraWanted.value && !cameraProblem.value;
  const microphoneOn = microphoneWanted.value && !microphoneProblem.value;
  const trouble = joinTroubles(microphoneWanted.value ? microphoneProblem.value : undefined, cameraWanted.value ? cameraProblem.value : undefined);

  return (
    <div class="page">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="lobby">
        <section class="preview" aria-label="How others see you">
          <video ref={video} muted playsInline autoplay class={`${mirror.value ? 'mirror' : ''} ${camera && cameraOn ? '' : 'hidden'}`} />
          {!(camera && cameraOn) && (
            <div class="preview-off">
              <Avatar name={displayName.value || '?'} size={96} />
              <span>{asking.value && cameraOn ? 'Allow the camera and the microphone in the browser’s dialog' : 'Your camera is off'}</span>
            </div>
          )}
          <div class={`meter ${microphone && microphoneOn ? '' : 'off'}`} ref={meter} role="img"
            aria-label={microphone && microphoneOn ? 'Loudness of your microphone' : 'Your microphone is off'}>
            {Array.from({ length: 5 }, (_, index) => <i key={index} style={{ '--bar': String(index) } as Record<string, string>} />)}
          </div>
          <div class="preview-buttons">
            <button class={`control ${microphoneOn ? '' : 'off'}`} aria-pressed={microphoneOn} aria-label="Microphone"
              title={microphoneOn ? 'Turn the microphone off' : 'Turn the microphone on'} onClick={() => toggle('microphone')}>
              <Icon sign={microphoneOn ? 'mic' : 'micOff'} />
            </button>
            <button class={`control ${cameraOn ? '' : 'off'}`} aria-pressed={cameraOn} aria-label="Camera"
              title={cameraOn ? 'Turn the camera off' : 'Turn the camera on'} onClick={() => toggle('camera')}>
              <Icon sign={cameraOn ? 'camera' : 'cameraOff'} />
            </button>
          </div>
        </section>

        <form class="lobby-form" onSubmit={(event) => {
          event.preventDefault();
          displayName.value = displayName.value.trim();
          if (displayName.value && !joining) onJoin();
        }}>
          <p class="eyebrow">Ready to join?</p>
          <h1 class="room-name">{room}</h1>
          <label class="field">
            <span>Your name</span>
            <input value={displayName.value} maxLength={60} required autocomplete="name" placeholder="How others call you" autofocus={!displayName.value}
              onInput={(event) => (displayName.value = event.currentTarget.value)} />
          </label>
          <div class="selects">
            <Select label="Microphone" sign="mic" value={chosen.microphone.value} options={microphones.value} none="No microphone found"
              onChange={(id) => {
                chosen.microphone.value = id;
                void prepare({ microphone: true });
              }} />
            <Select label="Camera" sign="camera" value={chosen.camera.value} options={cameras.value} none="No camera found"
              onChange={(id) => {
                chosen.camera.value = id;
                void prepare({ camera: true });
              }} />
            {speakers.value.length > 0 && (
              <Select label="Speaker" sign="sound" value={chosen.speaker.value} options={speakers.value} none="System speaker"
                onChange={(id) => (chosen.speaker.value = id)} />
            )}
          </div>
          <Switch checked={encrypted.value} onChange={encrypt} sign="lock" label="End-to-end encryption"
            description={encrypted.value
              ? 'On: only those with the whole link can see and hear.'
              : 'Off: encrypted on the way, but not against the server.'} />
          {trouble.map((it) => (
            <div class="callout warn" role="status" key={it.title}>
              <Icon sign="warn" size={18} />
              <div><strong>{it.title}</strong><span>{it.advice}</span></div>
            </div>
          ))}
          {problem && !joining && (
            <div class="callout bad" role="alert">
              <Icon sign="alert" size={18} />
              <div>
                <strong>{problem.title}</strong><span>{problem.advice}</span>
                <a href="/doctor" onClick={follow}>Test the connection</a>
              </div>
            </div>
          )}
          {joining && slow && (
            <p class="small" role="status">This takes longer than usual. The network may block the direct way to the server; other ways are being tried.</p>
          )}
          <button class="primary large" type="submit" disabled={joining || !displayName.value.trim()}>
            {joining ? <><Icon sign="busy" /> Joining…</> : problem?.retry ? 'Try again' : 'Join now'}
          </button>
        </form>
      </main>
      <Foot />
    </div>
  );
}
