import { afterEach, expect, test, vi } from "vitest";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createOrchestrator, defineCommand, type Observation, snooze } from "../src/index.ts";
import { signal } from "./conformance.ts";
import { createDatabase } from "./database.ts";
import { outliveLease } from "./outlive-lease.ts";

const hour = 60 * 60_000;
const limited = { timeoutMs: 30_000 };

afterEach(() => {
  vi.unstubAllGlobals();
});

/** The process's time of day is so many ms off from now on. */
function putOff(ms: number): void {
  const now = () => performance.timeOrigin + performance.now() + ms;
  vi.stubGlobal(
    "Date",
    class extends Date {
      constructor(...args: [] | [string | number | Date]) {
        super(...((args.length === 0 ? [now()] : args) as [number]));
      }
      static override now = now;
    },
  );
}

test.each([
  ["ahead", hour],
  ["behind", -hour],
])(
  "a process whose time of day is an hour %s, and then jumps, delays, puts off and leases for as long as it says",
  async (_, offMs) => {
    await using database = await createDatabase({ max: 8 });
    putOff(offMs);
    const observations: Observation[] = [];
    const begun = signal();
    // The first heartbeat comes when less than half of it is over.
    const leaseMs = 15_000;
    const late = defineCommand({ name: "late" });
    const snoozed = defineCommand({ name: "snoozed" });
    const long = defineCommand({ name: "long" });
    const handlers = [
      late.handle(() => {}),
      snoozed.handle(({ fence }) => (fence === 1 ? snooze({ delayMs: 500 }) : undefined)),
      long.handle((context) => {
        begun.give();
        return outliveLease(database.sql, leaseMs, context);
      }),
    ];
    // Two, of which the other would take over what the one does not hold.
    const orchestrators = [1, 2].map(() =>
      createOrchestrator({
        database: postgresJs(database.sql),
        handlers,
        observe: (observation) => void observations.push(observation),
      }),
    );
    const [orchestrator] = orchestrators as [(typeof orchestrators)[0]];
    for (const one of orchestrators) await one.startWorker({ leaseMs, pollIntervalMs: 200, idlePollMs: 200 }).started;
    const [a, b, c] = await orchestrator.push([late(null, { delayMs: 500 }), snoozed(), long()]);
    await begun.got();
    putOff(-offMs);
    const outcomes = await orchestrator.waitFor([a.id, b.id, c.id], limited);
    expect(outcomes.map(({ status }) => status)).toEqual(["succeeded", "succeeded", "succeeded"]);

    const rows = await database.sql`
    select
      h.name, h.fence, h.losses,
      (1000 * extract(epoch from h.started_at - coalesce((h.trail -> 0 ->> 'ended_at')::timestamptz, h.created_at)))::float8 as ms
    from orchestratum.history h
    order by h.name`;
    expect(rows).toMatchObject([
      { name: "late", fence: 1, losses: 0 },
      { name: "long", fence: 1, losses: 0 },
      { name: "snoozed", fence: 2, losses: 0 },
    ]);
    // A poll would come a fifth of a second later; an hour would not.
    for (const row of [rows[0], rows[2]]) {
      expect(row?.ms).toBeGreaterThanOrEqual(500);
      expect(row?.ms).toBeLessThan(20_000);
    }
    expect(observations.map(({ type }) => type)).not.toContain("lease_lost");
    for (const one of orchestrators) await one.stop();
  },
);
