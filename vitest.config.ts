import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import LongestFirst from "./test/longest-first.ts";

const path = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

export default defineConfig({
  resolve: {
    // As package.json exports them; tsconfig.json has the same for the types.
    alias: [
      { find: /^orchestratum$/, replacement: path("src/index.ts") },
      { find: /^orchestratum\/hono$/, replacement: path("adapters/hono/router.ts") },
      { find: /^orchestratum\/client$/, replacement: path("adapters/client/client.ts") },
      { find: /^orchestratum\/(.*)$/, replacement: path("adapters/$1.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    // What takes other runtimes: `npm run test:matrix`.
    exclude: ["**/node_modules/**", "test/matrix/**"],
    globalSetup: ["test/server.ts"],
    reporters: ["default", "./test/reporter.ts"],
    sequence: { sequencer: LongestFirst },
    // On two processors: most of a test is waiting, for leases to end and polls to come; more only make each other slow.
    maxWorkers: 3,
    // For machines that are slower than anybody would expect; nothing waits for it where all is well.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 20_000 } },
    allowOnly: false,
  },
});
