import { expect, test } from "vitest";
import { runExample } from "./run-example.ts";

test("chain.ts follows, retries, compensates a failure and a cancellation, and ends by itself", async () => {
  const example = runExample("chain");
  expect(await example.ended).toBe(0);
  expect(example.output.trim().split("\n")).toEqual([
    "order 1: stock is reserved",
    "order 1: the card is charged, at attempt 1",
    "order 1: shipped, with the receipt of order 1",
    "order 2: stock is reserved",
    "  attempt 1 failed (the bank does not answer), tried again",
    "  attempt 2 failed (the bank does not answer), tried again",
    "order 2: the card is charged, at attempt 3",
    "order 2: shipped, with the receipt of order 2",
    "order 3: stock is reserved",
    "order 3: stock is released, since the card is stolen",
    "order 4: stock is reserved",
    "order 4: its charge is cancelled",
    "order 4: stock is released, since it was cancelled",
  ]);
}, 150_000);
