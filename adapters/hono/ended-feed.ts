/**
 * What ends, for all who watch: one poller of an orchestrator, however many there are, and none while nobody watches. It reads
 * history from the newest time that it knows, less an overlap, since what commits later may have ended earlier; what it
 * has told already is left out. Times are the database's throughout.
 */
import type { CommandStatus, CommandSummary, Orchestrator } from "../../src/index.ts";
import { createMailbox, type Mailbox } from "./mailbox.ts";
import { createPoller, requireRunning } from "./poller.ts";

/** A finish commits within milliseconds of its clock; one inside a handler's own transaction may take as long as that. */
const overlapMs = 5_000;
const pageSize = 1_000;
/** Most pages of one read. What is beyond them is said to be left out. */
const maxPages = 10;

const finals: readonly CommandStatus[] = ["succeeded", "failed", "cancelled", "timed_out", "not_found"];

/** Commands that ended, in the order of their ends; `skipped`: there were more before them, too many to read at once. */
export interface Ended {
  readonly commands: readonly CommandSummary[];
  readonly skipped: boolean;
}

export interface EndedFeed {
  /**
   * What ends from now on, and before that what ended since a time. It is awaited before the client is told that it
   * listens, so that nothing falls between. It ends by `signal`, and with the orchestrator.
   */
  watch(signal: AbortSignal, since?: Date): Promise<AsyncIterator<Ended>>;
}

type Source = Pick<Orchestrator, "list" | "report" | "isStopped">;

const feeds = new WeakMap<Source, EndedFeed>();

/** The one of an orchestrator, whichever of its routers asks. */
export function endedFeedOf(orchestrator: Source): EndedFeed {
  const feed = feeds.get(orchestrator) ?? createEndedFeed(orchestrator);
  feeds.set(orchestrator, feed);
  return feed;
}

export function createEndedFeed(orchestrator: Source): EndedFeed {
  const watchers = new Set<Mailbox<Ended>>();
  /** What was told within the overlap, by id and time: a command that was tried again ends twice. */
  let told = new Map<string, number>();
  let newest = 0;
  let starting: Promise<void> | undefined;

  const keyOf = ({ id, finishedAt }: CommandSummary): string => `${id} ${finishedAt?.getTime()}`;
  const horizon = (): number => Math.max(newest - overlapMs, 0);

  /** Everything that ended from a time on, in the order of the times. */
  async function read(fromMs: number): Promise<Ended> {
    const found: CommandSummary[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const filter = { status: finals, from: new Date(fromMs), hooks: true };
      const page = await orchestrator.list(filter, { limit: pageSize, cursor });
      found.push(...page.commands);
      cursor = page.cursor;
      pages += 1;
    } while (cursor !== undefined && pages < maxPages);
    return { commands: found.toReversed(), skipped: cursor !== undefined };
  }

  /** Begins with the newest end that there is: it, and what ended shortly before, count as told. */
  async function start(): Promise<void> {
    const { commands } = await orchestrator.list({ status: finals, hooks: true }, { limit: 1 });
    newest = commands[0]?.finishedAt?.getTime() ?? 0;
    told = new Map();
    for (const command of (await read(horizon())).commands) note(command);
  }

  function note(command: CommandSummary): void {
    const at = command.finishedAt?.getTime() ?? 0;
    told.set(keyOf(command), at);
    newest = Math.max(newest, at);
  }

  const poller = createPoller(orchestrator, {
    operation: "list",
    isWanted: () => watchers.size > 0,
    async poll() {
      const known = newest;
      const { commands, skipped: isCut } = await read(horizon());
      // What was cut off is no loss where it is of the overlap alone, which was read before.
      const skipped = isCut && (commands[0]?.finishedAt?.getTime() ?? 0) >= known;
      const fresh = commands.filter((command) => !told.has(keyOf(command)));
      for (const command of fresh) note(command);
      for (const [key, at] of told) if (at < horizon()) told.delete(key);
      if (fresh.length === 0 && !skipped) return;
      for (const watcher of [...watchers]) watcher.put({ commands: fresh, skipped }, fresh.length);
    },
    letGo(error) {
      for (const watcher of [...watchers]) watcher.fail(error);
    },
    ended() {
      starting = undefined;
    },
  });

  return {
    async watch(signal, since) {
      requireRunning(orchestrator);
      const watcher: Mailbox<Ended> = createMailbox(signal, () => {
        watchers.delete(watcher);
        poller.look();
      });
      watchers.add(watcher);
      try {
        // One that fails is begun again by whoever comes next; while others watch there is none to begin.
        starting ??= start().catch((error: unknown) => {
          starting = undefined;
          throw error;
        });
        await starting;
        // What ends while this is read comes twice, and never not at all.
        if (since !== undefined) {
          const ended = await read(Math.max(since.getTime() - overlapMs, 0));
          watcher.put(ended, ended.commands.length);
        }
      } catch (error) {
        watcher.fail(error);
        throw error;
      }
      poller.start();
      return watcher.taken;
    },
  };
}
