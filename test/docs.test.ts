/**
 * The documents, as far as a machine can hold them to their word: blocks marked `ts run` are programs that run and print
 * what the `text` block after them says, all other `ts` blocks compile, `sql` blocks are executed, links lead somewhere,
 * and no option, observation or code is missing.
 */

import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { commands } from "../adapters/cli/commands.ts";
import * as limits from "../src/limits.ts";
import { misusesOf } from "./adapters/cli-lines.ts";
import { createDatabase, type Database } from "./database.ts";
import { docExamples } from "./doc-examples.ts";

const execute = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), "utf8");

const documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].concat(
  readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
);
const everything = documents.map(read).join("\n");

interface Block {
  /** `docs/pushing.md:12`, for messages. */
  readonly place: string;
  /** What stands behind the fence: `ts run`. */
  readonly kind: string;
  readonly code: string;
  /** The `text` block that follows it, with nothing between. */
  readonly output: string | undefined;
}

function blocksOf(document: string): Block[] {
  const text = read(document);
  const found = Array.from(text.matchAll(/^```(.*)\n([^]*?)^```$/gm), (match) => ({
    place: `${document}:${text.slice(0, match.index).split("\n").length}`,
    kind: match[1] as string,
    code: match[2] as string,
    start: match.index,
    end: match.index + match[0].length,
  }));
  return found.map(({ place, kind, code, end }, index) => {
    const next = found[index + 1];
    const follows = next?.kind === "text" && text.slice(end, next.start).trim() === "";
    return { place, kind, code, output: follows ? next.code : undefined };
  });
}

const blocks = documents.flatMap(blocksOf);
const programs = blocks.filter(({ kind }) => kind === "ts run");
const fragments = blocks.filter(({ kind }) => kind === "ts");

/** What a fragment may name without saying where it comes from: the page around it has said so. */
const surroundings = `
import type { Driver, Handler, Orchestrator } from "orchestratum";
import type * as orchestratum from "orchestratum";
import type { Sql } from "postgres";
import type * as commands from "./commands.ts";

declare global {
  const orchestrator: Orchestrator;
  const database: Driver;
  const sql: Sql;
  const handlers: readonly Handler[];
  const defineCommand: typeof orchestratum.defineCommand;
  const v: typeof import("valibot");
  const sendEmail: typeof commands.sendEmail;
  const generateReport: typeof commands.generateReport;
  const chargeCard: orchestratum.Contract<
    orchestratum.StandardSchemaV1<{ order: string; cents: number }>,
    orchestratum.StandardSchemaV1<{ receipt: string }>
  >;
  const welcome: orchestratum.Command;
  const prisma: {
    $transaction<T>(work: (tx: import("orchestratum/prisma").PrismaTransaction) => Promise<T>): Promise<T>;
  };
  /** What wrangler makes of a Worker's bindings. */
  interface Env {
    readonly HYPERDRIVE: { readonly connectionString: string };
    readonly DATABASE_URL: string;
    readonly TOKEN: string;
    readonly WORKER: { idFromName(name: string): object; get(id: object): { fetch(url: string): Promise<Response> } };
  }
}
`;

/** Of Bun's own, what they name. */
const bun = `
declare module "bun" {
  import type { BunSqlClient, BunSqlPool } from "orchestratum/bun-sql";
  type Transaction = BunSqlClient & { readonly savepoint: unknown };
  export const SQL: new (url: string) => BunSqlPool & { begin<T>(work: (tx: Transaction) => Promise<T>): Promise<T> };
}
`;

/** Files that the guides name, and import from each other. */
const named: Readonly<Record<string, string>> = {
  "commands.ts": "export const { sendEmail, generateReport } = defineCommands",
  "handlers.ts": "export const sendEmailHandler",
};

const folder = mkdtempSync(join(tmpdir(), "orchestratum-docs-"));
const fileOf = ({ place }: Block): string => `${place.replaceAll(/[/.:]/g, "_")}.ts`;
let database: Database;

beforeAll(async () => {
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  const { compilerOptions } = JSON.parse(read("tsconfig.json"));
  const paths = Object.entries<string[]>(compilerOptions.paths).map(([name, [to]]) => [
    name,
    [join(root, to as string)],
  ]);
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        ...compilerOptions,
        paths: Object.fromEntries(paths),
        noUnusedLocals: false,
        noUnusedParameters: false,
      },
      include: ["*.ts"],
    }),
  );
  for (const block of [...programs, ...fragments]) writeFileSync(join(folder, fileOf(block)), block.code);
  for (const [file, beginning] of Object.entries(named)) {
    const [block, ...others] = fragments.filter(({ code }) => code.includes(beginning));
    if (block === undefined || others.length > 0) throw new Error(`Cannot find the one block that is ${file}`);
    writeFileSync(join(folder, file), block.code);
  }
  for (const { file, code } of docExamples()) writeFileSync(join(folder, file), code);
  writeFileSync(join(folder, "surroundings.d.ts"), surroundings);
  writeFileSync(join(folder, "bun.d.ts"), bun);
  database = await createDatabase();
});

afterAll(async () => {
  await database.drop();
  rmSync(folder, { recursive: true, force: true });
});

/**
 * Runs programs one after the other in folders of their own. One process for all of them: PGlite is compiled once, which
 * is most of what a small program with it costs.
 */
const runner = `
import { mkdirSync } from "node:fs";
import process from "node:process";

process.stderr.write = process.stdout.write.bind(process.stdout);
for (const { file, folder, url } of JSON.parse(process.argv[2] as string)) {
  console.log("\\u0001" + file);
  mkdirSync(folder);
  process.chdir(folder);
  process.env.DATABASE_URL = url;
  await import(file).catch((error) => console.log(error));
}
process.exit(0);
`;

describe("programs", () => {
  const printed = new Map<string, string>();

  beforeAll(async () => {
    const databases: Database[] = [];
    try {
      const runs = [];
      for (const block of programs) {
        const own = block.code.includes("DATABASE_URL") ? await createDatabase({ migrated: false }) : undefined;
        if (own) databases.push(own);
        const file = join(folder, fileOf(block));
        runs.push({ file, folder: `${file}.folder`, url: own?.url ?? "" });
      }
      writeFileSync(join(folder, "runner.ts"), runner);
      const { stdout } = await execute(
        process.execPath,
        ["--import", import.meta.resolve("tsx"), join(folder, "runner.ts"), JSON.stringify(runs)],
        { env: { ...process.env, NO_COLOR: "1", TSX_TSCONFIG_PATH: join(folder, "tsconfig.json") } },
      );
      for (const part of stdout.split("\u0001").slice(1)) {
        const [file, ...lines] = part.split("\n");
        printed.set(file as string, lines.join("\n"));
      }
    } finally {
      for (const one of databases) await one.drop();
    }
  }, 180_000);

  test.each(programs)("$place runs and prints what the document says", (block) => {
    expect(printed.get(join(folder, fileOf(block)))).toBe(block.output);
  });
});

test("the README's start is examples/minimal.ts", () => {
  expect(programs[0]?.place).toMatch(/^README/);
  expect(read("examples/minimal.ts").replace(/^\/\*\*.*\*\/\n/, "")).toBe(programs[0]?.code);
});

test("every block of TypeScript, and every example of a doc comment, compiles", async () => {
  expect(fragments.length).toBeGreaterThan(10);
  expect(docExamples().length).toBeGreaterThan(25);
  const { stdout } = await execute(join(root, "node_modules/.bin/tsc"), ["-p", "."], {
    cwd: folder,
    shell: process.platform === "win32",
  }).catch((error: { stdout: string }) => {
    // It did not even start, or was killed.
    if (error.stdout === "") throw error;
    return error;
  });
  // An example may show several ways to make the same constant.
  expect(stdout.replaceAll(/^example_\w+\.ts\S+ error TS2451: .*\n/gm, "")).toBe("");
}, 300_000);

test.each(blocks.filter(({ kind }) => kind === "sql"))("$place is SQL that runs", async ({ code }) => {
  const undone = new Error("undone");
  const run = database.sql.begin(async (tx) => {
    await tx.unsafe(code);
    throw undone;
  });
  await expect(run).rejects.toBe(undone);
});

const shell = blocks.filter(({ kind }) => kind === "sh");

test("shell commands name scripts that exist", () => {
  const { scripts } = JSON.parse(read("package.json"));
  for (const [, script] of everything.matchAll(/npm run ([a-z-]+)/g)) expect(scripts).toHaveProperty(script as string);
});

test("lines of the command line are as their commands want them", { timeout: 120_000 }, async () => {
  const lines = shell.map(
    ({ code }) => code.match(/^.*\borchestratum(?: [a-z]|\/dist\/adapters\/cli\/).*$|^export .*$/gm) ?? [],
  );
  const scripts = lines.filter((own) => own.some((line) => !line.startsWith("export"))).map((own) => own.join("\n"));
  expect(scripts.length).toBeGreaterThan(8);
  expect(await misusesOf(scripts)).toEqual([]);
});

test("options that the text names are those of some command", () => {
  const known = new Set(Object.values(commands).flatMap(({ options }) => Object.keys(options)));
  const named = Array.from(
    everything.matchAll(/(?<=`(?:orchestratum \w+ )?)--(?!allow-)([a-z-]+)/g),
    ([, option]) => option as string,
  );
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((option) => !known.has(option))).toEqual([]);
});

/** Code of other libraries, which are not installed here: it is JavaScript, at least. What shows this one is TypeScript. */
test.each(blocks.filter(({ kind }) => kind === "js"))("$place is a module that parses", async ({ place, code }) => {
  expect(code).not.toMatch(/orchestratum/);
  const file = join(folder, `${place.replaceAll(/[/.:]/g, "_")}.mjs`);
  writeFileSync(file, code);
  await execute(process.execPath, ["--check", file]);
});

test("blocks are of a kind that is looked at", () => {
  const kinds = new Set(blocks.map(({ kind }) => kind));
  expect(
    [...kinds].filter((kind) => !["ts", "ts run", "text", "sql", "sh", "js", "ts reference"].includes(kind)),
  ).toEqual([]);
});

/** The anchor that a heading gets on the usual sites. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");

const anchorsOf = (path: string): string[] =>
  Array.from(read(path).matchAll(/^#+ (.*)$/gm), ([, heading]) => anchorOf(heading as string));

test("links within the checkout lead somewhere", () => {
  const links = documents.flatMap((document) =>
    Array.from(read(document).matchAll(/\]\(((?!https?:)[^)]+)\)/g), ([, link]) => ({
      document,
      link: link as string,
    })),
  );
  expect(links.length).toBeGreaterThan(10);
  const dead = links.filter(({ document, link }) => {
    const [path = "", anchor] = link.split("#");
    const target = path === "" ? document : join(dirname(document), path);
    if (!existsSync(join(root, target))) return true;
    return anchor !== undefined && !anchorsOf(target).includes(anchor);
  });
  expect(dead).toEqual([]);
});

test("files that are named exist", () => {
  const paths = Array.from(
    everything.matchAll(/`((?:src|adapters|sql|test|scripts|docs)\/[\w./-]*)`/g),
    ([, path]) => path,
  );
  expect(paths.length).toBeGreaterThan(10);
  expect(paths.filter((path) => !existsSync(join(root, path as string)))).toEqual([]);
});

/** What the core and its adapters are made of, but for what is generated. */
const sources = ["src", "adapters", "adapters/client"]
  .flatMap((place) => readdirSync(join(root, place)).map((file) => `${place}/${file}`))
  .filter((path) => path.endsWith(".ts") && !path.endsWith(".generated.ts"))
  .map(read)
  .join("\n");

/** The properties of an interface, with what its doc comment says is their default. */
function propertiesOf(name: string): { key: string; preset: string | undefined }[] {
  const start = sources.search(new RegExp(`^export interface ${name}\\b`, "m"));
  expect(start, `the place of ${name}`).toBeGreaterThanOrEqual(0);
  const body = sources.slice(start, sources.indexOf("\n}\n", start));
  return Array.from(
    body.matchAll(/(?:\/\*\*((?:(?!\*\/)[^])*)\*\/\s*)?^ {2}(?:readonly )?(\w+)(?:\?:|:|\(|\?\()/gm),
    ([, comment, key]) => ({
      key: key as string,
      preset: /@default ([^]*?)\s*(?:\*\s*)?(?:\n|$)/.exec(comment ?? "")?.[1],
    }),
  );
}

test.each([
  ["WorkerOptions", "README.md"],
  ["WorkerOptions", "docs/workers.md"],
  ["WorkerCounts", "docs/workers.md"],
  ["StopOptions", "docs/workers.md"],
  ["RunWorkerOptions", "docs/workers.md"],
  ["RunWorkerOptions", "docs/runtimes.md"],
  ["HttpOptions", "docs/runtimes.md"],
  ["EdgeOptions", "docs/runtimes.md"],
  ["EdgeObjectOptions", "docs/runtimes.md"],
  ["LogOptions", "docs/workers.md"],
  ["CommandOptions", "docs/pushing.md"],
  ["PushOptions", "docs/pushing.md"],
  ["Metadata", "docs/commands-and-handlers.md"],
  ["Definition", "docs/commands-and-handlers.md"],
  ["BackoffOptions", "docs/retries-timeouts-cancellation.md"],
  ["HandlerContext", "docs/commands-and-handlers.md"],
  ["HandlerOptions", "docs/commands-and-handlers.md"],
  ["OrchestratorOptions", "docs/getting-started.md"],
  ["PostgresJsOptions", "docs/drivers.md"],
  ["NodePostgresOptions", "docs/drivers.md"],
  ["BunSqlOptions", "docs/drivers.md"],
  ["WaitOptions", "docs/waiting-and-asking.md"],
  ["TickOptions", "docs/serverless.md"],
  ["TickResult", "docs/serverless.md"],
  ["CallEndpointOptions", "docs/serverless.md"],
  ["ReceivingOptions", "docs/serverless.md"],
  ["ReceiveCallOptions", "docs/serverless.md"],
  ["GuardedFetchOptions", "docs/serverless.md"],
  ["CommandSnapshot", "docs/waiting-and-asking.md"],
  ["EventDefinition", "docs/events.md"],
  ["EventOptions", "docs/events.md"],
  ["PublishOptions", "docs/events.md"],
  ["AppendOptions", "docs/events.md"],
  ["FinishOptions", "docs/events.md"],
  ["SubscriptionDefinition", "docs/events.md"],
  ["AddSubscriptionOptions", "docs/events.md"],
  ["RemoveSubscriptionOptions", "docs/events.md"],
  ["SubscriptionState", "docs/events.md"],
  ["DeliveryState", "docs/events.md"],
  ["RetryDeadLettersOptions", "docs/events.md"],
  ["FleetWorker", "docs/observability.md"],
  ["DutyState", "docs/observability.md"],
  ["Explanation", "docs/observability.md"],
  ["Finding", "docs/observability.md"],
  ["DoctorLimits", "docs/observability.md"],
  ["OpenTelemetryOptions", "docs/telemetry.md"],
  ["LogToOptions", "docs/telemetry.md"],
  ["LogRecord", "docs/telemetry.md"],
  ["ReadStreamOptions", "docs/event-store.md"],
  ["ReadAllOptions", "docs/event-store.md"],
  ["ReaderOptions", "docs/event-store.md"],
  ["ReaderContext", "docs/event-store.md"],
  ["ReaderState", "docs/event-store.md"],
  ["TransportOptions", "docs/client.md"],
  ["ClientOptions", "docs/client.md"],
  ["PushOverHttpOptions", "docs/client.md"],
])("everything of %s is in %s", (name, document) => {
  const properties = propertiesOf(name);
  expect(properties.length).toBeGreaterThan(0);
  const text = read(document);
  expect(properties.filter(({ key }) => !new RegExp(`\`${key}[\`(]`).test(text)).map(({ key }) => key)).toEqual([]);
});

test.each(["README.md", "docs/workers.md"])("the defaults of a worker in %s are those of the code", (document) => {
  const plain = (text: string | undefined): string | undefined => text?.replaceAll("`", "");
  for (const { key, preset } of propertiesOf("WorkerOptions")) {
    const [, cell] = new RegExp(`^\\| \`${key}\` +\\| (.*?) +\\|`, "m").exec(read(document)) ?? [];
    expect(plain(cell), key).toBe(plain(preset));
  }
});

test("docs/workers.md says how long a stop may take as the code does", () => {
  const [, bound = "?"] = /Ends within (.*? s)\./.exec(sources) ?? [];
  expect(read("docs/workers.md")).toContain(`It ends within ${bound}.`);
});

test("every observation is in docs/workers.md", () => {
  const types = Array.from(sources.matchAll(/readonly type: "(\w+)"/g), ([, type]) => type as string);
  expect(types.length).toBeGreaterThan(10);
  const text = read("docs/workers.md");
  expect(types.filter((type) => !text.includes(`\`${type}\``))).toEqual([]);
});

test.each(["ExplanationCause", "FindingCode"])("every %s is in docs/observability.md", (name) => {
  const [, body = ""] = new RegExp(`^export type ${name} =([^;]*);`, "m").exec(sources) ?? [];
  const codes = Array.from(body.matchAll(/"(\w+)"/g), ([, code]) => code as string);
  expect(codes.length).toBeGreaterThan(10);
  const text = read("docs/observability.md");
  expect(codes.filter((code) => !text.includes(`| \`${code}\``))).toEqual([]);
});

test("every code of an error is in docs/operating.md", () => {
  const codes = new Set(sources.match(/"ORCHESTRATUM_[A-Z_]+"/g));
  expect(codes.size).toBeGreaterThan(5);
  const text = read("docs/operating.md");
  expect([...codes].filter((code) => !text.includes(code.replaceAll('"', "`")))).toEqual([]);
});

test("the README has the limits of the code", () => {
  const row = (what: string): string =>
    new RegExp(`^\\| ${what}.*?\\| (.*?) +\\|$`, "m").exec(read("README.md"))?.[1] ?? "";
  const number = (value: number): string => value.toLocaleString("en");
  expect(row("input, output")).toContain(number(limits.maxInputBytes));
  expect(limits.maxOutputBytes).toBe(limits.maxInputBytes);
  expect(row("metadata, progress")).toContain(number(limits.maxMetadataBytes));
  expect(limits.maxProgressBytes).toBe(limits.maxMetadataBytes);
  expect(row("record of an error")).toContain(number(limits.maxErrorBytes));
  expect(row("depth of JSON")).toContain(number(limits.maxJsonDepth));
  expect(row("property names")).toContain(number(limits.maxJsonKeys));
  expect(row("follow-ups")).toContain(number(limits.maxFollowUps));
  expect(row("follow-ups")).toContain(number(limits.maxBatchBytes));
  expect(row("commands in one statement")).toContain(number(limits.maxBatchCommands));
  expect(row("commands in one statement")).toContain(number(limits.maxBatchBytes));
  expect(row("name of a command")).toContain(number(limits.maxNameLength));
  expect(row("name of a queue")).toContain(number(limits.maxQueueLength));
  expect(row("version")).toBe(number(limits.maxVersion));
  expect(row("retries")).toBe(number(limits.maxRetries));
  expect(row("timeout")).toContain(number(limits.maxTimeoutMs));
});

test("the view has the columns that docs/waiting-and-asking.md names", async () => {
  const columns = await database.sql<{ name: string }[]>`
    select attname as name from pg_attribute
    where attrelid = 'orchestratum.all_commands'::regclass and attnum > 0`;
  const [section = ""] = /^## The view all_commands\n[^]*?```/m.exec(read("docs/waiting-and-asking.md")) ?? [];
  expect(columns.filter(({ name }) => !section.includes(`\`${name}\``))).toEqual([]);
});
