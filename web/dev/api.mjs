// What the page asks of its server, over a LiveKit server that runs elsewhere: for `npm run dev` and
// for running the meeting tests against a foreign server. The real thing is crates/server.
//
//   LIVEKIT_URL=ws://127.0.0.1:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret npm run dev
import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';

const part = (object) => Buffer.from(JSON.stringify(object)).toString('base64url');

function token(key, secret, identity, name, room) {
  const now = Math.floor(Date.now() / 1000);
  const video = {
    room, roomJoin: true, canPublish: true, canSubscribe: true, canPublishData: true, canUpdateOwnMetadata: true,
  };
  const body = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: key, sub: identity, name, nbf: now - 5, exp: now + 21600, video })}`;
  return `${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`;
}

async function read(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString() || '{}');
}

/** A connect middleware. `environment.INSPECT_FILE` names a JSON file that stands in for the operator's view. */
export function api(environment) {
  const url = environment.LIVEKIT_URL ?? 'ws://127.0.0.1:7880';
  const key = environment.LIVEKIT_API_KEY ?? 'devkey';
  const secret = environment.LIVEKIT_API_SECRET ?? 'secret';
  return async (request, response, next) => {
    const path = request.url.split('?')[0];
    const answer = (status, object) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(object));
    };
    if (path === '/api/config') return answer(200, { version: 'development', joinOpen: true, iceServers: [] });
    if (path === '/api/inspect') {
      if (!environment.INSPECT_FILE) return answer(200, { version: 'development', now: Date.now(), rooms: [], events: [] });
      return answer(200, JSON.parse(readFileSync(environment.INSPECT_FILE, 'utf8')));
    }
    if (path === '/api/join' && request.method === 'POST') {
      const { room, name } = await read(request);
      if (!room || !name) return answer(400, { error: 'A room and a name are needed.', code: 'bad_name' });
      const identity = `${randomBytes(6).toString('hex')}`;
      return answer(200, { url, token: token(key, secret, identity, name, room), room, identity });
    }
    next();
  };
}
