import { defineConfig, mergeConfig } from "vitest/config";
import shared from "./vitest.config.ts";

/** What only other runtimes can show: run by `npm run test:matrix`, which installs them. */
export default defineConfig((env) => {
  const base = typeof shared === "function" ? shared(env) : shared;
  // Most of what these tests do is wait: for other processes, and for times to pass.
  const merged = mergeConfig(base, { test: { testTimeout: 180_000, maxWorkers: 4 } });
  return {
    ...merged,
    test: { ...merged.test, include: ["test/matrix/**/*.test.ts"], exclude: ["**/node_modules/**"] },
  };
});
