/** Drivers that have connections, each opened on an address, and a worker on one of them. */
import { Pool } from "pg";
import postgres from "postgres";
import { expect } from "vitest";
import { nodePostgres } from "../../adapters/node-postgres.ts";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { createOrchestrator, type Driver, defineCommand, type Observation } from "../../src/index.ts";

export interface Options {
  readonly listen?: string | false;
  readonly prepare?: boolean;
  /** The certificate of whoever signed the server's. */
  readonly ca?: string;
}

export type Opened = Driver & { close(): Promise<unknown> };

/** Once by a URL, and once around a pool of the caller's. */
export const drivers: Readonly<Record<string, (url: string, options?: Options) => Opened>> = {
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
/** An orchestrator with a worker that begins at once, whose polls come too late for any test. */
export async function working(database: Driver, queue: string, observations: Observation[] = []) {
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
