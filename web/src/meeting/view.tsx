// The meeting's page: the tiles, the bar, what is open beside them, and the keys.
import { useEffect, useState } from 'preact/hooks';
import { Icon } from '../ui/icons';
import { Bar, fullScreen } from './bar';
import { Chat, Connection, People } from './panels';
import type { Session } from './session';
import { Sheets } from './sheets';
import { Stage } from './stage';
import { panel, reactionsOpen, reset, sheet, talking, togglePanel, view } from './state';

function useCompact(): boolean {
  const query = '(max-width: 700px), (max-height: 480px)';
  const [compact, setCompact] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const change = () => setCompact(list.matches);
    list.addEventListener('change', change);
    return () => list.removeEventListener('change', change);
  }, []);
  return compact;
}

/** Keys do what the bar does, but never while one types. */
function useKeys(session: Session): void {
  useEffect(() => {
    const typing = (event: KeyboardEvent) =>
      (event.target as HTMLElement).closest('input, textarea, select, dialog, [contenteditable]') !== null;
    const views = ['auto', 'grid', 'speaker'] as const;
    const actions: Record<string, () => void> = {
      m: () => void session.toggleMicrophone(),
      v: () => void session.toggleCamera(),
      s: () => void session.toggleScreen(),
      h: () => void session.toggleHand(),
      r: () => (reactionsOpen.value = !reactionsOpen.value),
      c: () => togglePanel('chat'),
      p: () => togglePanel('people'),
      i: () => togglePanel('connection'),
      l: () => {
        view.value = views[(views.indexOf(view.value) + 1) % views.length]!;
        session.announce(`View: ${view.value}`);
      },
      f: fullScreen,
      '?': () => (sheet.value = 'keys'),
      escape: () => (panel.value = undefined),
    };
    const down = (event: KeyboardEvent) => {
      if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === ' ' && !(event.target as HTMLElement).closest('button, a')) {
        event.preventDefault();
        if (!event.repeat && !session.self.microphoneOn.value) {
          talking.value = true;
          void session.toggleMicrophone(true);
        }
        return;
      }
      const action = actions[event.key.toLowerCase()];
      if (!action || event.repeat) return;
      event.preventDefault();
      action();
    };
    const up = (event: KeyboardEvent) => {
      if (event.key !== ' ' || !talking.value) return;
      talking.value = false;
      void session.toggleMicrophone(false);
    };
    const away = () => up(new KeyboardEvent('keyup', { key: ' ' }));
    addEventListener('keydown', down);
    addEventListener('keyup', up);
    addEventListener('blur', away);
    return () => {
      removeEventListener('keydown', down);
      removeEventListener('keyup', up);
      removeEventListener('blur', away);
    };
  }, [session]);
}

/** A phone's screen stays on while one meets. */
function useAwake(): void {
  useEffect(() => {
    let lock: WakeLockSentinel | undefined;
    let gone = false;
    const ask = async () => {
      if (document.hidden || !('wakeLock' in navigator)) return;
      const got = await navigator.wakeLock.request('screen').catch(() => undefined);
      if (gone) void got?.release();
      else lock = got;
    };
    void ask();
    // The system takes it away from a hidden page.
    document.addEventListener('visibilitychange', ask);
    return () => {
      gone = true;
      document.removeEventListener('visibilitychange', ask);
      void lock?.release();
    };
  }, []);
}

/** Files dropped anywhere are offered to all. */
function useDrop(session: Session): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const files = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
    const enter = (event: DragEvent) => {
      if (!files(event)) return;
      event.preventDefault();
      depth++;
      setOver(true);
    };
    const leave = () => {
      depth = Math.max(0, depth - 1);
      if (depth === 0) setOver(false);
    };
    const allow = (event: DragEvent) => files(event) && event.preventDefault();
    const drop = (event: DragEvent) => {
      depth = 0;
      setOver(false);
      if (!files(event)) return;
      event.preventDefault();
      panel.value = 'chat';
      for (const file of event.dataTransfer?.files ?? []) void session.files.offer(file);
    };
    addEventListener('dragenter', enter);
    addEventListener('dragleave', leave);
    addEventListener('dragover', allow);
    addEventListener('drop', drop);
    return () => {
      removeEventListener('dragenter', enter);
      removeEventListener('dragleave', leave);
      removeEventListener('dragover', allow);
      removeEventListener('drop', drop);
    };
  }, [session]);
  return over;
}

export function Meeting({ session }: { session: Session }) {
  const compact = useCompact();
  useKeys(session);
  const over = useDrop(session);
  useEffect(() => {
    reset();
    document.body.classList.add('in-meeting');
    return () => document.body.classList.remove('in-meeting');
  }, [session]);
  useAwake();
  const unread = session.unread.value;
  useEffect(() => {
    document.title = `${unread > 0 ? `(${unread}) ` : ''}${session.roomName} · Visavis`;
  }, [unread]);
  const open = panel.value;
  return (
    <div class={`meeting ${open ? 'with-panel' : ''} ${compact ? 'compact' : ''}`}>
      <header class="meeting-head">
        <h1 class="visually-hidden">Meeting {session.roomName}</h1>
        {compact && session.everyone.value.length === 1 && <strong class="head-room">{session.roomName}</strong>}
        {session.encrypted && <span class="head-chip" title="Only people with the whole link can see and hear"><Icon sign="lock" size={14} /> End-to-end encrypted</span>}
        {session.self.screenOn.value && (
          <span class="head-chip sharing"><Icon sign="screen" size={14} /> You share your screen
            <button onClick={() => void session.toggleScreen(false)}>Stop</button>
          </span>
        )}
        {session.silent.value && (
          <button class="head-chip call" onClick={() => void session.unlock()}><Icon sign="sound" size={14} /> Click to hear the others</button>
        )}
      </header>
      <main class="meeting-stage"><Stage session={session} compact={compact} /></main>
      {open === 'chat' && <Chat session={session} />}
      {open === 'people' && <People session={session} />}
      {open === 'connection' && <Connection session={session} />}
      <Bar session={session} compact={compact} />
      <Sheets session={session} />
      <div class="reactions" aria-hidden="true">
        {session.reactions.value.map((reaction) => (
          <span key={reaction.id} class="reaction" style={{ '--lane': String(reaction.lane), animationDelay: `${reaction.delay}ms` }}><b>{reaction.emoji}</b><small>{reaction.name}</small></span>
        ))}
      </div>
      <div class="notices">
        {session.phase.value === 'reconnecting' && (
          <div class="notice warn" role="status"><Icon sign="busy" size={18} /><span>The connection was lost. Getting it back…</span></div>
        )}
        {session.notices.value.map((notice) => (
          <div key={notice.id} class={`notice ${notice.kind}`} role={notice.kind === 'info' ? undefined : 'alert'}>
            {notice.kind !== 'info' && <Icon sign="warn" size={18} />}
            <span>{notice.text}</span>
            {notice.action && (
              <button onClick={() => { session.dismiss(notice.id); notice.action?.run(); }}>{notice.action.label}</button>
            )}
            <button class="quiet round" aria-label="Dismiss" onClick={() => session.dismiss(notice.id)}><Icon sign="close" size={15} /></button>
          </div>
        ))}
      </div>
      <div class="visually-hidden" role="status" aria-live="polite">{session.announcement.value}</div>
      {over && <div class="drop" aria-hidden="true"><div><Icon sign="clip" size={34} /><strong>Drop to share with everyone here</strong></div></div>}
    </div>
  );
}
