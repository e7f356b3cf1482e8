// The start page: make a room or go to one by name.
import { useEffect, useState } from 'preact/hooks';
import { go } from '../lib/router';
import { keyOf, normaliseRoom, randomKey, randomRoom, roomPath } from '../lib/rooms';
import { recentRooms } from '../lib/storage';
import { Icon } from '../ui/icons';
import { Brand, Foot, Switch, ThemeButton } from '../ui/parts';

export function Start() {
  const [text, setText] = useState('');
  const [encrypted, setEncrypted] = useState(false);
  const [wrong, setWrong] = useState('');
  useEffect(() => {
    document.title = 'Visavis';
    // What comes next is fetched while one reads.
    const idle = setTimeout(() => void import('./room'), 800);
    return () => clearTimeout(idle);
  }, []);
  const enter = (event: Event) => {
    event.preventDefault();
    const room = normaliseRoom(text);
    if (!room) {
      setWrong(text.trim() ? 'A name needs a letter or a digit.' : 'Type the name of a room, or paste its link.');
      return;
    }
    go(roomPath(room, keyOf(text)));
  };
  return (
    <div class="page start">
      <header class="top"><Brand /><ThemeButton /></header>
      <main class="hero">
        <div class="hero-words">
          <h1>Meet face to face,<br />from any browser.</h1>
          <p class="lead">No account, nothing to install. Send a link, and talk.</p>
          <button class="primary large" onClick={() => go(roomPath(randomRoom(), encrypted ? randomKey() : undefined))}>
            <Icon sign="camera" /> New meeting
          </button>
          <Switch checked={encrypted} onChange={setEncrypted} sign="lock" label="End-to-end encryption"
            description="The key stays in the link: not even the server can see or hear you." />
          <div class="or"><span>or join one</span></div>
          <form class="join" onSubmit={enter}>
            <label class="visually-hidden" for="room">Name or link of a room</label>
            <input id="room" value={text} placeholder="Name or link" autocomplete="off" autocapitalize="none" spellcheck={false}
              aria-invalid={wrong !== ''} aria-describedby="room-wrong"
              onInput={(event) => {
                setText(event.currentTarget.value);
                setWrong('');
              }} />
            <button class={text.trim() ? 'primary' : ''} type="submit">Join <Icon sign="arrow" size={17} /></button>
          </form>
          <p class="wrong" id="room-wrong" role="alert">{wrong}</p>
          {recentRooms.value.length > 0 && (
            <nav class="recent" aria-label="Rooms you were in">
              <span>Recent</span>
              {recentRooms.value.map((room) => (
                <button key={room} class="chip" onClick={() => go(roomPath(room))}>{room}</button>
              ))}
            </nav>
          )}
        </div>
        <Faces />
      </main>
      <Foot />
    </div>
  );
}

/** Two people in conversation, as shapes. */
function Faces() {
  return (
    <svg class="faces" viewBox="0 0 520 460" aria-hidden="true">
      <defs>
        <linearGradient id="left" x1="0" y1="0" x2="1" y2="1">
          <stop offset="0" stop-color="#8f8bff" /><stop offset="1" stop-color="#5b55e6" />
        </linearGradient>
        <linearGradient id="right" x1="1" y1="0" x2="0" y2="1">
          <stop offset="0" stop-color="#ffc9a6" /><stop offset="1" stop-color="#ff8f6b" />
        </linearGradient>
      </defs>
      <rect class="faces-card" x="0" y="70" width="252" height="300" rx="28" />
      <rect class="faces-card" x="268" y="30" width="252" height="300" rx="28" />
      <clipPath id="c1"><rect x="0" y="70" width="252" height="300" rx="28" /></clipPath>
      <clipPath id="c2"><rect x="268" y="30" width="252" height="300" rx="28" /></clipPath>
      <g clip-path="url(#c1)">
        <path d="M14 370c4-70 44-104 98-104s94 34 98 104z" fill="url(#left)" />
        <path d="M60 128h46a64 64 0 0 1 0 128H60a10 10 0 0 1-10-10V138a10 10 0 0 1 10-10z" fill="url(#left)" />
      </g>
      <g clip-path="url(#c2)">
        <path d="M310 330c4-70 44-104 98-104s94 34 98 104z" fill="url(#right)" />
        <path d="M460 88h-46a64 64 0 0 0 0 128h46a10 10 0 0 0 10-10V98a10 10 0 0 0-10-10z" fill="url(#right)" />
      </g>
      <g class="faces-voice" stroke-linecap="round" stroke-width="7" fill="none">
        <path d="M206 178v28" /><path d="M222 164v56" /><path d="M238 182v20" />
      </g>
      <rect class="faces-pill" x="20" y="90" width="74" height="26" rx="13" />
      <rect class="faces-pill" x="426" y="284" width="74" height="26" rx="13" />
      <g class="faces-bar">
        <rect x="150" y="392" width="220" height="56" rx="28" />
        <circle cx="188" cy="420" r="15" /><circle cx="236" cy="420" r="15" /><circle cx="284" cy="420" r="15" />
        <circle cx="332" cy="420" r="15" class="faces-end" />
      </g>
    </svg>
  );
}
