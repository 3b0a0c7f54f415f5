import { expect, test } from "vitest";
import { checkSchemaName, schemaSql } from "../src/schema-name.ts";

test("schemaSql() leaves the text as it is for the schema's own name", () => {
  const text = "select 'orchestratum' from orchestratum.command";
  expect(schemaSql(text, "orchestratum")).toBe(text);
});

test("schemaSql() quotes the name where it is an identifier, also when it is a reserved word", () => {
  expect(schemaSql("create schema orchestratum; select id from orchestratum.command", "user")).toBe(
    'create schema "user"; select id from "user".command',
  );
});

test("schemaSql() writes the name as a value where the word is a string of its own", () => {
  expect(schemaSql("perform pg_notify('orchestratum', 'x')", "user")).toBe("perform pg_notify('user', 'x')");
});

test("schemaSql() makes an identifier of the word within a longer string, and of one that is quoted", () => {
  expect(schemaSql("execute format('truncate orchestratum.history_%s', slot)", "user")).toBe(
    "execute format('truncate \"user\".history_%s', slot)",
  );
  expect(schemaSql('select "orchestratum".f()', "user")).toBe('select "user".f()');
});

test("schemaSql() leaves words alone that only contain it", () => {
  const text = "select current_setting('orchestratum_migration.rights'), myorchestratum, ORCHESTRATUM";
  expect(schemaSql(text, "user")).toBe(text);
});

test.each(["", "A", "1a", "a-b", 'a"b', "a'b", "a b", "a.b", "a".repeat(49), "ä", "a\n"])(
  "checkSchemaName() refuses %j",
  (name) => {
    expect(() => checkSchemaName(name)).toThrow(TypeError);
    expect(() => schemaSql("select 1", name)).toThrow(TypeError);
  },
);

test.each(["a", "_", "user", "my_app_2", "a".repeat(48)])("checkSchemaName() accepts %j", (name) => {
  expect(() => checkSchemaName(name)).not.toThrow();
});
