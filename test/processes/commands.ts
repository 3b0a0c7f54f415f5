/** The commands of the tests that run workers as processes, and their handlers. */
import { writeSync } from "node:fs";
import process from "node:process";
import * as v from "valibot";
import { defineCommand } from "../../src/index.ts";

const backoff = { initialMs: 50, jitter: "full" } as const;

/** Does next to nothing, and is followed by one `after`. */
export const work = defineCommand({ name: "work", input: v.number(), output: v.number(), retries: 20, backoff });
export const after = defineCommand({ name: "after", input: v.number(), retries: 20, backoff });
/** Runs until its signal is aborted, or for `ms`; under a later fence it ends at once. */
export const sleep = defineCommand({ name: "sleep", input: v.object({ ms: v.number() }), retries: 3, backoff });
/** Kills the process that runs it. */
export const suicide = defineCommand({ name: "suicide", retries: 10, backoff });

/** Each start of a handler is a line of a file, written before anything else happens. */
export function handlersWith(log: number) {
  const note = (id: string, fence: number) => void writeSync(log, `${id} ${fence}\n`);
  return [
    work.handle(
      ({ input, id, fence }) => {
        note(id, fence);
        return input;
      },
      { onSuccess: ({ output }) => after(output) },
    ),
    after.handle(({ id, fence }) => note(id, fence)),
    sleep.handle(
      ({ input, signal, id, fence }) =>
        new Promise<void>((resolve, reject) => {
          note(id, fence);
          const timer = setTimeout(resolve, fence > 1 ? 0 : input.ms);
          signal.addEventListener("abort", () => {
            clearTimeout(timer);
            reject(signal.reason);
          });
        }),
    ),
    suicide.handle(({ id, fence }) => {
      note(id, fence);
      process.kill(process.pid, "SIGKILL");
      return new Promise<void>(() => {});
    }),
  ];
}
