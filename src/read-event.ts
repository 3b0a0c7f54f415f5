/** Reading one event by its id. */
import type { Database } from "./database.ts";
import { PermanentFailure } from "./failure.ts";
import { type EventRow, type RecordedEvent, recordedEvent } from "./recorded-event.ts";

/** Undefined where there is none: retention may have taken it. */
export async function readEvent(database: Database, id: string): Promise<RecordedEvent | undefined> {
  const [row] = await database.run<Omit<EventRow, "id">>("getEvent", [id]);
  return row && recordedEvent({ ...row, id });
}

/** @throws PermanentFailure where it is gone: no other attempt would find it. */
export async function readStoredEvent(database: Database, id: string): Promise<RecordedEvent> {
  const event = await readEvent(database, id);
  if (event) return event;
  throw new PermanentFailure(`Cannot read event ${id}: it is not in the store any more, keep events for longer`);
}
