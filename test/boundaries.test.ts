/** What may stand where: rules over the files themselves. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { mutants } from "../scripts/mutants-list.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

const files = (folder: string, extension: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(extension))
    .map((name) => `${folder}/${name}`)
    .toSorted();

const read = (path: string): string => readFileSync(join(root, path), "utf8");

/** The code without its comments; strings stay. */
const withoutComments = (text: string): string =>
  text.replaceAll(/("(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`)|\/\*[^]*?\*\/|\/\/[^\n]*/g, (_, string) => string ?? "");

const sqlWithoutComments = (text: string): string =>
  text.replaceAll(/('(?:[^']|'')*')|--[^\n]*/g, (_, string) => string ?? "");

/** `file:line: text` of what a pattern finds. Every file of these is looked at, or the test means nothing. */
function found(paths: string[], pattern: RegExp, strip: (text: string) => string): string[] {
  expect(paths.length).toBeGreaterThan(0);
  return paths.flatMap((path) => {
    const text = strip(read(path));
    return Array.from(text.matchAll(new RegExp(pattern, "g")), (match) => {
      const line = text.slice(0, match.index).split("\n").length;
      return `${path}:${line}: ${match[0]}`;
    });
  });
}

const inCode = (folder: string, pattern: RegExp, except: string[] = []): string[] =>
  found(
    files(folder, ".ts").filter((path) => !except.includes(path)),
    pattern,
    withoutComments,
  );

const inSql = (folder: string, pattern: RegExp): string[] => found(files(folder, ".sql"), pattern, sqlWithoutComments);

test("src/ imports nothing but its own files", () => {
  expect(inCode("src", /(?:[}*\w] from|\bimport|\bimport\() ?["'](?!\.\/[a-z.-]+\.ts["'])[^"']+["']/)).toEqual([]);
  expect(inCode("src", /\brequire\(/)).toEqual([]);
});

test("src/ names no runtime and never writes to the console", () => {
  const generated = ["src/sql.generated.ts"];
  expect(inCode("src", /\b(?:console|process|Deno|Bun|Buffer|globalThis\.process)\./, generated)).toEqual([]);
  expect(inCode("src", /["']node:/, generated)).toEqual([]);
});

test("src/ has its timers, its time and its chance from clock.ts alone", () => {
  const except = ["src/clock.ts", "src/sql.generated.ts"];
  expect(inCode("src", /\bset(?:Timeout|Interval|Immediate)\b|\bperformance\b|\bMath\.random\b/, except)).toEqual([]);
});

test("adapters/ imports files of src/ and adapters/, and names of packages", () => {
  expect(
    inCode("adapters", /from ["']\.\.?\/(?!(?:\.\.\/)*src\/|(?:(?:cli|client|hono)\/)?[a-z-]+\.ts)[^"']*["']/),
  ).toEqual([]);
});

test("no test is left out and none is alone", () => {
  expect(inCode("test", /\b(?:test|it|describe)\.(?:only|skip|todo|fails)\b/)).toEqual([]);
});

test("package.json and deno.json name the same entry points, versions and licence", () => {
  const npm = JSON.parse(read("package.json"));
  const deno = JSON.parse(read("deno.json"));
  const built = Object.entries<{ types: string; default: string }>(npm.exports).filter(
    ([, to]) => typeof to === "object",
  );
  expect(built.length).toBeGreaterThan(1);
  for (const [entry, { types, default: code }] of built) {
    expect(code.replace("./dist/", "./").replace(/\.js$/, ".ts"), entry).toBe(deno.exports[entry]);
    expect(types.replace(/\.d\.ts$/, ".js"), entry).toBe(code);
    expect(() => read(deno.exports[entry]), entry).not.toThrow();
  }
  expect(Object.keys(deno.exports)).toEqual(built.map(([entry]) => entry));
  expect(deno.version).toBe(npm.version);
  expect(deno.license).toBe(npm.license);
  expect(deno.name).toBe(`@${npm.name}/${npm.name}`);
  expect(npm.dependencies).toBe(undefined);
  const ranges = Object.entries<string>(npm.peerDependencies).map(([name, range]) => [
    name,
    // Deno takes no range with two ends: the last version in it that may break things.
    `npm:${name}@${range.replace(/^>=0\.\d+ <0\.(\d+)$/, (_, next) => `0.${next - 1}`)}`,
  ]);
  expect(deno.imports).toEqual(Object.fromEntries(ranges));
});

test("tsconfig.json resolves the entry points to the sources", () => {
  const { paths } = JSON.parse(read("tsconfig.json")).compilerOptions;
  const { exports } = JSON.parse(read("deno.json"));
  const expected = Object.entries(exports).map(([entry, path]) => [`orchestratum${entry.slice(1)}`, [path]]);
  expect(paths).toEqual(Object.fromEntries(expected));
});

test("examples/deno.json resolves them, too, and other packages as deno.json does", () => {
  const { exports, imports } = JSON.parse(read("deno.json"));
  const own = Object.entries(exports).map(([entry, path]) => [`orchestratum${entry.slice(1)}`, `.${path}`]);
  const examples: Record<string, string> = JSON.parse(read("examples/deno.json")).imports;
  // Examples may use packages of their own, but no entry point that there is not.
  expect(examples).toMatchObject({ ...Object.fromEntries(own), ...imports });
  const named = Object.keys(examples).filter((name) => name.startsWith("orchestratum"));
  expect(named).toEqual(own.map(([name]) => name));
});

test("scripts/mutants-list.ts breaks what is there, once each", () => {
  const times = mutants.map(({ rule, file, from }) => [rule, read(file).split(from).length - 1]);
  expect(times.filter(([, count]) => count !== 1)).toEqual([]);
  for (const { rule, test } of mutants) expect(() => read(test[0]), rule).not.toThrow();
});

test("package-lock.json names the optional packages of every platform", () => {
  // npm leaves out what its registry did not have when the lock was made, and `npm ci` then refuses the lock everywhere.
  const { packages } = JSON.parse(read("package-lock.json"));
  const wanted = Object.values<{ optionalDependencies?: object }>(packages).flatMap((entry) =>
    Object.keys(entry.optionalDependencies ?? {}),
  );
  expect(wanted.length).toBeGreaterThan(0);
  expect(wanted.filter((name) => packages[`node_modules/${name}`] === undefined)).toEqual([]);
});

// SQL.

test("the clock enters a statement once: as a default, in a declaration or in a scalar subselect", () => {
  // Within a WHERE clause it is volatile, and stops being an index condition: 148 ms a claim with a million scheduled.
  const allowed = [
    /\bdefault clock_timestamp\(\)/,
    /\(select clock_timestamp\(\)(?: as \w+)?\)/,
    /\bas materialized \(\s*select clock_timestamp\(\) as at\s*\)/,
    /^ {2}\w+ timestamptz := clock_timestamp\(\);/m,
    // After a lock is had, in a comparison of scalars, where no index could be used.
    /\bleast\(at, clock_timestamp\(\)\)/,
  ];
  const strip = (text: string): string =>
    allowed.reduce((left, pattern) => left.replaceAll(new RegExp(pattern, "gm"), ""), sqlWithoutComments(text));
  for (const folder of ["sql/functions", "sql/queries", "sql/migrations"]) {
    expect(found(files(folder, ".sql"), /.*\bclock_timestamp\b.*/, strip)).toEqual([]);
  }
  expect(inSql("sql", /\bstatement_timestamp\b|\bcurrent_timestamp\b|\blocaltime/)).toEqual([]);
});

test("queries give times that depend on no setting of the session", () => {
  // A function has its own time zone and style of dates; a query has the session's.
  expect(inSql("sql/queries", /\b(?:\w+_)?at\)?::text/)).toEqual([]);
});

test("queries name their columns and cast every parameter", () => {
  expect(inSql("sql/queries", /\bselect (?:\w+\.)?\*|\breturning (?:\w+\.)?\*/)).toEqual([]);
  expect(inSql("sql/queries", /\$\d+(?!\d|::(?:text|int|boolean|bigint|float8|smallint)\b)/)).toEqual([]);
});

test("queries bind JSON and times as text, and no array", () => {
  expect(inSql("sql/queries", /\$\d+::\w+\[\]|= any ?\(\$|\$\d+::(?:jsonb?|timestamptz|uuid)\b/)).toEqual([]);
});

test("sql/ knows the schema by one word only", () => {
  expect(inSql("sql", /\b(?:from|join|into|update|table|function|view) (?:public|pg_temp)\.\w+/)).toEqual([]);
  // In a table's place there is a name of the schema, of a CTE or alias, of a function, or of the system's catalogs.
  const tables = ["command", "history", "handler", "duty", "setting", "migration", "act", "all_commands", "statistic"];
  const bare = new RegExp(`\\b(?:from|join|into|update|on|only) (?:${tables.join("|")})\\b(?! as| r\\b)`);
  expect(inSql("sql/queries", bare)).toEqual([]);
  expect(inSql("sql/migrations", new RegExp(`\\b(?:table|view|into|update) (?:${tables.join("|")})\\b`))).toEqual([]);
});

test("no index but a primary key contains the id", () => {
  // On an empty table `id = …` would tie between the two, and a cached plan then reads a whole index for every row.
  expect(inSql("sql/migrations", /create (?:unique )?index[^;]*\([^;]*\bid\b[^;]*;/)).toEqual([]);
  expect(inSql("sql/migrations", /\bunique \([^)]*\bid\b/)).toEqual([]);
});

test("functions are created, not replaced, under the name of their file", () => {
  expect(inSql("sql/functions", /\bor replace\b/)).toEqual([]);
  for (const path of files("sql/functions", ".sql")) {
    const name = path.replace(/^.*\/(\w+)\.sql$/, "$1");
    const created = Array.from(
      sqlWithoutComments(read(path)).matchAll(/create function orchestratum\.(\w+)/g),
      (m) => m[1],
    );
    expect(created, path).toEqual([name]);
  }
});

test("a function that acts with its owner's rights has a pinned search_path and is revoked from PUBLIC", () => {
  const definers = files("sql/functions", ".sql").filter((path) =>
    /security definer/.test(sqlWithoutComments(read(path))),
  );
  expect(definers.length).toBeGreaterThan(0);
  for (const path of definers) {
    const name = path.replace(/^.*\/(\w+)\.sql$/, "$1");
    expect(read(path), path).toMatch(/set search_path = pg_catalog, pg_temp/);
    expect(read(path), path).toContain(`revoke execute on function orchestratum.${name} from public`);
  }
});

test("every SQL file begins by saying what it does", () => {
  const silent = files("sql", ".sql").filter((path) => !path.endsWith(".undo.sql") && !read(path).startsWith("-- "));
  expect(silent).toEqual([]);
});
