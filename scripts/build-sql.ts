/**
 * Turns sql/ into what is shipped: src/sql.generated.ts, so that nothing is read from disk at run time and every runtime
 * can load it, and sql/install.sql, for those who apply SQL by hand.
 *
 *     tsx scripts/build-sql.ts            writes both
 *     tsx scripts/build-sql.ts --check    exits with 1 where one of them is out of date
 */

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

interface Migration {
  version: number;
  name: string;
  up: string;
  down: string;
}

const read = (path: string): string => readFileSync(join(root, path), "utf8").replaceAll("\r\n", "\n");

const sqlFiles = (folder: string): string[] =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".sql"))
    .toSorted();

function readMigrations(): Migration[] {
  const files = sqlFiles("sql/migrations").filter((name) => !name.endsWith(".undo.sql"));
  return files.map((file, index) => {
    const [, digits, name] = /^(\d{4})_([a-z0-9_]+)\.sql$/.exec(file) ?? [];
    const version = Number(digits);
    if (name === undefined || version !== index + 1) {
      const wanted = String(index + 1).padStart(4, "0");
      throw new Error(`Cannot read migration "${file}": its name must be ${wanted}_<lower_case>.sql`);
    }
    const undo = `sql/migrations/${digits}_${name}.undo.sql`;
    if (!existsSync(join(root, undo))) {
      throw new Error(`Cannot read migration "${file}": there is no ${undo}`);
    }
    const up = read(`sql/migrations/${file}`);
    const recorded = new RegExp(`insert into orchestratum\\.migration[^;]*\\(${version}, '${name}'\\)`);
    if (!recorded.test(up)) {
      throw new Error(`Cannot read migration "${file}": it must insert its own row (${version}, '${name}')`);
    }
    return { version, name, up, down: read(undo) };
  });
}

const readFunctions = (): { name: string; text: string }[] =>
  sqlFiles("sql/functions").map((file) => ({ name: file.slice(0, -4), text: read(`sql/functions/${file}`) }));

/** A query travels with every call, so its comments stay behind: whole lines only, since `--` may stand in a string. */
const readQueries = (): { name: string; text: string }[] =>
  sqlFiles("sql/queries").map((file) => ({
    name: file.slice(0, -4).replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()),
    text: read(`sql/queries/${file}`)
      .split("\n")
      .filter((line) => !/^\s*(--.*)?$/.test(line))
      .join("\n")
      .trim()
      .replace(/;$/, ""),
  }));

const template = (text: string): string => `\`${text.replace(/[\\`]|\$(?=\{)/g, "\\$&")}\``;

function moduleText(): string {
  const lines = [
    "// Generated from sql/ by scripts/build-sql.ts (`npm run generate`). Not to be edited.",
    "",
    "/** The release that these texts belong to: the package's version. */",
    `export const release: string = ${JSON.stringify(release)};`,
    "",
    "export const migrations: readonly {",
    "  readonly version: number;",
    "  readonly name: string;",
    "  readonly up: string;",
    "  readonly down: string;",
    "}[] = [",
    ...migrations.map(
      ({ version, name, up, down }) =>
        `  { version: ${version}, name: ${JSON.stringify(name)}, up: ${template(up)}, down: ${template(down)} },`,
    ),
    "];",
    "",
    "export const functions: readonly { readonly name: string; readonly text: string }[] = [",
    ...functions.map(({ name, text }) => `  { name: ${JSON.stringify(name)}, text: ${template(text)} },`),
    "];",
    "",
    "/** SHA-256 of all function texts. */",
    `export const functionsHash: string = ${JSON.stringify(functionsHash)};`,
    "",
    `export const beforeMigrations: string = ${template(beforeMigrations)};`,
    "",
    `export const beforeFunctions: string = ${template(beforeFunctions)};`,
    "",
    `export const afterFunctions: string = ${template(afterFunctions)};`,
    "",
    "export const queries: {",
    ...queries.map(({ name }) => `  readonly ${name}: string;`),
    "} = {",
    ...queries.map(({ name, text }) => `  ${name}: ${template(text)},`),
    "};",
    "",
  ];
  return lines.join("\n");
}

function installText(): string {
  const header = `-- Generated from sql/ by scripts/build-sql.ts (\`npm run generate\`). Not to be edited.
--
-- Everything at once, for an empty database: psql -v ON_ERROR_STOP=1 -f install.sql
-- It is one transaction. Where the schema is there already it fails at once and changes nothing; an upgrade is what
-- \`orchestratum migrate\` does, and \`orchestratum sql\` prints it, for any name of the schema.
`;
  return [
    header,
    "begin;",
    beforeMigrations,
    ...migrations.map(({ up }) => up),
    beforeFunctions.replaceAll(":'functions_hash_before'", "null"),
    ...functions.map(({ text }) => text),
    afterFunctions.replaceAll(":'functions_hash_after'", `'${release} ${functionsHash}'`),
    "commit;\n",
  ]
    .map((text) => text.trim())
    .join("\n\n")
    .concat("\n");
}

/** Writes a generated file, or in a check says whether it is what would be written. */
function emit(path: string, text: string): boolean {
  const full = join(root, path);
  const current = existsSync(full) ? readFileSync(full, "utf8") : undefined;
  if (current === text) return true;
  if (check) {
    console.error(`Cannot go on with ${relative(root, full)}: it is out of date; run \`npm run generate\``);
    return false;
  }
  writeFileSync(full, text);
  return true;
}

const check = process.argv.includes("--check");
const release = (JSON.parse(read("package.json")) as { version: string }).version;
const migrations = readMigrations();
const functions = readFunctions();
const queries = readQueries();
const beforeMigrations = read("sql/before_migrations.sql");
const beforeFunctions = read("sql/before_functions.sql");
const afterFunctions = read("sql/after_functions.sql");
const functionsHash = createHash("sha256")
  .update(functions.map(({ text }) => text).join("\0"))
  .digest("hex");

const upToDate = [emit("src/sql.generated.ts", moduleText()), emit("sql/install.sql", installText())];
if (upToDate.includes(false)) process.exitCode = 1;
