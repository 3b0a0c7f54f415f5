/** Work that a request brings with it: a tick for those who have a timer and no process, and calls of commands by signature. */
import type { CallReceiver, Orchestrator } from "../../src/index.ts";
import { refused } from "./problem.ts";
import { type AnyRoute, route } from "./route.ts";
import { anyJson, tickBody, ticked } from "./schemas.ts";
import type { SignedTicks } from "./signed-tick.ts";

export function processRoutes(
  orchestrator: Orchestrator,
  receive: CallReceiver | undefined,
  signed: SignedTicks | undefined,
): AnyRoute[] {
  const routes = [
    route({
      method: "POST",
      path: "/tick",
      scope: "process",
      isSigned: signed?.admit,
      summary: "Work off what is due, and say when to come back",
      body: tickBody,
      answers: { 200: { description: "What was done", schema: ticked } },
      async handle({ c, body }) {
        const tick = () => orchestrator.tick(body);
        try {
          if (signed === undefined) return c.json(await tick());
          return c.body(await signed.answer(c, tick), 200, { "Content-Type": "application/json" });
        } catch (error) {
          throw refused(error, "Cannot tick", 422, body) ?? error;
        }
      },
    }),
  ];
  if (receive !== undefined) {
    routes.push(
      route({
        method: "POST",
        path: "/execute",
        // Its own guard: the signature of who calls, over the bytes of the body.
        scope: undefined,
        wantsSignature: true,
        summary: "Execute a command that is called by signature (Standard Webhooks)",
        streamed: { "application/json": anyJson },
        answers: { 200: { description: "The outcome, with what is to follow", schema: anyJson } },
        handle: ({ c }) => receive(c.req.raw),
      }),
    );
  }
  return routes;
}
