/**
 * A worker: one loop that claims commands in batches and hands them to its runner, with duties that it does for the
 * fleet.
 *
 * One claim is under way at a time and asks for as many commands as there are free slots, so batches grow with load by
 * themselves. When the claims say that nothing is left, the loop sleeps until the database knows something to be due, or
 * a hint comes, or it is time to poll.
 */
import { createBackground } from "./background.ts";
import type { Clock } from "./clock.ts";
import {
  type Database,
  DatabaseUnresponsiveError,
  isPassing,
  ownDatabase,
  type RunOptions,
  repeatDelayMs,
} from "./database.ts";
import { createDuties, type Duties, type Rescan } from "./duties.ts";
import { decidedEnding } from "./ending.ts";
import type { Handler } from "./handler.ts";
import { everyQueue, type HintReceiver, type Hints } from "./hints.ts";
import { type ClaimedRow, observed } from "./lease.ts";
import { dayMs, type Keys, maxBatchBytes, requireKeys, requireMs } from "./limits.ts";
import { createMarks, formatMicros, parseMicros } from "./marks.ts";
import type { Observers } from "./observation.ts";
import { createPresence } from "./presence.ts";
import type { Registry } from "./registry.ts";
import { createRunner } from "./runner.ts";
import { enterSolo, heldByProcess, isSoloOfAnother, leaveSolo, moveIn } from "./solo.ts";
import { uuidv7 } from "./uuid.ts";
import { createWakeup, pause } from "./wakeup.ts";
import { resolveWorkerOptions, type WorkerOptions } from "./worker-options.ts";

export interface WorkerCounts {
  /** Leases that this worker took. */
  readonly claimed: number;
  readonly succeeded: number;
  /** Ended as failed, timed out or not found. */
  readonly failed: number;
  readonly cancelled: number;
  /** Attempts that failed and are to be tried again. */
  readonly retried: number;
  /** Handed back: snoozed, released, unknown. */
  readonly returned: number;
  /** Leases that were lost. */
  readonly lost: number;
  /** Handlers that run now. */
  readonly running: number;
  /** Handlers that went on after their attempt was over, and still do. */
  readonly stuck: number;
}

export interface StopOptions {
  /** How long running handlers may take to finish, in ms. A second call may shorten it. @default 20_000 */
  readonly graceMs?: number;
}

export interface Worker extends AsyncDisposable {
  /** New at every start. */
  readonly id: string;
  readonly queues: readonly string[];
  /** From the start to the end of `stop()`. */
  readonly isRunning: boolean;
  readonly counts: WorkerCounts;
  /** Resolves when the worker has found the schema, registered its handlers and begun to claim. */
  readonly started: Promise<void>;
  /**
   * Claims nothing more, lets running handlers finish within the grace time, then aborts them and hands their commands
   * back. Ends within `graceMs` + `abortGraceMs` + 5 s. A second call is harmless.
   */
  stop(options?: StopOptions): Promise<void>;
}

/** What a worker may take that works off what is due and ends by itself: it neither sleeps nor listens. */
export interface Budget {
  /** Leases that it takes at most. */
  readonly maxCommands: number;
  /** How long it has, in ms, and when that is over, by the clock; `stop({ graceMs: 0 })` is then due. */
  readonly maxMs: number;
  readonly endsAt: number;
  /** When it has stopped at the latest, by the clock, whatever the database and the handlers do. */
  readonly latest: number;
  /** Whether the schema was looked at, and the handlers and the tick were registered, a short while ago. */
  readonly begun: boolean;
}

/** A worker as its process sees it. */
export interface OwnWorker extends Worker {
  /** Resolves when nothing is left to be done within its budget; without one, when it stops. */
  readonly worked: Promise<void>;
  /** When something is due next in its queues, in ms from now: 0 where something is, or may be. Of what is paused nothing is. */
  dueInMs(): Promise<{ readonly ms: number; readonly at: Date } | undefined>;
}

/** What a worker works with: what its orchestrator shares out. */
export interface WorkerSurroundings {
  readonly database: Database;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly registry: Registry;
  readonly observers: Observers;
  readonly instance: string | undefined;
  /** The worker has ended. */
  readonly stopped: () => void;
}

interface EndRow {
  readonly id: null;
  readonly available_at: string;
  readonly more: boolean;
}

/** What a claim came to. */
interface Claimed {
  readonly rows: number;
  readonly more: boolean;
  /** The clock that it went by, in microseconds. */
  readonly micros: number;
  readonly suspects: readonly ClaimedRow[];
  /** Until when its leases may be trusted. */
  readonly until: number;
}

const registerEveryMs = 60_000;
/** A name counts as known to somebody for this long after it was last registered; a registration may be missed. */
const knownForMs = 3 * registerEveryMs;
const maxUnknownDelayMs = 5 * 60_000;
const defaultGraceMs = 20_000;
/** Other workers may have longer leases than this one, and a batch of outcomes may take its time to commit. */
const minStatisticsLagMs = 60_000;
/** Together five seconds: what is under way may end by itself, and is then given up, which takes no time but a driver's. */
const flushMs = 4_500;
const abortMs = 500;

const stopKeys: Keys<StopOptions> = { graceMs: true };

/** How long what runs may go on, in ms. */
export function requireStopOptions(attempt: string, options: StopOptions | undefined): number {
  requireKeys(attempt, options, stopKeys);
  const { graceMs = defaultGraceMs } = options ?? {};
  requireMs(attempt, "graceMs", graceMs, dayMs);
  return graceMs;
}

export function createWorker(
  surroundings: WorkerSurroundings,
  options: WorkerOptions | undefined,
  budget?: Budget,
): OwnWorker {
  const { clock, hints, registry, observers, instance } = surroundings;
  const { report } = observers;
  const background = createBackground(report);
  const database = ownDatabase(surroundings.database, clock);
  const settings = resolveWorkerOptions(options, instance);
  const { queues, concurrency, maxClaim, leaseMs } = settings;
  /** For what the loop waits for: over a connection that has fallen silent it must not wait for long. */
  const soon: RunOptions = { deadlineMs: leaseMs / 2 };
  const id = `${instance ?? (budget ? "tick" : "worker")}-${uuidv7()}`;
  const marks = createMarks(queues);
  const wakeup = createWakeup(clock);
  let claimed = 0;
  let isRunning = true;
  let stopping: Promise<void> | undefined;

  const runner = createRunner({
    database,
    worker: id,
    queues,
    clock,
    hints,
    observers,
    leaseMs,
    abortGraceMs: settings.abortGraceMs,
    freed: () => {
      if (waitsForRoom) wakeup.raise();
    },
  });

  const presence = createPresence({
    database,
    worker: id,
    instance,
    runtime: settings.runtime,
    host: settings.host,
    queues,
    concurrency,
    handlers: registry.handlers,
    // It is heard of with the registrations of handlers, which come at the minute that follows.
    silenceMs: budget ? undefined : Math.ceil(settings.idlePollMs / registerEveryMs) * registerEveryMs,
    running: () => runner.running,
    report,
  });

  let claimOpen = false;
  /** What was to be cancelled while a claim was under way: it may have leased it. */
  const cancelledMeanwhile = new Set<string>();
  const resident = { held: () => runner.leases.size + (claimOpen ? 1 : 0), wake: () => wakeup.raise() };
  const moveOut = moveIn(resident);
  let duties: Duties | undefined;

  // Sleeping.

  /** What the database's clock was at a moment of this process's: to turn its times into distances. */
  let anchor: { micros: number; at: number } | undefined;
  /** How much later it may have been there: the reply took its time. */
  let slackMs = 0;
  let hinted = false;
  let soonest = Number.POSITIVE_INFINITY;
  let waitsForRoom = false;

  const receiver: HintReceiver = {
    due(queue, fromMicros) {
      if (!queues.includes(queue)) return;
      marks.hint(queue, fromMicros);
      // Remembered, but no reason to look: the queue is paused.
      if (!marks.open.includes(queue)) return;
      const at = localTime(fromMicros);
      if (at <= clock.now() + 1) hinted = true;
      else soonest = Math.min(soonest, at);
      wakeup.raise();
    },
    paused(queue) {
      if (queue !== everyQueue && !queues.includes(queue)) return;
      pausesReadAt = Number.NEGATIVE_INFINITY;
      hinted = true;
      wakeup.raise();
    },
    cancel(commandId) {
      runner.lookAtCancellation(commandId);
      // It may be among what a claim has just leased.
      if (claimOpen) cancelledMeanwhile.add(commandId);
    },
    reconnected() {
      pausesReadAt = Number.NEGATIVE_INFINITY;
      marks.lookAtAll();
      hinted = true;
      wakeup.raise();
    },
  };
  const stopReceiving = hints.receive(receiver, budget === undefined);

  function localTime(micros: number): number {
    return anchor ? anchor.at + (micros - anchor.micros) / 1000 : Number.NEGATIVE_INFINITY;
  }

  /** Sleeps until then, or until a hint says that something is due, or when. */
  async function rest(until: number): Promise<"hinted" | "elapsed"> {
    for (;;) {
      if (hinted || stopping || rescans.size > 0) return "hinted";
      const end = Math.min(until, soonest);
      const ms = end - clock.now();
      if (ms <= 0) return end === until ? "elapsed" : "hinted";
      await wakeup.sleep(ms);
    }
  }

  /** Later by up to a tenth, so that a fleet that was started together does not poll in step. */
  const nextPollAt = () =>
    clock.now() + (hints.proven ? settings.idlePollMs : settings.pollIntervalMs) * (1 + clock.random() / 10);

  async function restUntilDue(sinceMicros: number): Promise<"hinted" | "elapsed"> {
    if (hinted || stopping || rescans.size > 0) return "hinted";
    const pollAt = nextPollAt();
    let dueAt = Number.POSITIVE_INFINITY;
    try {
      // After the clock of the claim: with one of its own, what falls due between the two is overslept.
      const since = formatMicros(sinceMicros);
      const params = [JSON.stringify(marks.open), since];
      const [next] = await database.run<{ available_at: string | null }>("nextDue", params, soon);
      if (next?.available_at) dueAt = localTime(parseMicros(next.available_at));
    } catch (error) {
      report({ type: "database_trouble", operation: "nextDue", error, attempt: 1 });
      dueAt = clock.now() + settings.pollIntervalMs * clock.random();
    }
    // While a claim whose reply was lost may still commit, somebody has to look for what it leased.
    if (clock.now() < giveBackUntil) dueAt = Math.min(dueAt, clock.now() + leaseMs / 10);
    const ended = await rest(Math.min(pollAt, dueAt));
    if (ended === "hinted" || dueAt < pollAt) return "hinted";
    hints.probe();
    return "elapsed";
  }

  /** With a budget nobody sleeps until something is due: what runs is waited for, and then that is all, or more is due. */
  async function restUntilEnded(): Promise<"hinted" | "elapsed"> {
    waitsForRoom = true;
    while (runner.leases.size > 0 && !hinted && !stopping && soonest > clock.now()) {
      await wakeup.sleep(soonest - clock.now());
    }
    waitsForRoom = false;
    if (stopping) return "elapsed";
    if (hinted || soonest - slackMs <= clock.now()) return "hinted";
    try {
      const next = await dueInMs();
      return next && next.ms <= 0 ? "hinted" : "elapsed";
    } catch (error) {
      report({ type: "database_trouble", operation: "nextDue", error, attempt: 1 });
      return "elapsed";
    }
  }

  async function dueInMs(): Promise<{ ms: number; at: Date } | undefined> {
    if (marks.open.length === 0) return undefined;
    const params = [JSON.stringify(marks.open), "-infinity"];
    // Asked by who has stopped it, too.
    const [next] = await surroundings.database.run<{ available_at: string | null }>("nextDue", params);
    if (!next?.available_at) return undefined;
    const micros = parseMicros(next.available_at);
    const ms = localTime(micros) - clock.now();
    // What is due already must not be taken for what is due in a moment.
    return { ms: ms <= slackMs ? 0 : ms, at: new Date(Math.ceil(micros / 1000)) };
  }

  // Pauses.

  /** When it was last asked what is paused. */
  let pausesReadAt = Number.NEGATIVE_INFINITY;
  /** Names whose commands are put off as if nobody knew them: no claim can leave them out, since it goes by lanes. */
  let pausedNames: ReadonlySet<string> = new Set();

  /** A notification tells of a pause; who hears none asks as often as it would poll, a worker with work among them. */
  async function lookAtPauses(): Promise<void> {
    const askedAt = clock.now();
    if (askedAt - pausesReadAt < settings.pollIntervalMs) return;
    pausesReadAt = askedAt;
    try {
      const rows = await database.run<{ queue: string | null; name: string | null }>("listPauses", [], soon);
      pausedNames = new Set(rows.flatMap(({ name }) => name ?? []));
      const pausedQueues = new Set(rows.flatMap(({ queue }) => queue ?? []));
      for (const queue of marks.pause(pausedQueues)) duties?.worked(queue);
    } catch (error) {
      pausesReadAt = Number.NEGATIVE_INFINITY;
      throw error;
    }
  }

  /** With every queue paused: until one is resumed, or until the next poll. No claim is sent. */
  async function restUntilResumed(): Promise<void> {
    endPausedRescans();
    let until = nextPollAt();
    // What a claim whose reply was lost has leased is given back all the same.
    if (clock.now() < giveBackUntil) {
      await giveBack();
      until = Math.min(until, clock.now() + leaseMs / 10);
    }
    // Nothing else matters: a command that is due in a paused queue waits.
    while (!stopping && pausesReadAt > Number.NEGATIVE_INFINITY && clock.now() < until) {
      endPausedRescans();
      await wakeup.sleep(until - clock.now());
    }
    if (clock.now() >= until) {
      pausesReadAt = Number.NEGATIVE_INFINITY;
      hints.probe();
    }
  }

  // The loop.

  /** Queues that are to be read from below, with who waits for it: nobody, where there was no room, and the next claim that has some does it. */
  const rescans = new Map<string, (rescan: Rescan) => void>();
  const nobody = (): void => {};
  /** Something that was lost twice runs, and nothing is claimed beside it. */
  let isAlone = false;

  function rescan(queue: string): Promise<Rescan> {
    return new Promise((done) => {
      rescans.set(queue, done);
      if (stopping || isAlone || isSoloOfAnother(resident) || runner.running >= concurrency) putOffRescans();
      else wakeup.raise();
    });
  }

  function putOffRescans(): void {
    for (const [queue, done] of rescans) {
      done({ result: "no room", ms: 0 });
      rescans.set(queue, nobody);
    }
  }

  function endRescan(queue: string, result: Rescan["result"], ms = 0): void {
    rescans.get(queue)?.({ result, ms });
    rescans.delete(queue);
  }

  /** What is paused is looked at when it is resumed. */
  function endPausedRescans(): void {
    for (const queue of rescans.keys()) if (!marks.open.includes(queue)) endRescan(queue, "nothing");
  }

  async function loop(): Promise<void> {
    await begin();
    if (!duties) return;
    let troubles = 0;
    let looks = 0;
    /** The oldest clock by which some queue was looked at since the last sleep. */
    let since = Number.POSITIVE_INFINITY;
    while (!stopping) {
      if (isSoloOfAnother(resident)) {
        putOffRescans();
        await wakeup.sleep(1_000);
        continue;
      }
      if (budget && claimed >= budget.maxCommands) {
        waitsForRoom = true;
        while (runner.leases.size > 0 && !stopping) await wakeup.sleep();
        break;
      }
      const left = budget ? budget.maxCommands - claimed : Number.POSITIVE_INFINITY;
      const room = Math.min(concurrency - runner.running, maxClaim, left);
      if (room < 1 || runner.unrecorded > 2 * concurrency + maxClaim) {
        putOffRescans();
        waitsForRoom = true;
        await wakeup.sleep();
        waitsForRoom = false;
        continue;
      }
      hinted = false;
      soonest = Number.POSITIVE_INFINITY;
      let asked: string | undefined;
      let sentAt: number;
      let reply: Claimed;
      try {
        await lookAtPauses();
        // One that was told of while it looked may not be in the answer.
        if (pausesReadAt === Number.NEGATIVE_INFINITY) continue;
        if (marks.open.length === 0) {
          if (budget) break;
          await restUntilResumed();
          continue;
        }
        endPausedRescans();
        [asked] = rescans.keys();
        sentAt = clock.now();
        reply = await claim(room, asked);
      } catch (error) {
        report({ type: "database_trouble", operation: "claim", error, attempt: ++troubles });
        putOffRescans();
        if (!stopping) await wakeup.sleep(repeatDelayMs(clock, troubles, settings.pollIntervalMs));
        continue;
      }
      troubles = 0;
      if (asked) endRescan(asked, reply.rows > 0 ? "found" : "nothing", clock.now() - sentAt);
      if (reply.suspects.length > 0) await runAlone(reply.suspects, reply.until);
      if (reply.more) {
        // Due, but not to be had: somebody holds it for a moment, or its row has just changed.
        if (reply.rows === 0) await rest(clock.now() + Math.min(2 * 2 ** looks++, settings.pollIntervalMs));
        else looks = 0;
        continue;
      }
      looks = 0;
      since = Math.min(since, reply.micros);
      // With more queues than a claim may look at, all of them first.
      if (!marks.covered) continue;
      if (budget) {
        if ((await restUntilEnded()) === "elapsed") break;
        marks.lookAtAll();
        since = Number.POSITIVE_INFINITY;
        continue;
      }
      // After a whole sleep: something may have become due of which nobody said so.
      if ((await restUntilDue(since)) === "elapsed") marks.lookAtAll();
      since = Number.POSITIVE_INFINITY;
    }
    putOffRescans();
  }

  async function begin(): Promise<void> {
    let trouble: unknown;
    for (let attempt = 1; !stopping && !budget?.begun; attempt++) {
      try {
        const [found] = await database.run<{ isolation: string }>("lookAtDatabase", []);
        if (found?.isolation !== "read committed") {
          throw new Error(
            `Cannot start worker: default_transaction_isolation is "${found?.isolation}", but it needs "read committed": set it so for this role or connection`,
          );
        }
        await registry.register(database);
        break;
      } catch (error) {
        // Whoever migrates, or puts the setting right, may come after us.
        report({ type: "database_trouble", operation: "startWorker", error, attempt });
        trouble = error;
        if (budget && !isPassing(error)) return begun.reject(error);
        await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      }
    }
    if (!budget?.begun) await presence.announce();
    if (stopping) {
      return begun.reject(
        new Error("Cannot start worker: it was stopped before it had begun", { cause: trouble ?? stopping }),
      );
    }
    duties = createDuties({
      database,
      worker: id,
      queues,
      clock,
      report,
      rescanBudget: settings.rescanBudget,
      rescan,
      statisticsLagMs: Math.max(leaseMs, minStatisticsLagMs),
      restMs: Math.max(settings.idlePollMs, minStatisticsLagMs),
      ended: () => runner.counts.succeeded + runner.counts.failed + runner.counts.cancelled,
      once: budget !== undefined,
    });
    if (!budget) {
      registered = false;
      background(
        "registerHandlers",
        registerLoop().finally(() => {
          registered = true;
        }),
      );
      report({ type: "worker_started", worker: id, queues });
    }
    begun.resolve();
  }

  let begun: { resolve(): void; reject(error: unknown): void } = { resolve() {}, reject() {} };
  const started = new Promise<void>((resolve, reject) => {
    begun = { resolve, reject };
  });
  // Who does not wait for the start is told of its troubles by observations.
  started.catch(() => {});

  /** Once a minute while there is work, and while there is none with every poll: a database may be asleep. */
  const registerWakeup = createWakeup(clock);
  async function registerLoop(): Promise<void> {
    let registeredAt = clock.now();
    let before = 0;
    while (!stopping) {
      await registerWakeup.sleep(registerEveryMs);
      const idle = runner.leases.size === 0 && claimed === before;
      if (stopping || (idle && clock.now() - registeredAt < settings.idlePollMs)) continue;
      try {
        await registry.register(database);
        registeredAt = clock.now();
        before = claimed;
      } catch (error) {
        report({ type: "database_trouble", operation: "registerHandlers", error, attempt: 1 });
      }
      await presence.announce();
    }
  }

  // Claiming.

  /** Until then a claim whose reply was lost may still commit. */
  let giveBackUntil = Number.NEGATIVE_INFINITY;

  async function claim(room: number, rescan: string | undefined): Promise<Claimed> {
    if (clock.now() < giveBackUntil) await giveBack();
    const plan = marks.plan(clock.random(), rescan);
    const sentAt = clock.now();
    const until = runner.trustedUntil(sentAt);
    claimOpen = true;
    try {
      const rows = await database.run<ClaimedRow | EndRow>(
        "claim",
        [id, plan.json, room, maxBatchBytes, leaseMs, settings.maxLosses],
        soon,
      );
      if (clock.now() >= until) {
        throw new DatabaseUnresponsiveError(
          `Cannot use the reply of a claim that came after ${Math.round(clock.now() - sentAt)} ms: its leases of ${leaseMs} ms are over`,
        );
      }
      const end = rows.pop() as EndRow;
      const taken = rows as ClaimedRow[];
      anchor = { micros: parseMicros(end.available_at), at: clock.now() };
      slackMs = anchor.at - sentAt;
      marks.settle(plan, { clock: end.available_at, more: end.more, rows: taken });
      claimed += taken.length;
      for (const row of taken) {
        row.queue = (plan.lanes[row.lane - 1] as { queue: string }).queue;
        row.claimed_micros = anchor.micros;
        if (row.abandoned_by !== null) {
          report({ type: "lease_abandoned", worker: id, abandonedBy: row.abandoned_by, ...observed(row) });
        }
      }
      for (const queue of new Set(taken.map((row) => row.queue))) duties?.worked(queue);
      if (observers.wants("claimed")) {
        const durationMs = anchor.at - sentAt;
        report({ type: "claimed", worker: id, count: taken.length, durationMs, commands: taken.map(observed) });
      }
      const suspects = start(taken, until);
      for (const row of taken) if (cancelledMeanwhile.has(row.id)) runner.lookAtCancellation(row.id);
      return { rows: taken.length, more: end.more, micros: anchor.micros, suspects, until };
    } catch (error) {
      // Whatever went wrong: it may have leased something, and may yet commit.
      giveBackUntil = sentAt + 2 * leaseMs;
      throw error;
    } finally {
      claimOpen = false;
      cancelledMeanwhile.clear();
    }
  }

  async function giveBack(): Promise<void> {
    const known = [...runner.leases].map(({ row }) => ({ id: row.id, fence: row.fence }));
    const lanes = queues.flatMap((queue) => Array.from({ length: 10 }, (_, priority) => ({ queue, priority })));
    const params = [id, JSON.stringify(lanes), JSON.stringify(known), leaseMs];
    const [given] = await database.run<{ count: number }>("giveBack", params, soon);
    if (!given || given.count === 0) return;
    report({ type: "leases_given_back", worker: id, count: given.count });
    hints.wake(queues);
  }

  /** Starts what was claimed, and answers what must run alone. */
  function start(rows: readonly ClaimedRow[], until: number): ClaimedRow[] {
    const suspects: ClaimedRow[] = [];
    const unknown: ClaimedRow[] = [];
    const ready: [ClaimedRow, Handler][] = [];
    for (const row of rows) {
      if (row.purpose !== "run") {
        runner.record(row, decidedEnding(row), until);
        continue;
      }
      if (pausedNames.has(row.name)) {
        runner.record(row, { verdict: "unknown", delayMs: putOffMs(row) }, until);
        continue;
      }
      const handler = registry.find(row.name, row.version);
      if (!handler) unknown.push(row);
      else if (row.losses >= 2) suspects.push(row);
      else ready.push([row, handler]);
    }
    if (unknown.length > 0) background("putOffUnknown", putOffUnknown(unknown, until));
    // Beside a command that may kill the process nothing is started; what was not started is handed back unburnt.
    const held = suspects.length > 0 || stopping !== undefined || isSoloOfAnother(resident);
    for (const [row, handler] of ready) {
      if (held) runner.record(row, { verdict: "release", delayMs: 0 }, until);
      else if (isTooLateFor(row)) runner.record(row, { verdict: "release", delayMs: leftMs() }, until);
      else runner.run(runner.hold(row, handler, until), handler);
    }
    return suspects;
  }

  const leftMs = () => (budget ? Math.max(budget.endsAt - clock.now(), 0) : Number.POSITIVE_INFINITY);

  /** What may be started only once would fail if the budget ended under it: it gets half of a budget, or its timeout. */
  function isTooLateFor(row: ClaimedRow): boolean {
    return budget !== undefined && row.max_attempts === 1 && leftMs() < Math.min(row.timeout_ms, budget.maxMs / 2);
  }

  /** Runs one of the commands that were lost twice, with nothing else leased by this process; the others come again. */
  async function runAlone(suspects: readonly ClaimedRow[], until: number): Promise<void> {
    const [first, ...others] = suspects as [ClaimedRow, ...ClaimedRow[]];
    const putOff = () => ({ verdict: "release" as const, delayMs: 1_000 + clock.random() * 4_000 });
    for (const row of others) runner.record(row, putOff(), until);
    if (stopping || !enterSolo(resident)) return runner.record(first, putOff(), until);
    isAlone = true;
    putOffRescans();
    try {
      const handler = registry.find(first.name, first.version) as Handler;
      const lease = runner.hold(first, handler, until);
      // What runs is waited for, for one lease at most.
      const patience = clock.now() + leaseMs;
      while (heldByProcess() > 1 && clock.now() < patience && !lease.over && !stopping) {
        await wakeup.sleep(Math.min(patience - clock.now(), 250));
      }
      if (lease.over) return;
      if (heldByProcess() > 1 || stopping) return runner.end(lease, putOff());
      runner.run(lease, handler);
      const goesOn = () => lease.started && !lease.settled && !lease.stuck;
      while (runner.leases.has(lease) || goesOn()) await wakeup.sleep(250);
    } finally {
      isAlone = false;
      leaveSolo(resident);
    }
  }

  /** For how long a command has been put off, in ms. */
  function unknownMsOf({ unknown_since }: ClaimedRow): number {
    if (unknown_since === null || anchor === undefined) return 0;
    return (anchor.micros - parseMicros(unknown_since)) / 1000 + clock.now() - anchor.at;
  }

  /** For as long as it has been put off already: a moment first, so that who knows better gets it soon. */
  function putOffMs(row: ClaimedRow): number {
    return Math.min(Math.max(unknownMsOf(row), shortlyMs()), maxUnknownDelayMs);
  }

  const shortlyMs = () => 250 + clock.random() * 750;

  /**
   * A name that no handler here knows waits: shortly where another worker of its queue knows it, else for as long as it
   * has, also where only workers of other queues do.
   */
  async function putOffUnknown(rows: readonly ClaimedRow[], until: number): Promise<void> {
    interface KnownRow {
      readonly queue: string;
      readonly name: string;
      readonly version: number;
      readonly seen_ms_ago: number | null;
      readonly elsewhere: boolean;
      readonly silence_ms: number;
    }
    const keyOf = ({ queue, name, version }: ClaimedRow | KnownRow) => JSON.stringify([queue, name, version]);
    const asked = new Map(rows.map((row) => [keyOf(row), { queue: row.queue, name: row.name, version: row.version }]));
    let known = new Map<string, KnownRow>();
    try {
      const found = await database.run<KnownRow>("knownHandlers", [JSON.stringify([...asked.values()])], soon);
      known = new Map(found.map((row) => [keyOf(row), row]));
    } catch (error) {
      report({ type: "database_trouble", operation: "knownHandlers", error, attempt: 1 });
    }
    const limit = settings.notFoundAfterMs;
    for (const row of rows) {
      report({ type: "command_unknown", worker: id, version: row.version, ...observed(row) });
      const { seen_ms_ago, elsewhere, silence_ms } = known.get(keyOf(row)) ?? { seen_ms_ago: null };
      const isKnown = seen_ms_ago !== null && seen_ms_ago < Math.max(knownForMs, limit ?? 0, silence_ms ?? 0);
      if (limit !== undefined && unknownMsOf(row) >= limit && !isKnown) {
        const message = `No worker has had a handler for "${row.name}" version ${row.version} for ${limit} ms`;
        runner.record(row, { verdict: "not_found", error: { code: "not_found", message } }, until);
        continue;
      }
      runner.record(row, { verdict: "unknown", delayMs: isKnown && !elsewhere ? shortlyMs() : putOffMs(row) }, until);
    }
  }

  // Stopping.

  let graceEndsAt = Number.POSITIVE_INFINITY;

  async function stop(stopOptions?: StopOptions): Promise<void> {
    const graceMs = requireStopOptions("Cannot stop worker", stopOptions);
    graceEndsAt = Math.min(graceEndsAt, clock.now() + graceMs);
    stopping ??= drain();
    wakeup.raise();
    registerWakeup.raise();
    return await stopping;
  }

  async function drain(): Promise<void> {
    // The loop's claim may still bring commands: they are handed back unstarted, since `stopping` is set by then.
    await until(() => (looped && runner.running === 0) || clock.now() >= graceEndsAt);
    if (runner.running > 0) {
      runner.abortAll();
      await until(() => runner.running === 0);
    }
    let left = false;
    background(
      "stopWorker",
      presence.leave().then(() => {
        left = true;
      }),
    );
    let dutiesDone = duties === undefined;
    background(
      "duties",
      Promise.resolve(duties?.stop()).then(() => {
        dutiesDone = true;
      }),
    );
    const budgetMs = Math.max((budget?.latest ?? Number.POSITIVE_INFINITY) - clock.now(), 0);
    const latest = clock.now() + Math.min(flushMs + abortMs, budgetMs);
    const flushUntil = clock.now() + Math.min(flushMs, (budgetMs * flushMs) / (flushMs + abortMs));
    const isOver = () => clock.now() >= flushUntil;
    await until(() => (looped && left && dutiesDone && runner.unrecorded === 0) || isOver());
    let closed = false;
    background(
      "close",
      runner.close().then(() => {
        closed = true;
      }),
    );
    const isDone = () => looped && registered && left && dutiesDone && closed && runner.unrecorded === 0;
    await until(() => isDone() || isOver());
    // A database that does not answer keeps nobody from stopping: what is still asked of it is given up.
    await database.end(new Error("The worker has stopped"));
    await until(() => isDone() || clock.now() >= latest);
    isRunning = false;
    stopReceiving();
    moveOut();
    if (!budget) report({ type: "worker_stopped", worker: id, stuck: runner.counts.stuck });
    surroundings.stopped();
  }

  /** Looks every few milliseconds: stopping is no hot path. */
  async function until(condition: () => boolean): Promise<void> {
    for (let ms = 1; !condition(); ms = Math.min(ms * 2, 50)) await pause(clock, ms);
  }

  let looped = false;
  /** Nobody is about to register handlers. */
  let registered = true;
  const looping = loop().finally(() => {
    looped = true;
  });
  background("worker", looping);
  const worked = looping.catch(() => {}).then(() => (budget ? duties?.done : undefined));

  return {
    id,
    queues,
    started,
    worked,
    dueInMs,
    get isRunning() {
      return isRunning;
    },
    get counts() {
      return { claimed, running: runner.running, ...runner.counts };
    },
    stop,
    [Symbol.asyncDispose]: () => stop(),
  };
}
