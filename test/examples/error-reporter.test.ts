import { expect, test } from "vitest";
import { runExample } from "./run-example.ts";

test("error-reporter.ts reports the attempts that fail, and no other", async () => {
  const example = runExample("error-reporter");
  expect(await example.ended).toBe(0);
  expect(example.output.split("\n")).toEqual([
    "reported: charge_card, attempt 1, of ada: the bank does not answer",
    "reported: charge_card, attempt 2, of ada: the bank does not answer",
    "ended: succeeded",
    "",
  ]);
}, 150_000);
