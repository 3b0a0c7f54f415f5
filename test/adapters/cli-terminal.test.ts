/** What the command line does on a terminal only: colours, questions, progress. `script` of util-linux is the terminal. */

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createOrchestrator, defineCommand, type Orchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import { command, environment, folder } from "./cli-process.ts";

const greet = defineCommand({ name: "greet", queue: "mail" });

let database: Database;
let orchestrator: Orchestrator;

beforeAll(async () => {
  database = await createDatabase();
  orchestrator = createOrchestrator({ database: postgresJs(database.sql), commands: [greet] });
});
afterAll(async () => {
  await orchestrator.stop();
  await database.drop();
});

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** Runs the command line on a terminal; `answer` is typed when it asks something. Both outputs come as one. */
function onTerminal(
  args: string[],
  { answer, env = {} }: { answer?: string; env?: Record<string, string> } = {},
): Promise<{ code: number | null; shown: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn("script", ["-qec", [...command, ...args].map(quoted).join(" "), "/dev/null"], {
      env: environment({ TERM: "xterm", DATABASE_URL: database.url, ...env }),
      stdio: ["pipe", "pipe", "inherit"],
    });
    let shown = "";
    let asked = false;
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      shown += text;
      if (asked || !shown.includes("[y/N]")) return;
      asked = true;
      child.stdin.write(`${answer ?? ""}\n`);
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, shown }));
  });
}

const escape = "\x1b";

test("a table has colours on a terminal, and none where NO_COLOR or a dumb terminal says so", async () => {
  const { id } = await orchestrator.push(greet());
  await orchestrator.cancel(id);
  const coloured = await onTerminal(["list", "--status", "cancelled", "--from", "1h"]);
  expect(coloured.shown).toContain(`${escape}[33mcancelled${escape}[0m`);
  for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) {
    const { code, shown } = await onTerminal(["list", "--status", "cancelled", "--from", "1h"], { env });
    expect([code, shown.includes(escape)]).toEqual([0, false]);
    expect(shown).toContain("cancelled");
  }
});

test("cancel asks before it takes many, and takes no for an answer", async () => {
  const pushed = await orchestrator.push([greet(), greet()]);
  const ids = pushed.map(({ id }) => id as string);
  for (const answer of ["n", "", "what?"]) {
    const { code, shown } = await onTerminal(["cancel", ...ids], { answer });
    expect(shown).toContain("Cancel 2 commands? [y/N]");
    expect(code).not.toBe(0);
    expect((await orchestrator.get(ids[0] ?? ""))?.status).toBe("pending");
  }
  expect((await onTerminal(["cancel", ...ids], { answer: "y" })).code).toBe(0);
  for (const id of ids) expect((await orchestrator.get(id))?.status).toBe("cancelled");
});

test("erase asks on a terminal, and --yes answers beforehand", async () => {
  const { id } = await orchestrator.push(greet({ to: "ada@example.com" }));
  await orchestrator.cancel(id);
  const refused = await onTerminal(["erase", id], { answer: "n" });
  expect(refused.shown).toContain("Erase the data of 1 command, for good? [y/N]");
  expect((await orchestrator.get(id))?.input).toEqual({ to: "ada@example.com" });
  const done = await onTerminal(["erase", id, "--yes"]);
  expect([done.code, done.shown.includes("[y/N]")]).toEqual([0, false]);
  expect((await orchestrator.get(id))?.input).toBe(undefined);
});

test("what takes long shows how far it is, and takes the bar away at its end", async () => {
  const file = join(folder, "many.jsonl");
  writeFileSync(file, '{"to":"ada@example.com"}\n'.repeat(40_000));
  const { code, shown } = await onTerminal(["push", "greet", "--many", "--file", file, "--queue", "many"]);
  expect(code).toBe(0);
  expect(shown).toMatch(/\r\x1b\[KPushing greet {2}[█░]+ +\d+ % {2}[\d,]+ of 40,000 commands/);
  // The last bar is taken away before anything else is said.
  expect(shown.slice(shown.lastIndexOf("Pushing greet"))).toContain(`\r${escape}[K`);
});
