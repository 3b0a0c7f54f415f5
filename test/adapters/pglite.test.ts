import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { PGlite } from "@electric-sql/pglite";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { type PgliteDatabase, pglite } from "../../adapters/pglite.ts";

let database: PgliteDatabase;
beforeAll(async () => {
  database = await pglite();
  await database.script("create table note (text text not null)");
});
afterAll(() => database.close());

const folder = mkdtempSync(join(tmpdir(), "orchestratum-pglite-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

afterEach(() => void vi.useRealTimers());

const wouldDeadlock = expect.objectContaining({
  code: "ORCHESTRATUM_WOULD_DEADLOCK",
  message: expect.stringMatching(
    /^Cannot run a statement beside an open PGlite transaction: .*; pass the transaction on, as in \{ db: pglite\(tx\) \}$/,
  ),
});

const notes = async (): Promise<string[]> =>
  (await database.query<{ text: string }>("select text from note order by text", [])).map(({ text }) => text);

const add = (text: string) => database.query("insert into note (text) values ($1::text)", [text]);

afterEach(async () => {
  await database.query("delete from note", []);
});

test("pglite() refuses a statement sent from within an open transaction, but not on it", async () => {
  await database.pglite.transaction(async (tx) => {
    await expect(add("beside")).rejects.toEqual(wouldDeadlock);
    await expect(database.script("select 1")).rejects.toEqual(wouldDeadlock);
    await expect(database.pglite.transaction(async () => {})).rejects.toEqual(wouldDeadlock);
    await pglite(tx).query("insert into note (text) values ($1::text)", ["on it"]);
  });
  expect(await notes()).toEqual(["on it"]);
});

test("pglite() takes a statement again once the transaction has ended in whose context it is sent", async () => {
  let later: (() => Promise<unknown>) | undefined;
  await database.pglite.transaction(async () => {
    later = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      return await add("later");
    };
  });
  await later?.();
  expect(await notes()).toEqual(["later"]);
});

test("pglite() lets everybody else's statements wait for an open transaction", async () => {
  const order: string[] = [];
  let others: Promise<unknown>[] = [];
  let opened = (): void => {};
  const open = new Promise<void>((resolve) => {
    opened = resolve;
  });
  const transaction = database.pglite.transaction(async (tx) => {
    opened();
    await tx.query("insert into note (text) values ('first')");
    await new Promise((resolve) => setImmediate(resolve));
    order.push("transaction");
  });
  await open;
  others = [1, 2, 3].map(async (n) => {
    expect(await notes()).toEqual(["first"]);
    order.push(`other ${n}`);
  });
  await Promise.all([transaction, ...others]);
  expect(order).toEqual(["transaction", "other 1", "other 2", "other 3"]);
});

test("pglite() refuses a statement from elsewhere that an idle transaction waits for, and never runs it", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  let send: () => void = () => {};
  const elsewhere = new Promise<void>((resolve) => {
    send = resolve;
  }).then(() => add("elsewhere"));
  const refused = expect(elsewhere).rejects.toEqual(wouldDeadlock);
  await database.pglite.transaction(async (tx) => {
    await tx.query("insert into note (text) values ('mine')");
    send();
    await vi.advanceTimersByTimeAsync(5_500);
    await refused;
  });
  expect(await notes()).toEqual(["mine"]);
});

test("pglite() lets a statement wait for as long as the transaction beside it goes on", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  let send: () => void = () => {};
  const elsewhere = new Promise<void>((resolve) => {
    send = resolve;
  }).then(() => add("elsewhere"));
  await database.pglite.transaction(async (tx) => {
    send();
    for (let seconds = 0; seconds < 20; seconds += 4) {
      await vi.advanceTimersByTimeAsync(4_000);
      await tx.query("select 1");
    }
  });
  await elsewhere;
  expect(await notes()).toEqual(["elsewhere"]);
});

test("pglite() takes what is aborted while it waits out of the queue: a statement, and a LISTEN", async () => {
  const controller = new AbortController();
  let release = (): void => {};
  let opened = (): void => {};
  const open = new Promise<void>((resolve) => {
    opened = resolve;
  });
  const held = database.pglite.transaction(() => {
    opened();
    return new Promise<void>((resolve) => {
      release = resolve;
    });
  });
  await open;
  const { signal } = controller;
  const ignore = (): void => {};
  const waiting = database.query("insert into note (text) values ('aborted')", [], { signal });
  const listening = database.listen("aborted", ignore, ignore, { signal });
  controller.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
  await expect(listening).rejects.toThrow("enough");
  release();
  await held;
  expect(await notes()).toEqual([]);
  expect(await database.query("select pg_listening_channels() as channel", [])).toEqual([]);
});

test("pglite() reports the SQLSTATE, and goes on after an error", async () => {
  await expect(database.query("select 1/0", [])).rejects.toMatchObject({ code: "22012" });
  await expect(
    database.pglite.transaction((tx) => pglite(tx).query("insert into note (text) values ($1::text)", [null])),
  ).rejects.toMatchObject({ code: "23502" });
  await add("after");
  expect(await notes()).toEqual(["after"]);
});

test("pglite() runs a script in one transaction", async () => {
  await expect(database.script("insert into note (text) values ('a'); select 1/0;")).rejects.toMatchObject({
    code: "22012",
  });
  expect(await notes()).toEqual([]);
});

test.each(["orchestratum", "user", "Other name"])(
  "pglite() listens on channel %j until it is closed",
  async (channel) => {
    const heard: string[] = [];
    let listening = 0;
    const onListen = (): void => {
      listening += 1;
    };
    const listener = await database.listen(channel, (payload) => heard.push(payload), onListen);
    const other = await database.listen(channel, (payload) => heard.push(`other ${payload}`), onListen);
    expect(listening).toBe(2);
    await database.query("select pg_notify($1::text, $2::text)", [channel, "one"]);
    await vi.waitFor(() => expect(heard).toEqual(["one", "other one"]));
    await listener.close();
    await listener.close();
    await database.query("select pg_notify($1::text, $2::text)", [channel, "two"]);
    await vi.waitFor(() => expect(heard).toEqual(["one", "other one", "other two"]));
    await other.close();
    expect(await database.query("select pg_listening_channels() as channel", [])).toEqual([]);
  },
);

test("pglite() works on the caller's instance, and decides the order of its statements with other adapters of it", async () => {
  const instance = new PGlite();
  const one = pglite(instance);
  const other = pglite(instance);
  await one.script("create table note (text text)");
  await instance.transaction(async (tx) => {
    await expect(other.query("select 1", [])).rejects.toEqual(wouldDeadlock);
    await tx.query("insert into note (text) values ('a')");
  });
  expect(await other.query("select text from note", [])).toEqual([{ text: "a" }]);
  await instance.close();
});

test("pglite() refuses a directory that this process has open, and takes it when it is closed", async () => {
  const directory = join(folder, "once");
  const first = await pglite(directory);
  await expect(pglite(directory)).rejects.toMatchObject({ code: "ORCHESTRATUM_DIRECTORY_IN_USE", directory });
  await expect(pglite(`file://${directory}`)).rejects.toThrow(
    `Cannot open PGlite directory "file://${directory}": this process has it open; close it there, ` +
      `use a PostgreSQL server for several processes, or delete "${directory}.lock" if that is wrong`,
  );
  await first.script("create table kept as select 1 as one");
  await first.close();
  await first.close();
  expect(existsSync(`${directory}.lock`)).toBe(false);
  await using second = await pglite(directory);
  expect(await second.query("select one from kept", [])).toEqual([{ one: 1 }]);
});

test("pglite() refuses a directory that another process has open, and takes it when that one was killed", async () => {
  const directory = join(folder, "shared");
  const child = spawn(
    process.execPath,
    ["--import", "tsx", fileURLToPath(new URL("open-pglite.ts", import.meta.url)), directory],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  await new Promise((resolve) => child.stdout.once("data", resolve));
  await expect(pglite(directory)).rejects.toThrow(`process ${child.pid} has it open`);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  await using database = await pglite(directory);
  expect(await database.query("select 1 as one", [])).toEqual([{ one: 1 }]);
});

test("pglite() takes over a lock whose process is gone, also where its id is used again", async () => {
  const directory = join(folder, "again");
  // This process's id, with another start: what a killed container leaves to the next one.
  writeFileSync(`${directory}.lock`, `${process.pid} 1`);
  await using database = await pglite(directory);
  expect(readFileSync(`${directory}.lock`, "utf8")).toMatch(new RegExp(`^${process.pid} [2-9]|^${process.pid} 1.`));
  expect(await database.query("select 1 as one", [])).toEqual([{ one: 1 }]);
});

test("pglite() begins a directory anew that was never filled", async () => {
  const directory = join(folder, "half-made");
  const first = await pglite(directory);
  await first.close();
  // As a process leaves it that is killed while it makes the database: what marks it as made is there, most of it is not.
  rmSync(join(directory, "global"), { recursive: true });
  writeFileSync(`${directory}.new`, "");
  const second = await pglite(directory);
  expect(await second.query("select 1 as one", [])).toEqual([{ one: 1 }]);
  expect(existsSync(`${directory}.new`)).toBe(false);
  await second.close();
});

test("pglite() frees a directory that it cannot open", async () => {
  const directory = join(folder, "spoilt");
  mkdirSync(directory);
  writeFileSync(join(directory, "PG_VERSION"), "1\n");
  await expect(pglite(directory)).rejects.toThrow();
  expect(existsSync(`${directory}.lock`)).toBe(false);
});

test("pglite() refuses what is no database", () => {
  expect(() => pglite({} as never)).toThrow(TypeError);
});
