import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createOrchestrator, defineCommand, migrationScript, migrationState } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, expect, test, vi } from "vitest";
import { commands } from "../../adapters/cli/commands.ts";
import { createDatabase, type Database } from "../database.ts";
import { misusesOf } from "./cli-lines.ts";
import { checkout, commandOfSources, folder, run, start } from "./cli-process.ts";

const databases: Database[] = [];
afterAll(() => Promise.all(databases.map((database) => database.drop())));

async function database(options: { migrated?: boolean } = {}): Promise<Database> {
  const made = await createDatabase(options);
  databases.push(made);
  return made;
}

/** For modules that import the sources. */
const fromSources = { words: commandOfSources };

test("orchestratum --help shows the commands, and each command's --help its examples", async () => {
  const general = await run(["--help"]);
  expect(general).toMatchObject({ code: 0, stderr: "" });
  const listed = Array.from(general.stdout.matchAll(/^ {2}([a-z]+) +[a-z]/gm), ([, name]) => name as string);
  const commands = listed.filter((name) => name !== "orchestratum");
  expect(commands).toHaveLength(21);
  for (const command of commands) {
    const { code, stdout } = await run([command, "--help"]);
    expect({ command, code }).toEqual({ command, code: 0 });
    expect(stdout).toMatch(new RegExp(`^Usage: orchestratum ${command}\\b.*\n[^]*Examples:\n`));
  }
  expect((await run(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
});

test("every example of a help text is used as its command wants it", async () => {
  const general = await run(["--help"]);
  const usages = [general.stdout, ...Object.values(commands).map(({ usage }) => usage)];
  const examples = usages.flatMap((usage) => usage.split("\nExamples:\n")[1]?.match(/^ {2}.*$/gm) ?? []);
  expect(examples.length).toBeGreaterThan(Object.keys(commands).length);
  expect(await misusesOf(examples)).toEqual([]);
});

test.each([
  [[], /^$/],
  [["shout"], /^Cannot run "shout": there is no such command; the commands are init, migrate, sql, work, /],
  [["constructor"], /^Cannot run "constructor"/],
  [["migrate"], /^Cannot open a database: neither --database nor DATABASE_URL says which\n/],
  [["migrate", "--database", "mysql://localhost"], /^Cannot open database "mysql:\/\/localhost": it must be postgres:/],
  [["migrate", "--dwon"], /^Cannot migrate: there is no option "--dwon"; did you mean "--down"\?\n/],
  [["migrte"], /^Cannot run "migrte": there is no such command; did you mean "migrate"\?\n/],
  [["migrate", "--schema", "Not One", "--database", "data"], /^Cannot use schema "Not One": its name must match /],
  [["sql", "--from", "99"], /^Cannot print migrations as from must be 0 to \d+: current value is 99\n/],
  [["work"], /^Cannot work: one module or folder is wanted, got 0\n/],
  [["work", "none.mjs"], /^Cannot load "none.mjs": there is no such file\n/],
  [
    ["work", "a.mjs", "--concurrency", "many"],
    /^Cannot work: --concurrency must be an integer from 1 to 100000, got "many"\n/,
  ],
  [
    ["work", "a.mjs", "--concurrency", "0"],
    /^Cannot work: --concurrency must be an integer from 1 to 100000, got "0"\n/,
  ],
  [["work", "a.mjs", "--grace-ms", "-1"], /^Cannot work: --grace-ms must be an integer from 0 to 86400000, got "-1"\n/],
  [["work", "a.mjs", "--queues", ","], /^Cannot work: --queues has an empty name, got ","\n/],
  [["work", "a.mjs", "--queues", "a b"], /^Cannot work: queue must be free of white space/],
  [
    ["migrate", "--database", "postgres://ada:se cret@h:99999/x"],
    /^Cannot open the database \(from --database\): it is no/,
  ],
])("orchestratum %j is misuse: exit code 2, the reason and the usage", async (args, reason) => {
  const { code, stdout, stderr } = await run(args);
  expect(code).toBe(2);
  expect(stderr).toMatch(reason);
  expect(stdout + stderr).toContain("Usage: orchestratum");
});

test("orchestratum migrate brings a server up to date, and goes back step by step", async () => {
  const { url, sql } = await database({ migrated: false });
  const first = await run(["migrate", "--database", url]);
  expect(first).toMatchObject({ code: 0, stderr: "" });
  expect(first.stdout).toMatch(/^Applied: 0001_create_commands\n(Applied: .*\n)*Functions replaced\n$/);
  expect(await run(["migrate"], { env: { DATABASE_URL: url } })).toMatchObject({
    code: 0,
    stdout: "Nothing to apply\n",
  });
  const { applied } = await migrationState(postgresJs(sql));
  for (const name of applied.toReversed()) {
    expect(await run(["migrate", "--down", "--database", url])).toMatchObject({ code: 0, stdout: `Undone: ${name}\n` });
  }
  expect(await run(["migrate", "--down", "--database", url])).toMatchObject({ code: 0, stdout: "Nothing to undo\n" });
});

test("orchestratum migrate takes a directory and another schema", async () => {
  const { code } = await run(["migrate", "--database", "data", "--schema", "user"]);
  expect(code).toBe(0);
  await using opened = await pglite(join(folder, "data"));
  expect((await migrationState(opened, { schema: "user" })).pending).toEqual([]);
});

test("orchestratum migrate fails with exit code 1 and one line where there is no server", async () => {
  const nowhere = "127.0.0.1:1/none";
  const url = `postgres://ada:secret@${nowhere}`;
  const { code, stderr } = await run(["migrate", "--database", url]);
  expect(code).toBe(1);
  expect(stderr).toBe(`Cannot reach the database at ${nowhere} (from --database): connect ECONNREFUSED 127.0.0.1:1\n`);
  const reason = expect.stringContaining(`Cannot reach the database at ${nowhere} (from DATABASE_URL): connect ECONN`);
  expect(await run(["list"], { env: { DATABASE_URL: url } })).toMatchObject({ code: 1, stderr: reason });
  const own = await database();
  const nobody = Object.assign(new URL(own.url), { username: "nouser", password: "secret" });
  const refused = await run(["list", "--database", nobody.href]);
  expect(refused.stderr).toMatch(/^Cannot reach the database at \S+ \(from --database\): .*nouser.*\n$/);
  expect(refused.stderr).not.toContain("secret");
});

test("orchestratum sql prints all of what would be applied", async () => {
  expect((await run(["sql"])).stdout).toBe(migrationScript());
  expect((await run(["sql", "--schema", "user", "--from", "1"])).stdout).toBe(
    migrationScript({ schema: "user", from: 1 }),
  );
});

const greet = defineCommand({ name: "greet" });

const handlersModule = (name: string): string => {
  const path = join(folder, name);
  writeFileSync(
    path,
    `import { defineCommand } from ${JSON.stringify(join(checkout, "src/index.ts"))};
export const greeting = defineCommand({ name: "greet" }).handle(() => {});
export const somethingElse = 1;
`,
  );
  return path;
};

test("orchestratum work runs a module's handlers until SIGTERM, and ends with exit code 0", async () => {
  const { url, sql } = await database({ migrated: false });
  const args = ["work", handlersModule("handlers.mjs"), "--database", url, "--migrate", "--verbose"];
  const { child, output, ended } = start(args.concat("--queues", "default,mail", "--concurrency", "2"), fromSources);
  await vi.waitFor(() => expect(output.stderr).toContain("worker_started"), { timeout: 30_000 });
  expect(output.stderr).toMatch(/queues=default,mail/);
  const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [greet] });
  const { id } = await orchestrator.push(greet({ queue: "mail" }));
  expect(await orchestrator.waitFor(id)).toMatchObject({ status: "succeeded" });
  await orchestrator.stop();
  child.kill("SIGTERM");
  const { code, stderr } = await ended;
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/ worker_stopped /) });
  expect(stderr).toContain(` command_finished `);
  expect(stderr).toContain(`id=${id}`);
});

test("orchestratum work runs the orchestrator that a module exports by default", async () => {
  const { url, sql } = await database();
  writeFileSync(
    join(folder, "orchestrator.mjs"),
    `import { createOrchestrator } from ${JSON.stringify(join(checkout, "src/index.ts"))};
import { postgresJs } from ${JSON.stringify(join(checkout, "adapters/postgres-js.ts"))};
import { greeting } from "./handlers-too.mjs";
export default createOrchestrator({ database: postgresJs(process.env.APP_DATABASE), handlers: [greeting] });
`,
  );
  handlersModule("handlers-too.mjs");
  const options = { ...fromSources, env: { APP_DATABASE: url } };
  const misused = await run(["work", "orchestrator.mjs", "--schema", "a"], options);
  expect(misused).toMatchObject({ code: 2, stderr: expect.stringContaining("leave out --database and --schema") });

  const { child, ended } = start(["work", "./orchestrator.mjs"], options);
  const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [greet] });
  const { id } = await orchestrator.push(greet());
  expect(await orchestrator.waitFor(id)).toMatchObject({ status: "succeeded" });
  await orchestrator.stop();
  child.kill("SIGINT");
  expect(await ended).toMatchObject({ code: 0 });
});

test("orchestratum work takes the handlers of a folder", async () => {
  const { url, sql } = await database();
  mkdirSync(join(folder, "commands/mail"), { recursive: true });
  handlersModule("commands/mail/greet.mjs");
  writeFileSync(join(folder, "commands/nothing.mjs"), "export const one = 1;\n");
  const { child, ended } = start(["work", "commands", "--database", url], fromSources);
  const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [greet] });
  const { id } = await orchestrator.push(greet());
  expect(await orchestrator.waitFor(id)).toMatchObject({ status: "succeeded" });
  await orchestrator.stop();
  child.kill("SIGTERM");
  expect(await ended).toMatchObject({ code: 0 });
  mkdirSync(join(folder, "none"));
  expect(await run(["work", "none", "--database", url])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("no module of it exports one"),
  });
});

test("orchestratum work fails with exit code 1 where a module has no handlers", async () => {
  writeFileSync(join(folder, "empty.mjs"), "export const one = 1;\n");
  const { code, stderr } = await run(["work", "empty.mjs", "--database", "unused"]);
  expect(code).toBe(1);
  expect(stderr).toBe("Cannot register handlers: the module exports none, only one\n");
});

test("orchestratum work says which module cannot be loaded, why, and where", async () => {
  mkdirSync(join(folder, "broken/mail"), { recursive: true });
  const files = {
    "imports.mjs": 'import "./gone.mjs";',
    "throws.mjs": '\nconst key = undefined;\nthrow new Error("no MAIL_KEY");',
    "throws-text.mjs": 'throw "no MAIL_KEY";',
    "calls.mjs": 'import { read } from "./calls/read.mjs";\nread(undefined);',
    "parses-not.mjs": "\nexport const x = ;",
    "imports-unparsable.mjs": 'import { x } from "./parses-not.mjs";\nthrow new Error(x);',
    "names-nothing.mjs": 'import { nothing } from "./throws.mjs";',
    "broken/mail/send.mjs": 'import { x } from "../../parses-not.mjs";',
  };
  mkdirSync(join(folder, "calls"), { recursive: true });
  writeFileSync(join(folder, "calls/read.mjs"), "export function read(value) {\n  return value.key;\n}\n");
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), `${text}\n`);
  const work = async (path: string): Promise<string> => {
    const { code, stderr } = await run(["work", path, "--database", "unused"]);
    expect({ path, code }).toEqual({ path, code: 1 });
    return stderr;
  };
  const here = await run(["work", "./gone.mjs", "--database", "unused"]);
  expect(here).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Cannot load "./gone.mjs": there is no such'),
  });
  expect(await work("./imports.mjs")).toMatch(
    /^Cannot load "\.\/imports\.mjs": Cannot find module '.*gone\.mjs' imported from .*imports\.mjs\n$/,
  );
  expect(await work("./throws.mjs")).toBe('Cannot load "./throws.mjs": no MAIL_KEY (throws.mjs:3)\n');
  expect(await work("throws-text.mjs")).toBe('Cannot load "throws-text.mjs": no MAIL_KEY\n');
  expect(await work("calls.mjs")).toMatch(/^Cannot load "calls\.mjs": Cannot read .* \(calls\/read\.mjs:2\)\n$/);
  const unparsable = "Unexpected token ';' (node --check says where)\n";
  expect(await work("parses-not.mjs")).toBe(`Cannot load "parses-not.mjs": ${unparsable}`);
  expect(await work("imports-unparsable.mjs")).toBe(`Cannot load "imports-unparsable.mjs": ${unparsable}`);
  expect(await work("./broken/")).toBe(`Cannot load "./broken/": ${unparsable}`);
  expect(await work("names-nothing.mjs")).toMatch(/ named 'nothing' \(names-nothing\.mjs:1\)\n$/);
});

test.skipIf("typescript" in process.features)(
  "orchestratum work of a folder with TypeScript says what would run it",
  async () => {
    mkdirSync(join(folder, "typed"));
    writeFileSync(join(folder, "typed/greet.ts"), "export const one: number = 1;\n");
    const way = "use Node 22.18 or newer, or node --import tsx\n";
    for (const [path, which] of [
      ["typed", " (typed/greet.ts)"],
      ["./typed/greet.ts", ""],
    ] as const) {
      expect(await run(["work", path, "--database", "unused"])).toMatchObject({
        ...{ code: 1, stderr: `Cannot load "${path}": this Node does not run TypeScript${which}; ${way}` },
      });
    }
  },
);
