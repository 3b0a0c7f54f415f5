import { expect, test } from "vitest";
import { runExample } from "./run-example.ts";

test("aggregate.ts decides on what others have appended, and reads less with a snapshot", async () => {
  const example = runExample("aggregate");
  expect(await example.ended).toBe(0);
  expect(example.output).toBe(
    [
      "refused: only 10 left",
      "refused: only 10 left",
      "withdrawn: 3 times",
      "balance 210 after 204 events",
      "balance 215 after 1 events",
      "",
    ].join("\n"),
  );
}, 150_000);
