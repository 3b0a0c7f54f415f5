import { AsyncLocalStorage } from "node:async_hooks";
import { expect, test } from "vitest";
import { type BatcherOptions, createBatcher } from "../src/batcher.ts";

/** A batcher of texts whose writes wait until the test lets them go; each answers its items in capitals. */
function scene(options: Partial<BatcherOptions<string, string>> = {}) {
  const writes: { items: readonly string[]; go: () => void; fail: (error: unknown) => void }[] = [];
  const batcher = createBatcher<string, string>({
    write: (items) =>
      new Promise((resolve, reject) => {
        writes.push({ items, go: () => resolve(items.map((item) => item.toUpperCase())), fail: reject });
      }),
    maxCount: 1_000,
    maxBytes: 1_000_000,
    bytesOf: (item) => item.length,
    ...options,
  });
  return { batcher, writes, batches: () => writes.map(({ items }) => items.join("")) };
}

/** What has been set off goes as far as it can. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

const poison = (code = "22P05") => Object.assign(new Error("poison"), { code });

/** A batcher whose database refuses some items, at once, for what is in them. */
function picky(refuses: (item: string) => boolean, error: () => Error = poison) {
  const batches: string[] = [];
  const batcher = createBatcher<string, string>({
    async write(items) {
      batches.push(items.join(""));
      if (items.some(refuses)) throw error();
      return items.map((item) => item.toUpperCase());
    },
    maxCount: 1_000,
    maxBytes: 1_000_000,
    bytesOf: () => 1,
  });
  return { batcher, batches };
}

test("add() writes at once when nothing is under way, with what comes in the same moment", async () => {
  const { batcher, writes, batches } = scene();
  const results = Promise.all(["a", "b", "c"].map((item) => batcher.add(item)));
  await settled();
  expect(batches()).toEqual(["abc"]);
  writes[0]?.go();
  expect(await results).toEqual(["A", "B", "C"]);
});

test("add() collects while a write is under way, and writes all of it with the next", async () => {
  const { batcher, writes, batches } = scene();
  const first = batcher.add("a");
  await settled();
  const others = ["b", "c"].map((item) => batcher.add(item));
  await settled();
  others.push(batcher.add("d"));
  await settled();
  expect(batches()).toEqual(["a"]);
  expect(batcher.size).toBe(4);
  writes[0]?.go();
  expect(await first).toBe("A");
  await settled();
  expect(batches()).toEqual(["a", "bcd"]);
  writes[1]?.go();
  expect(await Promise.all(others)).toEqual(["B", "C", "D"]);
  await settled();
  expect(batcher.size).toBe(0);
});

test("add() begins another batch at the limit of count", async () => {
  const { batcher, writes, batches } = scene({ maxCount: 2 });
  const results = Promise.all([..."abcde"].map((item) => batcher.add(item)));
  for (let i = 0; i < 3; i++) {
    await settled();
    writes[i]?.go();
  }
  expect(await results).toEqual(["A", "B", "C", "D", "E"]);
  expect(batches()).toEqual(["ab", "cd", "e"]);
});

test("add() begins another batch at the limit of bytes, and lets what is larger go alone", async () => {
  const { batcher, writes, batches } = scene({ maxBytes: 4 });
  const results = Promise.all(["aa", "bb", "c", "dddddd", "e"].map((item) => batcher.add(item)));
  for (let i = 0; i < 4; i++) {
    await settled();
    writes[i]?.go();
  }
  await results;
  expect(batches()).toEqual(["aabb", "c", "dddddd", "e"]);
});

test("a batcher has as many writes under way as it has flights, and no more", async () => {
  const { batcher, writes, batches } = scene({ flights: 2 });
  const results: Promise<string>[] = [];
  for (const item of "abcd") {
    results.push(batcher.add(item));
    await settled();
  }
  expect(batches()).toEqual(["a", "b"]);
  writes[1]?.go();
  await settled();
  expect(batches()).toEqual(["a", "b", "cd"]);
  writes[0]?.go();
  writes[2]?.go();
  expect(await Promise.all(results)).toEqual(["A", "B", "C", "D"]);
  // What is free again is counted as such.
  const more = [batcher.add("e")];
  await settled();
  more.push(batcher.add("f"));
  await settled();
  more.push(batcher.add("g"));
  await settled();
  expect(batches().slice(3)).toEqual(["e", "f"]);
  for (let i = 3; i < 6; i++) {
    writes[i]?.go();
    await settled();
  }
  expect(await Promise.all(more)).toEqual(["E", "F", "G"]);
});

test("a batch that is refused for what is in it is split until the one to blame is found", async () => {
  for (const code of ["22P05", "23514", "54000"]) {
    const { batcher, batches } = picky(
      (item) => item === "f",
      () => poison(code),
    );
    const results = await Promise.allSettled([..."abcdefgh"].map((item) => batcher.add(item)));
    expect(results.map((result) => (result.status === "fulfilled" ? result.value : result.reason.code))).toEqual(
      [..."ABCDE"].concat(code, "G", "H"),
    );
    // Halves of halves: not one by one.
    expect(batches).toEqual(["abcdefgh", "abcd", "efgh", "ef", "e", "f", "gh"]);
    await settled();
    expect(batcher.size).toBe(0);
  }
});

test("a batch with several to blame rejects those and no others", async () => {
  const { batcher } = picky((item) => "adh".includes(item));
  const results = await Promise.allSettled([..."abcdefgh"].map((item) => batcher.add(item)));
  expect(results.map(({ status }) => (status === "fulfilled" ? "." : "!")).join("")).toBe("!..!...!");
});

test("a batch that fails for any other reason is rejected as a whole, and sent once", async () => {
  for (const code of ["53100", "57P01", "40P01", "55P03", "ECONNRESET", undefined]) {
    const { batcher, batches } = picky(
      () => true,
      () => Object.assign(new Error("trouble"), { code }),
    );
    const results = await Promise.allSettled([..."abc"].map((item) => batcher.add(item)));
    expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected", "rejected"]);
    expect(batches).toEqual(["abc"]);
  }
});

test("a batch that failed stops no other", async () => {
  const { batcher, writes, batches } = scene();
  const first = batcher.add("a");
  await settled();
  const second = batcher.add("b");
  writes[0]?.fail(new Error("trouble"));
  await expect(first).rejects.toThrow("trouble");
  await settled();
  expect(batches()).toEqual(["a", "b"]);
  writes[1]?.go();
  expect(await second).toBe("B");
});

test("a batch is written in the asynchronous context of its first item, also when it had to wait", async () => {
  const context = new AsyncLocalStorage<string>();
  const seen: (string | undefined)[] = [];
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const batcher = createBatcher<string, string>({
    async write(items) {
      seen.push(context.getStore());
      await held;
      return items;
    },
    maxCount: 10,
    maxBytes: 10,
    bytesOf: () => 1,
  });
  const first = context.run("first", () => batcher.add("a"));
  await settled();
  const second = context.run("second", () => batcher.add("b"));
  const third = context.run("third", () => batcher.add("c"));
  await settled();
  release();
  await Promise.all([first, second, third]);
  expect(seen).toEqual(["first", "second"]);
});
