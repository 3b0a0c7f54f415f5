/** What a user's bundler makes of it: how large, and of what. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const json = (path: string) => JSON.parse(readFileSync(`${root}/${path}`, "utf8"));
const { exports: entries } = json("deno.json");
const manifest = json("package.json");

interface Bundle {
  readonly text: string;
  /** Files of this checkout that are in it. */
  readonly files: readonly string[];
  /** What it imports from elsewhere. */
  readonly imports: readonly string[];
}

/** Bundled for no platform; other packages stay outside, but for `inside`. */
async function bundle(code: string, inside: readonly string[] = []): Promise<Bundle> {
  const { outputFiles, metafile } = await build({
    stdin: { contents: code, resolveDir: root, loader: "ts" },
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: "esm",
    platform: "neutral",
    target: "es2022",
    mainFields: ["module", "main"],
    conditions: ["workerd", "worker", "import"],
    tsconfig: `${root}/tsconfig.json`,
    plugins: [
      {
        name: "packages stay outside",
        setup({ onResolve }) {
          onResolve({ filter: /^[^./]/ }, ({ path, kind }) => {
            const isOwn = path === "orchestratum" || path.startsWith("orchestratum/") || inside.includes(path);
            return kind === "entry-point" || isOwn ? undefined : { path, external: true };
          });
        },
      },
    ],
  });
  const [output] = Object.values(metafile.outputs);
  return {
    text: outputFiles[0]?.text ?? "",
    files: Object.keys(metafile.inputs).filter((path) => /^(?:src|adapters)\//.test(path)),
    imports: [...new Set(output?.imports.map(({ path }) => path))].toSorted(),
  };
}

const all = (specifier: string): string => `export * from "${specifier}";`;

test("the core and one driver are small", async () => {
  const app = `${all("orchestratum")} ${all("orchestratum/postgres-js")}`;
  const own = await bundle(app);
  const whole = await bundle(app, ["postgres"]);
  const kilobytes = (text: string): number => Math.round(gzipSync(text).length / 1_000);
  const sizes = { own: kilobytes(own.text), withDriver: kilobytes(whole.text) };
  console.log(
    `core and postgresJs: ${sizes.own} kB, with the package postgres: ${sizes.withDriver} kB (minified, gzip)`,
  );
  // Most of it is SQL. docs/runtimes.md states these limits.
  expect(sizes.own).toBeLessThanOrEqual(130);
  expect(sizes.withDriver).toBeLessThanOrEqual(145);
});

/**
 * What each entry point takes from elsewhere, where it is used or at once: packages, which are optional peers, and
 * modules of the runtimes that it is for.
 */
const pglite = ["@electric-sql/pglite", "node:async_hooks", "node:fs", "node:path", "node:timers/promises", "node:url"];
const folders = ["node:fs/promises", "node:path", "node:process", "node:url"];
const pulls: Readonly<Record<string, readonly string[]>> = {
  ".": [],
  "./postgres-js": ["postgres"],
  "./pglite": pglite,
  "./node-postgres": ["node:crypto", "pg"],
  "./bun-sql": [],
  "./drizzle": [],
  "./kysely": [],
  "./knex": [],
  "./prisma": [],
  "./node": ["@hono/node-server", "node:events", "node:http", "node:os", ...folders],
  "./deno": folders,
  "./bun": ["node:os", ...folders],
  "./workers": [],
  "./guarded-fetch": ["node:dns/promises", "node:http", "node:https", "node:net"],
  "./client": [],
  "./testing": pglite,
  "./hono": [
    ...["@valibot/to-json-schema", "hono", "hono-openapi", "hono/etag", "hono/http-exception", "hono/secure-headers"],
    "valibot",
  ],
  "./opentelemetry": ["@opentelemetry/api"],
};

test.each(Object.keys(entries))("%s imports what it is known to import", async (entry) => {
  const { imports } = await bundle(all(`orchestratum${entry.slice(1)}`));
  expect(imports).toEqual(pulls[entry]?.toSorted());
});

test("docs/runtimes.md says of each entry point what it takes", () => {
  const page = readFileSync(`${root}/docs/runtimes.md`, "utf8").split("## What each entry point takes")[1] ?? "";
  const rows = page.split("\n").filter((line) => line.startsWith("| `"));
  const words = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, word]) => word as string);
  const takes = rows.flatMap((row) => {
    const [entry, packages, modules] = row.split("|").slice(1) as [string, string, string];
    const named = words(packages).filter((word) => word in manifest.peerDependencies);
    return words(entry).map((name) => [
      name.replace(/^orchestratum\/?|^\//, "./").replace(/^\.\/$/, "."),
      [...named, ...words(modules)].toSorted(),
    ]);
  });
  // A package or a module of the runtime, whatever part of it.
  const whole = (name: string): string => /^(?:@[^/]+\/)?[^/]+/.exec(name)?.[0] as string;
  const wanted = Object.entries(pulls).map(([entry, names]) => [entry, [...new Set(names.map(whole))].toSorted()]);
  expect(Object.fromEntries(takes)).toEqual(Object.fromEntries(wanted));
});

test("every package that is imported is a peer, and none is required", async () => {
  const { dependencies, peerDependencies, peerDependenciesMeta } = manifest;
  const packages = Object.values(pulls)
    .flat()
    .filter((name) => !name.startsWith("node:"))
    .map((name) => /^(?:@[^/]+\/)?[^/]+/.exec(name)?.[0]);
  expect(dependencies).toBe(undefined);
  expect(Object.keys(peerDependencies).toSorted()).toEqual([...new Set(packages)].toSorted());
  expect(peerDependenciesMeta).toEqual(
    Object.fromEntries(Object.keys(peerDependencies).map((name) => [name, { optional: true }])),
  );
});

test("the client has nothing of the server, and no SQL", async () => {
  const { text, files } = await bundle(all("orchestratum/client"));
  expect(files).toContain("adapters/client/client.ts");
  expect(files.filter((file) => /^src\/(?:orchestrator|worker|database|.*sql)/.test(file))).toEqual([]);
  expect(text).not.toMatch(/\bselect\b.*\bfrom\b|\binsert into\b|for update/i);
});
