/**
 * Duties: background work of the fleet that one worker at a time does, under a lease of its own. Retention always; the
 * rescan of a queue while there is work in it, and once after the last; statistics while commands finish, until all of
 * them are counted, and with the polls of a worker that idles.
 */
import type { Clock } from "./clock.ts";
import { type Database, repeatDelayMs } from "./database.ts";
import { errorRecord } from "./failure.ts";
import type { Observer } from "./observation.ts";
import { createWakeup } from "./wakeup.ts";

export interface Duties {
  /** There is work in a queue: it is to be rescanned. */
  worked(queue: string): void;
  stop(): Promise<void>;
}

export interface DutiesOptions {
  readonly database: Database;
  readonly worker: string;
  readonly queues: readonly string[];
  readonly clock: Clock;
  readonly report: Observer;
  /** The share of the fleet's time that a rescan may take. */
  readonly rescanBudget: number;
  /** Claims from below. */
  readonly rescan: (queue: string) => Promise<Rescan>;
  /** How far behind the clock statistics stay: what a handler's transaction ends may appear that late, in ms. */
  readonly statisticsLagMs: number;
  /** How long statistics rest while nothing ends here, in ms. */
  readonly statisticsRestMs: number;
  /** How many commands this worker has ended. */
  readonly ended: () => number;
}

/** What a rescan came to. */
export interface Rescan {
  readonly result: "found" | "nothing" | "no room";
  /** How long its claim took. */
  readonly ms: number;
}

interface Duty {
  readonly name: string;
  /** Whether it is to be done at all at present. */
  wanted: boolean;
  /** When this worker next asks for it. */
  askAt: number;
  /** Whether there can be nothing to do: asked instead of the database. @default never */
  rests?(): boolean;
  /** Does it, and answers in how many ms it is due again. */
  run(): Promise<number>;
}

interface TakenRow {
  readonly name: string;
  readonly taken: boolean;
  readonly fence: number;
  readonly due_in_ms: number;
}

interface FoldRow {
  readonly folded: number;
  readonly more: boolean;
  readonly later: boolean;
}

const leaseMs = 60_000;
const minRescanMs = 1_000;
/** Not longer, whatever a rescan took: what it alone would find waits that long. */
const maxRescanMs = 60_000;
/** A duty that the table does not know (restored, truncated) is registered and asked for again after this time. */
const askAgainMs = 5_000;
/** Statistics are this much later than they need be, while commands finish. */
const foldEveryMs = 10_000;
/** And at most six times that when nothing has: what was cancelled where no worker is, say. */
const quietFoldEveryMs = 60_000;
/** As long as one run goes on while there is more to be counted: another duty, or `stop()`, waits for it. */
const maxFoldMs = 5_000;

export function createDuties(options: DutiesOptions): Duties {
  const { database, worker, clock, report } = options;
  const wakeup = createWakeup(clock);
  let stopped = false;

  const duties = new Map<string, Duty>();
  duties.set("retention", { name: "retention", wanted: true, askAt: clock.now(), run: retain });
  duties.set("statistics", statistics());
  for (const queue of options.queues) {
    const duty: Duty = {
      name: `rescan ${queue}`,
      wanted: false,
      askAt: clock.now(),
      async run() {
        duty.wanted = false;
        const { result, ms } = await options.rescan(queue);
        if (result !== "nothing") duty.wanted = true;
        return Math.min(Math.max(minRescanMs, ms / options.rescanBudget), maxRescanMs);
      },
    };
    duties.set(duty.name, duty);
  }

  async function retain(): Promise<number> {
    const [turn] = await database.run<{ turn_ms: number }>("historyTurn", []);
    // One slot a call, each in a statement of its own; there are 32.
    for (let slots = 0; slots < 32 && !stopped; slots++) {
      const [expired] = await database.run<{ slot: number | null }>("expireHistory", []);
      if (expired?.slot === null) break;
    }
    for (const { slot, oldest } of await database.run<{ slot: number; oldest: string }>("overdueHistory", [])) {
      report({ type: "history_overdue", slot, oldest });
    }
    return Math.min(Math.max((turn?.turn_ms ?? 0) / 8, 60_000), 3_600_000);
  }

  function statistics(): Duty {
    /** When all was counted that had ended, and how many had ended here by then. */
    let quiet: { since: number; ended: number } | undefined;
    return {
      name: "statistics",
      wanted: true,
      askAt: clock.now(),
      rests: () =>
        quiet !== undefined && options.ended() === quiet.ended && clock.now() < quiet.since + options.statisticsRestMs,
      async run() {
        const ended = options.ended();
        const startedAt = clock.now();
        for (;;) {
          const [step] = await database.run<FoldRow>("foldHistory", [options.statisticsLagMs]);
          if (step?.more && !stopped && clock.now() < startedAt + maxFoldMs) continue;
          quiet = step && !step.more && !step.later ? { since: clock.now(), ended } : undefined;
          return step?.more ? 0 : quiet ? quietFoldEveryMs : foldEveryMs;
        }
      },
    };
  }

  async function register(): Promise<void> {
    await database.run("registerDuties", [JSON.stringify([...duties.keys()])]);
  }

  async function loop(): Promise<void> {
    for (let attempt = 1; !stopped; attempt++) {
      try {
        await register();
        break;
      } catch (error) {
        report({ type: "database_trouble", operation: "registerDuties", error, attempt });
        await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      }
    }
    for (let attempt = 0; !stopped; ) {
      const now = clock.now();
      const wanted = [...duties.values()].filter((duty) => duty.wanted);
      for (const duty of wanted) if (duty.askAt <= now && duty.rests?.()) duty.askAt = now + foldEveryMs;
      const askAt = Math.min(...wanted.map((duty) => duty.askAt));
      if (askAt > now) {
        await wakeup.sleep(askAt - now);
        continue;
      }
      try {
        const due = wanted.filter((duty) => duty.askAt <= now);
        const names = due.map((duty) => duty.name);
        for (const duty of due) duty.askAt = now + askAgainMs;
        const rows = await database.run<TakenRow>("takeDuty", [worker, JSON.stringify(names), leaseMs]);
        const asked = clock.now();
        for (const row of rows) {
          const duty = duties.get(row.name);
          // Not at once again, or two workers that are due together ask in turns as fast as they can.
          if (duty && !row.taken) duty.askAt = asked + Math.max(row.due_in_ms, 50) * (1 + clock.random() / 10);
        }
        if (rows.length < names.length) await register();
        for (const row of rows) if (row.taken) await perform(duties.get(row.name) as Duty, row.fence);
        attempt = 0;
      } catch (error) {
        report({ type: "database_trouble", operation: "takeDuty", error, attempt: ++attempt });
        await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      }
    }
  }

  async function perform(duty: Duty, fence: number): Promise<void> {
    const startedAt = clock.now();
    let nextMs: number;
    let failure: unknown;
    try {
      nextMs = await duty.run();
    } catch (error) {
      failure = error;
      duty.wanted = true;
      nextMs = 10_000;
    }
    const durationMs = clock.now() - startedAt;
    duty.askAt = clock.now() + nextMs;
    report({
      type: "duty_finished",
      duty: duty.name,
      durationMs,
      ...(failure === undefined ? {} : { error: failure }),
    });
    const message = failure === undefined ? null : errorRecord(failure).message;
    await database.run("finishDuty", [worker, duty.name, fence, nextMs, durationMs, message]);
  }

  const done = loop();
  return {
    worked(queue) {
      const duty = duties.get(`rescan ${queue}`);
      if (!duty || duty.wanted) return;
      duty.wanted = true;
      wakeup.raise();
    },
    stop() {
      stopped = true;
      wakeup.raise();
      return done;
    },
  };
}
