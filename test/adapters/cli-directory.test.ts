/** The command line on the embedded database: from an empty folder to commands that were run. */

import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { checkout, type Ended, folder, run, typescript } from "./cli-process.ts";

const project = join(folder, "My App");

const orchestratum = (args: string[], cwd = project): Promise<Ended> => run(args, { cwd });

let initialised: Ended;

beforeAll(async () => {
  initialised = await orchestratum(["init", "My App"], folder);
  // What `npm install` would bring, without asking a registry; the library itself is this checkout, by TSX_TSCONFIG_PATH.
  for (const name of ["@electric-sql/pglite", "valibot", "tsx"]) {
    const to = join(project, "node_modules", name);
    mkdirSync(dirname(to), { recursive: true });
    symlinkSync(join(checkout, "node_modules", name), to);
  }
});

test("init writes a project, says what comes next, and names its packages", () => {
  expect(initialised).toMatchObject({ code: 0, stderr: "" });
  expect(initialised.stdout).toMatch(
    /^Wrote package\.json, .*README\.md\n\nNext:\n {2}cd "My App"\n {2}npm install\n {2}npm start\n$/,
  );
  const own = JSON.parse(readFileSync(join(checkout, "package.json"), "utf8"));
  const made = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));
  expect(made).toMatchObject({ name: "my-app", private: true, type: "module" });
  expect(made.dependencies.orchestratum).toBe(`^${own.version}`);
  expect(made.dependencies["@electric-sql/pglite"]).toBe(own.peerDependencies["@electric-sql/pglite"]);
  expect(
    readFileSync(join(project, "README.md"), "utf8")
      .split("\n")
      .filter((line) => line !== ""),
  ).toHaveLength(5);
});

test("init overwrites nothing", async () => {
  const before = readdirSync(project);
  const { code, stderr } = await orchestratum(["init"]);
  expect(code).toBe(2);
  expect(stderr).toMatch(/^Cannot make a project: folder must be new or empty, and "\." has "/);
  expect(readdirSync(project)).toEqual(before);
  writeFileSync(join(folder, "file"), "");
  expect(await orchestratum(["init", "file"], folder)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("is a file"),
  });
});

test("what init writes type-checks under its own strict options", async () => {
  const path = join(folder, "tsconfig.json");
  const { compilerOptions } = JSON.parse(readFileSync(join(project, "tsconfig.json"), "utf8"));
  const { paths } = JSON.parse(readFileSync(join(checkout, "tsconfig.json"), "utf8")).compilerOptions;
  const absolute = Object.entries<string[]>(paths).map(([name, [to]]) => [name, [join(checkout, to as string)]]);
  const options = {
    ...compilerOptions,
    // For the sources of the library, which stand here in the place of its declarations.
    lib: [...compilerOptions.lib, "es2024.string"],
    paths: Object.fromEntries(absolute),
    types: ["node"],
    typeRoots: [join(checkout, "node_modules/@types")],
  };
  writeFileSync(path, JSON.stringify({ compilerOptions: options, include: [`${project}/*.ts`] }));
  const tsc = join(checkout, "node_modules/.bin/tsc");
  const checked = promisify(execFile)(tsc, ["-p", path]);
  // What it finds it says on stdout; where that is empty, it did not even start, or was killed.
  expect(await checked.catch(({ stdout, message }) => ({ stdout: stdout || message }))).toMatchObject({ stdout: "" });
});

test("what init writes runs, and the command line works on its directory", async () => {
  const started = await run(["app.ts"], { cwd: project, words: typescript });
  expect(started).toMatchObject({ code: 0, stdout: expect.stringMatching(/^[0-9a-f-]{36} Hello, Ada!\n$/) });
  const [id = ""] = started.stdout.split(" ");
  const data = ["--database", "./data"];

  const status = await orchestratum(["status", id, ...data]);
  expect(status).toMatchObject({ code: 0, stdout: expect.stringMatching(/^output +\{"greeting":"Hello, Ada!"\}$/m) });
  expect((await orchestratum(["timeline", id, ...data])).stdout).toMatch(/ pushed\n.* leased: succeeded /);

  // Its worker has registered the handler, so nothing is said of an unknown name.
  const pushed = await orchestratum(["push", "greet", '{"name": "Grace"}', ...data]);
  expect(pushed).toMatchObject({ code: 0, stderr: "" });
  const waiting = await orchestratum(["push", "greet", "{}", "--wait", ...data]);
  expect(waiting).toMatchObject({ code: 2, stderr: expect.stringContaining("would wait for ever") });
  const tailed = await orchestratum(["tail", ...data]);
  expect(tailed).toMatchObject({ code: 2, stderr: expect.stringContaining("in a directory nothing ends meanwhile") });
  const listed = await orchestratum(["list", "--json", ...data]);
  const statuses = JSON.parse(listed.stdout).commands.map((command: { status: string }) => command.status);
  expect(statuses).toEqual(["pending", "succeeded"]);
  expect(await orchestratum(["cancel", pushed.stdout.trim(), ...data])).toMatchObject({ code: 0 });
  expect((await orchestratum(["queues", ...data])).stdout).toBe("No queues\n");
});

test("a directory without a database is told of, and not filled", async () => {
  const { code, stderr } = await orchestratum(["list", "--database", "./dta"]);
  expect(code).toBe(1);
  expect(stderr).toContain('Cannot open database "./dta": there is none in this directory');
  expect(readdirSync(project)).not.toContain("dta");
});
