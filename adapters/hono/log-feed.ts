/**
 * The log of events, for all who follow it. Whoever is behind reads for itself, page by page, until it has come as far
 * as the others; from there on one poller reads for all, and each takes what has its topics. Positions are those of the
 * log, so nobody gets an event twice.
 */
import type { Orchestrator } from "../../src/index.ts";
import { topicsPattern } from "../../src/read-log.ts";
import type { RecordedEvent } from "../../src/recorded-event.ts";
import { createMailbox, type Mailbox } from "./mailbox.ts";
import { createPoller } from "./poller.ts";

const pageSize = 500;
const maxTroubles = 10;

export interface LogFeed {
  /** Events behind a position, without end but that of `signal`. The first page is read before it answers. */
  follow(
    signal: AbortSignal,
    after: number,
    topics: readonly string[],
  ): Promise<AsyncIterator<readonly RecordedEvent[]>>;
}

interface Follower {
  readonly mailbox: Mailbox<readonly RecordedEvent[]>;
  readonly position: number;
  /** Undefined: all. */
  readonly topics: RegExp | undefined;
}

export function createLogFeed(orchestrator: Pick<Orchestrator, "readAll" | "report">): LogFeed {
  const followers = new Set<Follower>();
  /** How far the poller has read. */
  let head: number | undefined;

  const poller = createPoller({
    isWanted: () => followers.size > 0,
    async poll() {
      while (followers.size > 0) {
        const page = await orchestrator.readAll({ after: head ?? 0, limit: pageSize });
        head = page.position;
        if (page.events.length > 0) for (const follower of [...followers]) tell(follower, page.events);
        if (!page.more) return;
      }
    },
    failed(error, count) {
      orchestrator.report({ type: "database_trouble", operation: "readLog", error, attempt: count });
      if (count >= maxTroubles) for (const { mailbox } of [...followers]) mailbox.fail(error);
    },
    ended() {
      head = undefined;
    },
  });

  function tell({ mailbox, position, topics }: Follower, events: readonly RecordedEvent[]): void {
    const wanted = events.filter((event) => {
      if ((event.position ?? 0) <= position) return false;
      return topics === undefined || topics.test(event.topic);
    });
    if (wanted.length > 0) mailbox.put(wanted, wanted.length);
  }

  return {
    async follow(signal, after, topics) {
      const chosen = topics.length > 0 ? { topics } : {};
      const pattern = topicsPattern("Cannot read events", chosen.topics);
      let position = after;
      let follower: Follower | undefined;
      const mailbox = createMailbox<readonly RecordedEvent[]>(signal, () => {
        if (follower) followers.delete(follower);
        poller.look();
      });
      const read = async () => {
        const page = await orchestrator.readAll({ after: position, limit: pageSize, ...chosen });
        position = page.position;
        // Looked at and joined in one turn, so that the poller reads nothing between.
        if (!page.more && position >= (head ?? 0) && !signal.aborted) {
          head ??= position;
          follower = { mailbox, position, topics: pattern === null ? undefined : new RegExp(pattern) };
          followers.add(follower);
          poller.start();
        } else if (!page.more && page.events.length === 0) {
          // Somebody follows from a place that the log has not come to.
          await new Promise((resolve) => setTimeout(resolve, 1_000));
        }
        return page.events;
      };
      let first: readonly RecordedEvent[] | undefined = await read();
      return {
        async next() {
          while (true) {
            const events: readonly RecordedEvent[] =
              first ?? (follower === undefined ? await read() : (await mailbox.taken.next()).value);
            first = undefined;
            if (signal.aborted) throw signal.reason;
            if (events.length > 0) return { done: false, value: events };
          }
        },
      };
    },
  };
}
