import { defineConfig } from 'vitest/config';
import { api } from './dev/api.mjs';

export default defineConfig({
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    target: 'es2022',
    modulePreload: { polyfill: false },
    // The notices of what is bundled travel with it.
    license: { fileName: 'licences.md' },
    assetsInlineLimit: 1024,
    chunkSizeWarningLimit: 800,
    rolldownOptions: { output: { codeSplitting: { groups: [{ name: 'livekit', test: /node_modules[\\/](livekit-client|@livekit)/ }] } } },
  },
  worker: { format: 'es' },
  // Some tests hash megabytes, on machines that are busy with other things.
  test: { testTimeout: 60_000 },
  plugins: [
    {
      name: 'development-api',
      configureServer(server) {
        server.middlewares.use(api(process.env));
      },
    },
  ],
});
