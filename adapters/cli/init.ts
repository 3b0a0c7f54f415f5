import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";
import process from "node:process";
import { helpUsage, parseOptions } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { MisuseError } from "./misuse.ts";
import { ownPackage } from "./own-package.ts";
import { print } from "./terminal.ts";

const attempt = "Cannot make a project";

const options = {} as const;

export const initCommand: CliCommand = {
  summary: "writes a small working project into an empty folder",
  options,
  usage: `Usage: orchestratum init [folder]

Writes a project that runs at once, on the embedded database: a contract, its handler, a program that pushes a command
and waits for it, and a README. The folder must be new or empty; it is the current one by default. Nothing is installed.

${helpUsage}

Examples:
  orchestratum init my-app
  mkdir my-app && cd my-app && orchestratum init
`,

  async run(args) {
    const { positionals } = parseOptions(attempt, args, options);
    const [given = ".", ...more] = positionals;
    if (more.length > 0) throw new MisuseError(`${attempt}: one folder is wanted, got ${positionals.length}`);
    const folder = resolve(process.cwd(), given);
    requireEmpty(folder, given);
    mkdirSync(folder, { recursive: true });
    const files = filesOf(basename(folder));
    // "wx": what appears there meanwhile is not overwritten.
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text, { flag: "wx" });
    const place = relative(process.cwd(), folder);
    await print(
      [
        `Wrote ${Object.keys(files).join(", ")}`,
        "",
        "Next:",
        ...(place === "" ? [] : [`  cd ${/^[\w./\\-]+$/.test(place) ? place : JSON.stringify(place)}`]),
        "  npm install",
        "  npm start",
      ].join("\n"),
    );
  },
};

function requireEmpty(folder: string, given: string): void {
  if (!existsSync(folder)) return;
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ENOTDIR") throw error;
    throw new MisuseError(`${attempt}: folder must be new or empty, and ${JSON.stringify(given)} is a file`);
  }
  // A repository that was just made is as good as empty.
  const [first] = names.filter((name) => name !== ".git");
  if (first === undefined) return;
  throw new MisuseError(
    `${attempt}: folder must be new or empty, and ${JSON.stringify(given)} has ${JSON.stringify(first)}; name another one, as in \`orchestratum init my-app\``,
  );
}

/** What npm takes as the name of a package. */
function packageName(folder: string): string {
  const name = folder
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, "-")
    .replace(/^[._-]+|[._-]+$/g, "")
    .slice(0, 100);
  return name === "" || name === "orchestratum" ? "my-app" : name;
}

function filesOf(folder: string): Readonly<Record<string, string>> {
  const own = ownPackage();
  if (own === undefined) throw new Error(`${attempt}: the package.json of orchestratum is missing; install it anew`);
  const { version, peerDependencies } = own;
  const name = packageName(folder);
  const manifest = {
    name,
    private: true,
    type: "module",
    scripts: {
      start: "node --import tsx app.ts",
      work: "node --import tsx node_modules/orchestratum/dist/adapters/cli/main.js work ./handlers.ts --database ./data --migrate",
    },
    dependencies: {
      "@electric-sql/pglite": peerDependencies["@electric-sql/pglite"],
      orchestratum: `^${version}`,
      tsx: "^4.0.0",
      valibot: "^1.0.0",
    },
  };
  const compiler = {
    compilerOptions: {
      target: "es2023",
      lib: ["es2023", "esnext.disposable", "dom"],
      module: "nodenext",
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      allowImportingTsExtensions: true,
      skipLibCheck: true,
      noEmit: true,
    },
  };
  return {
    "package.json": `${JSON.stringify(manifest, null, 2)}\n`,
    "tsconfig.json": `${JSON.stringify(compiler, null, 2)}\n`,
    ".gitignore": "node_modules/\ndata/\ndata.lock\n",
    "commands.ts": commands,
    "handlers.ts": handlers,
    "app.ts": app,
    "README.md": readme(name),
  };
}

const commands = `// Contracts: what those who push a command share with those who run it.
import { defineCommand } from "orchestratum";
import * as v from "valibot";

export const greet = defineCommand({
  name: "greet",
  input: v.object({ name: v.pipe(v.string(), v.minLength(1)) }),
  output: v.object({ greeting: v.string() }),
  retries: 3,
});
`;

const handlers = `// Handlers: what runs. A worker takes all that this file exports.
import { greet } from "./commands.ts";

export const greetHandler = greet.handle(({ input, logger }) => {
  logger.info("greeting", { name: input.name });
  return { greeting: \`Hello, \${input.name}!\` };
});
`;

const app = `// Pushes a command, and runs it in the same process.
import { createOrchestrator } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import { greet } from "./commands.ts";
import * as handlers from "./handlers.ts";

const database = await pglite("./data");
const orchestrator = createOrchestrator({ database, handlers });
await orchestrator.migrate();
orchestrator.startWorker();

const { id } = await orchestrator.push(greet({ name: "Ada" }));
const outcome = await orchestrator.waitFor(id);
console.log(id, outcome.status === "succeeded" ? outcome.output.greeting : outcome.error?.message);

await orchestrator.stop();
await database.close();
`;

const readme = (name: string): string => `# ${name}

\`npm install\`, then \`npm start\` pushes a command and runs it, on a database in the folder \`data\`.
\`npx orchestratum status <id> --database ./data\` shows what became of it, \`npx orchestratum --help\` what else there is.
\`npx orchestratum push greet '{"name": "Grace"}' --database ./data\` pushes another one, and \`npm run work\` runs it.
For several processes at once use a PostgreSQL server: \`npm install postgres\`, \`postgresJs(process.env.DATABASE_URL)\`.
`;
