/** What became of an event: its deliveries, and what they come to together. */
import type { CommandId } from "./command.ts";
import type { Database } from "./database.ts";
import { type CommandStatus, deadStatuses } from "./get.ts";
import { isNoError, parseTime, type TrailEntry } from "./outcome.ts";
import { readEvent } from "./read-event.ts";
import type { RecordedEvent } from "./recorded-event.ts";
import { requireId } from "./uuid.ts";

/** By which command a subscription got an event. */
export interface DeliveryState {
  readonly subscription: string;
  readonly commandId: CommandId;
  readonly status: CommandStatus;
  readonly attempt: number;
  readonly retriesLeft: number;
  readonly finishedAt: Date | undefined;
  /** What its last lease ended with, where that was an error. */
  readonly error: TrailEntry | undefined;
}

export interface EventStatus {
  /**
   * `failed`, a delivery is a dead letter; else `handled`, every delivery succeeded, and none was dropped;
   * `partially_handled`, some did; `published`, none has, or there is none. Cancelled deliveries do not count. Where
   * `isComplete` is false, it is said of those that are left.
   */
  readonly status: "published" | "partially_handled" | "handled" | "failed";
  readonly event: RecordedEvent;
  /** By the names of the subscriptions. What history does not keep any more is not among them. */
  readonly deliveries: readonly DeliveryState[];
  /**
   * Whether none is missing. False once the event is older than history's retention (by default 7 days, those that
   * succeeded), and where a dead letter of its was dropped, or may have been by a filter.
   */
  readonly isComplete: boolean;
}

export interface EventAsking {
  /**
   * What became of an event: whether it is handled, and each subscription's delivery; undefined where there is no such
   * event.
   *
   * @throws TypeError for what is no id.
   */
  eventStatus(id: string): Promise<EventStatus | undefined>;
}

/** Of the whole event. */
interface WholeRow {
  readonly is_dropped: boolean;
  readonly is_expired: boolean;
}

interface DeliveryRow extends WholeRow {
  readonly subscription: string;
  readonly id: CommandId;
  readonly status: CommandStatus;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly finished_at: string | null;
  readonly trail: string | null;
}

export function createEventAsking(database: Database): EventAsking {
  return {
    async eventStatus(id) {
      requireId("Cannot read event", id);
      const event = await readEvent(database, id.toLowerCase());
      if (event === undefined) return undefined;
      const params = [event.id, event.topic, event.appendedAt.toISOString()];
      const rows = await database.run<DeliveryRow | (WholeRow & { subscription: null })>("eventDeliveries", params);
      const { is_dropped, is_expired } = rows[0] as WholeRow;
      const found = rows.filter((row): row is DeliveryRow => row.subscription !== null);
      const deliveries = found.map((row): DeliveryState => {
        const last = row.trail === null ? undefined : (JSON.parse(row.trail) as TrailEntry);
        return {
          subscription: row.subscription,
          commandId: row.id,
          status: row.status,
          attempt: row.attempt,
          retriesLeft: row.max_attempts - row.attempt,
          finishedAt: row.finished_at === null ? undefined : parseTime(row.finished_at),
          error: row.status === "succeeded" || (last && isNoError(last)) ? undefined : last,
        };
      });
      return { status: statusOf(deliveries, is_dropped), event, deliveries, isComplete: !is_dropped && !is_expired };
    },
  };
}

function statusOf(deliveries: readonly DeliveryState[], isDropped: boolean): EventStatus["status"] {
  const counted = deliveries.filter(({ status }) => status !== "cancelled");
  if (counted.some(({ status }) => deadStatuses.includes(status))) return "failed";
  const handled = counted.filter(({ status }) => status === "succeeded").length;
  if (handled === 0) return "published";
  return handled === counted.length && !isDropped ? "handled" : "partially_handled";
}
