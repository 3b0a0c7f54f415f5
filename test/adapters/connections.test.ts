/**
 * What lies between a driver and its database: connections that fall silent, a pooler in transaction mode, TLS and
 * passwords. For each driver that has connections.
 */

import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pool } from "pg";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { nodePostgres } from "../../adapters/node-postgres.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, type Driver, defineCommand, migrate, type Observation } from "../../src/index.ts";
import { createDatabase, type Database, withServer } from "../database.ts";
import { halfOpenProxy } from "../half-open.ts";
import { startPgBouncer } from "../pgbouncer.ts";
import { startPostgres } from "../postgres.ts";
import { unprivilegedUser } from "../unprivileged-user.ts";

interface Options {
  readonly listen?: string | false;
  readonly prepare?: boolean;
  /** The certificate of whoever signed the server's. */
  readonly ca?: string;
}

type Opened = Driver & { close(): Promise<unknown> };

/** Once by a URL, and once around a pool of the caller's. */
const drivers: Readonly<Record<string, (url: string, options?: Options) => Opened>> = {
  "postgres.js": (url, { ca, ...options } = {}) =>
    postgresJs(url, { max: 4, ...options, ...(ca ? { ssl: { ca } } : {}) } as { max: number; listen?: string }),
  "postgres.js, a pool of the caller's": (url, { ca, listen, prepare = true } = {}) => {
    const pool = postgres(url, { max: 4, prepare, fetch_types: false, ...(ca ? { ssl: { ca } } : {}) });
    const driver = listen === false ? postgresJs(pool, { listen }) : postgresJs(pool, listen ? { listen } : {});
    return { ...driver, close: () => pool.end({ timeout: 0 }) };
  },
  "node-postgres": (url, { ca, ...options } = {}) =>
    nodePostgres(url, { max: 4, ...options, ...(ca ? { ssl: { ca } } : {}) } as { max: number; listen?: string }),
  "node-postgres, a pool of the caller's": (url, { ca, listen, prepare = true } = {}) => {
    const pool = new Pool({ connectionString: url, max: 4, ...(ca ? { ssl: { ca } } : {}) });
    const options = { prepare };
    const driver =
      listen === false
        ? nodePostgres(pool, { ...options, listen })
        : nodePostgres(pool, listen ? { ...options, listen } : options);
    return { ...driver, close: () => pool.end() };
  },
};
const each = Object.entries(drivers);
const own = each.filter(([name]) => !name.includes(","));

/** An orchestrator with a worker that begins at once, whose polls come too late for any test. */
async function working(database: Driver, queue: string, observations: Observation[] = []) {
  const job = defineCommand({ name: "job", queue });
  const orchestrator = createOrchestrator({
    database,
    handlers: [job.handle(() => {})],
    observe: (observation) => void observations.push(observation),
  });
  const worker = orchestrator.startWorker({ queues: [queue], pollIntervalMs: 600_000, leaseMs: 6_000 });
  await worker.started;
  return {
    orchestrator,
    job,
    async runsOne(input: number) {
      const { id } = await orchestrator.push(job(input));
      expect(await orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({
        status: "succeeded",
      });
    },
    async stop() {
      await orchestrator.stop({ graceMs: 0 });
    },
  };
}

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

  test.each(own)("%s: a LISTEN connection that fell silent is replaced", async (name, open) => {
    await using proxy = await halfOpenProxy(database.url);
    // Statements go around the proxy: only who listens is cut off.
    const driver = open(database.url, { listen: proxy.url });
    const observations: Observation[] = [];
    const queue = `silent_${name.replaceAll(/\W/g, "_").toLowerCase()}`;
    const { job, orchestrator, stop } = await working(driver, queue, observations);
    const heard = () =>
      observations.filter(({ type }) => type === "listening").map((one) => (one as { proven: boolean }).proven);
    await vi.waitFor(() => expect(heard()).toEqual([true]), { timeout: 10_000 });
    proxy.silence();
    // Another process pushes: without a notification nobody here would know. Whoever asks proves the connection.
    const other = createOrchestrator({ database: postgresJs(database.sql), commands: [job] });
    const { id } = await other.push(job(1));
    await orchestrator.workers[0]?.stop({ graceMs: 0 });
    orchestrator.startWorker({ queues: [queue], pollIntervalMs: 100 });
    await vi.waitFor(() => expect(heard()).toEqual([true, false, true]), { timeout: 40_000 });
    expect(await other.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
    await other.stop();
    await stop();
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

describe("PgBouncer in transaction mode", () => {
  const open = (name: string, url: string, options: Options) =>
    (drivers[name] as NonNullable<(typeof drivers)[string]>)(url, options);
  const cases: readonly [string, string, Options][] = [
    ["postgres.js, unprepared", "postgres.js", { prepare: false }],
    ["node-postgres, unprepared", "node-postgres", { prepare: false }],
    ["node-postgres, as it is", "node-postgres", {}],
  ];

  test.each(cases)(
    "%s: everything works, and that notifications do not arrive is said once",
    async (name, driver, options) => {
      const queue = `pooled_${name.replaceAll(/\W/g, "_").toLowerCase()}`;
      await using pooler = await startPgBouncer(database.url);
      const pooled = open(driver, pooler.url, options);
      await migrate(pooled, { schema: queue });
      // On each of the pooler's connections to the server, in turns.
      for (let round = 0; round < 5; round += 1) {
        const rows = await Promise.all(
          [1, 2, 3, 4].map((n) => pooled.query("select $1::int as n from pg_sleep(0.05)", [n])),
        );
        expect(rows).toEqual([1, 2, 3, 4].map((n) => [{ n }]));
      }
      const observations: Observation[] = [];
      const worker = await working(pooled, queue, observations);
      await vi.waitFor(() => expect(observations).toContainEqual({ type: "listening", proven: false }), {
        timeout: 10_000,
      });
      await Promise.all(Array.from({ length: 40 }, (_, index) => worker.runsOne(index)));
      const ofOthers = await database.sql<{ id: string }[]>`
      select orchestratum.push('job', '7'::json, ${`{"queue": "${queue}"}`}::text::json)::text as id`;
      worker.orchestrator.wake([queue]);
      expect(await worker.orchestrator.waitFor(ofOthers[0]?.id ?? "")).toMatchObject({ status: "succeeded" });
      expect(observations.filter(({ type }) => type === "listening")).toHaveLength(1);
      await worker.stop();
      await pooled.close();
    },
  );

  test.each(cases)("%s: a direct connection to listen on brings notifications", async (name, driver, options) => {
    const queue = `direct_${name.replaceAll(/\W/g, "_").toLowerCase()}`;
    await using pooler = await startPgBouncer(database.url);
    const pooled = open(driver, pooler.url, { ...options, listen: database.url });
    const observations: Observation[] = [];
    const worker = await working(pooled, queue, observations);
    await vi.waitFor(() => expect(observations).toContainEqual({ type: "listening", proven: true }), {
      timeout: 10_000,
    });
    // Pushed elsewhere, through the pooler: only a notification tells of it.
    const elsewhere = open(driver, pooler.url, { ...options, listen: false });
    expect(elsewhere.listen).toBe(undefined);
    const other = createOrchestrator({ database: elsewhere, commands: [worker.job] });
    const { id } = await other.push(worker.job(3));
    expect(await worker.orchestrator.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded" });
    await other.stop();
    await worker.stop();
    await elsewhere.close();
    await pooled.close();
  });
});

describe("TLS and SCRAM", () => {
  let folder: string;
  let url: URL;
  let stop: () => Promise<void>;
  let ca: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "orchestratum-tls-"));
    chmodSync(folder, 0o755);
    const [key, certificate, access] = ["key.pem", "certificate.pem", "pg_hba.conf"].map((file) =>
      join(folder, file),
    ) as [string, string, string];
    execFileSync(
      "openssl",
      [
        ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(" "),
        ...["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
      ],
      { stdio: "ignore" },
    );
    ca = readFileSync(certificate, "utf8");
    // The superuser as the tests need it; everybody else with a password, over TLS.
    writeFileSync(access, "host all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    chmodSync(key, 0o600);
    const user = unprivilegedUser();
    if (user) for (const file of [key, certificate, access]) chownSync(file, user.uid, user.gid);
    const server = await startPostgres({
      ssl: "on",
      ssl_cert_file: certificate,
      ssl_key_file: key,
      hba_file: access,
      password_encryption: "scram-sha-256",
    });
    stop = () => server.stop();
    await withServer(server.url, async (sql) => {
      await sql.unsafe("create role app login password 'a ''secret'' 🔑'");
      await sql.unsafe("create database app owner app");
    });
    url = new URL(server.url);
    url.username = "app";
    url.password = encodeURIComponent("a 'secret' 🔑");
    url.pathname = "/app";
  });
  afterAll(async () => {
    await stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test.each(each)("%s: migrates, listens and works over TLS with a password", async (name, open) => {
    const driver = open(url.href, { ca });
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
    const driver = open(url.href, { ca });
    await driver.query("select 1", []);
    const statement = driver.query("select pg_sleep($1::int)", [60], { signal: AbortSignal.timeout(200) });
    await expect(statement).rejects.toMatchObject({ code: "57014" });
    await driver.close();
  });

  test.each(each)("%s: a wrong password, a foreign certificate and no TLS at all are refused", async (_, open) => {
    const wrong = new URL(url);
    wrong.password = "wrong";
    for (const [target, options, refusal] of [
      [wrong.href, { ca }, { code: "28P01" }],
      [url.href, { ca: "" }, { code: expect.stringMatching(/28000|SELF_SIGNED|DEPTH_ZERO/) }],
      [url.href, {}, { code: "28000" }],
    ] as const) {
      const driver = open(target, options);
      await expect(driver.query("select 1", [])).rejects.toMatchObject(refusal);
      await driver.close();
    }
  });
});
