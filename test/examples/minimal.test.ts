import { expect, test } from "vitest";
import { runExample } from "./run-example.ts";

test("minimal.ts prints the output of its command and ends by itself", async () => {
  const example = runExample("minimal");
  expect(await example.ended).toBe(0);
  expect(example.output).toBe("Hello, Ada!\n");
}, 150_000);
