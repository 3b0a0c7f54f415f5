import { expect, test } from "vitest";
import { type Outcome, time, useSessions } from "./session.ts";

const sessions = useSessions();

const fences = async (id: string): Promise<number[]> =>
  ((await sessions.one.trail(id)) as { fence: number }[]).map(({ fence }) => fence);

test("trail_add() keeps a hundred entries: the first, and the newest", async () => {
  const { one, newQueue } = sessions;
  const queue = newQueue();
  const [pushed] = await one.push([{ queue, max_attempts: 1_000 }], { at: time(0) });
  const id = pushed?.id ?? "";
  const end = async (place: number, outcome: Partial<Outcome>): Promise<void> => {
    await one.claim(queue, { at: time(place), maxLosses: 1_000, leaseMs: 1 });
    await one.end("worker", { id, fence: place, verdict: "retry", error: {}, ...outcome }, { at: time(place) });
  };
  for (let place = 1; place <= 100; place += 1) await end(place, {});
  expect(await fences(id)).toEqual(Array.from({ length: 100 }, (_, place) => place + 1));
  await end(101, {});
  expect(await fences(id)).toEqual([1, ...Array.from({ length: 99 }, (_, place) => place + 3)]);
  // A loss is an entry like any other, and so is the last error.
  await one.claim(queue, { at: time(102), maxLosses: 1_000, leaseMs: 1 });
  await end(103, { verdict: "failed" });
  expect(await one.look(id)).toMatchObject({ status: "failed", fence: 103 });
  expect(await fences(id)).toEqual([1, ...Array.from({ length: 99 }, (_, place) => place + 5)]);
});
