/** The examples of doc comments, made into modules that compile. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** What examples name of the reader's own, and of other libraries: how it is declared. */
const surroundings: Readonly<Record<string, string>> = {
  sendEmail: `const sendEmail = defineCommand({ name: "send_email", input: v.object({ to: v.string() }) });`,
  sendEmailHandler: "declare const sendEmailHandler: import('orchestratum').Handler;",
  sendInvoice: `const sendInvoice = defineCommand({ name: "send_invoice", input: v.object({ orderId: v.string() }) });`,
  resizeImage: `const resizeImage = defineCommand({ name: "resize_image" });`,
  resize: "const resize = (): void => {};",
  orders: `import { defineEvents } from "orchestratum";
const orders = defineEvents("orders", { OrderPlaced: { data: v.object({ orderId: v.string() }) } });`,
  orderId: "declare const orderId: string;",
  mailer: "declare const mailer: { confirm(orderId: string): Promise<void> };",
  to: "declare const to: string;",
  email: "declare const email: string;",
  key: "declare const key: string;",
  token: "declare const token: string;",
  event: "declare const event: import('orchestratum').RecordedEvent;",
  error: "declare const error: unknown;",
  process: "declare const process: { env: { DATABASE_URL: string; SHOP_TOKEN: string; TOKEN: string } };",
  Deno: "declare const Deno: { env: { get(name: string): string } };",
  Env: "interface Env { HYPERDRIVE: { connectionString: string }; TOKEN: string; WORKER: object }",
  open: "const open = () => ({ orchestrator, close: async () => {} });",
  pino: `import { pino } from "pino";`,
  Hono: `import { Hono } from "hono";`,
  pool: `declare const pool: import("pg").Pool;`,
  client: `declare const client: import("pg").PoolClient;`,
  instance: `declare const instance: import("@electric-sql/pglite").PGlite;`,
  users: `import { pgTable, text } from "drizzle-orm/pg-core";
const users = pgTable("users", { email: text() });`,
  db: `declare const db: import("drizzle-orm/node-postgres").NodePgDatabase & import("kysely").Kysely<{ users: { email: string } }>;`,
  knex: `declare const knex: import("knex").Knex;`,
  prisma: `import type { PrismaTransaction } from "orchestratum/prisma";
type Tx = PrismaTransaction & { user: { create(options: { data: { email: string } }): Promise<unknown> } };
declare const prisma: { $transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> };`,
  SQL: `import type { BunSqlClient, BunSqlPool } from "orchestratum/bun-sql";
type Tx = BunSqlClient & { savepoint: unknown };
declare const SQL: new (url: string) => BunSqlPool & { begin<T>(work: (tx: Tx) => Promise<T>): Promise<T> };`,
};

export interface DocExample {
  /** `example_src_subscribe_ts_42.ts`: where it stands. */
  readonly file: string;
  readonly code: string;
}

/** Each as a module: before it stand imports of what it names of the package, and what it takes for granted. */
export function docExamples(): DocExample[] {
  const { compilerOptions } = JSON.parse(readFileSync(join(root, "tsconfig.json"), "utf8"));
  const entries = Object.entries<string[]>(compilerOptions.paths).map(([entry, [path]]) => ({ entry, path }));
  /** By name, the first entry point that exports it. */
  const entryOf = new Map<string, string>();
  for (const part of readFileSync(join(root, "docs/reference.md"), "utf8").split(/^## /m).slice(1)) {
    const [entry] = part.split("\n", 1) as [string];
    for (const [, name] of part.matchAll(/^### (\w+)$/gm)) {
      if (!entryOf.has(name as string)) entryOf.set(name as string, entry);
    }
  }
  const sources = ["src", "adapters"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts") && !path.endsWith(".generated.ts"))
      .map((path) => `${folder}/${path}`),
  );
  return sources.flatMap((path) => {
    const text = readFileSync(join(root, path), "utf8");
    const own = entries.find((one) => one.path === `./${path}`)?.entry ?? (path.startsWith("src/") && "orchestratum");
    return Array.from(text.matchAll(/^ *\* @example(.*(?:\n *\*(?!\/| @).*)*)/gm), ({ 1: example = "", index }) => {
      const body = example.replaceAll(/^ *\* ?(?:```.*)?/gm, "").trim();
      const names = new Set(body.match(/(?<![.\w"'])[A-Za-z_$][\w$]*/g));
      for (const [, declared] of body.matchAll(/\b(?:const|let) (\w+)\b/g)) names.delete(declared as string);
      const before = [...names].flatMap((name) => {
        const entry = own && new RegExp(`^export function ${name}\\b`, "m").test(text) ? own : entryOf.get(name);
        if (Object.hasOwn(surroundings, name)) return [surroundings[name] as string];
        return entry === undefined ? [] : [`import { ${name} } from "${entry}";`];
      });
      const line = text.slice(0, index).split("\n").length;
      return {
        file: `example_${path.replaceAll(/\W/g, "_")}_${line}.ts`,
        code: `${before.join("\n")}\n${body}\nexport {};\n`,
      };
    });
  });
}
