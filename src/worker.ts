/**
 * A worker: one loop that claims commands in batches and runs their handlers, with a heart that keeps their leases, a
 * finisher that records their ends, and duties that it does for the fleet.
 *
 * The loop has one claim under way and asks for as many commands as there are free slots, so batches grow with load by
 * themselves. When a claim says that nothing is left, it sleeps until the database knows something to be due, or a hint
 * comes, or it is time to poll. Time here is one alarm for all leases: timeouts, grace, trust, heartbeats.
 *
 * A lease ends once: whoever comes first of its handler, its timeout, its cancellation's grace and the loss of trust in
 * it sets `over`, and nobody after that has a say. What the database makes of the outcome is decided by the fence.
 */
import { type Backoff, backoffMs } from "./backoff.ts";
import type { Clock, Timer } from "./clock.ts";
import { type Database, DatabaseUnresponsiveError, repeatDelayMs } from "./database.ts";
import { createDuties, type Duties } from "./duties.ts";
import { execute, type Execution, type ExecutionResult } from "./execute.ts";
import { errorRecord } from "./failure.ts";
import { createFinisher, type Outcome } from "./finish.ts";
import type { Handler, Logger } from "./handler.ts";
import { createHeart } from "./heart.ts";
import type { Hints } from "./hints.ts";
import { toJson } from "./json.ts";
import { AttemptAbortedError, type ClaimedRow, Lease, observed } from "./lease.ts";
import { maxBatchBytes, maxProgressBytes, requireInteger, requireMs, requireQueue } from "./limits.ts";
import { createMarks, parseMicros, type Plan } from "./marks.ts";
import type { Observer } from "./observation.ts";
import type { Registry } from "./registry.ts";
import { enterSolo, heldByProcess, isSoloOfAnother, leaseEnded, leaveSolo, moveIn } from "./solo.ts";
import { uuidv7 } from "./uuid.ts";
import { formatIssues } from "./validate.ts";
import { createWakeup, pause } from "./wakeup.ts";

export interface WorkerOptions {
  /** Queues to serve. The queue named after the orchestrator's instance is served too. @default ["default"] */
  readonly queues?: readonly string[];
  /** How many handlers run at once. @default 100 */
  readonly concurrency?: number;
  /** Most commands of one claim, 1 to 1,000. @default the concurrency, at most 500 */
  readonly maxClaim?: number;
  /** How long the worker sleeps at most where notifications do not arrive, in ms. @default 5_000 */
  readonly pollIntervalMs?: number;
  /**
   * How long it sleeps at most where they do, in ms. To be raised where a database that is left alone goes to sleep.
   *
   * @default as pollIntervalMs
   */
  readonly idlePollMs?: number;
  /**
   * How long a command stays with a worker that is not heard of, in ms, at least 1,000. A heartbeat extends it at a
   * third, so it need not be as long as a handler takes.
   *
   * @default 30_000
   */
  readonly leaseMs?: number;
  /** After how many leases that ended without a word a command fails without running again, 1 to 100. @default 3 */
  readonly maxLosses?: number;
  /** How long a handler that was aborted may go on before it counts as stuck and its slot is freed, in ms. @default 5_000 */
  readonly abortGraceMs?: number;
  /** The share of the time that rescanning may take, over 0 to 1. @default 0.02 */
  readonly rescanBudget?: number;
  /**
   * End a command as `not_found` when no worker has known its name for this long, in ms.
   *
   * @default never: it waits
   */
  readonly notFoundAfterMs?: number;
}

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
   * back. Ends within `graceMs` + 2 × `abortGraceMs` + 5 s. A second call is harmless.
   */
  stop(options?: StopOptions): Promise<void>;
}

/** What a worker works with: what its orchestrator shares out. */
export interface WorkerSurroundings {
  readonly database: Database;
  readonly clock: Clock;
  readonly hints: Hints;
  readonly registry: Registry;
  readonly report: Observer;
  readonly instance: string | undefined;
}

/** How a lease ends, but for which it is. */
type Ending = Omit<Outcome, "id" | "fence">;

interface EndRow {
  readonly id: null;
  readonly available_at: string;
  readonly more: boolean;
}

const registerEveryMs = 60_000;
const knownForMs = 5 * 60_000;
const maxUnknownDelayMs = 5 * 60_000;
const defaultGraceMs = 20_000;
const flushMs = 5_000;

export function createWorker(surroundings: WorkerSurroundings, options: WorkerOptions = {}): Worker {
  const { database, clock, hints, registry, report, instance } = surroundings;
  const settings = resolveOptions(options, instance);
  const { queues, concurrency, maxClaim, leaseMs, abortGraceMs } = settings;
  const id = `${instance ?? "worker"}-${uuidv7()}`;
  /** A lease is not trusted to its very end: the statement that writes has to get there. */
  const marginMs = Math.min(leaseMs / 6, 2_000);
  const trustedUntil = (sentAt: number) => sentAt + leaseMs - marginMs;

  /** An alarm that is later than this was kept from ringing by a handler that fills the event loop. */
  const blockedMs = Math.max(leaseMs / 6, 200);

  const leases = new Map<string, Lease>();
  const stuck = new Set<Lease>();
  const wakeup = createWakeup(clock);
  const marks = createMarks(queues);
  const counts = { claimed: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0, returned: 0, lost: 0 };
  let running = 0;
  let isRunning = true;
  let stopping: Promise<void> | undefined;
  let graceEndsAt = Number.POSITIVE_INFINITY;

  const finisher = createFinisher({ database, worker: id, queues, clock, hints, report, refused: refusedOutcome });
  const heart = createHeart({
    database,
    worker: id,
    clock,
    report,
    leaseMs,
    trustedUntil,
    cancelled: cancelLease,
    lost: (lease) => loseLease(lease, "taken"),
  });
  const resident = { held: () => leases.size, wake: () => wakeup.raise() };
  const moveOut = moveIn(resident);
  let duties: Duties | undefined;

  // Sleeping.

  /** What the database's clock was at a moment of this process's: to turn its times into distances. */
  let anchor: { micros: number; at: number } | undefined;
  let hinted = false;
  let soonest = Number.POSITIVE_INFINITY;
  let waitsForRoom = false;

  const stopReceiving = hints.receive({
    due(queue, fromMicros) {
      if (!queues.includes(queue)) return;
      marks.hint(queue, fromMicros);
      const at = localTime(fromMicros);
      if (at <= clock.now() + 1) hinted = true;
      else soonest = Math.min(soonest, at);
      wakeup.raise();
    },
    cancel(commandId) {
      for (const lease of leases.values()) if (lease.row.id === commandId) heart.beat([lease]);
    },
    reconnected() {
      hinted = true;
      wakeup.raise();
    },
  });

  function localTime(micros: number): number {
    return anchor ? anchor.at + (micros - anchor.micros) / 1000 : Number.NEGATIVE_INFINITY;
  }

  /** Sleeps until then, or until a hint says that something is due, or when. */
  async function rest(until: number): Promise<"hinted" | "elapsed"> {
    for (;;) {
      if (hinted || stopping || rescanAsked) return "hinted";
      const end = Math.min(until, soonest);
      const ms = end - clock.now();
      if (ms <= 0) return end === until ? "elapsed" : "hinted";
      await wakeup.sleep(ms);
    }
  }

  // The loop.

  let rescanAsked: { queue: string; done(result: "found" | "nothing" | "no room"): void } | undefined;
  let registeredAt = Number.NEGATIVE_INFINITY;
  /** Until then a claim whose reply was lost may still commit. */
  let giveBackUntil = Number.NEGATIVE_INFINITY;

  let begun: { resolve(): void; reject(error: Error): void } = { resolve() {}, reject() {} };
  const started = new Promise<void>((resolve, reject) => {
    begun = { resolve, reject };
  });
  // Who does not wait for the start is told of its troubles by observations.
  started.catch(() => {});

  async function loop(): Promise<void> {
    await begin();
    let troubles = 0;
    let looks = 0;
    let poll = true;
    while (!stopping) {
      if (isSoloOfAnother(resident)) {
        await wakeup.sleep(1_000);
        continue;
      }
      const room = Math.min(concurrency - running, maxClaim);
      if (room < 1 || finisher.size > 2 * concurrency + maxClaim) {
        if (rescanAsked) endRescan("no room");
        waitsForRoom = true;
        await wakeup.sleep();
        waitsForRoom = false;
        continue;
      }
      if (clock.now() - registeredAt > registerEveryMs) void registerAgain();

      const asked = rescanAsked;
      hinted = false;
      soonest = Number.POSITIVE_INFINITY;
      let claimed: Claimed | undefined;
      try {
        claimed = await claim(room, asked ? asked.queue : poll ? "*" : undefined);
        troubles = 0;
      } catch (error) {
        report({ type: "database_trouble", operation: "claim", error, attempt: ++troubles });
        if (asked) endRescan("no room");
        await wakeup.sleep(repeatDelayMs(clock, troubles, settings.pollIntervalMs));
        continue;
      }
      poll = false;
      for (const queue of claimed.queues) duties?.worked(queue);
      if (asked) endRescan(claimed.rows > 0 ? "found" : "nothing");
      if (claimed.suspects.length > 0) await runAlone(claimed.suspects, claimed.until);
      if (asked) {
        // A rescan looked at one queue only: what it says of the rest is nothing.
        hinted = true;
        continue;
      }
      if (claimed.rows > 0 && claimed.more) {
        looks = 0;
        continue;
      }
      if (claimed.more) {
        // Due, but not to be had: somebody holds it for a moment, or its row has just changed.
        await rest(clock.now() + Math.min(2 * 2 ** looks++, settings.pollIntervalMs));
        continue;
      }
      looks = 0;
      poll = (await restUntilDue(claimed.clock)) === "elapsed";
    }
    if (rescanAsked) endRescan("no room");
  }

  async function begin(): Promise<void> {
    for (let attempt = 1; !stopping; attempt++) {
      try {
        const [found] = await database.run<{ isolation: string; migrated: boolean }>("lookAtDatabase", []);
        if (found?.isolation !== "read committed") {
          throw new Error(
            `Cannot start worker: default_transaction_isolation is "${found?.isolation}", but it needs "read committed": set it so for this role or connection`,
          );
        }
        await registry.register(database);
        registeredAt = clock.now();
        break;
      } catch (error) {
        // Whoever migrates, or puts the setting right, may come after us.
        report({ type: "database_trouble", operation: "startWorker", error, attempt });
        await wakeup.sleep(repeatDelayMs(clock, attempt, 5_000));
      }
    }
    if (stopping) return begun.reject(new Error("Cannot start worker: it was stopped before it had begun"));
    duties = createDuties({
      database,
      worker: id,
      queues,
      clock,
      report,
      rescanBudget: settings.rescanBudget,
      rescan: (queue) =>
        new Promise((resolve) => {
          if (stopping || running >= concurrency) return resolve("no room");
          rescanAsked = { queue, done: resolve };
          wakeup.raise();
        }),
    });
    report({ type: "worker_started", worker: id, queues });
    begun.resolve();
  }

  function endRescan(result: "found" | "nothing" | "no room"): void {
    rescanAsked?.done(result);
    rescanAsked = undefined;
  }

  async function registerAgain(): Promise<void> {
    registeredAt = clock.now();
    try {
      await registry.register(database);
    } catch (error) {
      report({ type: "database_trouble", operation: "registerHandlers", error, attempt: 1 });
    }
  }

  async function restUntilDue(claimClock: string): Promise<"hinted" | "elapsed"> {
    const pollAt = clock.now() + (hints.proven ? settings.idlePollMs : settings.pollIntervalMs);
    let dueAt = Number.POSITIVE_INFINITY;
    if (!hinted && !stopping) {
      try {
        // After the clock of the claim: with one of its own, what falls due between the two is overslept.
        const [next] = await database.run<{ available_at: string | null }>("nextDue", [
          JSON.stringify(queues),
          claimClock,
        ]);
        if (next?.available_at) dueAt = localTime(parseMicros(next.available_at));
      } catch (error) {
        report({ type: "database_trouble", operation: "nextDue", error, attempt: 1 });
      }
    }
    const ended = await rest(Math.min(pollAt, dueAt));
    if (ended === "hinted" || dueAt < pollAt) return "hinted";
    hints.probe();
    return "elapsed";
  }

  // Claiming.

  interface Claimed {
    readonly rows: number;
    readonly more: boolean;
    readonly clock: string;
    readonly queues: ReadonlySet<string>;
    readonly suspects: readonly ClaimedRow[];
    /** Until when its leases may be trusted. */
    readonly until: number;
  }

  async function claim(room: number, rescan: string | undefined): Promise<Claimed> {
    const plan = marks.plan(clock.random(), rescan);
    if (clock.now() < giveBackUntil) await giveBack(plan);
    const sentAt = clock.now();
    let rows: (ClaimedRow | EndRow)[];
    try {
      rows = await database.run<ClaimedRow | EndRow>(
        "claim",
        [id, plan.json, room, maxBatchBytes, leaseMs, settings.maxLosses],
        { deadlineMs: leaseMs / 2 },
      );
    } catch (error) {
      // Whatever went wrong: it may have leased something, and may yet commit.
      giveBackUntil = sentAt + leaseMs + leaseMs / 2;
      throw error;
    }
    const end = rows.pop() as EndRow;
    const taken = rows as ClaimedRow[];
    anchor = { micros: parseMicros(end.available_at), at: clock.now() };
    const until = trustedUntil(sentAt);
    if (clock.now() >= until) {
      // The process stood still for longer than the lease: as if the reply had been lost.
      giveBackUntil = clock.now() + leaseMs;
      throw new DatabaseUnresponsiveError(
        `Cannot use the reply of a claim that came after ${leaseMs} ms, a lease's length`,
      );
    }
    marks.settle(plan, { clock: end.available_at, more: end.more, rows: taken });
    counts.claimed += taken.length;
    const busyQueues = new Set<string>();
    for (const row of taken) busyQueues.add((plan.lanes[row.lane - 1] as { queue: string }).queue);
    const suspects = start(taken, until);
    return { rows: taken.length, more: end.more, clock: end.available_at, queues: busyQueues, suspects, until };
  }

  async function giveBack(plan: Plan): Promise<void> {
    const known = [...leases.values()].map(({ row }) => ({ id: row.id, fence: row.fence }));
    const [given] = await database.run<{ count: number }>("giveBack", [
      id,
      JSON.stringify(plan.lanes.map(({ queue, priority }) => ({ queue, priority }))),
      JSON.stringify(known),
      leaseMs,
    ]);
    if (given && given.count > 0) {
      report({ type: "leases_given_back", worker: id, count: given.count });
      hints.wake(plan.queues);
    }
  }

  /** Starts what was claimed, and answers what must run alone. */
  function start(rows: readonly ClaimedRow[], until: number): ClaimedRow[] {
    const suspects: ClaimedRow[] = [];
    const unknown: ClaimedRow[] = [];
    const ready: [ClaimedRow, Handler][] = [];
    for (const row of rows) {
      if (row.purpose !== "run") {
        void record(row, decidedOutcome(row), until);
        continue;
      }
      const handler = registry.find(row.name, row.version);
      if (!handler) unknown.push(row);
      else if (row.losses >= 2) suspects.push(row);
      else ready.push([row, handler]);
    }
    if (unknown.length > 0) void putOffUnknown(unknown, until);
    // Beside a command that may kill the process nothing is started; what was not started is handed back unburnt.
    const held = suspects.length > 0 || stopping || isSoloOfAnother(resident);
    for (const [row, handler] of ready) {
      if (held) void record(row, { verdict: "release", delayMs: 0 }, until);
      else void runLease(new Lease(row, handler, clock.now(), until), handler);
    }
    return suspects;
  }

  function decidedOutcome(row: ClaimedRow): Ending {
    if (row.purpose === "cancel") return { verdict: "cancelled" };
    return {
      verdict: "failed",
      error: {
        code: "lost",
        message: `Its lease ended ${row.losses} times without a word: the worker was killed, cut off, or stood still`,
      },
    };
  }

  /** Runs commands that were lost twice, each with nothing else leased by this process. */
  async function runAlone(suspects: readonly ClaimedRow[], until: number): Promise<void> {
    const [first, ...rest] = suspects as [ClaimedRow, ...ClaimedRow[]];
    const putOff = (row: ClaimedRow) =>
      record(row, { verdict: "release", delayMs: 1_000 + clock.random() * 4_000 }, until);
    for (const row of rest) void putOff(row);
    if (stopping || !enterSolo(resident)) return await putOff(first);
    try {
      const handler = registry.find(first.name, first.version) as Handler;
      const lease = new Lease(first, handler, clock.now(), until);
      leases.set(lease.key, lease);
      alarmAt(lease.trustedUntil);
      heart.beat([lease]);
      // What runs is waited for, for one lease at most.
      const patience = clock.now() + leaseMs;
      while (heldByProcess() > 1 && clock.now() < patience && !lease.over && !stopping) {
        await wakeup.sleep(Math.min(patience - clock.now(), 250));
      }
      if (lease.over) return;
      if (heldByProcess() > 1 || stopping) {
        return await conclude(lease, { verdict: "release", delayMs: 1_000 + clock.random() * 4_000 });
      }
      void runLease(lease, handler);
      while (leases.has(lease.key) || !(lease.settled || lease.stuck)) await wakeup.sleep(250);
    } finally {
      leaveSolo(resident);
    }
  }

  /** A name that no handler here knows waits: shortly where somebody else knows it, else for as long as it has. */
  async function putOffUnknown(rows: readonly ClaimedRow[], until: number): Promise<void> {
    const seen = new Map<string, number>();
    try {
      const names = JSON.stringify([...new Set(rows.map((row) => row.name))]);
      const known = await database.run<{ name: string; version: number; seen_ms_ago: number }>("knownHandlers", [
        names,
      ]);
      for (const { name, version, seen_ms_ago } of known) {
        for (const row of rows) {
          if (row.name === name && version >= row.version) {
            seen.set(row.id, Math.min(seen.get(row.id) ?? Number.POSITIVE_INFINITY, seen_ms_ago));
          }
        }
      }
    } catch (error) {
      report({ type: "database_trouble", operation: "knownHandlers", error, attempt: 1 });
    }
    const nowMicros = anchor ? anchor.micros + (clock.now() - anchor.at) * 1000 : 0;
    for (const row of rows) {
      report({ type: "command_unknown", worker: id, version: row.version, ...observed(row) });
      const seenMsAgo = seen.get(row.id) ?? Number.POSITIVE_INFINITY;
      const unknownMs = row.unknown_since ? (nowMicros - parseMicros(row.unknown_since)) / 1000 : 0;
      const limit = settings.notFoundAfterMs;
      if (limit !== undefined && unknownMs >= limit && seenMsAgo >= limit) {
        const message = `No worker has had a handler for "${row.name}" version ${row.version} for ${limit} ms`;
        void record(row, { verdict: "not_found", error: { code: "not_found", message } }, until);
        continue;
      }
      const shortly = 250 + clock.random() * 750;
      const delayMs = seenMsAgo < knownForMs ? shortly : Math.min(Math.max(unknownMs, shortly), maxUnknownDelayMs);
      void record(row, { verdict: "unknown", delayMs }, until);
    }
  }

  // Executing.

  async function runLease(lease: Lease, handler: Handler): Promise<void> {
    leases.set(lease.key, lease);
    running++;
    lease.start(clock.now());
    alarmAt(Math.min(lease.timeoutAt, lease.trustedUntil, clock.now() + leaseMs / 10));
    const { row } = lease;
    report({ type: "command_started", worker: id, ...observed(row), ...(row.hook ? { hook: row.hook } : {}) });
    const before = clock.now();
    const executed = execute(handler, executionOf(lease));
    lease.syncMs = clock.now() - before;
    const result = await executed;
    // After a long stretch without a turn of the event loop the alarm is overdue, and this may come before it.
    if (alarm && clock.now() - alarm.at > blockedMs) ring();
    lease.settled = true;
    if (lease.stuck) stuck.delete(lease);
    else freeSlot();
    if (!lease.over) await conclude(lease, outcomeOf(lease, result));
  }

  function freeSlot(): void {
    running--;
    if (waitsForRoom) wakeup.raise();
  }

  function executionOf(lease: Lease): Execution {
    const { row } = lease;
    return {
      id: row.id,
      name: row.name,
      version: row.version,
      hook: row.hook,
      fence: row.fence,
      attempt: row.attempt,
      parentId: row.parent_id,
      input: row.input,
      metadata: row.metadata,
      deadline: () => new Date(Date.now() + lease.timeoutAt - clock.now()),
      signal: () => lease.signal,
      progress: (value) => noteProgress(lease, value),
      logger: loggerOf(row),
    };
  }

  function loggerOf(row: ClaimedRow): Logger {
    const log =
      (level: "debug" | "info" | "warn" | "error") => (message: string, fields?: Readonly<Record<string, unknown>>) =>
        report({ type: "log", level, message, ...(fields ? { fields } : {}), ...observed(row) });
    return {
      get debug() {
        return log("debug");
      },
      get info() {
        return log("info");
      },
      get warn() {
        return log("warn");
      },
      get error() {
        return log("error");
      },
    };
  }

  function noteProgress(lease: Lease, value: unknown): void {
    const text = toJson(value, maxProgressBytes);
    if (text.issues) {
      throw new TypeError(`Cannot note the progress of command "${lease.row.name}": ${formatIssues(text.issues)}`);
    }
    lease.progress = text.json;
    // At most once a second a command; the alarm sends it.
    alarmAt(Math.max(lease.progressAt + 1_000, clock.now()));
  }

  function outcomeOf(lease: Lease, result: ExecutionResult): Ending {
    switch (result.kind) {
      case "succeeded":
        return {
          verdict: "succeeded",
          output: result.output,
          followUps: result.followUps.map((command) => command.json),
        };
      case "snoozed":
        return {
          verdict: "snooze",
          delayMs: result.end.delayMs,
          until: result.end.until?.toISOString(),
          error: { code: "snoozed", message: "Put off by its handler" },
        };
      case "cancelled":
        return {
          verdict: "cancelled",
          error: { code: "cancelled", message: result.end.reason ?? "Cancelled by its handler" },
        };
      case "failed":
        if (lease.reason?.code === "ORCHESTRATUM_STOPPED") return stoppedOutcome(lease.row);
        if (lease.cancelled) return cancelledOutcome(result.error === lease.reason ? undefined : result.error);
        return failedOutcome(lease.row, backoffOf(lease), result.error, result.permanent);
    }
  }

  function failedOutcome(
    row: { readonly attempt: number; readonly max_attempts: number },
    backoff: Backoff,
    error: unknown,
    permanent: boolean,
    final: "failed" | "timed_out" = "failed",
  ): Ending {
    const record = errorRecord(error, final === "timed_out" ? "timed_out" : undefined);
    if (permanent || row.attempt >= row.max_attempts) return { verdict: final, error: record };
    return { verdict: "retry", error: record, delayMs: backoffMs(backoff, row.attempt, error, clock.random) };
  }

  function backoffOf(lease: Lease): Backoff {
    return lease.handler?.contract.defaults.backoff ?? {};
  }

  function cancelledOutcome(error?: unknown): Ending {
    return { verdict: "cancelled", ...(error === undefined ? {} : { error: errorRecord(error) }) };
  }

  /** What a stop had to abort is handed back, except what may be started only once. */
  function stoppedOutcome(row: ClaimedRow): Ending {
    if (row.max_attempts > 1) return { verdict: "release", delayMs: 0 };
    return {
      verdict: "failed",
      error: { code: "stopped", message: "Its worker was stopped while it ran, and it may be started only once" },
    };
  }

  /** An outcome that the database refuses because of what is in it becomes a failed attempt, by a text that it takes. */
  function refusedOutcome({ id: commandId, fence }: Outcome): Outcome {
    const lease = leases.get(`${commandId}:${fence}`);
    const error = { code: "refused", message: "The database refused to record this outcome because of what is in it" };
    if (!lease) return { id: commandId, fence, verdict: "release", delayMs: 60_000 };
    return { id: commandId, fence, ...failedOutcome(lease.row, backoffOf(lease), error, false), error };
  }

  async function conclude(lease: Lease, outcome: Ending): Promise<void> {
    if (lease.over) return;
    if (clock.now() >= lease.trustedUntil) return loseLease(lease, "expired");
    lease.over = true;
    const { row } = lease;
    const result = await finisher.finish({ id: row.id, fence: row.fence, ...outcome });
    leases.delete(lease.key);
    leaseEnded();
    wakeIfBacklogged();
    if (result === "lost") return sayLost(lease, "taken");
    count(outcome.verdict);
    report({
      type: "command_finished",
      worker: id,
      ...observed(row),
      verdict: outcome.verdict,
      durationMs: clock.now() - lease.startedAt,
      ...(outcome.error ? { error: outcome.error } : {}),
    });
  }

  /** Records an end that needs no handler, for what was claimed and not started. */
  async function record(row: ClaimedRow, outcome: Ending, until: number): Promise<void> {
    const lease = new Lease(row, undefined, clock.now(), until);
    leases.set(lease.key, lease);
    await conclude(lease, outcome);
  }

  function wakeIfBacklogged(): void {
    if (waitsForRoom) wakeup.raise();
  }

  function count(verdict: Outcome["verdict"]): void {
    if (verdict === "succeeded") counts.succeeded++;
    else if (verdict === "cancelled") counts.cancelled++;
    else if (verdict === "retry") counts.retried++;
    else if (verdict === "failed" || verdict === "timed_out" || verdict === "not_found") counts.failed++;
    else counts.returned++;
  }

  // How leases end from outside.

  function loseLease(lease: Lease, reason: "expired" | "taken"): void {
    if (lease.over) return;
    lease.over = true;
    leases.delete(lease.key);
    leaseEnded();
    sayLost(lease, reason);
  }

  function sayLost(lease: Lease, reason: "expired" | "taken"): void {
    counts.lost++;
    abort(
      lease,
      new AttemptAbortedError("ORCHESTRATUM_LEASE_LOST", "The lease was lost: somebody else may have the command"),
    );
    report({ type: "lease_lost", worker: id, reason, ...observed(lease.row) });
  }

  function cancelLease(lease: Lease): void {
    if (lease.over || lease.cancelled) return;
    lease.cancelled = true;
    abort(lease, new AttemptAbortedError("ORCHESTRATUM_CANCELLED", "Its cancellation was requested"));
  }

  function timeOut(lease: Lease): void {
    const error = new AttemptAbortedError(
      "ORCHESTRATUM_TIMED_OUT",
      `The attempt took longer than its timeout of ${lease.row.timeout_ms} ms`,
    );
    abort(lease, error);
    const { name, message } = error;
    void conclude(
      lease,
      lease.cancelled
        ? cancelledOutcome(error)
        : failedOutcome(lease.row, backoffOf(lease), { name, message }, false, "timed_out"),
    );
  }

  function abort(lease: Lease, reason: AttemptAbortedError): void {
    lease.abort(reason);
    if (lease.settled) return;
    aborted.add(lease);
    lease.graceEndsAt = Math.min(lease.graceEndsAt, clock.now() + abortGraceMs);
    alarmAt(lease.graceEndsAt);
  }

  /** A handler that was aborted and goes on: its slot is freed, and what it still comes to has no say. */
  function outlast(lease: Lease): void {
    lease.stuck = true;
    stuck.add(lease);
    freeSlot();
    report({ type: "handler_stuck", worker: id, ...observed(lease.row) });
    if (lease.over) return;
    void conclude(
      lease,
      lease.cancelled
        ? cancelledOutcome(new Error(`Its handler ignored the signal for ${abortGraceMs} ms`))
        : stoppedOutcome(lease.row),
    );
  }

  // The alarm: one timer for everything that has a time.

  const aborted = new Set<Lease>();
  let alarm: { timer: Timer; at: number } | undefined;
  let beatAt = clock.now();

  function alarmAt(at: number): void {
    if (!isRunning || (alarm && alarm.at <= at)) return;
    alarm?.timer.cancel();
    alarm = { at, timer: clock.after(at - clock.now(), ring) };
  }

  function ring(): void {
    const now = clock.now();
    const lateMs = now - (alarm?.at ?? now);
    alarm?.timer.cancel();
    alarm = undefined;
    if (leases.size > 0 && lateMs > blockedMs) sayBlocked(lateMs);

    let next = now + leaseMs / 10;
    const flush: Lease[] = [];
    for (const lease of leases.values()) {
      if (lease.over) continue;
      if (now >= lease.trustedUntil) {
        loseLease(lease, "expired");
        continue;
      }
      if (!lease.cancelled && now >= lease.timeoutAt) timeOut(lease);
      if (lease.progress !== undefined) {
        if (now >= lease.progressAt + 1_000) {
          lease.progressAt = now;
          flush.push(lease);
        } else next = Math.min(next, lease.progressAt + 1_000);
      }
      next = Math.min(next, lease.trustedUntil, lease.timeoutAt > now ? lease.timeoutAt : next);
    }
    for (const lease of aborted) {
      if (lease.settled || lease.stuck) aborted.delete(lease);
      else if (now >= lease.graceEndsAt) {
        aborted.delete(lease);
        outlast(lease);
      } else next = Math.min(next, lease.graceEndsAt);
    }
    if (now >= beatAt) {
      beatAt = now + leaseMs / 3;
      // Those whose outcome is on its way, too: their write may take longer than their lease.
      if (leases.size > 0) {
        heart.beat(leases.values());
        hints.probe();
      }
    } else if (flush.length > 0) heart.beat(flush);
    if (leases.size > 0 || aborted.size > 0) alarmAt(Math.min(next, beatAt));
  }

  function sayBlocked(lateMs: number): void {
    const suspects = [...leases.values()].filter((lease) => !lease.settled).sort((a, b) => b.syncMs - a.syncMs);
    report({
      type: "event_loop_blocked",
      worker: id,
      blockedMs: lateMs,
      commands: suspects.slice(0, 10).map((lease) => observed(lease.row)),
    });
  }

  // Stopping.

  async function stop({ graceMs = defaultGraceMs }: StopOptions = {}): Promise<void> {
    requireMs("Cannot stop worker", "graceMs", graceMs, 24 * 60 * 60 * 1000);
    graceEndsAt = Math.min(graceEndsAt, clock.now() + graceMs);
    wakeup.raise();
    stopping ??= drain();
    return await stopping;
  }

  async function drain(): Promise<void> {
    // The loop's claim may still bring commands: they are handed back unstarted, for `stopping` is set by then.
    await Promise.resolve();
    const looped = loopDone;
    await Promise.race([looped, until(() => clock.now() >= graceEndsAt)]);
    await until(() => running === 0 || clock.now() >= graceEndsAt);
    if (running > 0) {
      for (const lease of leases.values()) {
        if (!lease.over) {
          abort(lease, new AttemptAbortedError("ORCHESTRATUM_STOPPED", "The worker stops and cannot wait any longer"));
        }
      }
      await until(() => running === 0);
    }
    const flushUntil = clock.now() + flushMs;
    await Promise.race([Promise.all([looped, duties?.stop()]), until(() => clock.now() >= flushUntil)]);
    await until(() => finisher.size === 0 || clock.now() >= flushUntil);
    finisher.abandon();
    isRunning = false;
    alarm?.timer.cancel();
    heart.stop();
    stopReceiving();
    moveOut();
    report({ type: "worker_stopped", worker: id, stuck: stuck.size });
  }

  /** Looks every few milliseconds: stopping is no hot path. */
  async function until(condition: () => boolean): Promise<void> {
    for (let ms = 1; !condition(); ms = Math.min(ms * 2, 50)) await pause(clock, ms);
  }

  const loopDone = loop().catch((error: unknown) => {
    report({ type: "internal_error", operation: "worker", error });
  });

  return {
    id,
    queues,
    started,
    get isRunning() {
      return isRunning;
    },
    get counts() {
      return { ...counts, running, stuck: stuck.size };
    },
    stop,
    [Symbol.asyncDispose]: () => stop(),
  };
}

/** The options with their defaults, checked. */
function resolveOptions(options: WorkerOptions, instance: string | undefined) {
  const attempt = "Cannot start worker";
  const {
    queues = ["default"],
    concurrency = 100,
    maxClaim = Math.min(concurrency, 500),
    pollIntervalMs = 5_000,
    idlePollMs = pollIntervalMs,
    leaseMs = 30_000,
    maxLosses = 3,
    abortGraceMs = 5_000,
    rescanBudget = 0.02,
    notFoundAfterMs,
  } = options;
  const served = [...new Set(instance === undefined ? queues : [...queues, instance])];
  if (served.length === 0) throw new RangeError(`${attempt}: queues must name at least one queue`);
  for (const queue of served) requireQueue(attempt, queue);
  requireInteger(attempt, "concurrency", concurrency, 1, 100_000);
  requireInteger(attempt, "maxClaim", maxClaim, 1, 1_000);
  requireInteger(attempt, "leaseMs", leaseMs, 1_000, dayMs);
  requireInteger(attempt, "pollIntervalMs", pollIntervalMs, 10, dayMs);
  requireInteger(attempt, "idlePollMs", idlePollMs, 10, dayMs);
  requireInteger(attempt, "maxLosses", maxLosses, 1, 100);
  requireMs(attempt, "abortGraceMs", abortGraceMs, dayMs);
  if (notFoundAfterMs !== undefined) requireMs(attempt, "notFoundAfterMs", notFoundAfterMs, 366 * dayMs);
  if (!(rescanBudget > 0 && rescanBudget <= 1)) {
    throw new RangeError(`${attempt}: rescanBudget must be over 0 and at most 1, got ${rescanBudget}`);
  }
  return {
    queues: served,
    concurrency,
    maxClaim,
    pollIntervalMs,
    idlePollMs,
    leaseMs,
    maxLosses,
    abortGraceMs,
    rescanBudget,
    notFoundAfterMs,
  };
}

const dayMs = 24 * 60 * 60 * 1000;
