// One tile: a person's camera or screen, with the name and what one should know.
import { useEffect, useRef, useState } from 'preact/hooks';
import { Track } from 'livekit-client';
import { mirror } from '../lib/storage';
import { Icon } from '../ui/icons';
import { Avatar } from '../ui/parts';
import type { Place } from './arrange';
import type { Peer, Quality } from './peer';
import { pinned } from './state';

export const cameraTile = (peer: Peer): string => peer.identity;
export const screenTile = (peer: Peer): string => `${peer.identity}/screen`;

function Picture({ track, name, fit, flip, onAspect }: { track: Track; name: string; fit: string; flip: boolean; onAspect: (portrait: boolean) => void }) {
  const video = useRef<HTMLVideoElement>(null);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const element = video.current!;
    track.attach(element);
    return () => void track.detach(element);
  }, [track]);
  return (
    <video ref={video} class={`${fit} ${flip ? 'mirror' : ''} ${ready ? 'ready' : ''}`} muted={track.kind === Track.Kind.Video} playsInline autoplay
      aria-label={name} onLoadedData={() => setReady(true)}
      onResize={(event) => onAspect(event.currentTarget.videoHeight > event.currentTarget.videoWidth)} />
  );
}

const QUALITY: Record<Quality, string> = {
  excellent: '', unknown: '', good: '', poor: 'Poor connection', lost: 'Connection lost',
};

function Bars({ quality }: { quality: Quality }) {
  const word = QUALITY[quality];
  if (!word) return null;
  return (
    <span class={`tile-sign quality ${quality}`} title={word} role="img" aria-label={word}>
      <Icon sign={quality === 'lost' ? 'offline' : 'wifi'} size={15} />
    </span>
  );
}

interface TileProps {
  peer: Peer;
  screen: boolean;
  place: Place;
}

export function Tile({ peer, screen, place }: TileProps) {
  const id = screen ? screenTile(peer) : cameraTile(peer);
  const [portrait, setPortrait] = useState(false);
  const track = (screen ? peer.screen : peer.camera).value;
  const name = peer.isLocal ? 'You' : peer.name.value;
  const label = screen ? `${peer.isLocal ? 'Your' : `${name}’s`} screen` : name;
  const isPinned = pinned.value === id;
  const speaking = !screen && peer.speaking.value && peer.microphoneOn.value;
  const small = place.width < 180 || place.role === 'strip';
  // A portrait picture in a wide tile loses too much if it is cropped, and a screen must not be cropped at all.
  const fit = screen || (portrait && place.width > place.height * 1.2 && place.role === 'stage') ? 'contain' : 'cover';
  const hint = peer.unreadable.value ? 'Encrypted: the whole invite link is needed'
    : !screen && peer.cameraOn.value && !track ? 'Connecting the camera…'
      : !screen && peer.paused.value ? 'Paused: too little bandwidth' : '';
  return (
    <article class={`tile ${place.role} ${speaking ? 'speaking' : ''} ${screen ? 'is-screen' : ''} ${small ? 'small' : ''}`}
      style={{ transform: `translate(${place.x}px, ${place.y}px)`, width: `${place.width}px`, height: `${place.height}px` }}
      data-tile={id} aria-label={`${label}${speaking ? ', speaking' : ''}${!screen && !peer.microphoneOn.value ? ', muted' : ''}`}>
      {track && !peer.unreadable.value
        ? <Picture track={track} name={label} fit={fit} flip={peer.isLocal && !screen && mirror.value} onAspect={setPortrait} />
        : <div class="tile-face"><Avatar name={peer.name.value} size={Math.max(36, Math.min(112, place.height * 0.36, place.width * 0.36))} /></div>}
      {hint && !small && <span class="tile-hint">{hint}</span>}
      <div class="tile-top">
        {place.role !== 'float' && (
          <button class="tile-action" aria-label={isPinned ? `Unpin ${label}` : `Pin ${label}`} title={isPinned ? 'Unpin' : 'Keep large'} data-pinned={isPinned}
            onClick={() => (pinned.value = isPinned ? undefined : id)}>
            <Icon sign={isPinned ? 'unpin' : 'pin'} size={16} />
          </button>
        )}
        {!screen && peer.hand.value > 0 && <span class="tile-sign hand" title="Raised a hand" role="img" aria-label="Raised a hand">✋</span>}
        <Bars quality={peer.quality.value} />
      </div>
      <div class="tile-name">
        {!screen && !peer.microphoneOn.value && <span class="muted-sign" title="Muted"><Icon sign="micOff" size={14} /></span>}
        {speaking && <span class="waves" aria-hidden="true"><i /><i /><i /></span>}
        {screen && <Icon sign="screen" size={14} />}
        <span>{label}</span>
      </div>
    </article>
  );
}
