// Serves the built page and the development API: node dev/serve.mjs [PORT]
import http from 'node:http';
import { readFileSync, existsSync, statSync } from 'node:fs';
import { join, normalize, extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { api } from './api.mjs';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));
const types = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml',
  '.woff2': 'font/woff2', '.webmanifest': 'application/manifest+json', '.md': 'text/plain; charset=utf-8',
};
const policy = "default-src 'self'; connect-src 'self' ws: wss: http:; img-src 'self' data: blob:; media-src 'self' blob:; "
  + "worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'self'";
const middleware = api(process.env);

const server = http.createServer((request, response) => middleware(request, response, () => {
  let file = join(dist, normalize(request.url.split('?')[0]));
  if (!existsSync(file) || statSync(file).isDirectory()) file = join(dist, 'index.html');
  response.writeHead(200, {
    'content-type': types[extname(file)] ?? 'application/octet-stream', 'content-security-policy': policy,
  });
  response.end(readFileSync(file));
}));
server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => console.log(`http://localhost:${server.address().port}/`));
