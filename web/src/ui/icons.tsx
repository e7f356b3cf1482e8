// Signs of the page, drawn by Lucide (ISC); only those named here are bundled.
import {
  Activity, ArrowRight, Check, ChevronDown, CircleAlert, CircleCheck, Copy, Download, Ellipsis, Expand, File as FileSign, FlaskConical, Hand,
  Info, Keyboard, LayoutGrid, Link, Loader, Lock, MessageSquare, Mic, MicOff, MonitorUp, MonitorX, Moon, Paperclip, PhoneOff, Pin, PinOff,
  Plus, Presentation, QrCode, RefreshCw, Send, Server, Settings, Smile, Sun, SunMoon, TriangleAlert, UserPlus, Users, Video, VideoOff,
  Volume2, Wifi, WifiOff, X, type IconNode,
} from 'lucide';

export const signs = {
  activity: Activity, arrow: ArrowRight, check: Check, down: ChevronDown, alert: CircleAlert, ok: CircleCheck, copy: Copy, download: Download,
  more: Ellipsis, expand: Expand, file: FileSign, flask: FlaskConical, hand: Hand, info: Info, keyboard: Keyboard, grid: LayoutGrid, link: Link,
  busy: Loader, lock: Lock, chat: MessageSquare, mic: Mic, micOff: MicOff, screen: MonitorUp, screenOff: MonitorX, moon: Moon, clip: Paperclip,
  leave: PhoneOff, pin: Pin, unpin: PinOff, plus: Plus, speaker: Presentation, qr: QrCode, refresh: RefreshCw, send: Send, server: Server,
  settings: Settings, smile: Smile, sun: Sun, system: SunMoon, warn: TriangleAlert, invite: UserPlus, people: Users, camera: Video,
  cameraOff: VideoOff, sound: Volume2, wifi: Wifi, offline: WifiOff, close: X,
} satisfies Record<string, IconNode>;

export type Sign = keyof typeof signs;

export function Icon({ sign, size = 20 }: { sign: Sign; size?: number }) {
  return (
    <svg class={`icon icon-${sign}`} width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.8"
      stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      {(signs[sign] as IconNode).map(([Tag, attributes], index) => {
        const Shape = Tag as 'path';
        return <Shape key={index} {...(attributes as object)} />;
      })}
    </svg>
  );
}

/** Two faces, face to face. */
export function Logo({ size = 28 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" class="logo">
      <path d="M4.500 5v22a11 11 0 0 0 0-22z" fill="var(--accent-bright)" />
      <path d="M27.500 5v22a11 11 0 0 1 0-22z" fill="var(--second)" />
    </svg>
  );
}
