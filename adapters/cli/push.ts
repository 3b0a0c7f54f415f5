import { createInterface } from "node:readline";
import { createDatabase, isPassing } from "../../src/database.ts";
import type { AnyContract } from "../../src/define-command.ts";
import { type Command, type Contract, defineCommand, InvalidInputError, systemClock } from "../../src/index.ts";
import {
  maxBatchCommands,
  maxDelayMs,
  maxInputBytes,
  maxPriority,
  maxRetries,
  maxTimeoutMs,
  maxVersion,
  requireName,
  requireQueue,
} from "../../src/limits.ts";
import { HttpProblemError } from "../client/transport.ts";
import {
  checked,
  connectionOptions,
  connectionUsage,
  parseOptions,
  readId,
  readInteger,
  readJson,
  readTime,
} from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { type Connection, withConnection } from "./connection.ts";
import { type ExitCode, exitCode } from "./exit-code.ts";
import { MisuseError } from "./misuse.ts";
import { didYouMean } from "./nearest.ts";
import { waitForEnd } from "./outcome.ts";
import { showProgress } from "./progress-bar.ts";
import { reached } from "./reaching.ts";
import { reasonOf } from "./reason.ts";
import { readAll, sizeOf, streamOf } from "./source.ts";
import { plain, print, printJson } from "./terminal.ts";
import { plural } from "./words.ts";

const attempt = "Cannot push";

const options = {
  ...connectionOptions,
  file: { type: "string" },
  many: { type: "boolean" },
  wait: { type: "boolean" },
  "wait-ms": { type: "string" },
  id: { type: "string" },
  key: { type: "string" },
  version: { type: "string" },
  queue: { type: "string" },
  priority: { type: "string" },
  "delay-ms": { type: "string" },
  "run-at": { type: "string" },
  "timeout-ms": { type: "string" },
  retries: { type: "string" },
  json: { type: "boolean" },
} as const;

export const pushCommand: CliCommand = {
  summary: "puts a command, or many, into the queue",
  options,
  usage: `Usage: orchestratum push <name> [input] [options]

Puts a command into the queue and prints its id. The input is JSON: an argument, - for standard input, or a file.
What is not said is taken from what the newest handler of that name has registered, and else from the library's
defaults. The input is not validated here: no contract is at hand. Its handler does, and over HTTP the server, too,
which takes what it knows by name only. What fails on the way is sent again, and pushes once.

  --file            reads the input from this file; - is standard input
  --many            the file, or standard input, has one JSON document a line (NDJSON), each the input of one command;
                    1,000 commands are written at once, over HTTP 500, and those that were written stay when a later
                    line is wrong; a line that a server refuses does not keep the others out
  --wait            waits for its end and prints how it ended, without its output
  --wait-ms         how long to wait, in ms [for ever]
  --id              a UUID of your own: pushing the same again with it changes nothing; on a database
  --key             the same over HTTP, also with --many: 1 to 200 visible characters of ASCII
  --version         of the command [the newest that is registered, or 1]
  --queue           1 to 100 characters [default]
  --priority        0 (first) to 9 (last) [5]
  --delay-ms        how long from now it is due [0]
  --run-at          when it is due: ISO 8601 (UTC without a zone), or a distance from now: 90s, 15m, 1h, 2d, 1w [now]
  --timeout-ms      how long one attempt may take [60000]
  --retries         further attempts after one that failed [3]
  --json            prints {"id": …}; with --wait {"id": …, "status": …, "error": …}; with --many one such line a command,
                    {"line": …, "problem": …} for one that is refused
${connectionUsage}

Exit codes:
  0  it is in the queue; with --wait: it succeeded
  4  with --wait: it ended otherwise
  5  with --wait-ms: it has not ended yet; with --many: some lines were pushed, and one was wrong or refused

Examples:
  orchestratum push send_email '{"to": "ada@example.com"}' --queue mail --priority 0
  orchestratum push generate_report --file report.json --run-at 2026-11-01T06:00Z
  orchestratum push resize_image '{"path": "a.png"}' --wait && echo done
  psql -Atc "select json_build_object('user', id) from users" app | orchestratum push greet - --many
  orchestratum push deploy '{"build": 4711}' --url https://app.example.com/jobs --key deploy-4711 --wait
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    const [name, argument, ...more] = positionals;
    if (name === undefined) throw new MisuseError(`${attempt}: the name of a command is wanted`);
    if (more.length > 0) {
      throw new MisuseError(
        `${attempt}: one input is wanted, got ${positionals.length - 1}; JSON is one argument in quotes`,
      );
    }
    checked(() => requireName(attempt, name));
    if (values.queue !== undefined) checked(() => requireQueue(attempt, values.queue));
    if (argument !== undefined && values.file !== undefined) {
      throw new MisuseError(`${attempt}: input is given twice, as an argument and by --file`);
    }
    if (values["delay-ms"] !== undefined && values["run-at"] !== undefined) {
      throw new MisuseError(`${attempt}: it has both --delay-ms and --run-at, of which it can have one`);
    }
    if (values.key !== undefined && !/^[\x21-\x7e]{1,200}$/.test(values.key)) {
      throw new MisuseError(`${attempt}: --key must have 1 to 200 visible characters of ASCII`);
    }
    const waitMs = readInteger(attempt, "--wait-ms", values["wait-ms"], 0, maxTimeoutMs);
    const given: Given = {
      name,
      id: values.id === undefined ? undefined : readId(attempt, [values.id]),
      key: values.key,
      version: readInteger(attempt, "--version", values.version, 1, maxVersion),
      queue: values.queue,
      priority: readInteger(attempt, "--priority", values.priority, 0, maxPriority),
      delayMs: readInteger(attempt, "--delay-ms", values["delay-ms"], 0, maxDelayMs),
      runAt: readTime(attempt, "--run-at", values["run-at"], "ahead"),
      timeoutMs: readInteger(attempt, "--timeout-ms", values["timeout-ms"], 1, maxTimeoutMs),
      retries: readInteger(attempt, "--retries", values.retries, 0, maxRetries),
    };
    const waits = values.wait === true || waitMs !== undefined;
    const json = values.json === true;
    const source = argument === "-" ? "-" : values.file;

    if (values.many) {
      if (given.id !== undefined)
        throw new MisuseError(`${attempt}: --id belongs to one command; leave it out with --many`);
      if (waits) throw new MisuseError(`${attempt}: --wait is for one command; leave it out with --many`);
      if (source === undefined) {
        throw new MisuseError(`${attempt}: with --many inputs come from --file <path>, or from standard input as -`);
      }
      return await withConnection(values, (connection) => pushMany(connection, given, source, json));
    }

    const text = source === undefined ? argument : await readAll(attempt, source);
    const input = text === undefined || text.trim() === "" ? undefined : readJson(attempt, "input", text);
    return await withConnection(values, async (connection) => {
      const { orchestrator, here } = connection;
      if (waits && here?.database.name === "pglite") {
        throw new MisuseError(
          `${attempt}: --wait on a directory would wait for ever, since no worker can have it open beside this process`,
        );
      }
      const make = await makerOf(connection, given);
      const { id } = await orchestrator.push(make(input), given);
      if (waits) return await waitForEnd(orchestrator, id, { timeoutMs: waitMs, json });
      await (json ? printJson({ id }) : print(id));
      return exitCode.done;
    });
  },
};

/** What was said on the command line. */
interface Given {
  readonly name: string;
  readonly id: string | undefined;
  readonly key: string | undefined;
  readonly version: number | undefined;
  readonly queue: string | undefined;
  readonly priority: number | undefined;
  readonly delayMs: number | undefined;
  readonly runAt: Date | undefined;
  readonly timeoutMs: number | undefined;
  readonly retries: number | undefined;
}

const optionsOf = ({ id, queue, priority, delayMs, runAt, timeoutMs, retries }: Given) => ({
  id,
  queue,
  priority,
  delayMs,
  runAt,
  timeoutMs,
  retries,
});

interface HandlerRow {
  readonly name: string;
  readonly version: number;
  readonly queue: string;
  readonly priority: number;
  readonly max_attempts: number;
  readonly timeout_ms: number;
}

type Maker = (input: unknown) => Command;

/** Makes commands of a contract without a schema, since none is at hand. */
async function makerOf({ here }: Connection, given: Given): Promise<Maker> {
  const { name, version } = given;
  const contract = here === undefined ? undefined : await registered(here, given);
  const options = optionsOf(given);
  if (contract !== undefined) return (input) => contract(input as undefined, options);
  const bare = checked(() => defineCommand({ name, version: version ?? 1 }));
  if (here !== undefined || version !== undefined) return (input) => bare(input as undefined, options);
  // A server is left to choose the newest version that it knows: what is undefined is not sent.
  const unversioned = { ...bare, version: undefined } as unknown as AnyContract;
  return (input) => ({ ...bare(input as undefined, options), contract: unversioned });
}

/** A contract with the defaults that a handler has registered: as function push does it in SQL. Undefined where none has. */
async function registered(
  { database, schema }: NonNullable<Connection["here"]>,
  { name, version }: Given,
): Promise<Contract | undefined> {
  const statements = createDatabase(database, schema, systemClock, () => {});
  const handlers = await statements.run<HandlerRow>("listHandlers", []);
  const own = handlers.filter((row) => row.name === name);
  const newest = own.find((row) => row.version === version) ?? own[0];
  if (newest === undefined) {
    const names = new Set(handlers.map((row) => row.name));
    console.error(`No worker has said yet that it has a handler for "${name}"${didYouMean(name, names)}`);
    return undefined;
  }
  return checked(() =>
    defineCommand({
      name,
      version: version ?? newest.version,
      queue: newest.queue,
      priority: newest.priority,
      retries: newest.max_attempts - 1,
      timeoutMs: newest.timeout_ms,
    }),
  );
}

/** A line whose command has no answer yet. */
interface AskedLine {
  readonly number: number;
  /** How much had been read with it. */
  readonly upToBytes: number;
}

/** Refusals that are told of one by one. */
const maxTold = 20;

/** Pushes each line of a file as the input of a command. */
async function pushMany(connection: Connection, given: Given, source: string, json: boolean): Promise<ExitCode> {
  const make = await makerOf(connection, given);
  const where = source === "-" ? "standard input" : source;
  const size = source === "-" ? undefined : sizeOf(attempt, source);
  const progress = showProgress(`Pushing ${given.name}`);
  const asked: AskedLine[] = [];
  let answers: string[] = [];
  const refused: string[] = [];
  let refusals = 0;
  let pushed = 0;
  let lastLine = 0;
  const flush = async (): Promise<void> => {
    const texts = answers;
    answers = [];
    if (texts.length > 0) await print(texts.join("\n"));
  };
  const wayOn = (error: unknown): string => {
    // The same lines under the same key push nothing twice; others must not have it.
    if (given.key !== undefined) return "put it right, and push all of them again";
    const next = `go on with line ${lastLine + 1}`;
    return isUnanswered(error) ? `whether more were is not known: look for them before you ${next}` : next;
  };
  try {
    for await (const answer of connection.orchestrator.pushMany(commandsOf(source, where, make, asked), given)) {
      const { number, upToBytes } = asked.shift() as AskedLine;
      lastLine = number;
      if ("problem" in answer) {
        const { problem } = answer;
        refusals += 1;
        if (refused.length < maxTold) refused.push(`Line ${number} of ${where} was refused: ${plain(problem.message)}`);
        if (json) answers.push(JSON.stringify({ line: number, problem: problem.document }));
      } else {
        pushed += 1;
        if (json) answers.push(JSON.stringify({ id: answer.id }));
      }
      // How many there will be is guessed by the bytes that these took.
      const done = pushed + refusals;
      progress.update(done, size === undefined ? undefined : Math.max(done, Math.round((done * size) / upToBytes)));
      if (answers.length >= maxBatchCommands) await flush();
    }
    await flush();
  } catch (error) {
    await flush();
    if (lastLine === 0) throw error;
    progress.end();
    tell(refused, refusals);
    console.error(reasonOf(reached(connection.here?.database.place, error)));
    console.error(`${plural(pushed, "command")} of lines 1 to ${lastLine} were pushed before; ${wayOn(error)}`);
    return exitCode.partly;
  } finally {
    progress.end();
  }
  tell(refused, refusals);
  if (!json) await print(`Pushed ${plural(pushed, "command")}`);
  if (refusals === 0) return exitCode.done;
  return pushed === 0 ? exitCode.failed : exitCode.partly;
}

/** Whether what was sent last may have been pushed all the same. */
const isUnanswered = (error: unknown): boolean =>
  error instanceof HttpProblemError
    ? error.status >= 500
    : isPassing(error) && !(error instanceof MisuseError || error instanceof InvalidInputError);

function tell(refused: readonly string[], count: number): void {
  for (const line of refused) console.error(line);
  if (count > refused.length) console.error(`${plural(count - refused.length, "more line")} refused`);
}

/** A command for each line, noted in `asked` before it is given away. */
async function* commandsOf(
  source: string,
  where: string,
  make: Maker,
  asked: AskedLine[],
): AsyncGenerator<Command, void, undefined> {
  let number = 0;
  let upToBytes = 0;
  for await (const line of createInterface({ input: streamOf(source), crlfDelay: Number.POSITIVE_INFINITY })) {
    number += 1;
    const bytes = Buffer.byteLength(line) + 1;
    upToBytes += bytes;
    if (line.trim() === "") continue;
    if (bytes > maxInputBytes * 4) {
      throw new MisuseError(`${attempt}: line ${number} of ${where} has ${bytes} bytes: is it NDJSON?`);
    }
    const input = readJson(attempt, `line ${number} of ${where}`, line);
    asked.push({ number, upToBytes });
    yield make(input);
  }
}
