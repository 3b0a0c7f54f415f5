/**
 * Low-water marks. Under a long transaction the index entries of finished commands cannot be removed, and they pile up
 * exactly where a claim starts to read. So a worker remembers for each lane (one queue at one priority) how far it has
 * come, and the next claim starts to read there.
 *
 * A mark may hide a command that is due, for a moment only: it lies `lagMs` behind the database's clock, since a row has
 * its time at INSERT and appears at COMMIT; it follows the claim before the last, so that what one claim passed over the
 * next one finds; a hint lowers it; and the rescan, a claim that reads from below, finds what nobody hinted at.
 * Times are microseconds since 1970 by the database's clock, never by this process's.
 */

/** A mark is never nearer to the clock than this. */
export const lagMs = 250;

/** A claim probes at most this many lanes, so ten queues. */
const maxQueues = 10;
const priorities = 10;

interface Lane {
  readonly queue: string;
  readonly priority: number;
  mark: number;
  /** The newest `available_at` that the last claim took from this lane. */
  newest: number;
}

/** A claim that is to be sent, or under way. */
export interface Plan {
  /** As the claim takes them: `[{"queue", "priority", "mark_at"}]`. */
  readonly json: string;
  readonly queues: readonly string[];
  /** From below: the marks are not looked at, nor moved. */
  readonly rescan: boolean;
  readonly lanes: readonly Lane[];
}

export interface Reply {
  /** The clock that the claim went by, as text. */
  readonly clock: string;
  /** Whether something due is left. */
  readonly more: boolean;
  /** The rows: from which lane (1 is the first) and when they were available. */
  readonly rows: readonly { readonly lane: number; readonly available_at: string }[];
}

export interface Marks {
  /** The lanes of the next claim. `random` is from 0 up to 1; `rescan` names a queue to be read from below. */
  plan(random: number, rescan?: string): Plan;
  /** Moves the marks after the reply to a plan. Hints that came since the plan was made survive it. */
  settle(plan: Plan, reply: Reply): void;
  /** Something is due in `queue` from `fromMicros` on. */
  hint(queue: string, fromMicros: number): void;
  /** All queues are to be looked at again, from below: no hint and no mark is believed. The marks rise again as claims go on. */
  lookAtAll(): void;
  /**
   * Exactly these are paused: no plan names them and nothing moves their marks but hints. Answers those that were
   * resumed; they are to be looked at.
   */
  pause(paused: ReadonlySet<string>): readonly string[];
  /** The queues that are not paused. */
  readonly open: readonly string[];
  /** Whether every open queue has said, since it was last hinted at, that it has nothing more. A worker may only sleep then. */
  readonly covered: boolean;
}

export function createMarks(queues: readonly string[]): Marks {
  const lanes = new Map<string, Lane[]>();
  for (const queue of queues) {
    lanes.set(
      queue,
      Array.from({ length: priorities }, (_, priority) => ({
        queue,
        priority,
        mark: Number.NEGATIVE_INFINITY,
        newest: Number.NEGATIVE_INFINITY,
      })),
    );
  }
  /** Queues that are still to be looked at: a claim may leave some out. */
  const uncovered = new Set<string>(queues);
  /** Those among them that somebody hinted at. */
  const hinted = new Set<string>();
  const hintsSincePlan = new Map<string, number>();
  let paused: ReadonlySet<string> = new Set();
  let open = queues;
  let turn = 0;

  function chooseQueues(rescan: string | undefined): readonly string[] {
    if (rescan !== undefined) return [rescan];
    if (open.length <= maxQueues) return rotated(open, turn++);
    // More queues than a claim may probe. Half of the places are for those that were hinted at, so that the others get
    // their turn however many hints there are; then come those that are still to be looked at.
    const isOpen = (queue: string) => !paused.has(queue);
    const first = rotated([...hinted].filter(isOpen), turn).slice(0, maxQueues / 2);
    const others = rotated([...uncovered].filter(isOpen), turn);
    const chosen = [...new Set([...first, ...others, ...rotated(open, turn)])].slice(0, maxQueues);
    turn += maxQueues;
    return chosen;
  }

  function cover(plan: Plan, reply: Reply): void {
    if (reply.more) return;
    for (const queue of plan.queues) {
      if (hintsSincePlan.has(queue)) continue;
      uncovered.delete(queue);
      hinted.delete(queue);
    }
  }

  function lower(queue: string, fromMicros: number): void {
    for (const lane of lanes.get(queue) ?? []) {
      lane.mark = Math.min(lane.mark, fromMicros);
      lane.newest = Math.min(lane.newest, fromMicros);
    }
  }

  return {
    plan(random, rescan) {
      const chosen = chooseQueues(rescan);
      let order: Lane[] = [];
      for (let priority = 0; priority < priorities; priority++) {
        for (const queue of chosen) order.push((lanes.get(queue) as Lane[])[priority] as Lane);
      }
      // Strict priority alone starves: one claim in ten starts anywhere.
      if (random < 0.1) order = rotated(order, Math.floor(random * 10 * order.length));
      hintsSincePlan.clear();
      const json = JSON.stringify(
        order.map((lane) => ({
          queue: lane.queue,
          priority: lane.priority,
          mark_at: rescan !== undefined ? "-infinity" : formatMicros(lane.mark),
        })),
      );
      return { json, queues: chosen, rescan: rescan !== undefined, lanes: order };
    },

    settle(plan, reply) {
      const last = reply.rows.reduce((most, row) => Math.max(most, row.lane), 0);
      cover(plan, reply);
      if (plan.rescan) {
        // Its oldest rows first: what lies below the mark and was not reached is left for the ordinary claims.
        const lane = plan.lanes[last - 1];
        if (reply.more && lane) {
          const reached = newestOf(reply, last);
          lane.mark = Math.min(lane.mark, reached);
          lane.newest = Math.min(lane.newest, reached);
        }
        return;
      }
      const ceiling = parseMicros(reply.clock) - lagMs * 1000;
      plan.lanes.forEach((lane, index) => {
        const place = index + 1;
        if (!reply.more) {
          lane.mark = ceiling;
          lane.newest = ceiling;
        } else if (place < last) {
          // Read to its end, but for what somebody had locked for a moment: the next claim looks for that once more.
          lane.mark = Math.max(lane.mark, Math.min(ceiling, lane.newest));
          lane.newest = ceiling;
        } else if (place === last) {
          lane.mark = Math.max(lane.mark, Math.min(ceiling, lane.newest));
          lane.newest = newestOf(reply, place);
        }
      });
      for (const [queue, fromMicros] of hintsSincePlan) lower(queue, fromMicros);
    },

    hint(queue, fromMicros) {
      if (!lanes.has(queue)) return;
      uncovered.add(queue);
      hinted.add(queue);
      hintsSincePlan.set(queue, Math.min(hintsSincePlan.get(queue) ?? Number.POSITIVE_INFINITY, fromMicros));
      lower(queue, fromMicros);
    },
    lookAtAll() {
      for (const queue of queues) {
        uncovered.add(queue);
        hintsSincePlan.set(queue, Number.NEGATIVE_INFINITY);
        lower(queue, Number.NEGATIVE_INFINITY);
      }
    },
    pause(now) {
      const resumed = queues.filter((queue) => paused.has(queue) && !now.has(queue));
      paused = now;
      open = queues.filter((queue) => !paused.has(queue));
      for (const queue of resumed) {
        uncovered.add(queue);
        hinted.add(queue);
      }
      return resumed;
    },
    get open() {
      return open;
    },
    get covered() {
      for (const queue of uncovered) if (!paused.has(queue)) return false;
      return true;
    },
  };
}

/** The newest time among the rows of a lane. Compared as text, since reading five hundred times costs more than a claim. */
function newestOf(reply: Reply, lane: number): number {
  let newest = "";
  // As PostgreSQL prints them, a time without a fraction sorts before one with it, and an earlier one before a later.
  for (const row of reply.rows) if (row.lane === lane && row.available_at > newest) newest = row.available_at;
  return parseMicros(newest);
}

function rotated<Item>(list: readonly Item[], by: number): Item[] {
  const start = list.length === 0 ? 0 : by % list.length;
  return [...list.slice(start), ...list.slice(0, start)];
}

/** Microseconds since 1970 of a timestamp as PostgreSQL prints it in UTC: `2026-10-01 09:08:07.654321+00`. */
export function parseMicros(text: string): number {
  if (text === "-infinity") return Number.NEGATIVE_INFINITY;
  if (text === "infinity") return Number.POSITIVE_INFINITY;
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?\+00$/.exec(text);
  if (!match) throw new TypeError(`Cannot read time: "${text}" is not a timestamp in UTC`);
  return Date.parse(`${match[1]}T${match[2]}Z`) * 1000 + Number((match[3] ?? "").padEnd(6, "0"));
}

/** The other way round. */
export function formatMicros(micros: number): string {
  if (micros === Number.NEGATIVE_INFINITY) return "-infinity";
  if (micros === Number.POSITIVE_INFINITY) return "infinity";
  const ms = Math.floor(micros / 1000);
  const rest = String(Math.round(micros - ms * 1000)).padStart(3, "0");
  return `${new Date(ms).toISOString().slice(0, -1)}${rest}+00`;
}
