import { expect, test, vi } from "vitest";
import { resolveWorkerOptions, type WorkerOptions } from "../src/worker-options.ts";

test.each<[string, WorkerOptions, string]>([
  ["no queue", { queues: [] }, "queues must name at least one queue"],
  ["a queue with white space", { queues: ["a b"] }, "queue must be free of white space"],
  ["no share for rescans", { rescanBudget: 0 }, "rescanBudget must be over 0 and at most 1, got 0"],
  ["a runtime that is empty", { runtime: "" }, "runtime must have 1 to 200 characters, got 0"],
  ["a runtime with NUL", { runtime: "a\0" }, 'runtime must be free of NUL, got "a\\u0000"'],
  ["a host with NUL", { host: "a\0" }, 'host must be free of NUL, got "a\\u0000"'],
])("resolveWorkerOptions() refuses %s", (_, options, message) => {
  expect(() => resolveWorkerOptions(options, undefined)).toThrow(`Cannot start worker: ${message}`);
});

test.each<[string, Record<string, unknown>, string | undefined]>([
  ["Node", { process: { versions: { node: "24.1.0" } }, navigator: { userAgent: "Node.js/24" } }, "node 24.1.0"],
  ["Node 20", { process: { versions: { node: "20.9.0" } }, navigator: undefined }, "node 20.9.0"],
  [
    "Deno",
    { process: { versions: { node: "24.1.0", deno: "2.5.0" } }, navigator: { userAgent: "Deno/2.5.0" } },
    "deno 2.5.0",
  ],
  [
    "Bun",
    { process: { versions: { node: "24.1.0", bun: "1.3.0" } }, navigator: { userAgent: "Bun/1.3.0" } },
    "bun 1.3.0",
  ],
  [
    "an edge platform that is compatible with Node",
    { process: { versions: { node: "22.0.0" } }, navigator: { userAgent: "Cloudflare-Workers" } },
    "Cloudflare-Workers",
  ],
  ["a browser that says much", { process: undefined, navigator: { userAgent: "M".repeat(300) } }, "M".repeat(200)],
  ["what says nothing", { process: undefined, navigator: { userAgent: "" } }, undefined],
])("resolveWorkerOptions() knows %s", (_, globals, runtime) => {
  for (const [name, value] of Object.entries(globals)) vi.stubGlobal(name, value);
  const found = resolveWorkerOptions({}, undefined).runtime;
  const given = resolveWorkerOptions({ runtime: "mine" }, undefined).runtime;
  vi.unstubAllGlobals();
  expect([found, given]).toEqual([runtime, "mine"]);
});
