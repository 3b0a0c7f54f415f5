import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Queryable } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createDatabase } from "../database.ts";
import { runExample } from "./run-example.ts";

// Each test starts several processes, each with a database of its own in it.
vi.setConfig({ testTimeout: 300_000 });

const root = realpathSync(mkdtempSync(join(tmpdir(), "digest-test-")));
/** An empty database to copy: making one costs seconds. */
const template = join(root, "template");
beforeAll(async () => {
  await (await pglite(template)).close();
}, 120_000);
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** It has done some commands; far from all, when this line is the first. */
const halfWay = /^[1-9][\d,]* of [\d,]+ commands/m;
/** Few at once, so that it is interrupted in the middle. */
const slowly = ["--concurrency", "4"];

/** A folder with these files, which may lie in subfolders. */
function makeFolder(name: string, files: Record<string, string | Buffer>): string {
  const folder = join(root, name);
  mkdirSync(folder);
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(join(folder, file, ".."), { recursive: true });
    writeFileSync(join(folder, file), content);
  }
  return folder;
}

function makeDatabase(name: string): string {
  const directory = join(root, name);
  cpSync(template, directory, { recursive: true });
  return directory;
}

const numbered = (count: number): Record<string, string> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`file ${index}`, `content ${index % 1000}`]));

interface Recorded {
  readonly id: string;
  readonly name: string;
  readonly status: string;
  readonly fence: number;
  readonly input: { file?: string; folder?: string };
  readonly output: { sha256?: string; bytes?: number } | null;
  readonly error: string | null;
  readonly finished_at: string | null;
}

async function recorded(database: Queryable): Promise<Recorded[]> {
  const rows = await database.query<{ command: string }>(
    `select json_build_object(
       'id', a.id, 'name', a.name, 'status', a.status, 'fence', a.fence, 'input', a.input, 'output', a.output,
       'error', a.trail->-1->>'message', 'finished_at', a.finished_at)::text as command
     from orchestratum.all_commands a`,
    [],
  );
  return rows.map(({ command }) => JSON.parse(command));
}

async function recordedIn(directory: string): Promise<Recorded[]> {
  await using database = await pglite(directory);
  return await recorded(database);
}

const finishedOf = (commands: readonly Recorded[]): Recorded[] => commands.filter(({ finished_at }) => finished_at);

/** Every file once, with its digest; one report; nothing that was recorded before has changed. */
function expectWhole(commands: readonly Recorded[], files: Record<string, string>, folder: string, before: Recorded[]) {
  const digests = commands.filter(({ name }) => name === "digest_file");
  expect(Object.fromEntries(digests.map(({ input, output }) => [input.file, output?.sha256]))).toEqual(
    Object.fromEntries(
      Object.entries(files).map(([file, content]) => [
        join(folder, file),
        createHash("sha256").update(content).digest("hex"),
      ]),
    ),
  );
  expect(digests).toHaveLength(Object.keys(files).length);
  expect(commands.filter(({ name }) => name === "report")).toHaveLength(1);
  expect(commands.every(({ status }) => status === "succeeded")).toBe(true);
  const byId = new Map(commands.map((command) => [command.id, command]));
  expect(before.map(({ id }) => byId.get(id))).toEqual(before);
}

test("the demo digests a tree, and its table tells of duplicates, of what it skipped and of what failed", async () => {
  const folder = makeFolder("tree", {
    "a.txt": "twice",
    "sub/b.txt": "twice",
    "sub/deeper/c.txt": "once",
    "sub/empty": "",
  });
  symlinkSync("/nowhere", join(folder, "dangling"));
  // A name that is no UTF-8 is read as another one, under which there is no file.
  const unreadable = process.platform === "linux";
  if (unreadable) writeFileSync(Buffer.concat([Buffer.from(`${folder}/bad`), Buffer.from([0xff])]), "");
  const database = join(root, "tree-database");

  const demo = runExample("digest/main", [folder, "--database", database]);
  expect(await demo.ended).toBe(0);
  expect(demo.output).toContain(`Folder:   ${folder}\nDatabase: ${database}\n`);
  for (const row of [
    /^ {2}folders +3$/m,
    /^ {2}files +4$/m,
    /^ {2}bytes +14 \(14 B\)$/m,
    /^ {2}skipped +1 \(/m,
    /^ {2}duplicates +1 group of 2 files$/m,
    /^ {2}wasted +5 bytes \(5 B\)$/m,
    unreadable ? /^ {2}failures +1$/m : /^ {2}failures +0$/m,
    unreadable ? /^ {2}commands +8, of which 0 were tried more than once$/m : /^ {2}commands +7,/m,
    /^ {2}speed .* commands per second$/m,
    /^Slowest files$/m,
    /^ {2}5 B +2 × 5 B +a\.txt$/m,
  ]) {
    expect(demo.output).toMatch(row);
  }
  if (unreadable)
    expect(demo.output).toMatch(/^ {2}digest_file +failed +bad\ufffd: ENOENT: no such file or directory$/m);

  // It is finished, so that the next one is a new run, with figures of its own.
  const again = runExample("digest/main", [folder, "--database", database]);
  expect(await again.ended).toBe(0);
  expect(again.output).not.toContain("Resuming");
  expect(again.output).toMatch(/^ {2}files +4$/m);
  const commands = await recordedIn(database);
  expect(commands.filter(({ name }) => name === "report")).toHaveLength(2);
});

test("the demo walks a folder page by page, and killed twice it redoes nothing that was recorded", async () => {
  const files = numbered(2_500);
  const folder = makeFolder("pages", files);
  const database = makeDatabase("pages-database");
  const args = [folder, "--database", database, ...slowly];

  let before: Recorded[] = [];
  for (const times of [1, 2]) {
    const killed = runExample("digest/main", args);
    await killed.prints(halfWay);
    expect(killed.output.includes("Resuming the run of")).toBe(times === 2);
    killed.kill("SIGKILL");
    expect(await killed.ended).toBe("SIGKILL");
    const now = await recordedIn(database);
    expect(finishedOf(now).length).toBeGreaterThan(before.length);
    expect(finishedOf(now).length).toBeLessThan(now.length);
    before = finishedOf(now);
  }

  const last = runExample("digest/main", [folder, "--database", database]);
  expect(await last.ended).toBe(0);
  expect(last.output).toMatch(/^Resuming the run of .*: [\d,]+ commands are recorded, [\d,]+ are left$/m);
  expect(last.output).toMatch(/^ {2}files +2,500$/m);
  const commands = await recordedIn(database);
  expectWhole(commands, files, folder, before);
  // Three pages, of which each went on with the next.
  expect(commands.filter(({ name }) => name === "walk_folder")).toHaveLength(3);
  // A second lease is what ran when the process was killed, was about to, or had an outcome on its way: four each, twice.
  const leases = commands.reduce((sum, { fence }) => sum + fence, 0);
  expect(leases - commands.length).toBeLessThanOrEqual(2 * 3 * 4);
});

test("the demo finishes what runs at Ctrl-C, ends by the signal, and goes on when it is started again", async () => {
  const files = numbered(1_500);
  const folder = makeFolder("interrupted", files);
  const database = makeDatabase("interrupted-database");

  const interrupted = runExample("digest/main", [folder, "--database", database, ...slowly]);
  await interrupted.prints(halfWay);
  interrupted.kill("SIGINT");
  expect(await interrupted.ended).toBe("SIGINT");
  expect(interrupted.output).toMatch(/^Stopping: what runs finishes first/m);
  expect(interrupted.output).toMatch(/^Stopped after [\d,]+ commands\. Start again to finish the rest\.$/m);
  const before = finishedOf(await recordedIn(database));
  expect(before.length).toBeGreaterThan(0);

  const resumed = runExample("digest/main", [folder, "--database", database]);
  expect(await resumed.ended).toBe(0);
  expect(resumed.output).toMatch(/^Resuming the run of /m);
  expect(resumed.output).not.toContain("are taken over");
  const commands = await recordedIn(database);
  expectWhole(commands, files, folder, before);
  // Nothing was cut short: of no lease anything had to be noted.
  expect(commands.every(({ error }) => error === null)).toBe(true);
});

test("the demo runs on the server that DATABASE_URL names", async () => {
  await using database = await createDatabase({ migrated: false });
  const files = numbered(1_200);
  const folder = makeFolder("server", files);
  const demo = runExample("digest/main", [folder], { DATABASE_URL: database.url });
  expect(await demo.ended).toBe(0);
  expect(demo.output).toContain(`(DATABASE_URL)`);
  expect(demo.output).toMatch(/^ {2}files +1,200$/m);
  expectWhole(await recorded(postgresJs(database.sql)), files, folder, []);
});

test("the demo on a server goes on after it was killed, and redoes nothing that was recorded", async () => {
  await using database = await createDatabase({ migrated: false });
  const files = numbered(3_000);
  const folder = makeFolder("server-killed", files);
  const variables = { DATABASE_URL: database.url };
  const killed = runExample("digest/main", [folder, "--concurrency", "1"], variables);
  await killed.prints(halfWay);
  killed.kill("SIGKILL");
  expect(await killed.ended).toBe("SIGKILL");
  const now = await recorded(postgresJs(database.sql));
  const before = finishedOf(now);
  expect(before.length).toBeGreaterThan(0);
  expect(before.length).toBeLessThan(now.length);

  const resumed = runExample("digest/main", [folder], variables);
  expect(await resumed.ended).toBe(0);
  expect(resumed.output).toMatch(/^Resuming the run of .*: [\d,]+ commands are recorded, [\d,]+ are left$/m);
  expect(resumed.output).toMatch(/^ {2}files +3,000$/m);
  expectWhole(await recorded(postgresJs(database.sql)), files, folder, before);
});

/** What a process loads before the demo: for it the first look at each of these fails as it does where something is short. */
const shortage = `
  import fs from "node:fs/promises";
  import { syncBuiltinESMExports } from "node:module";
  import { basename } from "node:path";
  const troubles = { open: { "busy.txt": "EBUSY", "many.txt": "EMFILE" }, readdir: { crowded: "EMFILE" } };
  for (const [name, codes] of Object.entries(troubles)) {
    const real = fs[name];
    fs[name] = async (path, ...args) => {
      const code = codes[basename(path)];
      delete codes[basename(path)];
      if (code) throw Object.assign(new Error(code + ": not now, " + name + " '" + path + "'"), { code });
      return await real(path, ...args);
    };
  }
  syncBuiltinESMExports();
`;

test("the demo tries again what fails for a time, and its table says how much", async () => {
  const files = { "busy.txt": "a", "many.txt": "b", "crowded/calm.txt": "c" };
  const folder = makeFolder("short", files);
  const database = makeDatabase("short-database");
  const options = { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(shortage)}` };
  const demo = runExample("digest/main", [folder, "--database", database], options);
  expect(await demo.ended).toBe(0);
  expect(demo.output).toMatch(/^ {2}commands +5, of which 3 were tried more than once$/m);
  expect(demo.output).toMatch(/^ {2}failures +0$/m);
  const commands = await recordedIn(database);
  expectWhole(commands, files, folder, []);
  const errors = commands.flatMap(({ error }) => error ?? []).map((error) => error.slice(0, error.indexOf(":")));
  expect(errors.toSorted()).toEqual(["EBUSY", "EMFILE", "EMFILE"]);
});

test.each([
  ["a folder that is not there", [join(root, "missing")], {}, 'missing": there is no such folder'],
  ["a file", [import.meta.filename], {}, "it is no folder"],
  ["a server that is not there", [root], { DATABASE_URL: "postgres://me:secret@127.0.0.1:1/x" }, "ECONNREFUSED"],
  ["a URL of something else", [root], { DATABASE_URL: "mysql://localhost/x" }, "it is no URL of PostgreSQL"],
  [
    "a directory with something else in it",
    [root, "--database", join(root, "..")],
    {},
    "there is something else in it",
  ],
])("the demo refuses %s in a sentence", async (_, args, variables: Record<string, string>, message) => {
  const demo = runExample("digest/main", args, variables);
  expect(await demo.ended).toBe(1);
  expect(demo.output).toContain(message);
  expect(demo.output).not.toMatch(/^ +at /m);
  expect(demo.output).not.toContain("secret");
});

test("the demo says who has its database open", async () => {
  const directory = makeDatabase("open-database");
  await using _ = await pglite(directory);
  const demo = runExample("digest/main", [root, "--database", directory]);
  expect(await demo.ended).toBe(1);
  expect(demo.output).toContain(`Cannot open PGlite directory "${directory}": process ${process.pid} has it open`);
});

test("the demo shows examples when it is asked for help", async () => {
  const demo = runExample("digest/main", ["--help"]);
  expect(await demo.ended).toBe(0);
  expect(demo.output).toMatch(/^ {2}npm run demo -- ~\/Pictures$/m);
});
