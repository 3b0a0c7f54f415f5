/**
 * The log of events, for all who follow it. Whoever is behind reads for itself, page by page, until it has come to the
 * end; from there on one poller of an orchestrator reads for all, and each takes what has its topics and is behind its own
 * position. So the poller may begin again before what it has read: it does where somebody joins who has read less, and
 * nobody gets an event twice. A position beyond the end of the log is nobody's but its follower's.
 */
import type { Orchestrator } from "../../src/index.ts";
import { type LogPage, topicsPattern } from "../../src/read-log.ts";
import type { RecordedEvent } from "../../src/recorded-event.ts";
import { createMailbox, type Mailbox } from "./mailbox.ts";
import { createPoller, requireRunning } from "./poller.ts";

const pageSize = 500;

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
  /** How far it has got. */
  position: number;
  /** Undefined: all. */
  readonly topics: RegExp | undefined;
}

type Source = Pick<Orchestrator, "readAll" | "report" | "isStopped">;

const feeds = new WeakMap<Source, LogFeed>();

/** The one of an orchestrator, whichever of its routers asks. */
export function logFeedOf(orchestrator: Source): LogFeed {
  const feed = feeds.get(orchestrator) ?? createLogFeed(orchestrator);
  feeds.set(orchestrator, feed);
  return feed;
}

export function createLogFeed(orchestrator: Source): LogFeed {
  const followers = new Set<Follower>();
  /** From where the poller reads on. */
  let head: number | undefined;

  const poller = createPoller(orchestrator, {
    operation: "readLog",
    isWanted: () => followers.size > 0,
    async poll() {
      while (followers.size > 0) {
        const from = head ?? 0;
        const page = await orchestrator.readAll({ after: from, limit: pageSize });
        // Somebody has joined meanwhile who has read less: nobody's position may pass what lies between.
        if ((head ?? 0) !== from) continue;
        for (const follower of [...followers]) tell(follower, page);
        head = page.position;
        if (!page.more) return;
      }
    },
    letGo(error) {
      for (const { mailbox } of [...followers]) mailbox.fail(error);
    },
    ended() {
      head = undefined;
    },
  });

  function tell(follower: Follower, { events, position }: LogPage): void {
    const wanted = events.filter((event) => {
      if ((event.position ?? 0) <= follower.position) return false;
      return follower.topics === undefined || follower.topics.test(event.topic);
    });
    follower.position = Math.max(follower.position, position);
    if (wanted.length > 0) follower.mailbox.put(wanted, wanted.length);
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
        requireRunning(orchestrator);
        const page = await orchestrator.readAll({ after: position, limit: pageSize, ...chosen });
        position = page.position;
        if (!page.more && !signal.aborted) {
          head = Math.min(head ?? position, position);
          follower = { mailbox, position, topics: pattern === null ? undefined : new RegExp(pattern) };
          followers.add(follower);
          poller.start();
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
