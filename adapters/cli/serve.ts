import process from "node:process";
import { isKind } from "../../src/command.ts";
import type { AnyEventContract } from "../../src/define-event.ts";
import type { CallReceiver, CallStore, SigningKeys } from "../../src/index.ts";
import type { Authoriser, RouterOptions } from "../hono/router.ts";
import { runOn } from "../run-worker.ts";
import { checked, type Options, parseOptions, readInteger } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { MisuseError } from "./misuse.ts";
import { type Loaded, withModule, workerOptions, workerUsage } from "./module.ts";
import { platformHere } from "./platform-here.ts";
import { readTokens, tokensVariable } from "./tokens.ts";

const attempt = "Cannot serve";

const options = {
  ...workerOptions,
  port: { type: "string" },
  hostname: { type: "string" },
  hosts: { type: "string" },
  origins: { type: "string" },
  "no-worker": { type: "boolean" },
} as const satisfies Options;

export const serveCommand: CliCommand = {
  summary: "runs the HTTP routes and a worker in one process",
  options,
  takes: "files",
  usage: `Usage: orchestratum serve <module or folder> [options]

Serves the routes over HTTP and runs a worker, on the runtime that started it (Node, Deno or Bun), until SIGTERM or
SIGINT: running handlers then have time to finish, and /health/ready says 503; a second signal aborts them.
The module exports an orchestrator (by default, or named orchestrator), or handlers, which then need a database. Who may
do what is said by its export named authorise, as tokenAuthoriser() makes it, or else by the variable
${tokensVariable}; without either nothing is served. Contracts of events that it exports may be published, and an export
named receive, as receiveCall() makes it, answers signed calls. With one named tickKeys ticks may be signed in place of a
token; one named tickStore remembers their ids for several instances.

  --port            0 (any that is free) to 65535 [8080]
  --hostname        the address to listen at; 0.0.0.0 for every one, as containers want it [127.0.0.1]
  --hosts           Host headers that are served, with commas between them [all]
  --origins         other origins whose pages may send what changes something, with commas between them [none]
  --no-worker       serves only: commands are executed elsewhere
${workerUsage}

${tokensVariable} has tokens with commas between them, each as name:scopes:token, with + between scopes (push, read,
process, admin), or a JSON list of {"name", "token", "scopes"}. A token has 16 to 1,024 characters of A-Za-z0-9-._~+/=.

It needs the packages hono, hono-openapi, valibot and @valibot/to-json-schema, and on Node @hono/node-server.

Examples:
  orchestratum serve ./orchestrator.js
  ${tokensVariable}=shop:push+read:$(openssl rand -hex 24) orchestratum serve ./commands/ --database ./data --migrate
  bun node_modules/.bin/orchestratum serve ./orchestrator.ts --hostname 0.0.0.0 --port 80
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const port = readInteger(attempt, "--port", values.port, 0, 65_535) ?? 8080;
    const { hostname = "127.0.0.1" } = values;
    const { router, tokenAuthoriser } = await loadRouter();
    await withModule(attempt, positionals, values, async (loaded) => {
      const { orchestrator, exported } = loaded;
      const app = checked(() =>
        router(orchestrator, {
          authorise: authoriserOf(exported, tokenAuthoriser),
          hosts: listOf(values.hosts),
          origins: listOf(values.origins),
          events: Object.values(exported).filter(isEventContract),
          receive: exported.receive as CallReceiver | undefined,
          tickKeys: exported.tickKeys as SigningKeys | undefined,
          tickStore: exported.tickStore as CallStore | undefined,
        } satisfies RouterOptions),
      );
      const running = runOn(await platformHere(), orchestrator, {
        ...loaded.options,
        worker: values["no-worker"] !== true,
        http: {
          fetch: (request) => app.fetch(request),
          port,
          hostname,
          // Whoever has stopped reading does not end it.
          onListen: (address) => void process.stdout.write(`Listening at ${urlOf(address)}\n`),
        },
      });
      await running.catch((error: unknown) => {
        throw listenFailure({ hostname, port }, error);
      });
    });
  },
};

function authoriserOf(
  { authorise }: Loaded["exported"],
  tokenAuthoriser: (tokens: ReturnType<typeof readTokens>) => Authoriser,
): Authoriser {
  if (authorise !== undefined) {
    if (typeof authorise === "function") return authorise as Authoriser;
    throw new MisuseError(
      `${attempt}: the module's export authorise must be a function, as tokenAuthoriser() makes it`,
    );
  }
  const text = process.env[tokensVariable];
  if (text) return tokenAuthoriser(readTokens(attempt, text));
  throw new MisuseError(
    `${attempt}: nobody says who may do what: export authorise = tokenAuthoriser([…]) from the module, or set ${tokensVariable}=name:push+read:token`,
  );
}

const isEventContract = (value: unknown): value is AnyEventContract => isKind(value, "event contract");

const listOf = (text: string | undefined): string[] | undefined =>
  text
    ?.split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "");

interface Address {
  readonly hostname: string;
  readonly port: number;
}

const hostOf = ({ hostname, port }: Address): string =>
  `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;

const urlOf = (address: Address): string => `http://${hostOf(address)}`;

/** Of Node, Bun and Deno, in this order where they differ. */
function listenFailure(address: Address, error: unknown): unknown {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  if (code !== "EADDRINUSE" && name !== "AddrInUse") return error;
  return new Error(`Cannot listen on ${hostOf(address)}: the port is in use; choose another with --port`, {
    cause: error,
  });
}

const packages = ["hono", "hono-openapi", "valibot", "@valibot/to-json-schema"];

/** Loaded only now: who does not serve need not have its packages. */
async function loadRouter(): Promise<typeof import("../hono/router.ts")> {
  try {
    return await import("../hono/router.ts");
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: unknown };
    const missing = packages.find(
      (name) => String(message).includes(`'${name}'`) || String(message).includes(`"${name}`),
    );
    if (code !== "ERR_MODULE_NOT_FOUND" || missing === undefined) throw error;
    throw new Error(
      `${attempt}: package "${missing}" is not installed; run \`npm install ${packages.join(" ")} @hono/node-server\``,
      { cause: error },
    );
  }
}
