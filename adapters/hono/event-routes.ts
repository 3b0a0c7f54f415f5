/** Events: publishing and appending, the log, streams, what became of one, and who subscribes. */
import * as v from "valibot";
import type { AnyEventContract, EventContract, NewEvent } from "../../src/define-event.ts";
import { merged } from "../../src/encode-command.ts";
import { encodeEvent, InvalidDataError } from "../../src/encode-event.ts";
import type { Orchestrator } from "../../src/index.ts";
import { maxBatchBytes } from "../../src/limits.ts";
import { EventConflictError, StreamConflictError } from "../../src/publish.ts";
import type { RecordedEvent } from "../../src/recorded-event.ts";
import { requirePattern } from "../../src/topic.ts";
import type { Issue } from "../../src/validate.ts";
import type { Principal } from "./authorise.ts";
import { follow, type OpenStreams, type StreamEvent } from "./event-stream.ts";
import { idempotencyKey, keyedId } from "./idempotency.ts";
import { isRecord, issuesOfMetadata, layered } from "./incoming.ts";
import { logFeedOf } from "./log-feed.ts";
import { issuesAt, maxIssues, Problem, refused, under, unknownKeys } from "./problem.ts";
import { type AnyRoute, issuesBy, route } from "./route.ts";
import {
  eventKeys,
  eventStatus,
  eventsQuery,
  idParams,
  logPage,
  maxMany,
  type PublishedEvents,
  page,
  published,
  publishedEvents,
  publishingKeys,
  removal,
  removed,
  streamEvents,
  streamParams,
  streamQuery,
  subscriptionList,
  subscriptionParams,
} from "./schemas.ts";
import { readJson } from "./security.ts";

type Callable = EventContract<string, any>;

export function eventRoutes(
  orchestrator: Orchestrator,
  contracts: readonly AnyEventContract[],
  streams: OpenStreams,
): AnyRoute[] {
  const topics = new Map(contracts.map((contract) => [contract.topic, contract]));
  const feed = logFeedOf(orchestrator);

  return [
    route({
      method: "POST",
      path: "/events",
      scope: "push",
      summary: "Publish events, or append them to a stream: all of them, or none",
      streamed: { "application/json": publishedEvents },
      headers: ["Idempotency-Key"],
      answers: { 202: { description: "They are stored, and their deliveries queued", schema: published } },
      async handle({ c, principal }) {
        const key = idempotencyKey(c);
        const given = await readJson(c, maxBatchBytes);
        const issues = () => issuesIn(given, topics, principal);
        const result = v.safeParse(publishedEvents, given);
        if (!result.success || result.output.events.some(({ topic }) => !topics.has(topic))) {
          throw new Problem(422, "invalid", { issues: await issues() });
        }
        const events = await eventsOf(result.output, topics, principal, key);
        const { stream, expectedVersion } = result.output;
        try {
          if (stream === undefined) {
            const list = await orchestrator.publish(events);
            return c.json({ ids: list.map(({ id }) => id) }, 202);
          }
          return c.json(await orchestrator.append(stream, events, { expectedVersion }), 202);
        } catch (error) {
          throw (await publishProblem(error, given, issues)) ?? error;
        }
      },
    }),
    route({
      method: "GET",
      path: "/events",
      scope: "read",
      summary: "Read the log from a position on; with Accept: text/event-stream follow it",
      query: eventsQuery,
      headers: ["Last-Event-ID"],
      answers: {
        200: {
          description: "Events in the order of the log. As a stream: events `event`, whose ids are positions",
          schema: logPage,
          also: { "text/event-stream": page },
        },
      },
      async handle({ c, query }) {
        const { after = 0, limit, topic = [] } = query;
        requirePatterns(topic);
        try {
          if (!/text\/event-stream/i.test(c.req.header("accept") ?? "")) {
            return c.json(await orchestrator.readAll({ after, limit, ...(topic.length > 0 ? { topics: topic } : {}) }));
          }
          const last = c.req.header("last-event-id");
          const from = last !== undefined && /^\d{1,15}$/.test(last) ? Number(last) : after;
          return await follow(c, streams, async (signal) => oneByOne(await feed.follow(signal, from, topic)));
        } catch (error) {
          throw refused(error, "Cannot read events", 400, query) ?? error;
        }
      },
    }),
    route({
      method: "GET",
      path: "/events/:id",
      scope: "read",
      summary: "What became of an event",
      params: idParams,
      answers: { 200: { description: "The event, and its deliveries", schema: eventStatus } },
      async handle({ c, params: { id } }) {
        const found = await orchestrator.eventStatus(id);
        if (found === undefined) throw new Problem(404, "unknown", { detail: "There is no event with this id" });
        return c.json(found as object);
      },
    }),
    route({
      method: "GET",
      path: "/streams/:stream",
      scope: "read",
      summary: "Read the events of a stream",
      params: streamParams,
      query: streamQuery,
      answers: { 200: { description: "In the order of their versions, or backwards", schema: streamEvents } },
      async handle({ c, params: { stream }, query: { from, direction, limit = 100 } }) {
        return c.json({ events: (await orchestrator.readStream(stream, { from, direction, limit })) as object[] });
      },
    }),
    route({
      method: "GET",
      path: "/subscriptions",
      scope: "read",
      summary: "Who subscribes to what",
      answers: { 200: { description: "Those that were removed among them", schema: subscriptionList } },
      async handle({ c }) {
        return c.json({ subscriptions: await orchestrator.subscriptions() });
      },
    }),
    route({
      method: "POST",
      path: "/subscriptions/:name/remove",
      scope: "admin",
      summary: "End a subscription, and keep or cancel its deliveries",
      params: subscriptionParams,
      body: removal,
      answers: { 200: { description: "Whether there was one, and what was cancelled", schema: removed } },
      async handle({ c, principal, params, body: { deliveries } }) {
        const { name } = params;
        try {
          return c.json(await orchestrator.removeSubscription(name, { deliveries, by: principal.name }));
        } catch (error) {
          throw refused(error, "Cannot remove subscription", 400, params) ?? error;
        }
      },
    }),
  ];
}

async function eventsOf(
  { events }: PublishedEvents,
  topics: ReadonlyMap<string, AnyEventContract>,
  principal: Principal,
  key: string | undefined,
): Promise<NewEvent[]> {
  return await Promise.all(
    events.map(async ({ topic, data, metadata }, place) =>
      (topics.get(topic) as Callable)(data, {
        metadata: layered(metadata, principal),
        // Another place than any command's, so that one key may push and publish.
        id: key === undefined ? undefined : await keyedId(principal.name, `event ${key}`, place),
      }),
    ),
  );
}

/** Everything that is wrong with a body of events, by its place: the envelope, and each event's topic, data and metadata. */
async function issuesIn(
  given: unknown,
  topics: ReadonlyMap<string, AnyEventContract>,
  principal: Principal,
): Promise<readonly Issue[]> {
  const found = issuesBy(publishedEvents, given);
  if (!isRecord(given)) return found;
  const more = unknownKeys(given, publishingKeys);
  const { events } = given;
  const list: readonly unknown[] = Array.isArray(events) && events.length <= maxMany ? events : [];
  for (const [place, event] of list.entries()) {
    if (!isRecord(event)) continue;
    const { topic, data, metadata } = event;
    const contract = topics.get(topic as string);
    const issues = unknownKeys(event, eventKeys);
    if (contract !== undefined) issues.push(...(await dataIssues(contract as Callable, data)));
    else if (typeof topic === "string") issues.push({ path: "topic", message: "is not known here" });
    issues.push(...issuesOfMetadata(metadata, principal));
    more.push(...issues.map(({ path, message }) => ({ path: under(`events[${place}]`, path), message })));
    if (more.length >= maxIssues) break;
  }
  return merged(found, more).slice(0, maxIssues);
}

async function dataIssues(contract: Callable, data: unknown): Promise<Issue[]> {
  try {
    await encodeEvent(contract(data));
    return [];
  } catch (error) {
    if (!(error instanceof InvalidDataError)) throw error;
    return issuesAt("data", error.issues, data);
  }
}

async function publishProblem(
  error: unknown,
  sent: unknown,
  issuesIn: () => Promise<readonly Issue[]>,
): Promise<Problem | undefined> {
  if (error instanceof EventConflictError) {
    return new Problem(422, "key_reused", { detail: "Another topic or other data was sent with this key before" });
  }
  if (error instanceof StreamConflictError) {
    const members = { currentVersion: error.currentVersion };
    return new Problem(409, "conflict", { detail: "The stream is at another version", members });
  }
  const stream = isRecord(sent) && typeof sent.stream === "string" ? sent.stream : "";
  const problem =
    refused(error, "Cannot publish", 422, sent) ??
    refused(error, `Cannot append to stream "${stream}"`, 422, sent) ??
    refused(error, "Cannot append", 422, sent);
  if (problem === undefined && !(error instanceof InvalidDataError)) return undefined;
  // It stops at the first event that it refuses, and does not say which one that was.
  const issues = await issuesIn();
  return issues.length === 0 ? (problem ?? new Problem(422, "invalid")) : new Problem(422, "invalid", { issues });
}

/** @throws Problem that names every one that is none. */
function requirePatterns(patterns: readonly string[]): void {
  const issues = patterns.flatMap((pattern, index) => {
    try {
      requirePattern("Cannot read events", pattern);
      return [];
    } catch (error) {
      const [, message = ""] = /pattern (must [^]*)$/.exec((error as Error).message) ?? [];
      return issuesAt(patterns.length === 1 ? "topic" : `topic[${index}]`, [{ path: "", message }], pattern);
    }
  });
  if (issues.length > 0) throw new Problem(400, "invalid", { issues });
}

async function* oneByOne(batches: AsyncIterator<readonly RecordedEvent[]>): AsyncGenerator<StreamEvent> {
  while (true) {
    const { value } = (await batches.next()) as IteratorYieldResult<readonly RecordedEvent[]>;
    for (const data of value) yield { event: "event", data, id: String(data.position) };
  }
}
