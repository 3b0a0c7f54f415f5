/**
 * The leases of a worker: their handlers run here, and here they end.
 *
 * A lease ends once: whoever comes first of its handler, its timeout, its cancellation's grace and the loss of trust in
 * it sets `over`, and nobody after that has a say. What the database makes of the outcome is decided by the fence.
 * Everything that has a time (timeouts, grace, trust, heartbeats, progress) is looked at by one alarm for all of them.
 */
import { createBackground } from "./background.ts";
import type { Clock } from "./clock.ts";
import type { Database } from "./database.ts";
import type { Queryable } from "./driver.ts";
import {
  cancelledEnding,
  type Ending,
  endingOf,
  failedEnding,
  refusedEnding,
  sentWith,
  stoppedEnding,
  succeededEnding,
  timedOutEnding,
} from "./ending.ts";
import { type Execution, execute, rolledBack, type Success } from "./execute.ts";
import { createFinisher } from "./finish.ts";
import type { Handler, Logger } from "./handler.ts";
import { createHeart } from "./heart.ts";
import type { Hints } from "./hints.ts";
import { toJson } from "./json.ts";
import { AttemptAbortedError, type ClaimedRow, Lease, observed } from "./lease.ts";
import { maxProgressBytes } from "./limits.ts";
import { parseMicros } from "./marks.ts";
import type { Observer, Observers, Verdict } from "./observation.ts";
import { appendWithin } from "./publish.ts";
import { readStoredEvent } from "./read-event.ts";
import type { RecordedEvent } from "./recorded-event.ts";
import { leaseEnded } from "./solo.ts";
import { formatIssues } from "./validate.ts";
import { createWakeup } from "./wakeup.ts";

export interface Runner {
  /** What is held: until its outcome is recorded, or it is lost. */
  readonly leases: ReadonlySet<Lease>;
  /** How many slots are taken. */
  readonly running: number;
  /** How many outcomes are not answered for. */
  readonly unrecorded: number;
  readonly counts: Readonly<
    Record<"succeeded" | "failed" | "cancelled" | "retried" | "returned" | "lost" | "stuck", number>
  >;
  /** Until when a lease may be trusted that was given or extended by a statement sent at `sentAt`. */
  trustedUntil(sentAt: number): number;
  /** Holds a lease whose handler is not started yet. */
  hold(row: ClaimedRow, handler: Handler, until: number): Lease;
  /** Runs the handler. */
  run(lease: Lease, handler: Handler): void;
  /** Records how a lease ends whose handler was not started. */
  record(row: ClaimedRow, ending: Ending, until: number): void;
  end(lease: Lease, ending: Ending): void;
  /** A command's cancellation may have been requested: looks, and aborts what runs. */
  lookAtCancellation(id: string): void;
  /** Aborts everything that runs, since the worker stops. */
  abortAll(): void;
  /** Gives up what is not recorded, and resolves when no timer and no heartbeat is left. */
  close(): Promise<void>;
}

export interface RunnerOptions {
  readonly database: Database;
  readonly worker: string;
  readonly queues: readonly string[];
  readonly clock: Clock;
  readonly hints: Hints;
  readonly observers: Observers;
  readonly leaseMs: number;
  readonly abortGraceMs: number;
  /** A slot is free again, or an outcome is recorded. */
  readonly freed: () => void;
}

export function createRunner(options: RunnerOptions): Runner {
  const { database, worker, clock, hints, observers, leaseMs, abortGraceMs } = options;
  const { report } = observers;
  const background = createBackground(report);
  const random = () => clock.random();
  /** A lease is not trusted to its very end: the statement that writes has to get there. */
  const marginMs = Math.min(leaseMs / 6, 2_000);
  /** An alarm that is later than this was kept from ringing by a handler that fills the event loop. */
  const blockedMs = Math.max(leaseMs / 6, 200);
  /** As many commands one warning names. */
  const maxNamed = 100;
  const trustedUntil = (sentAt: number) => sentAt + leaseMs - marginMs;

  const leases = new Set<Lease>();
  const aborted = new Set<Lease>();
  const stuck = new Set<Lease>();
  const counts = { succeeded: 0, failed: 0, cancelled: 0, retried: 0, returned: 0, lost: 0 };
  let running = 0;
  let closed = false;

  const finisher = createFinisher({
    database,
    worker,
    queues: options.queues,
    clock,
    hints,
    report,
    refused({ id, fence }) {
      const lease = find(id, fence);
      const ending = refusedEnding(lease, random);
      if (lease) lease.refused = ending;
      return { id, fence, ...ending };
    },
  });
  const heart = createHeart({
    database,
    worker,
    clock,
    report,
    leaseMs,
    trustedUntil,
    cancelled: cancelLease,
    lost: (lease) => loseLease(lease, "taken"),
  });

  const tools: ExecutionTools = {
    worker,
    clock,
    report,
    begin,
    noteProgress,
    recordWithin,
    readEvent: (id) => readStoredEvent(database, id),
  };

  function find(id: string, fence: number): Lease | undefined {
    for (const lease of leases) if (lease.row.id === id && lease.row.fence === fence) return lease;
    return undefined;
  }

  /** Never rejects: nothing of ours that fails may keep a command from ending. */
  async function runLease(lease: Lease, handler: Handler): Promise<void> {
    try {
      const { row } = lease;
      const now = clock.now();
      // Others filled the event loop until it was over: nothing of its own has run, and the fence says whether that still counts.
      if (now >= lease.trustedUntil) return settle(lease, { verdict: "release", delayMs: 0 });
      running++;
      lease.start(now);
      alarmAt(Math.min(lease.timeoutAt, lease.trustedUntil, now + leaseMs / 10));
      if (observers.wants("command_started")) {
        const waitedMs = (row.claimed_micros - parseMicros(row.available_at)) / 1000;
        report({
          type: "command_started",
          worker,
          ...observed(row),
          ...(row.hook ? { hook: row.hook } : {}),
          waitedMs,
        });
      }
      const executed = execute(handler, new LeaseExecution(lease, tools));
      lease.syncMs = clock.now() - lease.startedAt;
      const result = await executed;
      // After a long stretch without a turn of the event loop the alarm is overdue, and this may come before it.
      if (clock.now() - ringsAt > blockedMs) ring(lease);
      lease.settled = true;
      if (lease.stuck) stuck.delete(lease);
      else freeSlot();
      if (!lease.over) conclude(lease, endingOf(lease, result, random));
    } catch (error) {
      report({ type: "internal_error", operation: "run", error });
      conclude(lease, failedEnding(lease, error, false, random));
    }
  }

  function freeSlot(): void {
    running--;
    options.freed();
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

  /** The handler is about to be called: whether it may be. Its middleware and its schema, or others in the event loop, may have taken long. */
  function begin(lease: Lease): boolean {
    const now = clock.now();
    if (lease.over) return false;
    if (lease.cancelled) conclude(lease, cancelledEnding());
    else if (lease.reason) settle(lease, stoppedEnding(lease));
    else if (now >= lease.trustedUntil) loseLease(lease, "expired");
    else if (now >= lease.timeoutAt) timeOut(lease);
    lease.called = !lease.over;
    return lease.called;
  }

  function conclude(lease: Lease, ending: Ending): void {
    if (lease.over) return;
    if (clock.now() >= lease.trustedUntil && !lease.within) loseLease(lease, "expired");
    else settle(lease, ending);
  }

  function settle(lease: Lease, ending: Ending): void {
    lease.over = true;
    const { row, within } = lease;
    const recorded = finisher.finish({ id: row.id, fence: row.fence, within: within !== undefined, ...ending });
    background(
      "finish",
      recorded.then((result) => concluded(lease, ending, result)),
    );
  }

  function concluded(lease: Lease, asked: Ending, result: "accepted" | "repeated" | "lost"): void {
    const ending = lease.refused ?? asked;
    forget(lease);
    if (result === "lost") return sayLost(lease, "taken");
    // Rolled back, the ending was recorded; else it came after the success that this lease had settled by itself.
    const own = result === "repeated" ? lease.within : undefined;
    const verdict = own ? "succeeded" : ending.verdict;
    counts[counterOf(verdict)]++;
    if (!observers.wants("command_finished")) return;
    const sent = own ? sentWith(succeededEnding(own), own.appends) : sentWith(ending);
    report({
      type: "command_finished",
      worker,
      ...observed(lease.row),
      verdict,
      durationMs: clock.now() - lease.startedAt,
      ...(ending.delayMs === undefined || own ? {} : { delayMs: ending.delayMs }),
      ...(ending.error && !own ? { error: ending.error } : {}),
      ...(sent.length === 0 ? {} : { sent }),
    });
  }

  async function recordWithin(lease: Lease, db: Queryable, success: Success): Promise<void> {
    const { row } = lease;
    const outcome = { id: row.id, fence: row.fence, ...succeededEnding(success) };
    const until = lease.over ? Number.NEGATIVE_INFINITY : lease.trustedUntil;
    if (success.appends && clock.now() < until) await appendWithin(database, hints, db, success.appends);
    if ((await finisher.finishWithin(db, outcome, until)) === "accepted") {
      lease.within = success;
      return;
    }
    throw (
      lease.reason ??
      new AttemptAbortedError("ORCHESTRATUM_LEASE_LOST", `Cannot finish command "${row.name}": its lease is over`)
    );
  }

  function forget(lease: Lease): void {
    leases.delete(lease);
    leaseEnded();
    options.freed();
  }

  // How leases end from outside.

  function loseLease(lease: Lease, reason: "expired" | "taken"): void {
    if (lease.over) return;
    lease.over = true;
    forget(lease);
    sayLost(lease, reason);
  }

  function sayLost(lease: Lease, reason: "expired" | "taken"): void {
    counts.lost++;
    abort(lease, "ORCHESTRATUM_LEASE_LOST", "The lease was lost: somebody else may have the command");
    report({ type: "lease_lost", worker, reason, ...observed(lease.row) });
  }

  /** The lease of a handler that goes on after its finish(db, output) is over: what came of that is looked up. */
  function endWithin(lease: Lease): void {
    const ending = endingOf(lease, rolledBack(lease.row.name), random);
    abort(lease, "ORCHESTRATUM_LEASE_LOST", "Its outcome is recorded, and its lease is over");
    conclude(lease, ending);
  }

  function cancelLease(lease: Lease): void {
    if (lease.over || lease.cancelled) return;
    lease.cancelled = true;
    abort(lease, "ORCHESTRATUM_CANCELLED", "Its cancellation was requested");
    // What waits to be started need not be.
    if (!lease.started) conclude(lease, cancelledEnding());
  }

  function timeOut(lease: Lease): void {
    const message = `The attempt took longer than its timeout of ${lease.row.timeout_ms} ms`;
    const error = abort(lease, "ORCHESTRATUM_TIMED_OUT", message);
    const ending = lease.cancelled ? cancelledEnding(error) : timedOutEnding(lease, error, random);
    conclude(lease, ending);
  }

  function abort(lease: Lease, code: AttemptAbortedError["code"], message: string): AttemptAbortedError {
    const reason = new AttemptAbortedError(code, message);
    lease.abort(reason);
    if (lease.started && !lease.settled && !lease.stuck) {
      aborted.add(lease);
      lease.graceEndsAt = Math.min(lease.graceEndsAt, clock.now() + abortGraceMs);
      alarmAt(lease.graceEndsAt);
    }
    return reason;
  }

  /** A handler that was aborted and goes on: its slot is freed, and what it still comes to has no say. */
  function outlast(lease: Lease): void {
    lease.stuck = true;
    stuck.add(lease);
    freeSlot();
    report({ type: "handler_stuck", worker, ...observed(lease.row) });
    if (lease.over) return;
    const ignored = new Error(`Its handler ignored the signal for ${abortGraceMs} ms`);
    conclude(lease, lease.cancelled ? cancelledEnding(ignored) : stoppedEnding(lease));
  }

  // The alarm. A loop of its own, so that nothing is sent from the asynchronous context of some handler.

  let ringsAt = Number.POSITIVE_INFINITY;
  let beatAt = clock.now();
  const alarm = createWakeup(clock);

  function alarmAt(at: number): void {
    if (ringsAt <= at) return;
    ringsAt = at;
    alarm.raise();
  }

  async function alarmLoop(): Promise<void> {
    while (!closed) {
      if (clock.now() >= ringsAt) ring();
      else await alarm.sleep(ringsAt === Number.POSITIVE_INFINITY ? undefined : ringsAt - clock.now());
    }
  }

  /** `settling` ends its handler at this very moment: if the event loop stood still, it was the last to run. */
  function ring(settling?: Lease): void {
    const now = clock.now();
    const lateMs = now - ringsAt;
    ringsAt = Number.POSITIVE_INFINITY;
    if (leases.size > 0 && lateMs > blockedMs) sayBlocked(lateMs, settling);

    let next = now + leaseMs / 10;
    const flush: Lease[] = [];
    for (const lease of leases) {
      // Its outcome is on its way; that may take longer than its lease, and is decided by the fence.
      if (lease.over) continue;
      if (now >= lease.trustedUntil) {
        if (lease.within) endWithin(lease);
        else loseLease(lease, "expired");
        continue;
      }
      if (now >= lease.timeoutAt) {
        timeOut(lease);
        continue;
      }
      if (lease.progress !== undefined) {
        if (now >= lease.progressAt + 1_000) {
          lease.progressAt = now;
          flush.push(lease);
        } else next = Math.min(next, lease.progressAt + 1_000);
      }
      next = Math.min(next, lease.trustedUntil, lease.timeoutAt);
    }
    for (const lease of aborted) {
      if (lease.settled) aborted.delete(lease);
      else if (now >= lease.graceEndsAt) {
        aborted.delete(lease);
        outlast(lease);
      } else next = Math.min(next, lease.graceEndsAt);
    }
    if (now >= beatAt) {
      beatAt = now + leaseMs / 3;
      // Those that are younger can wait for the next beat: most commands have ended by then.
      const due = [...leases].filter((lease) => lease.trustedUntil - now < (2 / 3) * leaseMs);
      if (due.length > 0) heart.beat(due);
      if (leases.size > 0) hints.probe();
    } else if (flush.length > 0) heart.beat(flush);
    if (leases.size > 0 || aborted.size > 0) alarmAt(Math.min(next, beatAt));
  }

  function sayBlocked(lateMs: number, settling: Lease | undefined): void {
    const ran = [...leases].filter((lease) => lease.started && !lease.settled);
    const blame = (lease: Lease) => (lease === settling ? Number.POSITIVE_INFINITY : lease.syncMs);
    ran.sort((a, b) => blame(b) - blame(a));
    const commands = ran.slice(0, maxNamed).map((lease) => observed(lease.row));
    report({ type: "event_loop_blocked", worker, blockedMs: lateMs, commands });
  }

  const alarmed = alarmLoop();
  background("alarm", alarmed);

  return {
    leases,
    get running() {
      return running;
    },
    get unrecorded() {
      return finisher.size;
    },
    get counts() {
      return { ...counts, stuck: stuck.size };
    },
    trustedUntil,
    hold(row, handler, until) {
      const now = clock.now();
      const lease = new Lease(row, handler, now, until);
      leases.add(lease);
      alarmAt(Math.min(until, now + leaseMs / 10));
      return lease;
    },
    run(lease, handler) {
      leases.add(lease);
      void runLease(lease, handler);
    },
    record(row, ending, until) {
      const lease = new Lease(row, undefined, clock.now(), until);
      leases.add(lease);
      conclude(lease, ending);
    },
    end: conclude,
    lookAtCancellation(id) {
      for (const lease of leases) if (lease.row.id === id) heart.beat([lease]);
    },
    abortAll() {
      for (const lease of leases) {
        if (!lease.over) abort(lease, "ORCHESTRATUM_STOPPED", "The worker stops and cannot wait any longer");
      }
    },
    async close() {
      closed = true;
      finisher.abandon();
      alarm.raise();
      await Promise.all([heart.stop(), alarmed]);
    },
  };
}

function counterOf(verdict: Verdict): "succeeded" | "failed" | "cancelled" | "retried" | "returned" {
  switch (verdict) {
    case "succeeded":
    case "cancelled":
    case "failed":
      return verdict;
    case "timed_out":
    case "not_found":
      return "failed";
    case "retry":
      return "retried";
    default:
      return "returned";
  }
}

/** A lease as its handler's attempt sees it. A class, so that what nobody looks at is not made. */
class LeaseExecution implements Execution {
  readonly #lease: Lease;
  readonly #tools: ExecutionTools;

  constructor(lease: Lease, tools: ExecutionTools) {
    this.#lease = lease;
    this.#tools = tools;
  }
  get id(): string {
    return this.#lease.row.id;
  }
  get name(): string {
    return this.#lease.row.name;
  }
  get version(): number {
    return this.#lease.row.version;
  }
  get hook(): "failure" | "cancellation" | null {
    return this.#lease.row.hook;
  }
  get fence(): number {
    return this.#lease.row.fence;
  }
  get attempt(): number {
    return this.#lease.row.attempt;
  }
  get parentId(): string | null {
    return this.#lease.row.parent_id;
  }
  get input(): string | null {
    return this.#lease.row.input;
  }
  get queue(): string {
    return this.#lease.row.queue;
  }
  get worker(): string {
    return this.#tools.worker;
  }
  // The lease's own, so that what is observed of it later names the same trace as its handler.
  get metadata(): string | null {
    return this.#lease.row.metadata;
  }
  set metadata(metadata: string | null) {
    this.#lease.row.metadata = metadata;
  }
  get deadline(): Date {
    return new Date(Date.now() + this.#lease.timeoutAt - this.#tools.clock.now());
  }
  get signal(): AbortSignal {
    return this.#lease.signal;
  }
  begin(): boolean {
    return this.#tools.begin(this.#lease);
  }
  get progress(): (value: unknown) => void {
    return (value) => this.#tools.noteProgress(this.#lease, value);
  }
  get record(): (db: Queryable, success: Success) => Promise<void> {
    return (db, success) => this.#tools.recordWithin(this.#lease, db, success);
  }
  get readEvent(): (id: string) => Promise<RecordedEvent> {
    return this.#tools.readEvent;
  }
  get logger(): Logger {
    const log =
      (level: keyof Logger): Logger[keyof Logger] =>
      (message, fields) =>
        this.#tools.report({
          type: "log",
          worker: this.#tools.worker,
          level,
          message,
          ...(fields ? { fields } : {}),
          ...observed(this.#lease.row),
        });
    return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
  }
}

interface ExecutionTools {
  readonly worker: string;
  readonly clock: Clock;
  readonly report: Observer;
  begin(lease: Lease): boolean;
  noteProgress(lease: Lease, value: unknown): void;
  recordWithin(lease: Lease, db: Queryable, success: Success): Promise<void>;
  readEvent(id: string): Promise<RecordedEvent>;
}
