/** What the command line does on a terminal only: colours, questions, progress. `script` of util-linux is the terminal. */

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CommandFilter, createOrchestrator, defineCommand, type Orchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import type { Sql, TransactionSql } from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { signal } from "../conformance.ts";
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

interface OnTerminal {
  /** What is typed when it asks something. */
  readonly answer?: string;
  readonly env?: Record<string, string>;
  /** Is told what has been shown so far. */
  readonly onShown?: (shown: string) => void;
}

/** Runs the command line on a terminal. Both outputs come as one. */
function onTerminal(
  args: string[],
  { answer, env = {}, onShown }: OnTerminal = {},
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
      onShown?.(shown);
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

interface Watched extends OnTerminal {
  /** Keeps it from its end, in a transaction that is rolled back. */
  readonly hold: (tx: TransactionSql) => Promise<unknown>;
  /** @default the database of all tests here */
  readonly sql?: Sql;
}

/** Runs it on a terminal, with what `hold` locks held until a bar was shown. Answers what stands behind the last bar. */
async function watched(args: string[], bar: RegExp, options: Watched): Promise<string> {
  const { hold, sql = database.sql, ...others } = options;
  const seen = signal();
  const undone = new Error("undone");
  let rolledBack: Promise<void> = Promise.resolve();
  await new Promise<void>((held, failed) => {
    const holder = sql.begin(async (tx) => {
      await hold(tx);
      held();
      await seen.got();
      throw undone;
    });
    holder.catch(failed);
    rolledBack = expect(holder).rejects.toBe(undone);
  });
  const onShown = (shown: string): void => void (bar.test(shown) && seen.give());
  const { code, shown } = await onTerminal(args, { ...others, onShown }).finally(seen.give);
  await rolledBack;
  expect(shown).toMatch(bar);
  expect(code).toBe(0);
  return shown.slice(shown.lastIndexOf("\r\x1b[K"));
}

/** Commands that one statement does not take, in a queue of their own. */
async function pushMany(queue: string): Promise<string[]> {
  const pushed = [
    ...(await orchestrator.push(Array.from({ length: 1_000 }, () => greet(undefined, { queue })))),
    await orchestrator.push(greet(undefined, { queue })),
  ];
  return pushed.map(({ id }): string => id);
}

test("cancel, retry and erase of many ids show how many of them are done", async () => {
  const ids = await pushMany("by-id");
  const last = ids.at(-1) as string;
  const bar = (label: string): RegExp => new RegExp(`\\r\\x1b\\[K${label} {2}█+░* +99 % {2}1,000 of 1,001 commands`);
  const live = (tx: TransactionSql) => tx`select from orchestratum.command where id = ${last} for update`;
  const ended = (tx: TransactionSql) => tx`select from orchestratum.history where id = ${last} for update`;
  const after = await watched(["cancel", ...ids, "--yes"], bar("Cancelling"), { hold: live });
  expect(after).toContain(last);
  expect(after).not.toContain("Cancelling");
  await watched(["retry", ...ids, "--yes"], bar("Retrying"), { hold: ended });
  await orchestrator.cancel(ids);
  await watched(["erase", ...ids, "--yes"], bar("Erasing"), { hold: ended });
});

test("cancel and retry by filter show how many it has been, and of how many where they have asked", async () => {
  await pushMany("by-filter");
  const lastOf = async (filter: CommandFilter): Promise<string> => {
    const { cursor } = await orchestrator.list(filter, { limit: 1_000 });
    const { commands } = await orchestrator.list(filter, { limit: 1_000, cursor });
    expect(commands).toHaveLength(1);
    return commands[0]?.id as string;
  };
  const live = await lastOf({ queue: "by-filter", status: "pending" });
  await watched(["cancel", "--queue", "by-filter"], /\r\x1b\[KCancelling {2}█+░* +99 % {2}1,000 of 1,001 commands/, {
    ...{ answer: "y", hold: (tx) => tx`select from orchestratum.command where id = ${live} for update` },
  });
  const from = new Date(Date.now() - 3_600_000);
  const ended = await lastOf({ queue: "by-filter", status: "cancelled", from });
  const filter = ["--queue", "by-filter", "--status", "cancelled", "--from", "1h"];
  await watched(["retry", ...filter, "--yes"], /\r\x1b\[KRetrying {2}1,000 commands {2}[\d,]+\/s {2}\d+ s/, {
    hold: (tx) => tx`select from orchestratum.history where id = ${ended} for update`,
  });
});

test("migrate shows for how long it has been at it", async () => {
  await using empty = await createDatabase({ migrated: false });
  const after = await watched(["migrate"], /\r\x1b\[KMigrating {2}\d+ s/, {
    ...{ sql: empty.sql, env: { DATABASE_URL: empty.url } },
    // Whoever makes the same schema waits for it.
    hold: (tx) => tx`create schema orchestratum`,
  });
  expect(after).toMatch(/^\r\x1b\[KApplied: 0001_/);
});
