// The bar at the bottom: what one does most.
import { cameras, listDevices, microphones, speakers } from '../lib/devices';
import { chosen } from '../lib/storage';
import { Icon, type Sign } from '../ui/icons';
import { Menu, MenuItem } from '../ui/parts';
import type { View } from './arrange';
import { REACTIONS, type Session } from './session';
import { panel, reactionsOpen, sheet, talking, togglePanel, view, type Panel } from './state';

interface ControlProps {
  label: string;
  sign: Sign;
  keys?: string;
  onClick: () => void;
  off?: boolean;
  active?: boolean;
  pressed?: boolean;
  badge?: number | string | undefined;
  class?: string;
}

export function Control({ label, sign, keys, onClick, off, active, pressed, badge, class: name = '' }: ControlProps) {
  return (
    <button class={`control ${off ? 'off' : ''} ${active ? 'active' : ''} ${name}`} aria-label={badge ? `${label}, ${badge} new` : label}
      aria-pressed={pressed} aria-keyshortcuts={keys} title={keys ? `${label} (${keys})` : label} onClick={onClick}>
      <Icon sign={sign} />
      {badge ? <span class="count">{badge}</span> : null}
    </button>
  );
}

function DeviceMenu({ session, kind }: { session: Session; kind: 'audio' | 'video' }) {
  const choose = (which: 'camera' | 'microphone' | 'speaker', device: MediaDeviceKind, id: string, close: () => void) => {
    chosen[which].value = id;
    void session.switchDevice(device, id);
    close();
  };
  return (
    <Menu label={kind === 'audio' ? 'Choose microphone and speaker' : 'Choose camera'} sign="down" size={15} class="caret" align="start">
      {(close) => {
        if (cameras.value.length + microphones.value.length === 0) void listDevices();
        const section = (title: string, which: 'camera' | 'microphone' | 'speaker', device: MediaDeviceKind, all: { id: string; label: string }[]) => (
          <>
            <div class="menu-title">{title}</div>
            {all.length === 0 && <div class="menu-none">None found</div>}
            {all.map(({ id, label }) => (
              <MenuItem key={id} checked={(session.room.getActiveDevice(device) ?? 'default') === id || all.length === 1} onClick={() => choose(which, device, id, close)}>{label}</MenuItem>
            ))}
          </>
        );
        return kind === 'audio'
          ? <>{section('Microphone', 'microphone', 'audioinput', microphones.value)}{speakers.value.length > 0 && section('Speaker', 'speaker', 'audiooutput', speakers.value)}</>
          : section('Camera', 'camera', 'videoinput', cameras.value);
      }}
    </Menu>
  );
}

const VIEWS: [View, string, Sign][] = [['auto', 'Automatic', 'activity'], ['grid', 'Grid', 'grid'], ['speaker', 'Speaker', 'speaker']];

export function Bar({ session, compact }: { session: Session; compact: boolean }) {
  const { self } = session;
  const microphone = self.microphoneOn.value;
  const camera = self.cameraOn.value;
  const hand = self.hand.value > 0;
  const canShare = typeof navigator.mediaDevices?.getDisplayMedia === 'function';
  const worst = session.watch.worst.value;
  const panelButton = (which: Panel, label: string, sign: Sign, keys: string, badge?: number | string) => (
    <Control label={label} sign={sign} keys={keys} badge={badge} active={panel.value === which} pressed={panel.value === which}
      class={which === 'connection' && (worst === 'bad' || worst === 'warn') ? `sign-${worst}` : ''} onClick={() => togglePanel(which)} />
  );
  const share = (
    <Control label={self.screenOn.value ? 'Stop sharing' : 'Share screen'} sign={self.screenOn.value ? 'screenOff' : 'screen'} keys="S"
      active={self.screenOn.value} onClick={() => void session.toggleScreen()} />
  );
  const raise = <Control label={hand ? 'Lower hand' : 'Raise hand'} sign="hand" keys="H" active={hand} onClick={() => void session.toggleHand()} />;
  return (
    <div class="bar" role="region" aria-label="Meeting controls">
      <div class="bar-left">
        {!compact && <Clock session={session} />}
      </div>
      <div class="bar-middle">
        <div class="split">
          <Control label={microphone ? 'Turn microphone off' : 'Turn microphone on'} sign={microphone ? 'mic' : 'micOff'} keys="M" off={!microphone}
            class={talking.value ? 'talking' : ''} onClick={() => void session.toggleMicrophone()} />
          {!compact && <DeviceMenu session={session} kind="audio" />}
        </div>
        <div class="split">
          <Control label={camera ? 'Turn camera off' : 'Turn camera on'} sign={camera ? 'camera' : 'cameraOff'} keys="V" off={!camera}
            onClick={() => void session.toggleCamera()} />
          {!compact && <DeviceMenu session={session} kind="video" />}
        </div>
        {canShare && !compact && share}
        {!compact && raise}
        <Menu label="React" sign="smile" class="control" keys="R" opened={reactionsOpen}>
          {(close) => (
            <div class="emojis">
              {REACTIONS.map((emoji) => (
                <button key={emoji} role="menuitem" aria-label={`React with ${emoji}`} onClick={() => {
                  session.react(emoji);
                  if (compact) close();
                }}>{emoji}</button>
              ))}
            </div>
          )}
        </Menu>
        {compact && panelButton('chat', 'Chat', 'chat', 'C', session.unread.value || undefined)}
        <Menu label="More" sign="more" class="control" align="end">
          {(close) => {
            const then = (run: () => void) => () => {
              close();
              run();
            };
            return (
              <>
                {compact && (
                  <>
                    <MenuItem sign="hand" onClick={then(() => void session.toggleHand())}>{hand ? 'Lower hand' : 'Raise hand'}</MenuItem>
                    {canShare && <MenuItem sign="screen" onClick={then(() => void session.toggleScreen())}>{self.screenOn.value ? 'Stop sharing' : 'Share screen'}</MenuItem>}
                    <MenuItem sign="people" onClick={then(() => togglePanel('people'))}>People</MenuItem>
                    <MenuItem sign="activity" onClick={then(() => togglePanel('connection'))}>Connection</MenuItem>
                    <hr />
                  </>
                )}
                <div class="menu-title">View</div>
                {VIEWS.map(([id, label]) => (
                  <MenuItem key={id} checked={view.value === id} onClick={then(() => (view.value = id))}>{label}</MenuItem>
                ))}
                <hr />
                <MenuItem sign="invite" onClick={then(() => (sheet.value = 'invite'))}>Invite</MenuItem>
                {document.fullscreenEnabled && (
                  <MenuItem sign="expand" hint={compact ? undefined : 'F'} onClick={then(fullScreen)}>Full screen</MenuItem>
                )}
                <MenuItem sign="settings" onClick={then(() => (sheet.value = 'settings'))}>Settings</MenuItem>
                {!compact && <MenuItem sign="keyboard" hint="?" onClick={then(() => (sheet.value = 'keys'))}>Keyboard shortcuts</MenuItem>}
              </>
            );
          }}
        </Menu>
        <Control label="Leave" sign="leave" class="leave" onClick={() => void session.leave()} />
      </div>
      <div class="bar-right">
        {!compact && (
          <>
            {panelButton('connection', 'Connection', 'activity', 'I')}
            {panelButton('people', 'People', 'people', 'P')}
            {panelButton('chat', 'Chat', 'chat', 'C', session.unread.value || undefined)}
          </>
        )}
      </div>
    </div>
  );
}

export function fullScreen(): void {
  if (document.fullscreenElement) void document.exitFullscreen();
  else void document.documentElement.requestFullscreen().catch(() => {});
}

function Clock({ session }: { session: Session }) {
  const count = session.everyone.value.length;
  return (
    <div class="where">
      <strong>{session.roomName}</strong>
      <span>{count === 1 ? 'Only you' : `${count} people`}</span>
    </div>
  );
}
