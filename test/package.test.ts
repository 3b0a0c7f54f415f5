/** What users get: the packed package, installed in an empty folder. */

import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";

const execute = promisify(execFile);
const checkout = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "orchestratum-package-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const npm = (args: string[], cwd: string) =>
  execute("npm", [...args, "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd,
    shell: process.platform === "win32",
  });

const node = (args: string[]) => execute(process.execPath, args, { cwd: folder });

/** What npm would install beside it; taken from the checkout, so that no registry is asked. */
function link(name: string): void {
  const to = join(folder, "node_modules", name);
  if (existsSync(to)) return;
  mkdirSync(dirname(to), { recursive: true });
  symlinkSync(join(checkout, "node_modules", name), to);
}

const entryPoints = Object.keys(JSON.parse(readFileSync(join(checkout, "deno.json"), "utf8")).exports);
const specifier = (entry: string): string => `orchestratum${entry.slice(1)}`;

let packed: string[];
let tarball: string;

beforeAll(async () => {
  const { stdout } = await npm(["pack", "--json", "--pack-destination", folder], checkout);
  // What its own script prints comes first.
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf("[\n")));
  tarball = join(folder, filename);
  packed = files.map(({ path }: { path: string }) => path);
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "user", private: true, type: "module" }));
  await npm(["install", "--offline", `./${filename}`], folder);
}, 120_000);

test("npm pack packs code, types, their sources and the SQL, and nothing else", () => {
  for (const path of ["LICENSE", "package.json", "sql/install.sql", "src/index.ts", "dist/src/index.d.ts"]) {
    expect(packed).toContain(path);
  }
  expect(packed).toContain("sql/migrations/0001_create_commands.sql");
  expect(packed).toContain("sql/migrations/0001_create_commands.undo.sql");
  expect(packed.filter((path) => /^(?:test|bench|examples|scripts|node_modules)\//.test(path))).toEqual([]);
});

test("publint and are-the-types-wrong find nothing in it", async () => {
  const bin = (name: string): string => join(checkout, "node_modules/.bin", name);
  const linted = await execute(bin("publint"), ["run", tarball, "--strict"]);
  expect(linted.stdout).toContain("All good!");
  // Modules alone: who requires them needs a runtime that can.
  const types = await execute(bin("attw"), [tarball, "--profile", "esm-only", "--format", "ascii"]);
  for (const entry of entryPoints) expect(types.stdout).toContain(`"${specifier(entry)}"`);
}, 120_000);

test("the core installs and loads with no other package", async () => {
  expect(JSON.parse(readFileSync(join(folder, "package-lock.json"), "utf8")).packages).not.toHaveProperty(
    "node_modules/postgres",
  );
  writeFileSync(
    join(folder, "core.js"),
    `import { createOrchestrator } from "orchestratum";\nimport "orchestratum/node";\n`,
  );
  await node(["core.js"]);
});

test("its command line runs, and names a driver that is not installed", async () => {
  const bin = join(folder, "node_modules/.bin/orchestratum");
  expect((await execute(bin, ["sql"], { cwd: folder, maxBuffer: 1e8 })).stdout).toContain(
    "create schema orchestratum;",
  );
  await expect(
    execute(bin, ["migrate", "--database", "postgres://localhost/none"], { cwd: folder }),
  ).rejects.toMatchObject({
    code: 1,
    stderr: 'Cannot open the database: package "postgres" is not installed; run `npm install postgres`\n',
  });
});

test("a project that its init writes runs once it is installed, and the command line looks into its database", async () => {
  for (const name of ["@electric-sql/pglite", "tsx", "valibot"]) link(name);
  const bin = join(folder, "node_modules/.bin/orchestratum");
  const { stdout: written } = await execute(bin, ["init", "app"], { cwd: folder });
  expect(written).toContain("  cd app\n  npm install\n  npm start\n");
  const app = join(folder, "app");
  const { dependencies } = JSON.parse(readFileSync(join(app, "package.json"), "utf8"));
  expect(Object.keys(dependencies)).toEqual(["@electric-sql/pglite", "orchestratum", "tsx", "valibot"]);
  // What npm install would do, but for the registry.
  mkdirSync(join(app, "node_modules"));
  symlinkSync(join(folder, "node_modules/orchestratum"), join(app, "node_modules/orchestratum"));
  const { stdout } = await npm(["start", "--silent"], app);
  const [, id = ""] = /^(\S{36}) Hello, Ada!$/m.exec(stdout) ?? [];
  const status = await execute(bin, ["status", id, "--database", "./data", "--json"], { cwd: app });
  expect(JSON.parse(status.stdout)).toMatchObject({ id, name: "greet", status: "succeeded" });
}, 60_000);

test("its command line serves where the router's packages are, and names them where they are not", async () => {
  const bin = join(folder, "node_modules/.bin/orchestratum");
  await expect(execute(bin, ["serve", "handlers.js"], { cwd: folder })).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^Cannot serve: package ".*" is not installed; run `npm install hono hono-openapi /),
  });
});

test("nothing but its entry points can be imported", async () => {
  writeFileSync(join(folder, "deep.js"), `import "orchestratum/dist/src/worker.js";\n`);
  await expect(node(["deep.js"])).rejects.toMatchObject({
    stderr: expect.stringContaining("ERR_PACKAGE_PATH_NOT_EXPORTED"),
  });
});

test("every entry point loads, a command that is pushed is executed, and nothing keeps the process", async () => {
  for (const name of ["postgres", "pg", "@electric-sql/pglite", "@opentelemetry/api"]) link(name);
  for (const name of ["hono", "hono-openapi", "valibot", "@valibot/to-json-schema"]) link(name);
  writeFileSync(
    join(folder, "run.js"),
    `${entryPoints.map((entry) => `import "${specifier(entry)}";`).join("\n")}
import { createOrchestrator, defineCommand } from "orchestratum";
import { pglite } from "orchestratum/pglite";

const greet = defineCommand({ name: "greet" });
const database = await pglite();
const orchestrator = createOrchestrator({ database, handlers: [greet.handle(() => console.log("hello"))] });
await orchestrator.migrate();
orchestrator.startWorker();
const { id } = await orchestrator.push(greet());
const { status } = await orchestrator.waitFor(id);
console.log(status);
await orchestrator.stop();
await database.close();
console.log("timers left: " + process.getActiveResourcesInfo().filter((name) => name === "Timeout").length);
`,
  );
  expect((await node(["run.js"])).stdout).toBe("hello\nsucceeded\ntimers left: 0\n");
});

/** Type-checks files as a strict user would, with nothing but what is installed. */
async function typeCheck(file: string, text: string, options: object): Promise<void> {
  writeFileSync(join(folder, file), text);
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: { module: "nodenext", strict: true, exactOptionalPropertyTypes: true, noEmit: true, ...options },
      files: [file],
    }),
  );
  const { stdout } = await execute(join(checkout, "node_modules/.bin/tsc"), ["-p", "."], { cwd: folder }).catch(
    (error: { stdout: string }) => {
      // It did not even start, or was killed.
      if (error.stdout === "") throw error;
      return error;
    },
  );
  expect(stdout).toBe("");
}

test("its types check by themselves, those of the core without Node's", async () => {
  await typeCheck(
    "core.ts",
    `import { createOrchestrator, defineCommand, type Driver } from "orchestratum";
declare const database: Driver;
const greet = defineCommand({ name: "greet" });
const orchestrator = createOrchestrator({ database, handlers: [greet.handle(() => {})] });
export const pushed: Promise<{ id: string }> = orchestrator.push(greet());
// @ts-expect-error a contract that was not called is no command
void orchestrator.push(greet);
`,
    { target: "es2023", lib: ["es2023", "esnext.disposable", "dom"], types: [], skipLibCheck: false },
  );
}, 300_000);

test("its types fit those of the drivers", async () => {
  link("@types/node");
  link("undici-types");
  for (const name of ["@types/pg", "drizzle-orm", "kysely", "knex"]) link(name);
  await typeCheck(
    "drivers.ts",
    `import postgres from "postgres";
import { PGlite } from "@electric-sql/pglite";
import { drizzle } from "drizzle-orm/node-postgres";
import { drizzle as drizzlePglite } from "drizzle-orm/pglite";
import knex from "knex";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { createOrchestrator, defineCommand, type Driver, type Queryable } from "orchestratum";
import { drizzleTransaction } from "orchestratum/drizzle";
import { knexTransaction } from "orchestratum/knex";
import { kyselyTransaction } from "orchestratum/kysely";
import { logObservations, runWorker } from "orchestratum/node";
import { nodePostgres } from "orchestratum/node-postgres";
import { pglite } from "orchestratum/pglite";
import { postgresJs } from "orchestratum/postgres-js";

const sql = postgres("postgres://localhost/none");
const camel = postgres({ transform: postgres.camel, types: { bigint: postgres.BigInt } });
export const drivers: Driver[] = [postgresJs(sql), postgresJs(camel), postgresJs("postgres://localhost/none"), await pglite(), pglite(new PGlite())];
export const queryable: Queryable = postgresJs(await sql.reserve());
// @ts-expect-error a connection that is checked out has nothing to run scripts on
export const driver: Driver = postgresJs(await sql.reserve());

const pool = new pg.Pool();
export const others: Driver[] = [
  nodePostgres(pool), nodePostgres(new pg.Client()), nodePostgres("postgres://localhost/none", { max: 2, listen: "postgres://direct/none" }),
  nodePostgres(pool, { listen: false }), postgresJs(sql, { listen: sql }), postgresJs("postgres://localhost/none", { listen: false }),
];
export const client: Queryable = nodePostgres(await pool.connect());
// @ts-expect-error a client that is checked out has nothing to run scripts on
export const checkedOut: Driver = nodePostgres(await pool.connect());

const greet = defineCommand({ name: "greet" });
const orchestrator = createOrchestrator({ database: postgresJs(sql), handlers: [greet.handle(() => {})] });
await sql.begin((tx) => orchestrator.push(greet(), { db: postgresJs(tx) }));
await camel.begin((tx) => orchestrator.push(greet(), { db: postgresJs(tx) }));
await new PGlite().transaction((tx) => orchestrator.push(greet(), { db: pglite(tx) }));
await drizzle(pool).transaction((tx) => orchestrator.push(greet(), { db: drizzleTransaction(tx) }));
await drizzlePglite(new PGlite()).transaction((tx) => orchestrator.push(greet(), { db: drizzleTransaction(tx) }));
await new Kysely<{ a: { b: string } }>({ dialect: new PostgresDialect({ pool }) })
  .transaction()
  .execute((trx) => orchestrator.push(greet(), { db: kyselyTransaction(trx) }));
await knex({ client: "pg" }).transaction((trx) => orchestrator.push(greet(), { db: knexTransaction(trx) }));
logObservations(orchestrator);
await runWorker(orchestrator, { concurrency: 50 });
`,
    { target: "es2023", lib: ["es2023", "esnext.disposable", "dom"], types: ["node"], skipLibCheck: true },
  );
}, 300_000);
