/** Queues, the fleet's workers, and how it goes. */
import type { Orchestrator } from "../../src/index.ts";
import { metricsText } from "./metrics.ts";
import { type AnyRoute, route } from "./route.ts";
import {
  changed,
  hooksQuery,
  nameParams,
  nothing,
  page,
  pausedNameList,
  queueList,
  queueParams,
  stats,
  workerList,
} from "./schemas.ts";

export function queueRoutes(orchestrator: Orchestrator): AnyRoute[] {
  return [
    route({
      method: "GET",
      path: "/queues",
      scope: "read",
      summary: "Every queue that has live commands, or is paused",
      query: hooksQuery,
      answers: { 200: { description: "The queues, by their names", schema: queueList } },
      async handle({ c, query: { hooks = false } }) {
        return c.json({ queues: await orchestrator.queues({ hooks }) });
      },
    }),
    route({
      method: "GET",
      path: "/names/paused",
      scope: "read",
      summary: "The names of commands that are paused",
      answers: { 200: { description: "The first by the alphabet first", schema: pausedNameList } },
      async handle({ c }) {
        return c.json({ names: await orchestrator.pausedNames() });
      },
    }),
    pausing("queue", "pause", "Keep commands of a queue from being started", orchestrator),
    pausing("queue", "resume", "Let a queue go on", orchestrator),
    pausing("name", "pause", "Keep commands of a name from being started, in whatever queue", orchestrator),
    pausing("name", "resume", "Let the commands of a name go on", orchestrator),
    route({
      method: "GET",
      path: "/workers",
      scope: "read",
      summary: "The workers of the fleet that were heard of in the last 24 hours, and their duties",
      answers: { 200: { description: "Those that run first; duties by name", schema: workerList } },
      async handle({ c }) {
        return c.json({ workers: await orchestrator.workerList(), duties: await orchestrator.duties() });
      },
    }),
    route({
      method: "GET",
      path: "/stats",
      scope: "read",
      summary: "What there is now, and what came of the last 24 hours",
      query: hooksQuery,
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
      query: hooksQuery,
      answers: { 200: { description: "Its text format", schema: page, media: "text/plain" } },
      async handle({ c, query: { hooks = false } }) {
        const text = metricsText(await orchestrator.stats({ hooks }));
        return c.body(text, 200, { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" });
      },
    }),
  ];
}

function pausing(
  kind: "queue" | "name",
  act: "pause" | "resume",
  summary: string,
  orchestrator: Orchestrator,
): AnyRoute {
  const method = `${act}${kind === "queue" ? "Queue" : "Name"}` as const;
  return route({
    method: "POST",
    path: `/${kind}s/:name/${act}`,
    scope: "admin",
    summary,
    params: kind === "queue" ? queueParams : nameParams,
    body: nothing,
    answers: { 200: { description: "`changed` is false where it was so already", schema: changed } },
    async handle({ c, principal, params: { name } }) {
      return c.json({ [kind]: name, changed: await orchestrator[method](name, { by: principal.name }) });
    },
  });
}
