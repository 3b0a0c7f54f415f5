/** The commands of the tests that run workers as processes, and their handlers. */
import { openSync, readFileSync, writeSync } from "node:fs";
import process from "node:process";
import type postgres from "postgres";
import * as v from "valibot";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { defineCommand } from "../../src/index.ts";

const backoff = { initialMs: 50, jitter: "full" } as const;

/** Does next to nothing, and is followed by one `after`. */
export const work = defineCommand({ name: "work", input: v.number(), output: v.number(), retries: 20, backoff });
export const after = defineCommand({ name: "after", input: v.number(), retries: 20, backoff });
/** Runs until its signal is aborted, or for `ms`; started again it ends at once. */
export const sleep = defineCommand({ name: "sleep", input: v.object({ ms: v.number() }), retries: 3, backoff });
/** Kills the process that runs it. */
export const suicide = defineCommand({ name: "suicide", retries: 10, backoff });

/** Writes a row and finishes in one transaction, in the middle or right after which something happens to its process. */
export const transfer = defineCommand({
  name: "transfer",
  input: v.picklist(["killed before COMMIT", "killed after COMMIT", "frozen before COMMIT"]),
  retries: 3,
  backoff,
});

/** Each start of a handler is a line of a file, written before anything else happens. */
export function handlersWith(path: string, sql?: postgres.Sql) {
  const log = openSync(path, "a");
  const note = (id: string, fence: number) => void writeSync(log, `${id} ${fence}\n`);
  /** Asked before it is noted. A fence does not tell: one that was handed back unstarted is used up, too. */
  const isFirst = (id: string): boolean => !readFileSync(path, "utf8").includes(`${id} `);
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
          const ms = isFirst(id) ? input.ms : 0;
          note(id, fence);
          const timer = setTimeout(resolve, ms);
          signal.addEventListener("abort", () => {
            clearTimeout(timer);
            reject(signal.reason);
          });
        }),
    ),
    transfer.handle(async ({ input, id, fence, finish }) => {
      const first = isFirst(id);
      note(id, fence);
      if (!sql) throw new Error("Cannot transfer without a pool");
      const finished = await sql.begin(async (tx) => {
        await tx`insert into transferred (id, fence) values (${id}, ${fence})`;
        const recorded = await finish(postgresJs(tx));
        if (first && input === "killed before COMMIT") process.kill(process.pid, "SIGKILL");
        if (first && input === "frozen before COMMIT") process.kill(process.pid, "SIGSTOP");
        return recorded;
      });
      if (first && input === "killed after COMMIT") process.kill(process.pid, "SIGKILL");
      return finished;
    }),
    suicide.handle(({ id, fence }) => {
      note(id, fence);
      process.kill(process.pid, "SIGKILL");
      return new Promise<void>(() => {});
    }),
  ];
}
