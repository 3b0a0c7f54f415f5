/** One command: its state, how it came to it, its output, and what may be done to it. */
import { etag, RETAINED_304_HEADERS } from "hono/etag";
import type { CommandSnapshot, Orchestrator } from "../../src/index.ts";
import { WaitTimeoutError } from "../../src/wait-errors.ts";
import { foreseen, later, Problem, refused, unknownCommand } from "./problem.ts";
import { maxCommandBytes } from "./push-routes.ts";
import { type AnyRoute, type Call, route } from "./route.ts";
import {
  acted,
  anyJson,
  commandQuery,
  commandSnapshot,
  explanation,
  idParams,
  nothing,
  retryBody,
  timeline,
  tree,
  unfinished,
} from "./schemas.ts";

/** Longest wait of one request, in seconds: proxies cut off what is silent for a minute. */
const maxWaitSeconds = 50;
const maxRetryAfterSeconds = 3_600;

type IdCall = Call<{ readonly id: string }>;

export function commandRoutes(orchestrator: Orchestrator): AnyRoute[] {
  return [
    route({
      method: "GET",
      path: "/commands/:id",
      scope: "read",
      summary: "Read a command. `Prefer: wait=10` waits for its end",
      params: idParams,
      query: commandQuery,
      headers: ["Prefer", "If-None-Match"],
      within: etag({ retainedHeaders: [...RETAINED_304_HEADERS, "retry-after", "preference-applied"] }),
      answers: {
        200: {
          description: "Its state, with Retry-After while it has not finished",
          schema: commandSnapshot,
          headers: ["ETag", "Retry-After", "Preference-Applied"],
        },
        204: { description: "With redirect=true: it has not finished", headers: ["Retry-After", "Preference-Applied"] },
        303: {
          description: "With redirect=true: it has finished. Location is its output",
          headers: ["Location", "Preference-Applied"],
        },
        304: { description: "It is as If-None-Match says", headers: ["ETag", "Retry-After", "Preference-Applied"] },
      },
      async handle({ c, params: { id }, query: { redirect } }) {
        const waited = await wait(orchestrator, c, id);
        const command = await read(orchestrator, id);
        if (waited !== undefined) c.header("Preference-Applied", `wait=${waited}`);
        c.header("Cache-Control", "private, no-cache");
        c.header("Vary", "Prefer, Authorization");
        if (command.finishedAt === undefined) c.header("Retry-After", retryAfter(command));
        if (redirect) {
          if (command.finishedAt === undefined) return c.body(null, 204);
          return c.body(null, 303, { Location: `${id}/output` });
        }
        // The output has an address of its own.
        const { output: _, ...state } = command;
        return c.json(state);
      },
    }),
    route({
      method: "GET",
      path: "/commands/:id/output",
      scope: "read",
      summary: "Read the output of a command",
      params: idParams,
      headers: ["Prefer"],
      answers: {
        200: { description: "The output, as it was recorded", schema: anyJson, headers: ["Preference-Applied"] },
        202: { description: "It has not finished", schema: unfinished, headers: ["Retry-After", "Preference-Applied"] },
        204: { description: "It succeeded, and recorded no output", headers: ["Preference-Applied"] },
      },
      async handle({ c, params: { id } }) {
        const waited = await wait(orchestrator, c, id);
        const command = await read(orchestrator, id);
        if (waited !== undefined) c.header("Preference-Applied", `wait=${waited}`);
        const { status } = command;
        if (command.finishedAt === undefined) {
          return c.json({ id: command.id, status }, 202, { "Retry-After": retryAfter(command) });
        }
        if (status !== "succeeded") {
          const last = command.trail.at(-1);
          const error = last && { code: last.code, message: last.message };
          throw new Problem(409, "conflict", { detail: `It ended as ${status}`, members: { outcome: status, error } });
        }
        return command.output === undefined ? c.body(null, 204) : c.json(command.output as object);
      },
    }),
    route({
      method: "GET",
      path: "/commands/:id/timeline",
      scope: "read",
      summary: "What happened to a command",
      params: idParams,
      answers: { 200: { description: "Its leases, its end, and what it caused", schema: timeline } },
      async handle({ c, params: { id } }) {
        return c.json(found(await orchestrator.timeline(id)));
      },
    }),
    route({
      method: "GET",
      path: "/commands/:id/tree",
      scope: "read",
      summary: "The chain that a command belongs to",
      params: idParams,
      answers: { 200: { description: "From its first command on, 1,000 at most", schema: tree } },
      async handle({ c, params: { id } }) {
        return c.json(found(await orchestrator.tree(id)));
      },
    }),
    route({
      method: "GET",
      path: "/commands/:id/explain",
      scope: "read",
      summary: "Why a command is where it is",
      params: idParams,
      answers: { 200: { description: "What keeps it, in a sentence, with the figures", schema: explanation } },
      async handle({ c, params: { id } }) {
        return c.json(found(await orchestrator.explain(id)));
      },
    }),
    route({
      method: "POST",
      path: "/commands/:id/cancel",
      scope: "admin",
      summary: "Cancel a command",
      params: idParams,
      body: nothing,
      answers: {
        200: { description: "It was waiting, and has ended", schema: acted },
        202: { description: "It runs, and its handler is told", schema: acted },
      },
      async handle({ c, principal, params: { id } }: IdCall) {
        const result = await orchestrator.cancel(id, { by: principal.name });
        return c.json({ id, result: acceptable(result) }, result === "requested" ? 202 : 200);
      },
    }),
    route({
      method: "POST",
      path: "/commands/:id/retry",
      scope: "admin",
      summary: "Run a finished command again, perhaps with another input",
      params: idParams,
      body: retryBody,
      maxBodyBytes: maxCommandBytes,
      answers: { 202: { description: "It waits again", schema: acted } },
      async handle({ c, principal, params: { id }, body }) {
        try {
          const change = Object.hasOwn(body, "input") ? { input: body.input } : {};
          const result = await orchestrator.retry(id, { by: principal.name, ...change });
          return c.json({ id, result: acceptable(result) }, 202);
        } catch (error) {
          throw foreseen(error, "input", body.input) ?? refused(error, "Cannot retry", 422, body) ?? error;
        }
      },
    }),
    route({
      method: "POST",
      path: "/commands/:id/erase",
      scope: "admin",
      summary: "Erase what a finished command tells of a person; that it was stays",
      params: idParams,
      body: nothing,
      answers: { 200: { description: "Input, output, errors and who wanted it are gone", schema: acted } },
      async handle({ c, principal, params: { id } }: IdCall) {
        const result = await orchestrator.erase(id, { by: principal.name });
        // Of a retry it is the reason for a refusal.
        return c.json({ id, result: result === "erased" ? result : acceptable(result) });
      },
    }),
  ];
}

/** Waits for the end of a command where the request prefers that; answers for how many seconds at most, if at all. */
async function wait(orchestrator: Orchestrator, c: Call["c"], id: string): Promise<number | undefined> {
  const [, wanted] = /(?:^|[,;\s])wait=(\d{1,6})(?=$|[,;\s])/i.exec(c.req.header("prefer") ?? "") ?? [];
  if (wanted === undefined) return undefined;
  const seconds = Math.min(Number(wanted), maxWaitSeconds);
  try {
    await orchestrator.waitFor(id, { timeoutMs: seconds * 1_000, signal: c.req.raw.signal });
  } catch (error) {
    // An output that the contract here does not take has ended, too; `GET …/output` gives it raw.
    const isOver =
      error instanceof WaitTimeoutError || (error as { code?: unknown }).code === "ORCHESTRATUM_INVALID_OUTPUT";
    if (!isOver && !c.req.raw.signal.aborted) throw error;
  }
  return seconds;
}

async function read(orchestrator: Orchestrator, id: string): Promise<CommandSnapshot> {
  return found(await orchestrator.get(id));
}

function found<Value>(value: Value | undefined): Value {
  if (value === undefined) throw unknownCommand();
  return value;
}

/** In how many seconds it is worth asking again: when it is due, else soon. */
function retryAfter({ status, availableAt }: CommandSnapshot): string {
  if (status !== "scheduled" || availableAt === undefined) return "1";
  const seconds = Math.ceil((availableAt.getTime() - Date.now()) / 1_000);
  return String(Math.min(Math.max(seconds, 1), maxRetryAfterSeconds));
}

/** Refuses what an act did not do. */
function acceptable(result: string): string {
  if (result === "unknown") throw unknownCommand();
  if (result === "busy") throw later("Somebody holds the command in an open transaction", 1, { result });
  const reasons: Record<string, string> = {
    finished: "It has finished",
    unfinished: "It has not finished",
    waiting: "It, or a hook command of it, has not finished: cancel it first",
    running: "It, or a hook command of it, is running: cancel it first",
    erased: "Its input was erased: send another one",
  };
  const detail = reasons[result];
  if (detail !== undefined) throw new Problem(409, "conflict", { detail, members: { result } });
  return result;
}
