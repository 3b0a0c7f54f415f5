/** What became of an event: its deliveries, and what they come to together. */
import type { CommandId } from "./command.ts";
import type { Database } from "./database.ts";
import { type CommandStatus, deadStatuses } from "./get.ts";
import { parseTime, type TrailEntry } from "./outcome.ts";
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
   * `failed`, a delivery is a dead letter; else `handled`, every delivery succeeded; `partially_handled`, some did;
   * `published`, none has, or there is none. Cancelled deliveries do not count.
   */
  readonly status: "published" | "partially_handled" | "handled" | "failed";
  readonly event: RecordedEvent;
  /** By the names of the subscriptions. What history does not keep any more is not among them. */
  readonly deliveries: readonly DeliveryState[];
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

interface DeliveryRow {
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
      const rows = await database.run<DeliveryRow>("eventDeliveries", [event.id]);
      const deliveries = rows.map((row): DeliveryState => {
        const last = row.trail === null ? undefined : (JSON.parse(row.trail) as TrailEntry);
        return {
          subscription: row.subscription,
          commandId: row.id,
          status: row.status,
          attempt: row.attempt,
          retriesLeft: row.max_attempts - row.attempt,
          finishedAt: row.finished_at === null ? undefined : parseTime(row.finished_at),
          error: row.status === "succeeded" || last?.code === "snoozed" ? undefined : last,
        };
      });
      return { status: statusOf(deliveries), event, deliveries };
    },
  };
}

function statusOf(deliveries: readonly DeliveryState[]): EventStatus["status"] {
  const counted = deliveries.filter(({ status }) => status !== "cancelled");
  if (counted.some(({ status }) => deadStatuses.includes(status))) return "failed";
  const handled = counted.filter(({ status }) => status === "succeeded").length;
  if (handled === 0) return "published";
  return handled === counted.length ? "handled" : "partially_handled";
}
