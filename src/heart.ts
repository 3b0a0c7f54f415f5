/**
 * Heartbeats: what keeps a worker's leases alive, one statement for all of them, and carries progress. One is under way
 * at a time; what is asked for meanwhile goes with the next. A row that somebody has locked is no lost lease (its own
 * handler may hold it in a transaction): it is asked for again.
 */
import type { Clock } from "./clock.ts";
import { type Database, isPoison, repeatDelayMs } from "./database.ts";
import { type Lease, leaseKey } from "./lease.ts";
import { maxBatchCommands } from "./limits.ts";
import type { Observer } from "./observation.ts";
import { createPauses, createWakeup } from "./wakeup.ts";

export interface Heart {
  /** Extends these leases with the next heartbeat. */
  beat(leases: Iterable<Lease>): void;
  /** Resolves when nothing is under way any more. */
  stop(): Promise<void>;
}

export interface HeartOptions {
  readonly database: Database;
  readonly worker: string;
  readonly clock: Clock;
  readonly report: Observer;
  readonly leaseMs: number;
  /** Until when a lease may be trusted that was extended by a statement sent at `sentAt`. */
  readonly trustedUntil: (sentAt: number) => number;
  readonly cancelled: (lease: Lease) => void;
  readonly lost: (lease: Lease) => void;
}

interface BeatRow {
  readonly id: string;
  readonly fence: number;
  readonly result: "accepted" | "busy" | "missing";
  readonly cancel_requested: boolean;
}

const busyRetryMs = 100;

export function createHeart(options: HeartOptions): Heart {
  const { database, worker, clock, report, leaseMs } = options;
  const asked = new Set<Lease>();
  const pauses = createPauses(clock);
  const wakeup = createWakeup(clock);
  let stopped = false;

  async function loop(): Promise<void> {
    let attempt = 0;
    while (!stopped) {
      if (asked.size === 0) {
        await wakeup.sleep();
        continue;
      }
      const batch = [...asked].slice(0, maxBatchCommands);
      for (const lease of batch) asked.delete(lease);
      try {
        await send(batch, true);
        attempt = 0;
      } catch (error) {
        if (stopped) return;
        report({ type: "database_trouble", operation: "heartbeat", error, attempt: ++attempt });
        for (const lease of batch) if (!lease.over) asked.add(lease);
        await wakeup.sleep(repeatDelayMs(clock, attempt, Math.min(2_000, leaseMs / 10)));
      }
    }
  }

  async function send(batch: readonly Lease[], withProgress: boolean): Promise<void> {
    const sentAt = clock.now();
    const progress = batch.map((lease) => lease.progress);
    const json = batch.map(({ row }, index) => {
      const text = withProgress ? progress[index] : undefined;
      return `{"id":"${row.id}","fence":${row.fence}${text === undefined ? "" : `,"progress":${text}`}}`;
    });
    let rows: BeatRow[];
    try {
      rows = await database.run<BeatRow>("heartbeat", [worker, `[${json.join(",")}]`, leaseMs], {
        deadlineMs: Math.max(leaseMs / 3, 500),
      });
    } catch (error) {
      // A progress that the database refuses must not cost the lease.
      if (withProgress && isPoison(error)) {
        report({ type: "database_trouble", operation: "heartbeat", error, attempt: 1 });
        return await send(batch, false);
      }
      throw error;
    }
    const leases = new Map(batch.map((lease) => [lease.key, lease]));
    const missing: Lease[] = [];
    const busy: Lease[] = [];
    for (const row of rows) {
      const lease = leases.get(leaseKey(row));
      if (!lease) continue;
      if (row.result === "accepted") lease.trustedUntil = Math.max(lease.trustedUntil, options.trustedUntil(sentAt));
      else if (row.result === "busy") busy.push(lease);
      else if (!lease.over) missing.push(lease);
      if (row.cancel_requested && row.result !== "missing") options.cancelled(lease);
    }
    batch.forEach((lease, index) => {
      // What came since is for the next one.
      if (lease.progress === progress[index] && !busy.includes(lease)) lease.progress = undefined;
    });
    if (busy.length > 0) {
      void pauses.pause(busyRetryMs).then(() => beat(busy.filter((lease) => !lease.over)));
    }
    if (missing.length > 0) await confirm(missing);
  }

  /** A lease that is not there any more was taken, or has been settled in a call whose reply was lost. */
  async function confirm(missing: readonly Lease[]): Promise<void> {
    const leases = missing.map(({ row }) => ({ id: row.id, fence: row.fence }));
    const rows = await database.run<{ id: string; fence: number; result: string }>("confirm", [
      worker,
      JSON.stringify(leases),
    ]);
    const lost = new Set(rows.filter((row) => row.result === "lost").map(leaseKey));
    for (const lease of missing) if (lost.has(lease.key) && !lease.over) options.lost(lease);
  }

  function beat(leases: Iterable<Lease>): void {
    for (const lease of leases) asked.add(lease);
    wakeup.raise();
  }

  const done = loop();
  return {
    beat,
    stop() {
      stopped = true;
      pauses.end();
      wakeup.raise();
      return done;
    },
  };
}
