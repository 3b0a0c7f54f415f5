/** Leases as the functions of sql/ leave them behind, and what a timeline makes of each. */
import { expect, test } from "vitest";
import type { Database } from "../src/database.ts";
import { queries } from "../src/sql.generated.ts";
import { readTimeline } from "../src/timeline.ts";
import { type Session, time, useSessions } from "./sql/session.ts";

const sessions = useSessions();
const worker = "worker";

/** How the leases of a command ended, by which worker, and with which error; then how it ended itself. */
async function told(id: string): Promise<unknown[]> {
  const run = (statement: keyof typeof queries, params: readonly (string | number)[]) =>
    sessions.one.rows(queries[statement], params);
  const timeline = await readTimeline({ run } as unknown as Database, id);
  return (timeline?.entries ?? expect.fail()).map((entry) => {
    if (entry.kind !== "leased") return entry.kind === "finished" ? entry.status : entry.kind;
    // All but what runs have an end, and it has its time wherever it has its worker.
    expect(entry.to !== undefined).toBe(entry.end !== undefined && entry.worker !== undefined);
    expect((entry.to ?? entry.at).getTime()).toBeGreaterThanOrEqual(entry.at.getTime());
    return [entry.end, entry.worker, entry.error?.code];
  });
}

interface Step {
  readonly at: number;
  readonly queue: string;
  readonly session: Session;
}

type Doing = (id: string, step: Step) => Promise<unknown>;

/** Leases it, and ends the lease a second later. */
const lease =
  (verdict: string, code?: string, outcome: object = {}): Doing =>
  async (_, { at, queue, session }) => {
    const [claimed] = (await session.claim(queue, { at: time(at), worker })).commands;
    const error = code === undefined ? {} : { error: { code, message: "It is so" } };
    const ended = { ...(claimed ?? expect.fail()), verdict, ...error, ...outcome };
    expect(await session.end(worker, ended, { at: time(at + 1_000) })).toBe("accepted");
  };

/** Leases it, and is not heard of again. */
const die: Doing = async (_, { at, queue, session }) => {
  expect((await session.claim(queue, { at: time(at), worker, leaseMs: 1_000 })).commands).toHaveLength(1);
};

const run: Doing = async (_, { queue, session }) => {
  expect((await session.claim(queue, { worker })).commands).toHaveLength(1);
};

const giveBack: Doing = async (id, step) => {
  await die(id, step);
  expect(await step.session.giveBack(worker, [{ queue: step.queue }], [], { at: time(step.at + 500) })).toBe(1);
};

const cancel: Doing = async (id, { session }) => {
  expect((await session.cancel([id])).results.get(id)).toMatch(/cancelled|requested/);
};

const retry: Doing = async (id, { at, session }) => {
  const text =
    "select result from orchestratum.retry($1::text::json, null, null, null, $2::text::timestamptz) where id is not null";
  expect(await session.rows(text, [JSON.stringify([id]), time(at)])).toEqual([{ result: "retried" }]);
};

const failed = lease("retry", "E1");
const stopped = lease("release", "released", { delay_ms: 0 });
const unstarted = lease("release", undefined, { delay_ms: 0 });

const cases: [string, Doing[], unknown[]][] = [
  ["waits", [], []],
  ["runs", [run], [[undefined, worker]]],
  ["succeeded", [lease("succeeded")], [["succeeded", worker], "succeeded"]],
  ["failed", [lease("failed", "E1")], [["failed", worker, "E1"], "failed"]],
  ["timed out", [lease("timed_out", "timed_out")], [["timed_out", worker, "timed_out"], "timed_out"]],
  ["was not found", [lease("not_found", "not_found")], [["not_found", worker, "not_found"], "not_found"]],
  ["was cancelled by its handler", [lease("cancelled", "E2")], [["cancelled", worker, "E2"], "cancelled"]],
  ["was cancelled without a word", [lease("cancelled")], [["cancelled", worker], "cancelled"]],
  [
    "failed, timed out, was put off, and runs",
    [failed, lease("retry", "timed_out"), lease("snooze", "snoozed"), run],
    [
      ["failed", worker, "E1"],
      ["timed_out", worker, "timed_out"],
      ["snoozed", worker],
      [undefined, worker],
    ],
  ],
  ["was lost, and nobody has it", [die], [["lost", worker]]],
  [
    "was lost, and is run by another",
    [die, run],
    [
      ["lost", worker, "lost"],
      [undefined, worker],
    ],
  ],
  ["was lost, and cancelled", [die, cancel], [["lost", worker, "lost"], "cancelled"]],
  [
    "was lost too often",
    [die, die, die, lease("failed", "lost")],
    [
      ["lost", worker, "lost"],
      ["lost", worker, "lost"],
      ["lost", worker, "lost"],
      ["failed", worker, "lost"],
      "failed",
    ],
  ],
  ["was handed back by a stop", [stopped], [["released", worker]]],
  [
    "was handed back by a stop, and succeeded",
    [stopped, lease("succeeded")],
    [["released", worker], ["succeeded", worker], "succeeded"],
  ],
  [
    "was handed back by a stop, twice, and cancelled",
    [stopped, stopped, cancel],
    [["released", worker], ["released", worker], "cancelled"],
  ],
  ["was given back", [giveBack], [["released", worker]]],
  [
    "was given back, and failed",
    [giveBack, lease("failed", "E1")],
    [["released", worker], ["failed", worker, "E1"], "failed"],
  ],
  // What was not started is known while it is the newest.
  ["was handed back unstarted", [unstarted], [["released", undefined]]],
  ["was handed back unstarted, and succeeded", [unstarted, lease("succeeded")], [["succeeded", worker], "succeeded"]],
  ["was handed back for want of a handler", [lease("unknown", undefined, { delay_ms: 0 })], [["released", undefined]]],
  ["was cancelled while it waited", [cancel], ["cancelled"]],
  ["failed, and was cancelled while it waited", [failed, cancel], [["failed", worker, "E1"], "cancelled"]],
  ["was handed back unstarted, and cancelled", [unstarted, cancel], [["released", undefined], "cancelled"]],
  [
    "was to be cancelled when it was stopped",
    [
      async (id, step) => {
        const [claimed] = (await step.session.claim(step.queue, { worker })).commands;
        await cancel(id, step);
        const error = { code: "released", message: "It is so" };
        await step.session.end(worker, { ...(claimed ?? expect.fail()), verdict: "release", error });
      },
    ],
    [["cancelled", worker], "cancelled"],
  ],
  ["failed, and is retried", [lease("failed", "E1"), retry], [["failed", worker, "E1"]]],
  [
    "failed, and succeeded when it was retried",
    [lease("failed", "E1"), retry, lease("succeeded", undefined)],
    [["failed", worker, "E1"], ["succeeded", worker], "succeeded"],
  ],
];

test.each(cases)("timeline() of what %s", async (_, doings, expected) => {
  const { one: session, newQueue } = sessions;
  const queue = newQueue();
  const [pushed] = await session.push([{ queue, max_attempts: 9 }], { at: time(0) });
  const { id } = pushed ?? expect.fail();
  for (const [place, doing] of doings.entries()) await doing(id, { at: (place + 1) * 10_000, queue, session });
  expect(await told(id)).toEqual([
    "pushed",
    ...expected.map((one) => (Array.isArray(one) ? [one[0], one[1], one[2]] : one)),
  ]);
});
