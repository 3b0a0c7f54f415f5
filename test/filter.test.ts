import { expect, test } from "vitest";
import { type CommandFilter, encodeFilter } from "../src/filter.ts";

const encode = (filter: unknown): Record<string, unknown> =>
  JSON.parse(encodeFilter("Cannot list commands", filter as CommandFilter)) as Record<string, unknown>;
const day = new Date("2025-01-01T00:00:00.000Z");

test("encodeFilter() asks for every status, and no hooks, where nothing is said", () => {
  expect(encode({})).toEqual({
    statuses: ["scheduled", "pending", "running", "succeeded", "failed", "cancelled", "timed_out", "not_found"],
    hooks: false,
  });
});

test("encodeFilter() says everything that is given", () => {
  const id = "0199A1B2-0000-7000-8000-000000000001";
  expect(
    encode({
      status: ["failed", "failed"],
      queue: "q",
      name: "n",
      parentId: id,
      correlationId: id,
      from: day,
      to: new Date("2025-01-02T00:00:00.000Z"),
      errorText: "Ab",
      hooks: true,
    }),
  ).toEqual({
    statuses: ["failed"],
    queue: "q",
    name: "n",
    parent_id: id.toLowerCase(),
    correlation_id: id,
    from: day.toISOString(),
    to: "2025-01-02T00:00:00.000Z",
    error_text: "Ab",
    hooks: true,
  });
});

test.each<[string, unknown, string]>([
  ["no object", "failed", 'filter must be an object, got "failed"'],
  ["a list", [], "filter must be an object, got an array"],
  ["an unknown key", { statuses: "failed" }, "filter must have no keys but status, queue, name"],
  ["an unknown status", { status: "done" }, "status must be one of scheduled, pending"],
  ["no status", { status: [] }, "status must name at least one"],
  ["a status that is no text", { status: [1] }, "status must be a string, got 1"],
  ["a bad queue", { queue: "a b" }, "queue must be free of white space"],
  ["a bad name", { name: "" }, "name must have 1 to 200 characters"],
  ["a bad parent", { parentId: "x" }, 'parentId must be a UUID, got "x"'],
  ["a long correlation id", { correlationId: "x".repeat(201) }, "correlationId must have 1 to 200 characters, got 201"],
  ["a bad error text", { errorText: "\0", from: day }, "errorText must be free of NUL"],
  ["a bad time", { from: "2025-01-01" }, "from must be a Date"],
  ["times that cross", { from: day, to: day }, "from must lie before to"],
  ["hooks that are no boolean", { hooks: 1 }, "hooks must be true or false, got 1"],
])("encodeFilter() refuses %s", (_, filter, message) => {
  expect(() => encode(filter)).toThrow(`Cannot list commands: ${message}`);
});

test.each<[string, CommandFilter]>([
  ["queue", { queue: "q" }],
  ["name", { name: "n", status: "succeeded" }],
  ["errorText", { errorText: "e", status: "failed" }],
  ["status", { status: ["cancelled", "not_found"] }],
  ["queue and name", { queue: "q", name: "n" }],
])("encodeFilter() wants a time with %s, and takes it with one, a relation or live statuses", (fields, filter) => {
  expect(() => encode(filter)).toThrow(`from must be given with ${fields}`);
  for (const more of [{ from: day }, { parentId: "0199a1b2-0000-7000-8000-000000000001" }, { correlationId: "c" }]) {
    expect(() => encode({ ...filter, ...more })).not.toThrow();
  }
  expect(() => encode({ ...filter, status: ["pending", "running"] })).not.toThrow();
});
