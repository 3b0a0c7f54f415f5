/**
 * What lies between a driver and its database: connections that fall silent, TLS and passwords. For each driver that has connections.
 */

import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, migrate, type Observation } from "../../src/index.ts";
import { createAuthority } from "../certificates.ts";
import { createDatabase, type Database } from "../database.ts";
import { halfOpenProxy } from "../half-open.ts";
import { type SecuredPostgres, startSecuredPostgres } from "../secured-postgres.ts";
import { drivers, working } from "./open-connections.ts";

const each = Object.entries(drivers);
const own = each.filter(([name]) => !name.includes(","));

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 2 });
});
afterAll(() => database.drop());

describe("half-open connections", () => {
  test.each(each)(
    "%s: a statement on one is given up at its deadline, and work goes on over others",
    async (_, open) => {
      await using proxy = await halfOpenProxy(database.url);
      const driver = open(proxy.url);
      const ask = (signal: AbortSignal) => driver.query<{ one: number }>("select 1 as one", [], { signal });
      // As many as the pool holds.
      await Promise.all(Array.from({ length: 8 }, () => driver.query("select pg_sleep(0.05)", [])));
      proxy.silence();
      const late = await Promise.allSettled(Array.from({ length: 4 }, () => ask(AbortSignal.timeout(200))));
      expect(late.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected", "rejected"]);
      await vi.waitFor(async () => expect(await ask(AbortSignal.timeout(1_000))).toEqual([{ one: 1 }]), {
        timeout: 20_000,
      });
      await Promise.all(Array.from({ length: 8 }, () => ask(AbortSignal.timeout(5_000))));
      proxy.silence();
      await driver.close();
    },
  );

  test.each(own)(
    "%s: a LISTEN connection that fell silent is replaced",
    async (name, open) => {
      await using proxy = await halfOpenProxy(database.url);
      // Statements go around the proxy: only who listens is cut off.
      const driver = open(database.url, { listen: proxy.url });
      const observations: Observation[] = [];
      const queue = `silent_${name.replaceAll(/\W/g, "_").toLowerCase()}`;
      const { job, orchestrator, stop } = await working(driver, queue, observations);
      const heard = () =>
        observations.filter(({ type }) => type === "listening").map((one) => (one as { proven: boolean }).proven);
      // A first notification that takes longer than it is waited for makes it false, and then true.
      await vi.waitFor(() => expect(heard().at(-1)).toBe(true), { timeout: 20_000 });
      const before = heard().length;
      proxy.silence();
      // Another process pushes: without a notification nobody here would know. Whoever asks proves the connection.
      const other = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
      const { id } = await other.push(job(1));
      await orchestrator.workers[0]?.stop({ graceMs: 0 });
      orchestrator.startWorker({ queues: [queue], pollIntervalMs: 100 });
      const since = () => heard().slice(before);
      await vi.waitFor(() => expect([since().includes(false), since().at(-1)]).toEqual([true, true]), {
        timeout: 40_000,
      });
      expect(await other.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
      await other.stop();
      await stop();
      await driver.close();
    },
    120_000,
  );

  test.each(own)("%s: stop() waits for no LISTEN connection that is never answered", async (name, open) => {
    await using proxy = await halfOpenProxy(database.url);
    proxy.silenceAll();
    const driver = open(database.url, { listen: proxy.url });
    const observations: Observation[] = [];
    const worker = await working(driver, `unheard_${name.replaceAll(/\W/g, "_").toLowerCase()}`, observations);
    await vi.waitFor(() => expect(proxy.open).toBe(1), { timeout: 10_000 });
    await worker.stop();
    // Where it waits, it gives up in the end, and says so.
    expect(observations.filter((one) => "operation" in one && one.operation === "close")).toEqual([]);
    await vi.waitFor(() => expect(proxy.open).toBe(0), { timeout: 10_000 });
    await driver.close();
  });

  test.each(each)("%s: a worker whose connections all fall silent reports it and goes on", async (name, open) => {
    await using proxy = await halfOpenProxy(database.url);
    const driver = open(proxy.url);
    const observations: Observation[] = [];
    const worker = await working(driver, `cut_${name.replaceAll(/\W/g, "_").toLowerCase()}`, observations);
    await worker.runsOne(1);
    proxy.silence();
    const other = createOrchestrator({ database: postgresJs(database.sql), commands: [worker.job] });
    // Its own push has the longest deadline: with a lease of 6 s the claim has 3 s.
    worker.orchestrator.wake(worker.orchestrator.workers[0]?.queues ?? []);
    const { id } = await other.push(worker.job(2));
    expect(await other.waitFor(id, { timeoutMs: 50_000 })).toMatchObject({ status: "succeeded" });
    expect(observations.map(({ type }) => type)).toContain("database_unresponsive");
    await other.stop();
    await worker.stop();
    await driver.close();
  });
});

describe("TLS and SCRAM", () => {
  let server: SecuredPostgres;
  beforeAll(async () => {
    server = await startSecuredPostgres();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test.each(each)("%s: migrates, listens and works over TLS with a password", async (name, open) => {
    const driver = open(server.url, { ca: server.ca });
    await migrate(driver);
    const observations: Observation[] = [];
    const worker = await working(driver, "default", observations);
    await worker.runsOne(1);
    const secured = await driver.query(
      "select bool_and(s.ssl) as all from pg_stat_ssl s join pg_stat_activity a using (pid) where a.usename = 'app'",
      [],
    );
    expect(secured, name).toEqual([{ all: true }]);
    await vi.waitFor(() => expect(observations).toContainEqual({ type: "listening", proven: true }), {
      timeout: 10_000,
    });
    await worker.stop();
    await driver.close();
  });

  test.each(each)("%s: cancels a statement over TLS", async (_, open) => {
    const driver = open(server.url, { ca: server.ca });
    await driver.query("select 1", []);
    const controller = new AbortController();
    const statement = driver.query("select pg_sleep($1::int)", [600], { signal: controller.signal });
    const cancelled = expect(statement).rejects.toMatchObject({ code: "57014" });
    const other = open(server.url, { ca: server.ca });
    // Asleep, and not only parsed: what is cancelled before it is executed goes on.
    await vi.waitFor(
      async () => {
        const running = other.query("select from pg_stat_activity where wait_event = 'PgSleep'", []);
        expect(await running).toHaveLength(1);
      },
      { timeout: 20_000 },
    );
    controller.abort();
    await cancelled;
    await other.close();
    await driver.close();
  });

  test.each(each)("%s: a wrong password, a foreign certificate and no TLS at all are refused", async (_, open) => {
    const { url, ca } = server;
    const wrong = new URL(url);
    wrong.password = "wrong";
    const foreign = (await createAuthority()).certificate;
    for (const [target, options, refusal] of [
      [wrong.href, { ca }, { code: "28P01" }],
      [url, { ca: foreign }, { code: expect.stringMatching(/LEAF_SIGNATURE|ISSUER/) }],
      [url, {}, { code: "28000" }],
    ] as const) {
      const driver = open(target, options);
      await expect(driver.query("select 1", [])).rejects.toMatchObject(refusal);
      await driver.close();
    }
  });
});
