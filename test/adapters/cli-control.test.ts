/** The commands that ask and act, on a server: each as a process of its own, as an operator runs it. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createOrchestrator, defineCommand, type Orchestrator } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDatabase, type Database } from "../database.ts";
import * as cli from "./cli-process.ts";

const run = (args: string[], { input = "", url = database.url } = {}) =>
  cli.run(args, { input, env: { DATABASE_URL: url } });

const json = async (args: string[]): Promise<any> => {
  const { code, stdout, stderr } = await run([...args, "--json"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
};

const unknownId = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";
const secret = "secret-of-ada";

const greet = defineCommand({ name: "greet", queue: "mail", priority: 2, retries: 0 });
const greetHandler = greet.handle(({ input }) => {
  const { fail } = (input ?? {}) as { fail?: boolean };
  if (fail) throw new Error("The mailbox is\n\x1b[31mfull");
});

let database: Database;
let orchestrator: Orchestrator;

beforeAll(async () => {
  database = await createDatabase();
  orchestrator = createOrchestrator({ database: postgresJs(database.sql), handlers: [greetHandler] });
  await orchestrator.startWorker({ queues: ["mail"] }).started;
});
afterAll(async () => {
  await orchestrator.stop();
  await database.drop();
});

test("push takes the defaults that a handler has registered, and options over them", async () => {
  const { id } = await json(["push", "greet", '{"name": "Ada"}', "--delay-ms", "3600000"]);
  expect(await orchestrator.get(id)).toMatchObject({
    ...{ name: "greet", queue: "mail", priority: 2, retriesLeft: 1, input: { name: "Ada" }, status: "scheduled" },
  });
  const options = ["--queue", "other", "--priority", "0", "--retries", "7", "--timeout-ms", "5", "--version", "3"];
  const other = await json(["push", "greet", "--run-at", "2d", ...options]);
  expect(await orchestrator.get(other.id)).toMatchObject({
    ...{ queue: "other", priority: 0, retriesLeft: 8, timeoutMs: 5, version: 3, input: undefined, status: "scheduled" },
  });
});

test("push tells of a name that nobody handles, and pushes nevertheless", async () => {
  const { code, stdout, stderr } = await run(["push", "gret", "--queue", "none"]);
  expect(code).toBe(0);
  expect(stderr).toBe('No worker has said yet that it has a handler for "gret"; did you mean "greet"?\n');
  expect(await orchestrator.get(stdout.trim())).toMatchObject({ name: "gret", status: "pending" });
});

test("push reads its input from standard input and from a file", async () => {
  const piped = await run(["push", "greet", "-", "--queue", "none"], { input: '{"from": "stdin"}\n' });
  expect(await orchestrator.get(piped.stdout.trim())).toMatchObject({ input: { from: "stdin" } });
  writeFileSync(join(cli.folder, "input.json"), '["file"]');
  const filed = await run(["push", "greet", "--file", "input.json", "--queue", "none"]);
  expect(await orchestrator.get(filed.stdout.trim())).toMatchObject({ input: ["file"] });
});

test("push with an id of one's own can be repeated, and is refused for another input", async () => {
  const id = "01999f3e-7c1b-7000-8000-000000000001";
  for (let time = 1; time <= 2; time++) {
    expect(await run(["push", "greet", "1", "--id", id, "--queue", "none"])).toMatchObject({
      code: 0,
      stdout: `${id}\n`,
    });
  }
  expect(await run(["push", "greet", "2", "--id", id, "--queue", "none"])).toMatchObject({
    code: 1,
    stderr: `Cannot push command ${id}: its id was pushed before with another name or input\n`,
  });
});

test("push --many pushes a command a line, and keeps what stands before a wrong one", async () => {
  const lines = Array.from({ length: 1_500 }, (_, number) => JSON.stringify({ number }));
  const all = await run(["push", "bulk", "-", "--many", "--queue", "bulk"], { input: `${lines.join("\n")}\n\n` });
  expect(all).toMatchObject({ code: 0, stdout: "Pushed 1,500 commands\n" });
  const bad = [...lines.slice(0, 1_200), "{oops", ...lines.slice(1_200)].join("\n");
  const partly = await run(["push", "bulk", "-", "--many", "--json", "--queue", "bulk"], { input: bad });
  expect(partly.code).toBe(5);
  expect(partly.stdout.trim().split("\n")).toHaveLength(1_000);
  expect(partly.stderr).toContain("line 1201 of standard input must be JSON");
  expect(partly.stderr).toContain("1,000 commands of lines 1 to 1000 were pushed before; go on with line 1001");
  // A database that goes away midway: nobody knows whether it took what it did not answer.
  await database.sql`
    create function gone() returns trigger language plpgsql as $$ begin raise exception 'gone' using errcode = '57P03'; end $$`;
  await database.sql`
    create trigger gone before insert on orchestratum.command for each row
    when (new.input ->> 'number' = '1200') execute function gone()`;
  const cut = await run(["push", "bulk", "-", "--many", "--queue", "bulk"], { input: lines.join("\n") });
  await database.sql`drop function gone cascade`;
  expect(cut.code).toBe(5);
  expect(cut.stderr).toMatch(/^Cannot reach the database at 127\.0\.0\.1:\d+\S* \(from DATABASE_URL\): gone$/m);
  expect(cut.stderr).toContain(
    "lines 1 to 1000 were pushed before; whether more were is not known: look for them before you go on with line 1001",
  );
  const none = await run(["push", "bulk", "-", "--many", "--queue", "bulk"], { input: "{oops" });
  expect(none.code).toBe(2);
  const queues = await json(["queues"]);
  expect(queues.find(({ queue }: { queue: string }) => queue === "bulk")).toMatchObject({
    pending: 3_500,
    paused: false,
  });
});

test("push --wait ends as the command does, without its payload", async () => {
  const good = await run(["push", "greet", JSON.stringify({ secret }), "--wait"]);
  expect(good).toMatchObject({ code: 0, stdout: expect.stringMatching(/^[0-9a-f-]{36} succeeded\n$/) });
  const bad = await run(["push", "greet", JSON.stringify({ fail: true, secret }), "--wait"]);
  expect(bad.code).toBe(4);
  expect(bad.stdout).toMatch(/^[0-9a-f-]{36} failed: error: The mailbox is \[31mfull\n$/);
  const late = await run(["push", "greet", "--queue", "none", "--wait-ms", "50"]);
  expect(late).toMatchObject({ code: 5, stderr: expect.stringContaining("has not ended within 50 ms") });
  expect(good.stdout + bad.stdout + bad.stderr).not.toContain(secret);
});

test("status shows a command with its payload, and its exit code is how it ended", async () => {
  const { id } = await orchestrator.push(greet({ fail: true, secret }));
  await orchestrator.waitFor(id);
  const shown = await run(["status", id.toUpperCase()]);
  expect(shown.code).toBe(4);
  expect(shown.stdout).toMatch(/^status +failed$/m);
  expect(shown.stdout).toContain(secret);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what must not be there.
  expect(shown.stdout).not.toMatch(/\x1b/);
  const document = await run(["status", id, "--json"]);
  expect(document.code).toBe(4);
  expect(JSON.parse(document.stdout)).toMatchObject({ id, status: "failed", input: { fail: true, secret } });
  expect(await run(["status", unknownId])).toMatchObject({ code: 3, stdout: "" });
  expect(await run(["status", id, "--wait"])).toMatchObject({ code: 4, stdout: expect.stringMatching(/ failed: /) });
});

test("status shows a command that lost a lease before that had a message", async () => {
  const { id } = await orchestrator.push(greet(undefined, { queue: "lost" }));
  const at = new Date().toISOString();
  const entry = { code: "lost", fence: 1, attempt: 1, worker: "gone", started_at: at, ended_at: at };
  await database.sql`update orchestratum.command set trail = ${JSON.stringify([entry])}::text::jsonb where id = ${id}`;
  expect(await run(["status", id])).toMatchObject({
    ...{ code: 0, stderr: "", stdout: expect.stringMatching(/^ +1 +1 .* gone +lost$/m) },
  });
  for (const command of ["timeline", "explain", "list"]) {
    const { code, stderr } = await run(
      command === "list" ? [command, "--queue", "lost", "--from", "1h"] : [command, id],
    );
    expect({ command, code, stderr }).toEqual({ command, code: 0, stderr: "" });
  }
  await run(["cancel", id]);
});

test("timeline shows the leases of a command, and knows no other one", async () => {
  const { id } = await orchestrator.push(greet({ fail: true, secret }));
  await orchestrator.waitFor(id);
  const { stdout } = await run(["timeline", id]);
  expect(stdout).toMatch(/ pushed\n.* leased: failed .*The mailbox is.*\n.* failed/);
  expect(stdout).not.toContain(secret);
  expect(await json(["timeline", id])).toMatchObject({ command: { id, status: "failed" }, children: [] });
  expect(await run(["timeline", unknownId])).toMatchObject({ code: 3, stdout: "" });
});

test("list goes from page to page by the cursor that it prints", async () => {
  const ids = await Promise.all([1, 2, 3].map(() => orchestrator.push(greet(undefined, { queue: "paged" }))));
  const filter = ["list", "--queue", "paged", "--status", "pending,running"];
  const first = await run([...filter, "--limit", "2"]);
  expect(first.stdout).toMatch(/^id +name +queue +status/);
  const [, cursor = ""] = /More: --cursor (\S+)/.exec(first.stdout) ?? [];
  const second = await json([...filter, "--limit", "2", "--cursor", cursor]);
  expect(second.commands.map(({ id }: { id: string }) => id)).toEqual([ids[2]?.id]);
  expect(second).not.toHaveProperty("cursor");
  expect((await json([...filter, "--from", "1h"])).commands).toHaveLength(3);
  expect((await run([...filter, "--to", "1h"])).stdout).toBe("No commands\n");
  expect(first.stdout.includes(secret)).toBe(false);
});

test("list shows when what backs off is tried next", async () => {
  const { id } = await orchestrator.push(greet(undefined, { queue: "backing-off" }));
  const { stdout: due } = await run(["list", "--queue", "backing-off", "--status", "pending"]);
  const snapshot = await orchestrator.get(id);
  expect(due).toContain(snapshot?.createdAt.toISOString().slice(0, 10));
  await database.sql`update orchestratum.command set available_at = '2100-01-02T03:04:05Z' where id = ${id}`;
  const { stdout } = await run(["list", "--queue", "backing-off", "--status", "scheduled"]);
  expect(stdout).toMatch(/ scheduled .* 2100-01-02 03:04:05Z$/m);
  await run(["cancel", id]);
});

test("cancel takes ids, or a filter of which a dry run says how many it finds", async () => {
  const [one, two] = await orchestrator.push([
    greet(undefined, { queue: "idle" }),
    greet(undefined, { queue: "idle" }),
    greet(undefined, { queue: "idle" }),
  ]);
  expect(await run(["cancel", one.id, "--by", "Ada"])).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(new RegExp(`${one.id} +cancelled`)),
  });
  const mixed = await run(["cancel", one.id, two.id, unknownId, "--json"]);
  expect(mixed.code).toBe(5);
  expect(JSON.parse(mixed.stdout).results).toEqual({
    [one.id]: "finished",
    [two.id]: "cancelled",
    [unknownId]: "unknown",
  });
  expect((await run(["cancel", unknownId])).code).toBe(3);
  const filter = ["cancel", "--queue", "idle"];
  expect(await run([...filter, "--dry-run"])).toMatchObject({ code: 0, stdout: "Would cancel 1 command\n" });
  expect(await run(filter)).toMatchObject({ code: 0, stdout: "Cancelled 1 command\n" });
  expect(await run([...filter, "--dry-run"])).toMatchObject({ stdout: "Would cancel 0 commands\n" });
  const acts = await orchestrator.acts();
  expect(acts).toContainEqual(expect.objectContaining({ by: "Ada", kind: "cancel", affected: 1 }));
});

test("retry runs a command again with a corrected input, or all that a filter finds", async () => {
  const commands = await orchestrator.push(
    [1, 2].map(() => greet({ fail: true }, { metadata: { correlationId: "order-1" } })),
  );
  await Promise.all(commands.map(({ id }) => orchestrator.waitFor(id)));
  const [one = "", two = ""] = commands.map(({ id }): string => id);
  expect(await json(["retry", one, "--input", '{"fail": false}'])).toEqual({ results: { [one]: "retried" } });
  expect(await orchestrator.waitFor(one)).toMatchObject({ status: "succeeded" });
  expect(await run(["retry", "--correlation", "order-1", "--dry-run"])).toMatchObject({
    stdout: "Would retry 1 command\n",
  });
  expect(await json(["retry", "--correlation", "order-1"])).toEqual({ count: 1, busy: 0 });
  expect(await orchestrator.waitFor(two)).toMatchObject({ status: "failed" });
});

test("retry reads a corrected input from standard input and from a file", async () => {
  const { id } = await orchestrator.push(greet({ fail: true }));
  writeFileSync(join(cli.folder, "corrected.json"), '{"from": "file"}');
  for (const [args, input, wanted] of [
    [["--input", "-"], '{"from": "stdin"}\n', { from: "stdin" }],
    [["--file", "corrected.json"], "", { from: "file" }],
    [["--file", "-"], "null", null],
  ] as const) {
    await orchestrator.waitFor(id);
    expect(await run(["retry", id, ...args], { input })).toMatchObject({ code: 0 });
    expect((await orchestrator.get(id))?.input).toEqual(wanted);
  }
});

test("erase wants --yes where nobody can be asked, and takes the data away", async () => {
  const { id } = await orchestrator.push(greet({ secret }));
  await orchestrator.waitFor(id);
  const unsure = await run(["erase", id]);
  expect(unsure).toMatchObject({ code: 2, stderr: expect.stringContaining("pass --yes") });
  expect((await orchestrator.get(id))?.input).toEqual({ secret });
  expect(await json(["erase", id, "--yes"])).toEqual({ results: { [id]: "erased" } });
  expect((await run(["status", id])).stdout).not.toContain(secret);
});

test("pause and resume a queue, and queues shows who did it", async () => {
  expect(await run(["pause", "mail", "--by", "Ada"])).toMatchObject({ code: 0, stdout: "Paused queue mail\n" });
  expect(await run(["pause", "mail"])).toMatchObject({ code: 0, stdout: "Queue mail was paused already\n" });
  expect((await run(["queues"])).stdout).toMatch(/^mail .*since \S+ \S+ by Ada$/m);
  expect(await run(["resume", "mail"])).toMatchObject({ code: 0, stdout: "Resumed queue mail\n" });
  expect(await json(["resume", "mail"])).toEqual({ queue: "mail", paused: false, changed: false });
});

test("pause and resume take a name of commands, and queues shows it where some live", async () => {
  const { id } = await json(["push", "greet", "{}", "--queue", "named", "--delay-ms", "3600000"]);
  expect(await run(["pause", "--name", "greet"])).toMatchObject({ code: 0, stdout: "Paused name greet\n" });
  expect(await run(["pause", "--name", "greet"])).toMatchObject({ stdout: "Name greet was paused already\n" });
  expect((await run(["queues"])).stdout).toMatch(/^named .*greet$/m);
  expect(await json(["resume", "--name", "greet"])).toEqual({ name: "greet", paused: false, changed: true });
  expect((await run(["queues"])).stdout).not.toMatch(/^named .*greet$/m);
  await run(["cancel", id]);
});

test("queues shows paused names below, also where none of their commands lives", async () => {
  await run(["pause", "--name", "slow", "--by", "Ada"]);
  const { stdout } = await run(["queues"]);
  expect(stdout).toMatch(/\n\nname +paused\nslow +since 20\S+ \S+Z by Ada\n$/);
  expect(Array.isArray(await json(["queues"]))).toBe(true);
  await run(["resume", "--name", "slow"]);
  expect((await run(["queues"])).stdout).not.toContain("slow");
});

test("pause tells of a queue that nobody serves and in which nothing waits, and pauses it nevertheless", async () => {
  expect(await run(["pause", "mial"])).toEqual({
    code: 0,
    stdout: "Paused queue mial\n",
    stderr: 'No worker serves queue "mial", and nothing waits in it; did you mean "mail"?\n',
  });
  expect(await run(["pause", "nosuchqueue"])).toMatchObject({
    stderr: 'No worker serves queue "nosuchqueue", and nothing waits in it: is that its name?\n',
  });
  expect(await run(["pause", "mail"])).toMatchObject({ code: 0, stderr: "" });
  const { id } = await orchestrator.push(greet(undefined, { queue: "unserved", delayMs: 60_000 }));
  expect(await run(["pause", "unserved"])).toMatchObject({ code: 0, stderr: "" });
  for (const queue of ["mial", "nosuchqueue", "mail", "unserved"]) await run(["resume", queue]);
  await run(["cancel", id]);
});

test("queues and stats count hook commands where they are asked for", async () => {
  const { id } = await json(["push", "greet", "{}", "--queue", "hooked", "--delay-ms", "3600000"]);
  await database.sql`update orchestratum.command set hook = 'failure' where id = ${id}`;
  for (const command of ["queues", "stats"]) {
    expect((await run([command])).stdout, command).not.toMatch(/^hooked /m);
    expect((await run([command, "--hooks"])).stdout, command).toMatch(/^hooked +1 +0 +0/m);
  }
  await run(["cancel", id]);
});

test("stats shows queues, names and workers", async () => {
  const { stdout } = await run(["stats"]);
  expect(stdout).toMatch(/^queue +scheduled/m);
  expect(stdout).toMatch(/^name +scheduled/m);
  const { queues, names } = await json(["stats"]);
  expect(queues.length).toBeGreaterThan(0);
  expect(names.map(({ name }: { name: string }) => name)).toContain("greet");
});

test.each([
  [["push"], "the name of a command is wanted"],
  [["push", "greet", "{name}"], "input must be JSON"],
  [["push", "greet", '{"id": 12345678901234567890}'], "12345678901234567890, which would be rounded"],
  [["push", "greet", "{}", "--priority", "10"], '--priority must be an integer from 0 to 9, got "10"'],
  [["push", "greet", "{}", "--delay-ms", "-5"], '--delay-ms must be an integer from 0 to 3155760000000, got "-5"'],
  [["push", "greet", "--delay-ms", "-5", "{}"], "--delay-ms must be an integer from 0"],
  [["push", "greet", "{}", "--queue", "a b"], "queue must be free of white space"],
  [["push", "greet", "{}", "--run-at", "tomorrow"], "--run-at must be a time"],
  [["push", "greet", "{}", "--run-at", "1h", "--delay-ms", "1"], "both --delay-ms and --run-at"],
  [["push", "greet", "{}", "--id", "7"], 'an id must be a UUID, got "7"'],
  [["push", "greet", "--many"], "--file <path>"],
  [["push", "greet", "--file", "none.json"], "there is no such file"],
  [["status", "7"], 'an id must be a UUID, got "7"'],
  [["status"], "one id is wanted, got 0"],
  [["list", "--status", "faild"], "status must be one of scheduled, pending"],
  [["list", "--queue", "mail"], "--from must be given with queue"],
  [["list", "--from", "yesterday"], "--from must be a time"],
  [["list", "--stauts", "failed"], 'there is no option "--stauts"; did you mean "--status"?'],
  [["list", "--cursor", "abc"], "cursor must be one that an earlier page gave"],
  [["list", "mail"], 'it takes options only, got "mail"'],
  [["cancel"], "which? Name ids, or at least one of --status"],
  [["cancel", unknownId, "--queue", "mail"], "ids and a filter are given"],
  [["cancel", "--status", "failed"], "status must be one of scheduled, pending, running"],
  [["retry", "--input", "1", "--queue", "mail"], "one id is wanted"],
  [["retry", unknownId, unknownId, "--file", "-"], "one id is wanted"],
  [["retry", unknownId, "--input", "1", "--file", "-"], "input is given twice, by --input and by --file"],
  [["retry", unknownId, "--input", "-"], "input must be JSON"],
  [["retry", unknownId, "--file", "none.json"], "there is no such file"],
  [["retry", unknownId, "--input", "1", "--dry-run"], "--dry-run is for a filter"],
  [["retry", unknownId, "--input", "1", "--queue", "mail"], "ids and a filter are given"],
  [["erase"], "at least one id is wanted"],
  [["pause"], "one queue, or a name by --name, is wanted, got 0"],
  [["pause", "mail", "--name", "greet"], "is wanted, got 1 and a name"],
  [["resume", "--name", ""], "name must"],
  [["resume", "a b"], "queue must be free of white space"],
  [["queus"], 'there is no such command; did you mean "queues"?'],
])("orchestratum %j is misuse: exit code 2 and the way out", async (args, reason) => {
  const { code, stdout, stderr } = await run(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(reason);
  expect(stderr).toContain("Usage: orchestratum");
  expect(stderr).toContain("--help says more.");
});

test("a database without the schema is told of, with what to run", async () => {
  await using empty = await createDatabase({ migrated: false });
  const { code, stderr } = await run(["list"], { url: empty.url });
  expect(code).toBe(1);
  expect(stderr).toContain("npx orchestratum migrate");
});
