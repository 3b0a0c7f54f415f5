import { expect, test } from "vitest";
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
