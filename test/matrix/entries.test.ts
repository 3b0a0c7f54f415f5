/** Every entry point loads in every runtime, asks for no permission, and exports what it does in the others. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root, startWorkerd } from "./miniflare.ts";
import { otherNodes, runtimes, startProgram } from "./runtimes.ts";

const { exports: entries } = JSON.parse(readFileSync(join(root, "deno.json"), "utf8"));
const specifiers = Object.keys(entries).map((entry) => `orchestratum${entry.slice(1)}`);

const expected = await Promise.all(
  specifiers.map(async (specifier) => `${specifier} ${Object.keys(await import(specifier)).length}`),
);

test.each([...runtimes, ...otherNodes])("on %s", async (runtime) => {
  await using program = startProgram(runtime, "test/matrix/entries-program.ts");
  expect(await program.ended).toBe(0);
  expect(program.lines).toEqual(expected);
});

test("on workerd, but for node-postgres", async () => {
  await using workerd = await startWorkerd("test/matrix/entries-program.ts");
  const text = await (await workerd.dispatchFetch("http://workerd/")).text();
  const isPg = (line: string): boolean => line.startsWith("orchestratum/node-postgres ");
  expect(text.split("\n").filter((line) => !isPg(line))).toEqual(expected.filter((line) => !isPg(line)));
});
