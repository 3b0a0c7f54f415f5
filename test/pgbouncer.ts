/** A PgBouncer of one's own in transaction mode, in front of a server: Debian's package, wherever it lies. */

import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { unprivilegedUser } from "./unprivileged-user.ts";

export interface PgBouncer extends AsyncDisposable {
  /** Leads through it to the database of the given one. */
  readonly url: string;
}

const places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];

/** `poolSize`: connections to the server. */
export async function startPgBouncer(target: string, { poolSize = 4 } = {}): Promise<PgBouncer> {
  const program = places.find((place) => existsSync(place));
  if (program === undefined) {
    throw new Error("Cannot start PgBouncer: it is not installed; run `apt-get install -y pgbouncer`");
  }
  const { hostname, port, pathname, username } = new URL(target);
  const own = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "orchestratum-pgbouncer-"));
  chmodSync(folder, 0o755);
  const settings = join(folder, "pgbouncer.ini");
  writeFileSync(
    settings,
    `[databases]
* = host=${hostname} port=${port} user=${username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${own}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 200
admin_users = nobody
`,
  );
  // With `any` everybody is the user that the database's line names.
  const child = spawn(program, [settings], { ...unprivilegedUser(), stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stderr }).on("line", (line) => {
      log = `${log}${line}\n`.slice(-5_000);
      if (line.includes("process up")) resolve();
    });
    child.on("error", reject);
    child.on("exit", () => reject(new Error(`Cannot start PgBouncer: it ended\n${log}`)));
  });
  const url = new URL(`postgres://${username}@127.0.0.1:${own}${pathname}`);
  return {
    url: url.href,
    async [Symbol.asyncDispose]() {
      const ended = new Promise((resolve) => child.on("exit", resolve));
      child.kill("SIGINT");
      setTimeout(() => child.kill("SIGQUIT"), 1_000).unref();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
