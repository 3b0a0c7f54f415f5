import * as v from "valibot";
import { expect, test } from "vitest";
import type { StandardSchemaV1 } from "../src/standard-schema.ts";
import { formatIssues, formatPath, validate } from "../src/validate.ts";

function schemaOf(check: StandardSchemaV1.Props["validate"]): StandardSchemaV1 {
  return { "~standard": { version: 1, vendor: "test", validate: check } };
}

test("validate() answers what the schema answers, at once where it does", () => {
  const schema = v.object({ month: v.pipe(v.string(), v.transform(Number)) });
  expect(validate(schema, { month: "10", more: 1 })).toEqual({ value: { month: 10 } });
});

test("validate() answers every issue with its path and message", () => {
  const schema = v.object({ to: v.array(v.object({ name: v.string() })), "reply to": v.number() });
  expect(validate(schema, { to: [{ name: "a" }, { name: 1 }], "reply to": "x" })).toEqual({
    issues: [
      { path: "to[1].name", message: expect.stringContaining("Expected string") },
      { path: '["reply to"]', message: expect.stringContaining("Expected number") },
    ],
  });
});

test("validate() waits for a schema that is asynchronous", async () => {
  const schema = v.pipeAsync(
    v.string(),
    v.checkAsync(async (text) => text === "a", "not a"),
  );
  const good = validate(schema, "a");
  expect(good).toBeInstanceOf(Promise);
  expect(await good).toEqual({ value: "a" });
  expect(await validate(schema, "b")).toEqual({ issues: [{ path: "", message: "not a" }] });
});

test("validate() waits for a promise of the library's own", async () => {
  // oxlint-disable-next-line unicorn/no-thenable -- a thenable is what is tested
  const thenable = { then: (done: (result: unknown) => void) => done({ issues: [{ message: "late" }] }) };
  const schema = schemaOf(() => thenable as unknown as Promise<StandardSchemaV1.Result<unknown>>);
  expect(await validate(schema, 1)).toEqual({ issues: [{ path: "", message: "late" }] });
});

test("validate() never takes a refusal without issues for a success", () => {
  expect(
    validate(
      schemaOf(() => ({ issues: [] })),
      1,
    ),
  ).toEqual({ issues: [{ path: "", message: "refused without a reason" }] });
});

test("validate() throws what the schema throws", () => {
  const schema = schemaOf(() => {
    throw new Error("broken schema");
  });
  expect(() => validate(schema, 1)).toThrow("broken schema");
});

test("validate() reads paths whose segments are keys or objects with one", () => {
  const path = ["a", { key: 0 }, { key: "b c" }, 1, Symbol("s")];
  expect(
    validate(
      schemaOf(() => ({ issues: [{ message: "m", path }] })),
      1,
    ),
  ).toEqual({
    issues: [{ path: 'a[0]["b c"][1][Symbol(s)]', message: "m" }],
  });
});

test("formatPath() writes a path as JavaScript would", () => {
  expect(formatPath([])).toBe("");
  expect(formatPath(["to", 0, "name"])).toBe("to[0].name");
  expect(formatPath([0, "größe", "a-b", "", "1", 'x"y'])).toBe('[0].größe["a-b"][""]["1"]["x\\"y"]');
});

test("formatIssues() lists a hundred issues, and counts the rest", () => {
  const issues = Array.from({ length: 103 }, (_, i) => ({ path: i === 0 ? "" : `a[${i}]`, message: `wrong ${i}` }));
  const text = formatIssues(issues);
  expect(text).toMatch(/^wrong 0; a\[1\]: wrong 1; /);
  expect(text).toMatch(/a\[99\]: wrong 99; and 3 more$/);
});
