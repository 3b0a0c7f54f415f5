/**
 * Another schema name: the one word `orchestratum`, wherever it stands in a text of sql/, becomes that name. As a string
 * of its own it is the name as a value (a channel, a regnamespace), everywhere else an identifier, and quoted, also
 * within a longer string, since that is SQL which a function executes.
 */

const word = /'orchestratum'|"orchestratum"|\borchestratum\b/g;

/**
 * `text` for the schema of that name. It reads the whole text: callers keep the answer.
 *
 * @throws {TypeError} a name that does not match `^[a-z_][a-z0-9_]{0,47}$`. Nothing else is ever built into SQL text.
 */
export function schemaSql(text: string, schema: string): string {
  checkSchemaName(schema);
  if (schema === "orchestratum") return text;
  return text.replace(word, (found) => (found.startsWith("'") ? `'${schema}'` : `"${schema}"`));
}

/** @throws {TypeError} as `schemaSql` does, before any I/O. */
export function checkSchemaName(schema: string): void {
  if (typeof schema !== "string" || !/^[a-z_][a-z0-9_]{0,47}$/.test(schema)) {
    throw new TypeError(`Cannot use schema ${JSON.stringify(schema)}: its name must match ^[a-z_][a-z0-9_]{0,47}$`);
  }
}
