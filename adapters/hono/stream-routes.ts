/** What happens, as it happens: of one command, and of all. */
import type { CommandProgress, Orchestrator } from "../../src/index.ts";
import { type Ended, endedFeedOf } from "./ended-feed.ts";
import { eventStream, type OpenStreams, type StreamEvent } from "./event-stream.ts";
import { type AnyRoute, route } from "./route.ts";
import { idParams, page, sinceQuery } from "./schemas.ts";

const media = "text/event-stream";
/**
 * The id of the last event of a command's stream. A browser that comes back with it is told to stay away, unless the
 * command was tried again: so it has the time of the end.
 */
const overId = ({ at }: CommandProgress): string => `over.${at.toISOString()}`;
const isOver = ({ status }: CommandProgress): boolean => !["scheduled", "pending", "running"].includes(status);

export function streamRoutes(orchestrator: Orchestrator, streams: OpenStreams): AnyRoute[] {
  const feed = endedFeedOf(orchestrator);
  return [
    route({
      method: "GET",
      path: "/commands/:id/stream",
      scope: "read",
      summary: "Status and progress of a command until it has ended, as Server-Sent Events",
      params: idParams,
      answers: {
        200: { description: "Events `status`: the present one first, then each that is new", schema: page, media },
        204: { description: "Last-Event-ID is that of the end: there is nothing more to come" },
      },
      async handle({ c, params: { id } }) {
        const leave = streams.open();
        const controller = new AbortController();
        const states = orchestrator.progress(id, { signal: controller.signal });
        const close = (): void => {
          leave();
          controller.abort(new Error("Its client has gone"));
        };
        try {
          // Before anything is answered: for a command that is none it is a 404.
          let first: Awaited<ReturnType<typeof states.next>> | undefined = await states.next();
          const { value: present } = first;
          if (present && isOver(present) && c.req.header("last-event-id") === overId(present)) {
            close();
            return c.body(null, 204);
          }
          return eventStream(
            c,
            {
              async next(): Promise<IteratorResult<StreamEvent>> {
                const { done, value } = first ?? (await states.next());
                first = undefined;
                if (done) return { done: true, value: undefined };
                const id = isOver(value) ? overId(value) : undefined;
                return { done: false, value: { event: "status", data: value, id } };
              },
            },
            close,
          );
        } catch (error) {
          close();
          throw error;
        }
      },
    }),
    route({
      method: "GET",
      path: "/stream",
      scope: "read",
      summary: "What ends, as Server-Sent Events. After a break some come twice: drop them by their ids and times",
      query: sinceQuery,
      answers: {
        200: {
          description: "Events `ended`, in the order of their ends; `skipped`: there were too many",
          schema: page,
          media,
        },
      },
      async handle({ c, query }) {
        const leave = streams.open();
        const controller = new AbortController();
        const close = (): void => {
          leave();
          controller.abort(new Error("Its client has gone"));
        };
        try {
          const asked = query.since === undefined ? undefined : new Date(query.since);
          const since = timeOf(c.req.header("last-event-id")) ?? asked;
          return eventStream(c, eventsOf(await feed.watch(controller.signal, since)), close);
        } catch (error) {
          close();
          throw error;
        }
      },
    }),
  ];
}

/** Of the id of an event. What is none of them is as good as no id: a browser sends whatever it last had. */
function timeOf(text: string | undefined): Date | undefined {
  const time = /^\d{4}-\d\d-\d\dT[\d:.]{5,20}Z$/.test(text ?? "") ? new Date(text as string) : undefined;
  return Number.isNaN(time?.getTime()) ? undefined : time;
}

/** One event for each command. */
function eventsOf(batches: AsyncIterator<Ended>): AsyncIterator<StreamEvent> {
  let events: StreamEvent[] = [];
  return {
    async next() {
      while (events.length === 0) {
        const { value } = (await batches.next()) as IteratorYieldResult<Ended>;
        events = value.commands.map((data) => ({ event: "ended", data, id: data.finishedAt?.toISOString() }));
        if (value.skipped) events.unshift({ event: "skipped", data: {} });
        events.reverse();
      }
      return { done: false, value: events.pop() as StreamEvent };
    },
  };
}
