/** What comes again under an id gets the answer of the first time. */
import { expect, test } from "vitest";
import { type CallStore, createMemory, createOnce } from "../src/call-store.ts";

const refused = new Error("refused");
const broken = new Error("The work broke");

const fails = () => Promise.reject(broken);

test("createOnce() does again what failed, where that may be", async () => {
  const once = createOnce(
    createMemory(() => 0),
    () => refused,
    true,
  );
  await expect(once("a", fails)).rejects.toBe(broken);
  expect(await once("a", async () => "done")).toBe("done");
  expect(await once("a", fails)).toBe("done");
});

test.each<[string, Required<CallStore>["forget"]]>([
  [
    "throws",
    () => {
      throw new Error("The store broke");
    },
  ],
  ["rejects", () => Promise.reject(new Error("The store broke"))],
])("createOnce() tells what the work failed with, where forget() %s, and refuses it then", async (_, forget) => {
  const once = createOnce({ ...createMemory(() => 0), forget }, () => refused, true);
  await expect(once("a", fails)).rejects.toBe(broken);
  await expect(once("a", async () => "done")).rejects.toBe(refused);
});
