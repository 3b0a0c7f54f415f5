/** For those who start and stop processes. The answers say nothing but yes or no, so anybody may ask. */
import type { Orchestrator } from "../../src/index.ts";
import { answersWithin } from "../health.ts";
import { later } from "./problem.ts";
import { type AnyRoute, route } from "./route.ts";
import { health } from "./schemas.ts";

/** What one look at the database answers is good for as long as this, however many ask. */
const sharedForMs = 1_000;
const patienceMs = 5_000;

export function healthRoutes(orchestrator: Orchestrator): AnyRoute[] {
  let look: { readonly since: number; readonly ready: Promise<boolean> } | undefined;

  function isReady(): Promise<boolean> {
    if (look === undefined || performance.now() > look.since + sharedForMs) {
      look = { since: performance.now(), ready: answersWithin(orchestrator, patienceMs) };
    }
    return look.ready;
  }

  return [
    route({
      method: "GET",
      path: "/health/live",
      scope: undefined,
      summary: "Whether the process answers",
      answers: { 200: { description: "It does", schema: health } },
      handle: ({ c }) => c.json({ status: "live" }),
    }),
    route({
      method: "GET",
      path: "/health/ready",
      scope: undefined,
      summary: "Whether the database answers a read of the commands, too, within 5 s",
      answers: { 200: { description: "It does", schema: health } },
      async handle({ c }) {
        if (!(await isReady())) throw later("The database does not answer, or is not migrated");
        return c.json({ status: "ready" });
      },
    }),
  ];
}
