/** Whether a process lives and is ready, for those who start, stop and route to processes: containers, balancers. */
import type { Orchestrator } from "../src/index.ts";
import { within } from "./within.ts";

/** Nobody's: asking for it shows that the database answers and that the schema is there. */
const nobody = "00000000-0000-4000-8000-000000000000";

/** How long the database may take before the process counts as not ready. */
const readyWithinMs = 2_000;

/**
 * Answers `GET /health/live` (200 as long as it answers at all) and `GET /health/ready`: 200, or 503 where the database
 * does not answer within two seconds. Everything else is 404. It says nothing else, and so asks nobody who they are.
 */
export function healthCheck(orchestrator: Pick<Orchestrator, "get">): (request: Request) => Promise<Response> {
  return async (request) => {
    const { pathname } = new URL(request.url);
    if (request.method !== "GET" && request.method !== "HEAD") return answer(405, "method not allowed");
    if (pathname === "/health/live") return answer(200, "live");
    if (pathname !== "/health/ready") return answer(404, "unknown");
    const isReady = await answersWithin(orchestrator, readyWithinMs);
    return isReady ? answer(200, "ready") : answer(503, "database unavailable");
  };
}

/** Whether the database answers the cheapest question that needs the schema: one look at an index. */
export async function answersWithin(orchestrator: Pick<Orchestrator, "get">, ms: number): Promise<boolean> {
  const answered = orchestrator.get(nobody).then(
    () => true,
    () => false,
  );
  return (await within(ms, answered)) ?? false;
}

function answer(status: number, text: string): Response {
  return Response.json({ status: text }, { status, headers: { "Cache-Control": "no-store" } });
}
