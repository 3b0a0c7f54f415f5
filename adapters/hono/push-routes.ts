/** Putting commands in: one, a list that is accepted as a whole, or lines without end, each for itself. */
import * as v from "valibot";
import { encodeCommand } from "../../src/encode-command.ts";
import { type Command, InvalidInputError, type Orchestrator, type Pushed } from "../../src/index.ts";
import { maxBatchBytes, maxInputBytes, maxMetadataBytes } from "../../src/limits.ts";
import type { Issue } from "../../src/validate.ts";
import { idempotencyKey } from "./idempotency.ts";
import { createIncoming, type Incoming, pushProblem, type Sender } from "./incoming.ts";
import { type Line, lineStream, linesOf } from "./ndjson.ts";
import { issuesAt, Problem, problemOf } from "./problem.ts";
import { type AnyRoute, type Call, invalid, route } from "./route.ts";
import { accepted, acceptedMany, answerLine, type PushedCommand, pushedCommand, pushedCommands } from "./schemas.ts";
import { readBody } from "./security.ts";

/** A command with its input, its metadata and its options. JSON may write a character in six. */
export const maxCommandBytes: number = maxInputBytes + maxMetadataBytes + 8 * 1024;

/** Of one problem document. */
const maxIssues = 100;

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
      body: pushedCommand,
      maxBodyBytes: maxCommandBytes,
      answers: {
        202: { description: "It is in the queue. Location and status are relative addresses", schema: accepted },
      },
      async handle({ c, principal, body }) {
        const sender = { principal, key: idempotencyKey(c) };
        try {
          const { id } = await orchestrator.push(await incoming.command(body, sender, 0));
          // Relative to this address, wherever the router is mounted and whatever a proxy makes of its path.
          const status = `commands/${id}`;
          return c.json({ id, status }, 202, { Location: status });
        } catch (error) {
          throw pushProblem(error, "input", body.input) ?? error;
        }
      },
    }),
    route({
      method: "POST",
      path: "/commands/batch",
      scope: "push",
      summary: "Push many commands: a list as a whole, or NDJSON line by line",
      streamed: { [json]: pushedCommands, [lines]: pushedCommand },
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
  const given = parsed(await readBody(c, maxBatchBytes));
  const result = v.safeParse(pushedCommands, given);
  if (!result.success) throw invalid("", 422, result.issues, given);
  const bodies = result.output;
  const issues: Issue[] = [];
  const commands: Command[] = [];
  for (const [place, body] of bodies.entries()) {
    try {
      commands.push(await incoming.command(body, sender, place));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      for (const { path, message } of error.options.issues ?? []) issues.push({ path: `[${place}].${path}`, message });
    }
  }
  if (issues.length > 0) throw new Problem(422, "invalid", { issues: issues.slice(0, maxIssues) });
  try {
    const pushed = await orchestrator.push(commands);
    return c.json({ commands: pushed.map(({ id }) => ({ id, status: id as string })) }, 202);
  } catch (error) {
    if (error instanceof InvalidInputError) throw await allInvalid(commands, bodies);
    throw pushProblem(error, "", bodies) ?? error;
  }
}

/** The push stops at the first one that is refused, and does not say which one it was: so each is looked at for itself. */
async function allInvalid(commands: readonly Command[], bodies: readonly PushedCommand[]): Promise<Problem> {
  const issues: Issue[] = [];
  for (const [place, command] of commands.entries()) {
    try {
      await encodeCommand(command);
    } catch (error) {
      if (!(error instanceof InvalidInputError)) throw error;
      issues.push(...issuesAt(`[${place}].input`, error.issues, bodies[place]?.input));
    }
    if (issues.length >= maxIssues) break;
  }
  return new Problem(422, "invalid", { issues: issues.slice(0, maxIssues) });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(400, "malformed", { detail: "The body is not JSON" });
  }
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
      if (pushProblem(error, "", undefined) === undefined) throw error;
      // One of them is refused, and with it the whole statement: each is tried for itself.
      return await Promise.all(items.map(pushAlone));
    }
  }

  async function pushAlone(item: Item | Problem): Promise<Pushed | Problem> {
    if (item instanceof Problem) return item;
    try {
      return await orchestrator.push(item.command);
    } catch (error) {
      const problem = pushProblem(error, "input", item.input);
      if (problem === undefined) throw error;
      return problem;
    }
  }

  async function read({ line, text }: Line): Promise<Item | Problem> {
    if (text instanceof Problem) return text;
    try {
      const given = parsed(text);
      const result = v.safeParse(pushedCommand, given);
      if (!result.success) return invalid("", 422, result.issues, given);
      return { command: await incoming.command(result.output, sender, line), input: result.output.input };
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
  readonly input: unknown;
}
