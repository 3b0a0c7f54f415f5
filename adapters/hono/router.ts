/**
 * An orchestrator over HTTP: a Hono app to mount at any path, on every runtime. Every route has its own guards, and
 * there is no router without somebody who says who may do what.
 */
import type { Hono } from "hono";
import { isKind } from "../../src/command.ts";
import type { AnyEventContract } from "../../src/define-event.ts";
import type { CallReceiver, CallStore, Orchestrator, SigningKeys } from "../../src/index.ts";
import { requireInteger, shown } from "../../src/limits.ts";
import type { Authoriser } from "./authorise.ts";
import { commandRoutes } from "./command-routes.ts";
import { deadLetterRoutes } from "./dead-letter-routes.ts";
import { pageRoutes } from "./docs-page.ts";
import { eventRoutes } from "./event-routes.ts";
import { OpenStreams } from "./event-stream.ts";
import { healthRoutes } from "./health-routes.ts";
import { listRoutes } from "./list-routes.ts";
import { type DescriptionOptions, descriptionRoute } from "./openapi.ts";
import { processRoutes } from "./process-routes.ts";
import { pushRoutes } from "./push-routes.ts";
import { queueRoutes } from "./queue-routes.ts";
import { mount } from "./route.ts";
import type { Env, SecurityOptions } from "./security.ts";
import { createSignedTicks } from "./signed-tick.ts";
import { streamRoutes } from "./stream-routes.ts";

export interface RouterOptions extends DescriptionOptions {
  /** Says who sent a request, and what they may do: `tokenAuthoriser([…])`, or one's own. */
  readonly authorise: Authoriser;
  /** `Host` headers that are served: `["jobs.example.com", "localhost:3000"]`. @default all */
  readonly hosts?: readonly string[] | undefined;
  /** Other origins whose pages may send what changes something: `["https://admin.example.com"]`. @default none */
  readonly origins?: readonly string[] | undefined;
  /** How many event streams may be open at the same time: 1 to 100,000. @default 1_000 */
  readonly maxStreams?: number | undefined;
  /** Contracts of events that may be published and appended. @default none */
  readonly events?: readonly AnyEventContract[] | undefined;
  /** Executes what is called by signature, as `receiveCall` makes it. Without it there is no such route. @default none */
  readonly receive?: CallReceiver | undefined;
  /**
   * Of those who sign their ticks by Standard Webhooks, which lets them in without a token: a key, or up to eight while they
   * are rotated. Without it ticks need a token. @default none
   */
  readonly tickKeys?: SigningKeys | undefined;
  /**
   * Where the ids of signed ticks are remembered, to be shared by several instances.
   * In memory it is 100,000 of them, of this instance alone.
   *
   * @default in memory
   */
  readonly tickStore?: CallStore | undefined;
}

/**
 * The routes of an orchestrator, as a Hono app. What may be pushed are the contracts of its `handlers` and `commands`.
 *
 * @throws TypeError without an authoriser, and for options that are none.
 * @example
 * const app = new Hono();
 * app.route("/jobs", router(orchestrator, { authorise: tokenAuthoriser([{ name: "shop", token, scopes: ["push"] }]) }));
 */
export function router(orchestrator: Orchestrator, options: RouterOptions): Hono<Env> {
  const attempt = "Cannot mount the router";
  const { authorise, hosts, origins, maxStreams = 1_000, events = [], receive, tickKeys, tickStore } = options ?? {};
  if (typeof orchestrator?.push !== "function") {
    throw new TypeError(`${attempt}: an orchestrator is wanted, got ${shown(orchestrator)}`);
  }
  if (typeof authorise !== "function") {
    throw new TypeError(
      `${attempt}: authorise must be a function that says who sent a request, got ${shown(authorise)}: ` +
        "pass tokenAuthoriser([…]), or while developing unprotected()",
    );
  }
  requireTexts(attempt, "hosts", hosts);
  requireTexts(attempt, "origins", origins);
  if (!Array.isArray(events) || !events.every((one) => isKind(one, "event contract"))) {
    throw new TypeError(
      `${attempt}: events must be a list of contracts, as defineEvent makes them, got ${shown(events)}`,
    );
  }
  if (receive !== undefined && typeof receive !== "function") {
    throw new TypeError(`${attempt}: receive must be what receiveCall makes, got ${shown(receive)}`);
  }
  requireInteger(attempt, "maxStreams", maxStreams, 1, 100_000);

  const signedTicks = tickKeys === undefined ? undefined : createSignedTicks(tickKeys, tickStore);
  const security: SecurityOptions = { authorise, hosts, origins };
  const streams = new OpenStreams(maxStreams);
  const app: Hono<Env> = mount(
    [
      ...pushRoutes(orchestrator),
      ...listRoutes(orchestrator),
      ...commandRoutes(orchestrator),
      ...streamRoutes(orchestrator, streams),
      ...eventRoutes(orchestrator, events, streams),
      ...deadLetterRoutes(orchestrator),
      ...queueRoutes(orchestrator),
      ...processRoutes(orchestrator, receive, signedTicks),
      ...healthRoutes(orchestrator),
      descriptionRoute(() => app, orchestrator, options),
      ...pageRoutes(),
    ],
    orchestrator,
    security,
  );
  return app;
}

function requireTexts(attempt: string, field: string, value: unknown): void {
  if (value === undefined) return;
  if (Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "string")) return;
  throw new TypeError(`${attempt}: ${field} must be a list of at least one string, got ${shown(value)}`);
}

export { type Authoriser, type Principal, type Scope, type Token, tokenAuthoriser, unprotected } from "./authorise.ts";
export type { DescriptionOptions, JsonSchema } from "./openapi.ts";
