/** A real PostgreSQL server of one's own, for tests that restart it, and for all others together (server.ts). */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export interface Postgres {
  /** Of the database `postgres`, as its superuser. */
  readonly url: string;
  /** Stops the server, in good order or as a crash would, and starts it again on the same port and data. */
  restart(mode?: "fast" | "immediate"): Promise<void>;
  /** Stops it and deletes its files. A second call is harmless. */
  stop(): Promise<void>;
}

/** Starts a server with these settings in a temporary directory. It also stops when this process ends, however it does. */
export async function startPostgres(settings: Record<string, string> = {}): Promise<Postgres> {
  const child = spawn(
    process.execPath,
    ["--import", "tsx", fileURLToPath(new URL("postgres-process.ts", import.meta.url))].concat(
      Object.entries(settings).map(([name, value]) => `${name}=${value}`),
    ),
    { stdio: ["pipe", "pipe", "inherit"], cwd: fileURLToPath(new URL("..", import.meta.url)) },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ready = async (): Promise<string> => {
    const { value, done } = await lines.next();
    if (done) throw new Error("Cannot start PostgreSQL: its output above says why");
    return value.replace("ready ", "");
  };
  const ended = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  const url = await ready();
  return {
    url,
    restart: async (mode = "fast") => {
      child.stdin.write(`restart ${mode}\n`);
      await ready();
    },
    stop: async () => {
      child.stdin.end();
      await ended;
    },
  };
}
