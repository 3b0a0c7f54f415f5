/**
 * Duties: background work of the fleet that one worker at a time does, under a lease of its own. The rescan of a queue
 * while there is work in it, and once after the last; statistics while commands finish, until all of them are counted;
 * retention; events, which are placed in the log where nobody reads it. A worker that idles does them with its polls.
 */
import type { Clock } from "./clock.ts";
import { type Database, repeatDelayMs } from "./database.ts";
import { errorRecord } from "./failure.ts";
import type { Observer } from "./observation.ts";
import { placeAtOnce } from "./read-log.ts";
import { createWakeup } from "./wakeup.ts";

export interface Duties {
  /** There is work in a queue: it is to be rescanned. */
  worked(queue: string): void;
  /** Resolves when they have been stopped; where they are done once, when all that were due have been. */
  readonly done: Promise<void>;
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
  /** How long a duty rests while nothing is made for it here, in ms: a database that is left alone may sleep. */
  readonly restMs: number;
  /** How many commands this worker has ended. */
  readonly ended: () => number;
  /**
   * Asks for each duty once, does those that are due, and ends. Rescans are not among them: whoever does not stay claims
   * from below by itself. @default false
   */
  readonly once?: boolean;
}

/** What a rescan came to. */
export interface Rescan {
  readonly result: "found" | "nothing" | "no room";
  /** How long its claim took. */
  readonly ms: number;
}

/** What a run of a duty came to. */
interface Done {
  /** In how many ms it is due again. */
  readonly nextMs: number;
  /** Nothing was left to do, but for what is made from now on. @default false */
  readonly quiet?: boolean;
}

interface Duty {
  readonly name: string;
  /** Whether it is to be done at all at present. */
  wanted: boolean;
  /** When this worker next asks for it. */
  askAt: number;
  /** How much this worker has made so far of what the duty is there for. Without it, it never rests. */
  made?(): number;
  /** Since when there is nothing to do, and how much this worker had made by then. */
  quiet?: { readonly since: number; readonly made: number | undefined } | undefined;
  run(): Promise<Done>;
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
const noRoomMs = 5_000;
/** What is due this much later was done by somebody else: who did it asks when it is due again, give or take a statement. */
const longDoneMs = 1_000;
/** A duty that the table does not know (restored, truncated) is registered and asked for again after this time. */
const askAgainMs = 5_000;
/** However far off it is, a duty is asked for after this time: somebody may have moved it. */
const maxRestMs = 3_600_000;
/** Statistics are this much later than they need be, while commands finish. */
const foldEveryMs = 10_000;
/** And at most six times that when nothing has: what was cancelled where no worker is, say. */
const quietFoldEveryMs = 60_000;
/** Events that nobody reads are placed this often while there are some: what is read is placed by whoever reads. */
const placeEveryMs = 10_000;
const quietPlaceEveryMs = 60_000;
/** As long as one run goes on while there is more to be counted: another duty, or `stop()`, waits for it. */
const maxFoldMs = 5_000;

export function createDuties(options: DutiesOptions): Duties {
  const { database, worker, clock, report } = options;
  const wakeup = createWakeup(clock);
  let stopped = false;

  const duties = new Map<string, Duty>();
  const add = (duty: Omit<Duty, "askAt">) => void duties.set(duty.name, { ...duty, askAt: clock.now() });
  add({ name: "retention", wanted: true, made: options.ended, run: retain });
  add({ name: "statistics", wanted: true, made: options.ended, run: fold });
  // Who publishes need not be a worker.
  add({ name: "events", wanted: true, made: () => 0, run: placeEvents });
  for (const queue of options.once ? [] : options.queues) {
    add({
      name: `rescan ${queue}`,
      wanted: false,
      async run() {
        this.wanted = false;
        const { result, ms } = await options.rescan(queue);
        if (result !== "nothing") this.wanted = true;
        // The worker does it by itself as soon as it has room.
        if (result === "no room") return { nextMs: noRoomMs };
        return { nextMs: Math.min(Math.max(minRescanMs, ms / options.rescanBudget), maxRescanMs) };
      },
    });
  }

  async function retain(): Promise<Done> {
    // First: without the right to empty history, the rest of this fails.
    await database.run("forgetWorkers", []);
    const [turn] = await database.run<{ turn_ms: number }>("historyTurn", []);
    // One slot a call, each in a statement of its own; there are 32.
    for (let slots = 0; slots < 32 && !stopped; slots++) {
      const [expired] = await database.run<{ slot: number | null }>("expireHistory", []);
      if (expired?.slot === null) break;
    }
    for (const { slot, oldest } of await database.run<{ slot: number; oldest: string }>("overdueHistory", [])) {
      report({ type: "history_overdue", slot, oldest });
    }
    return { nextMs: Math.min(Math.max((turn?.turn_ms ?? 0) / 8, 60_000), 3_600_000), quiet: true };
  }

  /** Events get their positions where nobody reads, and go where their retention is over. */
  async function placeEvents(): Promise<Done> {
    const startedAt = clock.now();
    let placed = 0;
    while (!stopped && clock.now() < startedAt + maxFoldMs) {
      const [row] = await database.run<{ placed: number }>("sequenceEvents", [placeAtOnce]);
      placed += row?.placed ?? 0;
      if ((row?.placed ?? 0) < placeAtOnce) break;
    }
    const [turn] = await database.run<{ turn_ms: number | null }>("eventsTurn", []);
    if (turn?.turn_ms !== null) await expireEvents();
    return placed === 0 ? { nextMs: quietPlaceEveryMs, quiet: true } : { nextMs: placeEveryMs };
  }

  async function expireEvents(): Promise<void> {
    for (let slots = 0; slots < 16 && !stopped; slots++) {
      const [expired] = await database.run<{ slot: number | null }>("expireEvents", []);
      if (expired?.slot === null) break;
    }
    for (const { slot, oldest } of await database.run<{ slot: number; oldest: string }>("overdueEvents", [])) {
      report({ type: "events_overdue", slot, oldest });
    }
  }

  async function fold(): Promise<Done> {
    const startedAt = clock.now();
    for (;;) {
      const [step] = await database.run<FoldRow>("foldHistory", [options.statisticsLagMs]);
      if (step?.more && !stopped && clock.now() < startedAt + maxFoldMs) continue;
      if (!step || step.more) return { nextMs: 0 };
      return step.later ? { nextMs: foldEveryMs } : { nextMs: quietFoldEveryMs, quiet: true };
    }
  }

  /** Whether there can be nothing to do: asked instead of the database, which is left asleep. */
  function rests({ made, quiet }: Duty): boolean {
    return made !== undefined && made() === quiet?.made && clock.now() < quiet.since + options.restMs;
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
      for (const duty of wanted) if (duty.askAt <= now && rests(duty)) duty.askAt = now + foldEveryMs;
      const askAt = Math.min(...wanted.map((duty) => duty.askAt));
      if (askAt > now) {
        await wakeup.sleep(askAt - now);
        continue;
      }
      try {
        const due = wanted.filter((duty) => duty.askAt <= now);
        for (const duty of due) duty.askAt = now + askAgainMs;
        await ask(due);
        attempt = 0;
      } catch (error) {
        if (stopped) return;
        report({ type: "database_trouble", operation: "takeDuty", error, attempt: ++attempt });
        await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      }
    }
  }

  /** Each that is due, one after the other: what is somebody else's at this moment is done there. */
  async function runOnce(): Promise<void> {
    try {
      const left = new Set(duties.values());
      while (left.size > 0 && !stopped) {
        const performed = await ask([...left]);
        if (!performed) return;
        left.delete(performed);
      }
    } catch (error) {
      if (!stopped) report({ type: "database_trouble", operation: "takeDuty", error, attempt: 1 });
    }
  }

  /** Leases one that is due of these, if any is, and performs it. */
  async function ask(due: readonly Duty[]): Promise<Duty | undefined> {
    const take = () =>
      database.run<TakenRow>("takeDuty", [worker, JSON.stringify(due.map(({ name }) => name)), leaseMs]);
    let rows = await take();
    if (rows.length < due.length) {
      await register();
      if (!rows.some((row) => row.taken)) rows = await take();
    }
    const asked = clock.now();
    let taken: TakenRow | undefined;
    for (const row of rows) {
      const duty = duties.get(row.name) as Duty;
      if (row.taken) taken = row;
      else {
        // Not at once again, or two workers that are due together ask in turns as fast as they can.
        duty.askAt = asked + Math.min(Math.max(row.due_in_ms, 50), maxRestMs) * (1 + clock.random() / 10);
        // Somebody else has just done it, or does: it rests here as if there had been nothing to do.
        if (row.due_in_ms > longDoneMs) duty.quiet = { since: asked, made: duty.made?.() };
      }
    }
    if (!taken) return undefined;
    const duty = duties.get(taken.name) as Duty;
    if (stopped) await database.run("returnDuty", [worker, duty.name, taken.fence]);
    else await perform(duty, taken.fence);
    return duty;
  }

  async function perform(duty: Duty, fence: number): Promise<void> {
    const startedAt = clock.now();
    const made = duty.made?.();
    let nextMs: number;
    let failure: unknown;
    try {
      const done = await duty.run();
      nextMs = done.nextMs;
      duty.quiet = done.quiet ? { since: clock.now(), made } : undefined;
    } catch (error) {
      failure = error;
      duty.wanted = true;
      nextMs = 10_000;
    }
    const durationMs = clock.now() - startedAt;
    // In case that the statement below fails; where it does not, not before the table says so.
    duty.askAt = clock.now() + nextMs;
    report({
      type: "duty_finished",
      duty: duty.name,
      durationMs,
      ...(failure === undefined ? {} : { error: failure }),
    });
    const message = failure === undefined ? null : errorRecord(failure).message;
    await database.run("finishDuty", [worker, duty.name, fence, nextMs, durationMs, message]);
    duty.askAt = clock.now() + nextMs;
  }

  const done = options.once ? runOnce() : loop();
  return {
    done,
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
