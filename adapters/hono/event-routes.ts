/** Events: publishing and appending, the log, streams, what became of one, and who subscribes. */
import type { AnyEventContract, EventContract, NewEvent } from "../../src/define-event.ts";
import { InvalidDataError } from "../../src/encode-event.ts";
import type { Orchestrator } from "../../src/index.ts";
import { maxBatchBytes } from "../../src/limits.ts";
import { EventConflictError, StreamConflictError } from "../../src/publish.ts";
import type { RecordedEvent } from "../../src/recorded-event.ts";
import { follow, type OpenStreams, type StreamEvent } from "./event-stream.ts";
import { idempotencyKey, keyedId } from "./idempotency.ts";
import { layered } from "./incoming.ts";
import { logFeedOf } from "./log-feed.ts";
import { issuesAt, Problem, refused } from "./problem.ts";
import { type AnyRoute, type Call, route } from "./route.ts";
import {
  eventStatus,
  eventsQuery,
  idParams,
  logPage,
  type PublishedEvents,
  published,
  publishedEvents,
  removal,
  removed,
  streamEvents,
  streamParams,
  streamQuery,
  subscriptionList,
  subscriptionParams,
} from "./schemas.ts";

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
      body: publishedEvents,
      maxBodyBytes: maxBatchBytes,
      answers: { 202: { description: "They are stored, and their deliveries queued", schema: published } },
      async handle({ c, principal, body }) {
        const events = await eventsOf(body, topics, principal, idempotencyKey(c));
        const { stream, expectedVersion } = body;
        try {
          if (stream === undefined) {
            const list = await orchestrator.publish(events);
            return c.json({ ids: list.map(({ id }) => id) }, 202);
          }
          return c.json(await orchestrator.append(stream, events, { expectedVersion }), 202);
        } catch (error) {
          throw publishProblem(error, body) ?? error;
        }
      },
    }),
    route({
      method: "GET",
      path: "/events",
      scope: "read",
      summary: "Read the log from a position on; with Accept: text/event-stream follow it",
      query: eventsQuery,
      answers: {
        200: {
          description: "Events in the order of the log. As a stream: events `event`, whose ids are positions",
          schema: logPage,
        },
      },
      async handle({ c, query: { after = 0, limit, topic = [] } }) {
        try {
          if (!/text\/event-stream/i.test(c.req.header("accept") ?? "")) {
            return c.json(await orchestrator.readAll({ after, limit, ...(topic.length > 0 ? { topics: topic } : {}) }));
          }
          const last = c.req.header("last-event-id");
          const from = last !== undefined && /^\d{1,15}$/.test(last) ? Number(last) : after;
          return await follow(c, streams, async (signal) => oneByOne(await feed.follow(signal, from, topic)));
        } catch (error) {
          throw refused(error, "Cannot read events", 400) ?? error;
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
      async handle({ c, principal, params: { name }, body: { deliveries } }) {
        try {
          return c.json(await orchestrator.removeSubscription(name, { deliveries, by: principal.name }));
        } catch (error) {
          throw refused(error, "Cannot remove subscription", 400) ?? error;
        }
      },
    }),
  ];
}

async function eventsOf(
  { events }: PublishedEvents,
  topics: ReadonlyMap<string, AnyEventContract>,
  principal: Call["principal"],
  key: string | undefined,
): Promise<NewEvent[]> {
  const issues = events.flatMap(({ topic }, place) =>
    topics.has(topic) ? [] : [{ path: `events[${place}].topic`, message: "is not known here" }],
  );
  if (issues.length > 0) throw new Problem(422, "invalid", { issues: issues.slice(0, 100) });
  return await Promise.all(
    events.map(async ({ topic, data, metadata }, place) =>
      (topics.get(topic) as EventContract<string, any>)(data, {
        metadata: layered(metadata, principal),
        // Another place than any command's, so that one key may push and publish.
        id: key === undefined ? undefined : await keyedId(principal.name, `event ${key}`, place),
      }),
    ),
  );
}

function publishProblem(error: unknown, body: PublishedEvents): Problem | undefined {
  if (error instanceof InvalidDataError) {
    // It does not say which one it was: of one topic that is refused the first is as good as any.
    const place = body.events.findIndex(({ topic }) => topic === error.topic);
    return new Problem(422, "invalid", { issues: issuesAt(`events[${place}].data`, error.issues, body.events) });
  }
  if (error instanceof EventConflictError) {
    return new Problem(422, "key_reused", { detail: "Another topic or other data was sent with this key before" });
  }
  if (error instanceof StreamConflictError) {
    const members = { currentVersion: error.currentVersion };
    return new Problem(409, "conflict", { detail: "The stream is at another version", members });
  }
  return refused(error, "Cannot publish", 422) ?? refused(error, "Cannot append", 422);
}

async function* oneByOne(batches: AsyncIterator<readonly RecordedEvent[]>): AsyncGenerator<StreamEvent> {
  while (true) {
    const { value } = (await batches.next()) as IteratorYieldResult<readonly RecordedEvent[]>;
    for (const data of value) yield { event: "event", data, id: String(data.position) };
  }
}
