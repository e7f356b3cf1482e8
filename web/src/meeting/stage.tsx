// The place of the tiles: measures itself and lets each tile glide to where it belongs.
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { Avatar, CopyButton } from '../ui/parts';
import { Icon } from '../ui/icons';
import { arrange } from './arrange';
import type { Session } from './session';
import { panel, pinned, sheet, view } from './state';
import { cameraTile, screenTile, Tile } from './tile';

export function Stage({ session, compact }: { session: Session; compact: boolean }) {
  const element = useRef<HTMLDivElement>(null);
  const shown = useRef<string[]>([]);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect;
      setSize({ width, height });
    });
    observer.observe(element.current!);
    return () => observer.disconnect();
  }, []);

  const everyone = session.everyone.value;
  const byTile = new Map(everyone.map((peer) => [cameraTile(peer), { peer, screen: false }]));
  for (const identity of session.screens.value) {
    const peer = session.peer(identity);
    if (peer) byTile.set(screenTile(peer), { peer, screen: true });
  }
  const spoke = (id: string) => byTile.get(id)?.peer.spoke ?? 0;
  const result = arrange({
    ...size,
    compact,
    people: everyone.map(cameraTile),
    screens: [...byTile.keys()].filter((id) => byTile.get(id)!.screen),
    self: cameraTile(session.self),
    pinned: pinned.value,
    // Read even where the view does not follow it: who speaks may have no place yet.
    speaker: session.speaker.value,
    view: view.value,
    shown: shown.current,
    spoke,
  });
  shown.current = result.shown;
  const away = everyone.filter((peer) => !result.places.has(cameraTile(peer)));
  const alone = everyone.length === 1;
  // Tiles keep their place in the document, so that no video starts anew; places say where they are seen.
  return (
    <div class={`stage ${alone ? 'alone' : ''}`} ref={element}>
      {[...byTile].map(([id, { peer, screen }]) => {
        const place = result.places.get(id);
        return place && <Tile key={id} peer={peer} screen={screen} place={place} />;
      })}
      {result.more && (
        <button class="tile more-tile" aria-label={`${result.hidden} more people`} onClick={() => (panel.value = 'people')}
          style={{ transform: `translate(${result.more.x}px, ${result.more.y}px)`, width: `${result.more.width}px`, height: `${result.more.height}px` }}>
          <span class="stack">{away.slice(0, 3).map((peer) => <Avatar key={peer.identity} name={peer.name.value} size={34} />)}</span>
          <span>{result.hidden} more</span>
        </button>
      )}
      {alone && !session.self.screenOn.value && (
        <aside class="invite-card" aria-label="Invite others">
          <strong>You are the first one here</strong>
          <p>Send the link to those you want to meet{session.encrypted ? '. It holds the key, so send it to nobody else' : ''}.</p>
          <div class="row">
            <CopyButton text={location.href} />
            <button onClick={() => (sheet.value = 'invite')}><Icon sign="qr" size={17} /> QR code</button>
          </div>
        </aside>
      )}
    </div>
  );
}
