/** `edge()` ends before its platform's limit, whatever the database and the handlers do. In workerd: test/matrix/edge.test.ts. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { type EdgeOptions, edge, type Opened } from "../../adapters/workers.ts";
import {
  createOrchestrator,
  defineCommand,
  type Handler,
  type Orchestrator,
  type TickResult,
} from "../../src/index.ts";
import { signal } from "../conformance.ts";
import { createDatabase, type Database } from "../database.ts";
import { halfOpenProxy } from "../half-open.ts";

const limitMs = 2_000;
/** The longest of which no more is kept than of the shortest: its tick has seconds for connections and a claim. */
const longerMs = 7_500;

let database: Database;
let producer: Orchestrator;
beforeAll(async () => {
  database = await createDatabase({ max: 2 });
  producer = createOrchestrator({ database: postgresJs(database.sql) });
});
afterAll(async () => {
  await producer.stop();
  await database.drop();
});

let names = 0;
/** A command in a queue of its own. */
function contract() {
  const queue = `queue_${++names}`;
  return { queue, job: defineCommand({ name: `job_${names}`, queue }) };
}

/** What one invocation came to, and how long it took, but for what the machine itself stood still. */
async function scheduled(
  options: EdgeOptions<undefined>,
): Promise<{ results: TickResult[]; error: unknown; ms: number }> {
  const results: TickResult[] = [];
  const stood = monitorEventLoopDelay({ resolution: 5 });
  stood.enable();
  const begun = performance.now();
  const error = await edge<undefined>({ ...options, onTick: (result) => void results.push(result) })
    .scheduled(undefined, undefined, { waitUntil: (promise) => void promise.catch(() => {}) })
    .then(
      () => undefined,
      (reason: unknown) => reason,
    );
  const ms = performance.now() - begun;
  stood.disable();
  return { results, error, ms: ms - stood.max / 1e6 };
}

/** An orchestrator of its own on this address, closed as docs/runtimes.md shows. */
function opened(url: string, handlers: readonly Handler[]): Opened {
  const driver = postgresJs(url, { max: 2, prepare: false });
  return { orchestrator: createOrchestrator({ database: driver, handlers }), close: () => driver.close() };
}

describe("edge() ends before the platform's limit", () => {
  test("where the database does not answer from the beginning", async () => {
    await using proxy = await halfOpenProxy(database.url);
    proxy.silenceAll();
    const { ms, error } = await scheduled({
      limitMs,
      open: () => opened(proxy.url, [contract().job.handle(() => {})]),
    });
    expect(error).toBeInstanceOf(Error);
    expect(ms).toBeLessThan(limitMs);
  });

  test.concurrent("where it answers no more once the tick works", async () => {
    await using proxy = await halfOpenProxy(database.url);
    const { queue, job } = contract();
    const handler = job.handle(() => proxy.silenceAll());
    await producer.push(job());
    const { ms, results } = await scheduled({
      limitMs: longerMs,
      tick: { queues: [queue] },
      open: () => opened(proxy.url, [handler]),
    });
    expect(results).toMatchObject([{ claimed: 1, more: true, comeBackInMs: 5_000 }]);
    expect(ms).toBeLessThan(longerMs);
  });

  test.concurrent("where a handler ignores its signal, which is handed back", async () => {
    const { queue, job } = contract();
    const { id } = await producer.push(job());
    const { ms, results } = await scheduled({
      limitMs: longerMs,
      tick: { queues: [queue] },
      open: () => opened(database.url, [job.handle(() => new Promise(() => {}))]),
    });
    expect(results).toMatchObject([{ claimed: 1, stuck: 1, returned: 1 }]);
    expect(ms).toBeLessThan(longerMs);
    expect(await producer.get(id)).toMatchObject({ status: "pending", attempt: 0 });
  });

  test.concurrent("where neither a handler nor the database answers", async () => {
    await using proxy = await halfOpenProxy(database.url);
    const { queue, job } = contract();
    const deaf = job.handle(() => {
      proxy.silenceAll();
      return new Promise(() => {});
    });
    await producer.push(job());
    const { ms, results } = await scheduled({
      limitMs: longerMs,
      tick: { queues: [queue] },
      open: () => opened(proxy.url, [deaf]),
    });
    expect(results).toMatchObject([{ claimed: 1, stuck: 1 }]);
    expect(ms).toBeLessThan(longerMs);
  });

  test.concurrent("where closing takes for ever", async () => {
    const handler = contract().job.handle(() => {});
    const { ms, error, results } = await scheduled({
      limitMs: longerMs,
      open: () => ({ ...opened(database.url, [handler]), close: () => new Promise(() => {}) }),
    });
    expect([error, results.length]).toEqual([undefined, 1]);
    expect(ms).toBeLessThan(longerMs);
  });

  test.concurrent("of 10 s, where the database does not answer", async () => {
    await using proxy = await halfOpenProxy(database.url);
    const { queue, job } = contract();
    const handler = job.handle(() => proxy.silenceAll());
    await producer.push(job());
    const { ms } = await scheduled({
      limitMs: 10_000,
      tick: { queues: [queue] },
      open: () => opened(proxy.url, [handler]),
    });
    expect(ms).toBeLessThan(10_000);
  });

  test("where what it opens takes for ever, and closes it when it comes all the same", async () => {
    const opening = signal<Opened>();
    const { ms, error } = await scheduled({ limitMs, open: () => opening.got() });
    expect(String(error)).toContain("Cannot run on an edge platform: what `open` opens was not there within ");
    expect(ms).toBeLessThan(limitMs);
    await new Promise<void>((closed) => {
      const { orchestrator } = opened(database.url, []);
      opening.give({ orchestrator, close: async () => closed() });
    });
  });
});

test("edge() takes leases that end soon after the platform's limit", async () => {
  const { queue, job } = contract();
  let lease = { ms: 0, leftMs: 0 };
  const handler = job.handle(async ({ id }) => {
    [lease] = await database.sql<[typeof lease]>`
      select
        extract(epoch from available_at - started_at)::float8 * 1000 as ms,
        extract(epoch from available_at - clock_timestamp())::float8 * 1000 as "leftMs"
      from orchestratum.command where id = ${id}`;
  });
  await producer.push(job());
  const open = () => opened(database.url, [handler]);
  expect(await scheduled({ limitMs: 10_000, tick: { queues: [queue] }, open })).toMatchObject({
    results: [{ succeeded: 1 }],
  });
  // The whole of it, and what is left of it: a heartbeat may have come in between.
  expect(lease.ms).toBeGreaterThan(5_000);
  expect(lease.leftMs).toBeLessThan(10_000);
});

test("edge() works off a thousand commands of a queue at most, and as many as `tick` says", async () => {
  const { queue, job } = contract();
  const handler = job.handle(() => {});
  await producer.push(Array.from({ length: 1_007 }, () => job()));
  const open = () => opened(database.url, [handler]);
  const all = await scheduled({ tick: { queues: [queue] }, open });
  expect(all.results).toMatchObject([{ claimed: 1_000, succeeded: 1_000, more: true }]);
  const few = await scheduled({ tick: { queues: [queue], maxCommands: 5 }, open });
  expect(few.results).toMatchObject([{ claimed: 5, succeeded: 5, more: true }]);
  expect(few.ms).toBeLessThan(20_000);
});

test("edge() works where nobody hears of its ticks", async () => {
  const { queue, job } = contract();
  const { id } = await producer.push(job());
  const handlers = edge<undefined>({
    tick: { queues: [queue] },
    open: () => opened(database.url, [job.handle(() => {})]),
  });
  await handlers.scheduled(undefined, undefined, { waitUntil: () => {} });
  expect(await producer.get(id)).toMatchObject({ status: "succeeded" });
});
