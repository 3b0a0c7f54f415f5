import * as v from "valibot";
import { expect, test } from "vitest";
import { defineCommand } from "../src/define-command.ts";
import { InvalidOutputError } from "../src/invalid-output.ts";
import { parseTime, readOutcome } from "../src/outcome.ts";
import type { EndedRow } from "../src/wait-for.ts";

const id = "0197a000-0000-7000-8000-000000000001";

function ended(row: Partial<EndedRow>): EndedRow {
  return {
    id,
    name: "a",
    version: 1,
    status: "succeeded",
    output: null,
    trail: null,
    finished_at: "2026-10-01 09:08:07.654321+00",
    ...row,
  };
}

const finishedAt = new Date("2026-10-01T09:08:07.654Z");

test("readOutcome() gives the output as the contract's schema answers it", async () => {
  const contract = defineCommand({
    name: "a",
    output: v.object({
      at: v.pipe(
        v.string(),
        v.transform((text) => new Date(text)),
      ),
    }),
  });
  const outcome = await readOutcome(ended({ output: '{"at":"2026-01-01T00:00:00.000Z"}' }), contract);
  expect(outcome).toEqual({ status: "succeeded", id, output: { at: new Date("2026-01-01") }, finishedAt });
});

test("readOutcome() waits for a schema that answers later", async () => {
  const contract = defineCommand({
    name: "a",
    output: v.pipeAsync(
      v.number(),
      v.transformAsync(async (n) => n + 1),
    ) as never as v.NumberSchema<undefined>,
  });
  expect(await readOutcome(ended({ output: "1" }), contract)).toMatchObject({ output: 2 });
});

test("readOutcome() gives the raw output where no contract is known", async () => {
  expect(await readOutcome(ended({ output: '{"n":[1,null]}' }), undefined)).toMatchObject({ output: { n: [1, null] } });
  expect(await readOutcome(ended({ output: "null" }), undefined)).toMatchObject({ output: null });
  expect(await readOutcome(ended({}), undefined)).toEqual({ status: "succeeded", id, output: undefined, finishedAt });
});

test("readOutcome() gives no output where the contract has none", async () => {
  expect(await readOutcome(ended({}), defineCommand({ name: "a" }))).toMatchObject({ output: undefined });
});

test("readOutcome() refuses an output that the contract does not take, and carries it", async () => {
  const contract = defineCommand({ name: "a", output: v.object({ n: v.number() }) });
  const error = (await readOutcome(ended({ output: '{"n":"1"}' }), contract).catch(
    (e: unknown) => e,
  )) as InvalidOutputError;
  expect(error).toBeInstanceOf(InvalidOutputError);
  expect(error).toMatchObject({ code: "ORCHESTRATUM_INVALID_OUTPUT", id, rawOutput: { n: "1" } });
  expect(error.message).toMatch(new RegExp(`^Cannot read the output of command ${id}: .*n: Invalid type`));
  expect(error.cause).toBeInstanceOf(Error);
});

test("readOutcome() tells the last error of any other end, and does not look at the output", async () => {
  const entry = (fence: number) => ({
    fence,
    attempt: fence,
    worker: "w",
    code: "error",
    message: `no. ${fence}`,
    started_at: "2026-10-01T09:08:07+00:00",
    ended_at: "2026-10-01T09:08:08+00:00",
  });
  const contract = defineCommand({ name: "a", output: v.number() });
  for (const status of ["failed", "cancelled", "timed_out", "not_found"]) {
    const row = ended({ status, output: '"not a number"', trail: JSON.stringify([entry(1), entry(2)]) });
    expect(await readOutcome(row, contract)).toEqual({ status, id, error: entry(2), finishedAt });
    expect(await readOutcome(ended({ status }), contract)).toEqual({ status, id, error: undefined, finishedAt });
  }
});

test("parseTime() reads a timestamp as PostgreSQL prints it in UTC", () => {
  expect(parseTime("2026-10-01 09:08:07+00")).toEqual(new Date("2026-10-01T09:08:07Z"));
  expect(parseTime("2026-10-01 09:08:07.5+00")).toEqual(new Date("2026-10-01T09:08:07.500Z"));
  expect(parseTime("2026-10-01 09:08:07.000999+00")).toEqual(new Date("2026-10-01T09:08:07.000Z"));
});
