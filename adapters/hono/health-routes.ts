/** For those who start and stop processes. The answers say nothing but yes or no, so anybody may ask. */
import type { Orchestrator } from "../../src/index.ts";
import { later } from "./problem.ts";
import { type AnyRoute, route } from "./route.ts";
import { health } from "./schemas.ts";

/** What one look at the database answers is good for as long as this, however many ask. */
const sharedForMs = 1_000;
const patienceMs = 5_000;
const noCommand = "00000000-0000-0000-0000-000000000000";

export function healthRoutes(orchestrator: Orchestrator): AnyRoute[] {
  let look: { readonly since: number; readonly ready: Promise<boolean> } | undefined;

  function isReady(): Promise<boolean> {
    if (look === undefined || performance.now() > look.since + sharedForMs) {
      look = { since: performance.now(), ready: answers(orchestrator) };
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
      summary: "Whether the database answers, too, and is migrated",
      answers: { 200: { description: "It does", schema: health } },
      async handle({ c }) {
        if (!(await isReady())) throw later("The database does not answer, or is not migrated");
        return c.json({ status: "ready" });
      },
    }),
  ];
}

/** The cheapest question that needs the schema: one look at an index. */
async function answers(orchestrator: Orchestrator): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), patienceMs);
  });
  try {
    const answered = orchestrator.get(noCommand).then(
      () => true,
      () => false,
    );
    return await Promise.race([answered, late]);
  } finally {
    clearTimeout(timer);
  }
}
