/** What happens, as it happens: of one command, and of all. */
import type { CommandProgress, Orchestrator } from "../../src/index.ts";
import { type Ended, endedFeedOf } from "./ended-feed.ts";
import { follow, type OpenStreams, type StreamEvent } from "./event-stream.ts";
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
      headers: ["Last-Event-ID"],
      answers: {
        200: { description: "Events `status`: the present one first, then each that is new", schema: page, media },
        204: { description: "Last-Event-ID is that of the end: there is nothing more to come" },
      },
      async handle({ c, params: { id } }) {
        return await follow(c, streams, async (signal) => {
          const states = orchestrator.progress(id, { signal });
          // Before anything is answered: for a command that is none it is a 404.
          const first = await states.next();
          const isOld = !first.done && isOver(first.value) && c.req.header("last-event-id") === overId(first.value);
          return isOld ? undefined : statesOf(first, states);
        });
      },
    }),
    route({
      method: "GET",
      path: "/stream",
      scope: "read",
      summary: "What ends, as Server-Sent Events. After a break some come twice: drop them by their ids and times",
      query: sinceQuery,
      headers: ["Last-Event-ID"],
      answers: {
        200: {
          description: "Events `ended`, in the order of their ends; `skipped`: there were too many",
          schema: page,
          media,
        },
      },
      async handle({ c, query }) {
        return await follow(c, streams, async (signal) => {
          const asked = query.since === undefined ? undefined : new Date(query.since);
          const since = timeOf(c.req.header("last-event-id")) ?? asked;
          return endsOf(await feed.watch(signal, since));
        });
      },
    }),
  ];
}

/** Of the id of an event. What is none of them is as good as no id: a browser sends whatever it last had. */
function timeOf(text: string | undefined): Date | undefined {
  const time = /^\d{4}-\d\d-\d\dT[\d:.]{5,20}Z$/.test(text ?? "") ? new Date(text as string) : undefined;
  return Number.isNaN(time?.getTime()) ? undefined : time;
}

async function* statesOf(
  first: IteratorResult<CommandProgress>,
  states: AsyncIterator<CommandProgress>,
): AsyncGenerator<StreamEvent> {
  for (let state = first; !state.done; state = await states.next()) {
    const data = state.value;
    yield { event: "status", data, id: isOver(data) ? overId(data) : undefined };
  }
}

/** One event for each command. */
async function* endsOf(batches: AsyncIterator<Ended>): AsyncGenerator<StreamEvent> {
  while (true) {
    const { value } = (await batches.next()) as IteratorYieldResult<Ended>;
    if (value.skipped) yield { event: "skipped", data: {} };
    for (const data of value.commands) yield { event: "ended", data, id: data.finishedAt?.toISOString() };
  }
}
