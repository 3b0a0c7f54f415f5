/** Putting commands in: one, a list that is accepted as a whole, or lines without end, each for itself. */
import * as v from "valibot";
import type { Command, Orchestrator, Pushed } from "../../src/index.ts";
import { maxBatchBytes, maxInputBytes, maxMetadataBytes } from "../../src/limits.ts";
import type { Issue } from "../../src/validate.ts";
import { idempotencyKey } from "./idempotency.ts";
import { createIncoming, type Incoming, type Sender } from "./incoming.ts";
import { type Line, lineStream, linesOf } from "./ndjson.ts";
import { foreseen, maxIssues, Problem, problemOf, refused, under } from "./problem.ts";
import { type AnyRoute, type Call, invalid, route } from "./route.ts";
import { accepted, acceptedMany, answerLine, counted, pushedCommand, pushedCommands } from "./schemas.ts";
import { parseJson, readJson } from "./security.ts";

/** A command with its input, its metadata and its options. JSON may write a character in six. */
export const maxCommandBytes: number = maxInputBytes + maxMetadataBytes + 8 * 1024;

const json = "application/json";
const lines = "application/x-ndjson";

export function pushRoutes(orchestrator: Orchestrator): AnyRoute[] {
  const incoming = createIncoming(orchestrator);
  return [
    route({
      method: "POST",
      path: "/commands",
      scope: "push",
      summary: "Push a command",
      streamed: { [json]: pushedCommand },
      headers: ["Idempotency-Key"],
      answers: {
        202: {
          description: "It is in the queue. Location and status are relative addresses",
          schema: accepted,
          headers: ["Location"],
        },
      },
      async handle({ c, principal }) {
        const sender = { principal, key: idempotencyKey(c) };
        const given = await readJson(c, maxCommandBytes);
        const issues = () => incoming.issues(given, sender);
        const command = await incoming.command(given, sender, 0);
        if (command === undefined) throw await invalidBy(issues);
        try {
          const { id } = await orchestrator.push(command);
          // Relative to this address, wherever the router is mounted and whatever a proxy makes of its path.
          const status = `commands/${id}`;
          return c.json({ id, status }, 202, { Location: status });
        } catch (error) {
          throw (await pushProblem(error, given, issues)) ?? error;
        }
      },
    }),
    route({
      method: "POST",
      path: "/commands/batch",
      scope: "push",
      summary: "Push many commands: a list as a whole, or NDJSON line by line",
      streamed: { [json]: pushedCommands, [lines]: pushedCommand },
      headers: ["Idempotency-Key"],
      answers: {
        200: {
          description: "An answer for each line, in their order, and a last one that counts",
          schema: answerLine,
          media: lines,
        },
        202: { description: "All of them are in the queue, in their order", schema: acceptedMany },
      },
      async handle(call) {
        const sender = { principal: call.principal, key: idempotencyKey(call.c) };
        const isList = call.c.req.header("content-type")?.trim().toLowerCase().startsWith(json);
        return isList
          ? await pushList(orchestrator, incoming, call, sender)
          : pushLines(orchestrator, incoming, call, sender);
      },
    }),
  ];
}

async function pushList(
  orchestrator: Orchestrator,
  incoming: Incoming,
  { c }: Call,
  sender: Sender,
): Promise<Response> {
  const given = await readJson(c, maxBatchBytes);
  const result = v.safeParse(counted, given);
  if (!result.success) throw invalid("", 422, result.issues, given);
  const list = result.output;
  const issues = () => issuesOf(list, incoming, sender);
  const commands = await Promise.all(list.map((one, place) => incoming.command(one, sender, place)));
  if (!commands.every((command) => command !== undefined)) throw await invalidBy(issues);
  try {
    const pushed = await orchestrator.push(commands);
    return c.json({ commands: pushed.map(({ id }) => ({ id, status: id as string })) }, 202);
  } catch (error) {
    throw (await pushProblem(error, list, issues)) ?? error;
  }
}

/** What is wrong with each of a list. */
async function issuesOf(list: readonly unknown[], incoming: Incoming, sender: Sender): Promise<Issue[]> {
  const issues: Issue[] = [];
  for (const [place, one] of list.entries()) {
    for (const { path, message } of await incoming.issues(one, sender)) {
      issues.push({ path: under(`[${place}]`, path), message });
    }
    if (issues.length >= maxIssues) break;
  }
  return issues;
}

/** What is wrong with a push that was refused, all of it where it is invalid; undefined where that is nothing foreseen. */
async function pushProblem(
  error: unknown,
  sent: unknown,
  issuesOf: () => Promise<readonly Issue[]>,
): Promise<Problem | undefined> {
  const problem = foreseen(error, "", sent) ?? refused(error, "Cannot push", 422, sent);
  return problem?.kind === "invalid" ? await invalidBy(issuesOf, problem) : problem;
}

/** The push stops at the first thing that it refuses, and does not say of which command: so each is looked at for itself. */
async function invalidBy(
  issuesOf: () => Promise<readonly Issue[]>,
  otherwise: Problem = new Problem(422, "invalid"),
): Promise<Problem> {
  const issues = (await issuesOf()).slice(0, maxIssues);
  return issues.length === 0 ? otherwise : new Problem(422, "invalid", { issues });
}

function pushLines(orchestrator: Orchestrator, incoming: Incoming, { c }: Call, sender: Sender): Response {
  /** What came of each line, in their order; undefined: it is in the queue. */
  async function push(batch: readonly Line[]): Promise<(Pushed | Problem)[]> {
    const items = await Promise.all(batch.map(read));
    const good = items.filter((item): item is Item => !(item instanceof Problem));
    try {
      const pushed = good.length === 0 ? [] : await orchestrator.push(good.map(({ command }) => command));
      let next = 0;
      return items.map((item) => (item instanceof Problem ? item : (pushed[next++] as Pushed)));
    } catch (error) {
      if ((foreseen(error) ?? refused(error, "Cannot push", 422, undefined)) === undefined) throw error;
      // One of them is refused, and with it the whole statement: each is tried for itself.
      return await Promise.all(items.map(pushAlone));
    }
  }

  async function pushAlone(item: Item | Problem): Promise<Pushed | Problem> {
    if (item instanceof Problem) return item;
    const { command, given } = item;
    try {
      return await orchestrator.push(command);
    } catch (error) {
      const problem = await pushProblem(error, given, () => incoming.issues(given, sender));
      if (problem === undefined) throw error;
      return problem;
    }
  }

  async function read({ line, text }: Line): Promise<Item | Problem> {
    if (text instanceof Problem) return text;
    try {
      const given = parseJson(text);
      const command = await incoming.command(given, sender, line);
      return command === undefined ? await invalidBy(() => incoming.issues(given, sender)) : { command, given };
    } catch (error) {
      if (error instanceof Problem) return error;
      throw error;
    }
  }

  async function* answers(): AsyncGenerator<unknown[]> {
    let taken = 0;
    let refused = 0;
    try {
      for await (const batch of linesOf(c.req.raw.body, maxCommandBytes)) {
        const results = await push(batch);
        yield results.map((result, index) => {
          const { line } = batch[index] as Line;
          if (result instanceof Problem) {
            refused++;
            return { line, problem: result.document };
          }
          taken++;
          return { line, id: result.id, status: result.id };
        });
      }
      yield [{ done: true, accepted: taken, refused }];
    } catch (error) {
      // What was answered stays; of the lines behind it nothing is known, but that none was answered.
      const problem = problemOf(error, (id, cause) =>
        orchestrator.report({ type: "internal_error", operation: `HTTP POST request ${id}`, error: cause }),
      );
      yield [{ done: false, accepted: taken, refused, problem: problem.document }];
    }
  }

  return c.body(lineStream(answers()), 200, { "Content-Type": lines });
}

interface Item {
  readonly command: Command;
  /** What the line said. */
  readonly given: unknown;
}
