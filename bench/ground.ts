/** What the benchmarks stand on: a server with durable settings, the schema in it, and the peers beside this folder. */
import { execFileSync, spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { postgresJs } from "../adapters/postgres-js.ts";
import { migrate } from "../src/index.ts";
import { startPostgres } from "../test/postgres.ts";
import { node } from "./program.ts";
import type { Progress } from "./progress.ts";

export interface Ground {
  readonly url: string;
  readonly sql: postgres.Sql;
  readonly rounds: number;
  readonly progress: Progress;
}

/** Commits are durable: that is what everybody here pays for, and what a real server does. */
const settings = { fsync: "on", synchronous_commit: "on", shared_buffers: "512MB", max_wal_size: "4GB" };
const peers = fileURLToPath(new URL("peers/", import.meta.url));

const writtenAt = (path: string) => statSync(peers + path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

export function installPeers(): void {
  // npm writes its own copy of the lock file last of all, so an installation that was interrupted is done again.
  if (writtenAt("node_modules/.package-lock.json") >= writtenAt("package-lock.json")) return;
  console.error("Installing what bench/peers/package-lock.json names …");
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], {
    cwd: peers,
    stdio: ["ignore", "inherit", "inherit"],
    timeout: 300_000,
    shell: process.platform === "win32",
  });
  if (status !== 0) throw new Error("Cannot install the peers: npm's output above says why");
}

export async function prepareGround(rounds: number, progress: Progress): Promise<Ground & AsyncDisposable> {
  const server = await startPostgres(settings);
  const sql = postgres(server.url, { max: 4, onnotice: () => {} });
  const dispose = async (): Promise<void> => {
    await sql.end({ timeout: 5 });
    await server.stop();
  };
  try {
    await migrate(postgresJs(sql));
    const cli = `${peers}node_modules/graphile-worker/dist/cli.js`;
    execFileSync(node, [cli, "-c", server.url, "--schema-only"], { cwd: peers, stdio: "pipe", timeout: 60_000 });
  } catch (error) {
    await dispose();
    throw error;
  }
  return { url: server.url, sql, rounds, progress, [Symbol.asyncDispose]: dispose };
}

/** Nothing of what was measured before is left: neither rows, nor dirty pages, nor statistics. */
export async function clear({ sql }: Ground): Promise<void> {
  await sql`truncate orchestratum.command, orchestratum.history, orchestratum.duty`;
  await sql`vacuum analyze orchestratum.command`;
  await sql`checkpoint`;
}
