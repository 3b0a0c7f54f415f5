/** Queues, the fleet's workers, and how it goes. */
import type { Orchestrator } from "../../src/index.ts";
import { metricsText } from "./metrics.ts";
import { type AnyRoute, route } from "./route.ts";
import { changed, nothing, page, queueList, queueParams, stats, statsQuery, workerList } from "./schemas.ts";

export function queueRoutes(orchestrator: Orchestrator): AnyRoute[] {
  return [
    route({
      method: "GET",
      path: "/queues",
      scope: "read",
      summary: "Every queue that has live commands, or is paused",
      answers: { 200: { description: "The queues, by their names", schema: queueList } },
      async handle({ c }) {
        return c.json({ queues: await orchestrator.queues() });
      },
    }),
    pausing("pause", "Keep commands of a queue from being started", orchestrator),
    pausing("resume", "Let a queue go on", orchestrator),
    route({
      method: "GET",
      path: "/workers",
      scope: "read",
      summary: "The workers of the fleet that were heard of in the last 24 hours",
      answers: { 200: { description: "Those that run first", schema: workerList } },
      async handle({ c }) {
        return c.json({ workers: await orchestrator.workerList() });
      },
    }),
    route({
      method: "GET",
      path: "/stats",
      scope: "read",
      summary: "What there is now, and what came of the last 24 hours",
      query: statsQuery,
      answers: { 200: { description: "By queue, by name and by worker", schema: stats } },
      async handle({ c, query: { hooks = false } }) {
        return c.json(await orchestrator.stats({ hooks }));
      },
    }),
    route({
      method: "GET",
      path: "/metrics",
      scope: "read",
      summary: "The same for Prometheus",
      answers: { 200: { description: "Its text format", schema: page, media: "text/plain" } },
      async handle({ c }) {
        const text = metricsText(await orchestrator.stats());
        return c.body(text, 200, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" });
      },
    }),
  ];
}

function pausing(act: "pause" | "resume", summary: string, orchestrator: Orchestrator): AnyRoute {
  return route({
    method: "POST",
    path: `/queues/:name/${act}`,
    scope: "admin",
    summary,
    params: queueParams,
    body: nothing,
    answers: { 200: { description: "`changed` is false where it was so already", schema: changed } },
    async handle({ c, principal, params: { name } }) {
      const options = { by: principal.name };
      const isChanged =
        act === "pause" ? await orchestrator.pauseQueue(name, options) : await orchestrator.resumeQueue(name, options);
      return c.json({ queue: name, changed: isChanged });
    },
  });
}
