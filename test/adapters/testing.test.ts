import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { defineCommand } from "orchestratum";
import { handlersFrom } from "orchestratum/node";
import { createTestOrchestrator, type TestOrchestrator } from "orchestratum/testing";
import * as v from "valibot";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";

const mail = defineCommand({ name: "mail", input: v.object({ to: v.string() }), queue: "mails", retries: 1 });
const report = defineCommand({ name: "report", input: v.number() });
const again = defineCommand({ name: "again" });
const elsewhere = defineCommand({ name: "elsewhere" });

let orchestra: TestOrchestrator;
beforeAll(async () => {
  orchestra = await createTestOrchestrator({
    commands: [elsewhere],
    handlers: [
      report.handle(() => {}, { onSuccess: ({ input }) => mail({ to: `${input}` }, { delayMs: 3_600_000 }) }),
      mail.handle(({ attempt, input }) => {
        if (input.to === "13" && attempt === 1) throw new Error("no");
      }),
      again.handle(() => {}, { onSuccess: () => again() }),
    ],
  });
});
beforeEach(() => orchestra.reset());
afterAll(() => orchestra.close());

const told = (list: readonly { name: string; attempt: number; verdict: string }[]) =>
  list.map(({ name, attempt, verdict }) => `${name} ${attempt} ${verdict}`);

test("drain() works off what is due and leaves what is due later, and what has no handler here", async () => {
  const { push, drain, orchestrator } = orchestra;
  await push([report(1), elsewhere(), report(2, { delayMs: 60_000 })]);
  expect(told(await drain())).toEqual(["report 1 succeeded"]);
  expect(await drain()).toEqual([]);
  expect(orchestrator.isRunning).toBe(false);
  expect(await orchestra.pushed(mail)).toMatchObject([{ input: { to: "1" }, options: { queue: "mails", retries: 1 } }]);
});

test("drain({ forward: true }) brings delays and retries forward, the earliest first", async () => {
  await orchestra.push([report(13, { delayMs: 60_000 }), mail({ to: "x" }, { delayMs: 120_000 })]);
  const ran = await orchestra.drain({ forward: true });
  expect(told(ran)).toEqual(["report 1 succeeded", "mail 1 succeeded", "mail 1 retry", "mail 2 succeeded"]);
  expect(orchestra.ran).toEqual(ran);
  expect(ran[2]?.error).toMatchObject({ message: "no" });
  const [first, second] = await orchestra.pushed(mail);
  expect([first?.parentId, first?.input.to]).toEqual([undefined, "x"]);
  expect([second?.parentId, second?.input.to]).toEqual([ran[0]?.id, "13"]);
});

test("drain() gives up a command that follows itself, and names it", async () => {
  await orchestra.push(again());
  await expect(orchestra.drain({ maxAttempts: 5 })).rejects.toThrow(/^Cannot drain: after \d+ attempts .*\(again\)/);
});

test("reset() forgets everything, and two test orchestrators know nothing of each other", async () => {
  await using other = await createTestOrchestrator({ handlers: [mail.handle(() => {})] });
  await other.push(mail({ to: "a" }));
  expect(await orchestra.pushed(mail)).toEqual([]);
  expect(await other.pushed(mail)).toHaveLength(1);
  await other.drain();
  await other.reset();
  expect(await other.pushed(mail)).toEqual([]);
  expect(other.ran).toEqual([]);
});

const root = mkdtempSync(join(tmpdir(), "orchestratum-handlers-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folders = 0;
/** A folder of modules, which take what they need of the library from the test. */
function folder(files: Readonly<Record<string, string>>): string {
  const path = join(root, `${folders++}`);
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(path, name, ".."), { recursive: true });
    writeFileSync(join(path, name), text);
  }
  return path;
}
const exporting = (name: string) => `export const handler = globalThis.defineForTest("${name}");`;
Object.assign(globalThis, { defineForTest: (name: string) => defineCommand({ name }).handle(() => {}) });

test("handlersFrom() gathers the handlers of a folder's modules, in the order of their paths", async () => {
  const path = folder({
    "b.mjs": exporting("b"),
    "a/inner.js": exporting("a"),
    "a/again.mjs": `export * from "../b.mjs";`,
    "contracts.js": "export const nothing = 1;",
    "b.test.js": "throw new Error('a test')",
    "b.d.ts": "throw new Error('a declaration')",
    "node_modules/x.js": "throw new Error('a package')",
    "notes.txt": "",
  });
  const names = async (from: URL | string) => (await handlersFrom(from)).map(({ contract }) => contract.name);
  expect(await names(path)).toEqual(["b", "a"]);
  expect(await names(pathToFileURL(`${path}/`))).toEqual(["b", "a"]);
});

test("handlersFrom() refuses two handlers for one command, and a folder without any", async () => {
  const twice = folder({ "one.js": exporting("x"), "two.mjs": exporting("x") });
  await expect(handlersFrom(twice)).rejects.toThrow('"x" version 1 has two, in one.js and two.mjs');
  const empty = folder({ "none.js": "export {};" });
  await expect(handlersFrom(empty)).rejects.toThrow(
    `Cannot take handlers from "${empty}": no module of it exports one`,
  );
  await expect(handlersFrom(join(root, "missing"))).rejects.toThrow("ENOENT");
});

test("drain() leaves what is paused, by its queue or its name, and goes on with it when it is resumed", async () => {
  const { push, drain, orchestrator } = orchestra;
  await orchestrator.pauseQueue("mails");
  await orchestrator.pauseName("again");
  await push([report(1), mail({ to: "a" }), again()]);
  expect(told(await drain({ forward: true }))).toEqual(["report 1 succeeded"]);
  await orchestrator.resumeName("again");
  await orchestrator.pauseName("mail");
  await orchestrator.resumeQueue("mails");
  await expect(drain({ maxAttempts: 3 })).rejects.toThrow("(again)");
  await orchestrator.cancel({ name: "again" });
  await orchestrator.resumeName("mail");
  expect(told(await drain())).toEqual(["mail 1 succeeded"]);
});

test("drain() ends where its queue is paused while it works", async () => {
  const pausing = defineCommand({ name: "pausing" });
  await using own = await createTestOrchestrator({
    handlers: [pausing.handle(() => own.orchestrator.pauseQueue("default"), { onSuccess: () => pausing() })],
  });
  await own.push(pausing());
  expect(told(await own.drain())).toEqual(["pausing 1 succeeded"]);
});

test("drain() is refused where its orchestrator is stopped while it works, or was", async () => {
  const stopping = defineCommand({ name: "stopping" });
  await using own = await createTestOrchestrator({
    // What follows is due, and nobody claims it any more.
    handlers: [stopping.handle(() => void own.orchestrator.stop(), { onSuccess: () => stopping() })],
  });
  await own.push(stopping());
  await expect(own.drain()).rejects.toThrow("Cannot drain: the orchestrator was stopped before all was done");
  expect(told(own.ran)).toEqual(["stopping 1 succeeded"]);
  await expect(own.drain()).rejects.toThrow("the orchestrator was stopped");
});

test("reset() forgets statistics, too", async () => {
  const { push, drain, reset, orchestrator } = orchestra;
  const countedUntil = async () => (await orchestrator.stats()).until;
  // Whether a worker counts before it stops is its own affair.
  await vi.waitFor(async () => {
    await push(report(1));
    await drain();
    expect(await countedUntil()).toBeInstanceOf(Date);
  }, 20_000);
  await reset();
  // What was read a moment ago is answered again.
  await vi.waitFor(async () => expect(await countedUntil()).toBe(undefined), 20_000);
});
