/** Dead letters: what ended failed, timed out or not found, deliveries of events among them. */
import type { Orchestrator } from "../../src/index.ts";
import { filterOf } from "./list-routes.ts";
import { Problem, refused } from "./problem.ts";
import { type AnyRoute, route } from "./route.ts";
import { bulkResult, commandList, commandSnapshot, deadDrop, deadQuery, deadRetry, idParams } from "./schemas.ts";

export function deadLetterRoutes(orchestrator: Orchestrator): AnyRoute[] {
  return [
    route({
      method: "GET",
      path: "/dead-letters",
      scope: "read",
      summary: "List dead letters, the newest first",
      query: deadQuery,
      answers: { 200: { description: "A page, with a cursor where there are more", schema: commandList } },
      async handle({ c, query }) {
        const { limit = 50, cursor, ...filter } = query;
        return c.json(await attempted(400, query, "", orchestrator.deadLetters(filterOf(filter), { limit, cursor })));
      },
    }),
    route({
      method: "GET",
      path: "/dead-letters/:id",
      scope: "read",
      summary: "One dead letter, with its input and its errors",
      params: idParams,
      answers: { 200: { description: "The command", schema: commandSnapshot } },
      async handle({ c, params: { id } }) {
        const found = await orchestrator.deadLetter(id);
        if (found === undefined) throw new Problem(404, "unknown", { detail: "There is no dead letter with this id" });
        const { output: _, ...state } = found;
        return c.json(state);
      },
    }),
    route({
      method: "POST",
      path: "/dead-letters/retry",
      scope: "admin",
      summary: "Run dead letters again, perhaps at a pace",
      body: deadRetry,
      answers: { 200: { description: "How many it was; with dryRun, how many it would be", schema: bulkResult } },
      async handle({ c, principal, body: { filter, dryRun = false, perSecond } }) {
        // At a pace it may take hours: it ends with its client, and what was retried by then stays so.
        const options = { by: principal.name, dryRun, perSecond, signal: c.req.raw.signal };
        const retrying = orchestrator.retryDeadLetters(filterOf(filter), options);
        return c.json({ ...(await attempted(422, filter, "filter", retrying)), dryRun });
      },
    }),
    route({
      method: "POST",
      path: "/dead-letters/drop",
      scope: "admin",
      summary: "Delete dead letters for good",
      body: deadDrop,
      answers: { 200: { description: "How many it was; with dryRun, how many it would be", schema: bulkResult } },
      async handle({ c, principal, body: { filter, dryRun = false } }) {
        const dropping = orchestrator.dropDeadLetters(filterOf(filter), { by: principal.name, dryRun });
        return c.json({ ...(await attempted(422, filter, "filter", dropping)), dryRun });
      },
    }),
  ];
}

async function attempted<Value>(status: 400 | 422, sent: object, place: string, work: Promise<Value>): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    throw refused(error, "Cannot ", status, sent, place) ?? error;
  }
}
