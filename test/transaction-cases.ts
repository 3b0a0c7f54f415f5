/** What a handler's own transaction may hold: business rows, the outcome and what follows commit together, or not at all. */
import * as v from "valibot";
import { type CommandOutcome, defineCommand, type Queryable } from "../src/index.ts";
import {
  type Case,
  type Ground,
  limited,
  rejection,
  type Scene,
  same,
  scenario,
  signal,
  succeeded,
  truth,
} from "./conformance.ts";

/** A table of this scene's own for what the handlers write. */
async function businessTable({ ground, queue }: Scene) {
  const table = `business_${queue}`;
  await ground.driver.script(`create table ${table} (value text)`);
  return {
    write: (db: Queryable, value: string) => db.query(`insert into ${table} (value) values ($1)`, [value]),
    async values(): Promise<string[]> {
      const rows = await ground.driver.query<{ value: string }>(`select value from ${table} order by value`, []);
      return rows.map((row) => row.value);
    },
  };
}

/** What its worker says of a command's leases, once it has said it of `count`: others may see a commit before it does. */
async function verdictsOf(scene: Scene, id: string, count: number): Promise<string[]> {
  for (let turn = 0; ; turn++) {
    const verdicts = scene.seen("command_finished").flatMap((one) => (one.id === id ? one.verdict : []));
    if (verdicts.length >= count || turn === 1_000) return verdicts;
    await new Promise((done) => setTimeout(done, 10));
  }
}

const errorOf = (outcome: CommandOutcome): string | undefined =>
  outcome.status === "succeeded" ? undefined : outcome.error?.message;

/** Runs `work` in a transaction and answers what it answered. */
async function within<T>(ground: Ground, work: (db: Queryable) => Promise<T>): Promise<T> {
  let result: T | undefined;
  await ground.transaction(async (db) => {
    result = await work(db);
  });
  return result as T;
}

const text = v.pipe(v.string(), v.minLength(1));

export const transactionCases: readonly Case[] = [
  scenario("finish(db, output) commits rows, outcome and follow-ups together", async (scene) => {
    const { write, values } = await businessTable(scene);
    const next = defineCommand(scene.define({ name: "next", input: text }));
    const order = defineCommand(scene.define({ name: "order", input: text, output: text }));
    const ran = signal<string>();
    const { push, waitFor, workers, get } = await scene.working([
      next.handle(({ input }) => ran.give(input)),
      order.handle(
        ({ input, finish }) =>
          within(scene.ground, async (db) => {
            await write(db, input);
            return await finish(db, `${input}!`);
          }),
        { onSuccess: ({ output }) => next(output) },
      ),
    ]);
    const { id } = await push(order("a"));
    same(succeeded(await waitFor(id, limited)), "a!", "the output");
    same(await ran.got(), "a!", "what the follow-up got");
    same(await values(), ["a"], "the rows");
    same((await get(id))?.trail, [], "the trail");
    same(await verdictsOf(scene, id, 1), ["succeeded"], "what was observed");
    same(workers[0]?.counts.retried, 0, "how many attempts failed");
  }),

  scenario("a transaction that is rolled back after finish() is a failed attempt without any trace", async (scene) => {
    const { write, values } = await businessTable(scene);
    const next = defineCommand(scene.define({ name: "next", input: v.number() }));
    const order = defineCommand(scene.define({ name: "order", output: v.number(), retries: 2 }));
    const followed: number[] = [];
    const { push, waitFor, get, counts } = await scene.working([
      next.handle(({ input }) => void followed.push(input)),
      order.handle(
        ({ attempt, finish }) =>
          within(scene.ground, async (db) => {
            await write(db, `attempt ${attempt}`);
            const finished = await finish(db, attempt);
            if (attempt < 3) throw new Error(`Thought better of attempt ${attempt}`);
            return finished;
          }),
        { onSuccess: ({ output }) => next(output) },
      ),
    ]);
    const { id } = await push(order());
    same(succeeded(await waitFor(id, limited)), 3, "the output");
    same(await values(), ["attempt 3"], "the rows");
    same(
      (await get(id))?.trail.map((entry) => entry.message),
      ["Thought better of attempt 1", "Thought better of attempt 2"],
      "the trail",
    );
    while ((await counts({ finished: false })).some(({ queue }) => queue === scene.queue))
      await new Promise((done) => setTimeout(done, 10));
    same(followed, [3], "what followed");
    same(await verdictsOf(scene, id, 3), ["retry", "retry", "succeeded"], "what was observed");
  }),

  scenario("a rolled back finish() that the handler keeps quiet about is a failed attempt, too", async (scene) => {
    const order = defineCommand(scene.define({ name: "order", output: v.number(), retries: 0 }));
    const { push, waitFor } = await scene.working([
      order.handle(async ({ finish }) => {
        await within(scene.ground, async (db) => {
          await finish(db, 1);
          throw new Error("rolled back");
        }).catch(() => {});
        return 2;
      }),
    ]);
    const outcome = await waitFor((await push(order())).id, limited);
    same(outcome.status, "failed", "the status");
    truth(errorOf(outcome)?.includes("rolled back"), `the error says so: ${errorOf(outcome)}`);
  }),

  scenario("a handler may try its transaction again: onSuccess says anew what follows", async (scene) => {
    const next = defineCommand(scene.define({ name: "next", input: v.number() }));
    const order = defineCommand(scene.define({ name: "order", output: v.number(), retries: 0 }));
    const followed = signal<number>();
    const { push, waitFor } = await scene.working([
      next.handle(({ input }) => followed.give(input)),
      order.handle(
        async ({ finish }) => {
          const attempt = (output: number) =>
            within(scene.ground, async (db) => {
              const finished = await finish(db, output);
              if (output === 1) throw new Error("as after a serialization failure");
              return finished;
            });
          return await attempt(1).catch(() => attempt(2));
        },
        { onSuccess: ({ output }) => next(output) },
      ),
    ]);
    const { id } = await push(order());
    same(succeeded(await waitFor(id, limited)), 2, "the output");
    same(await followed.got(), 2, "what followed");
    const [followers] = await scene.ground.driver.query<{ count: number }>(
      "select count(*)::int as count from orchestratum.all_commands where parent_id::text = $1",
      [id],
    );
    same(followers?.count, 1, "how many followed");
  }),

  scenario("finish() refuses a wrong output, and the transaction can be left", async (scene) => {
    const { write, values } = await businessTable(scene);
    const order = defineCommand(scene.define({ name: "order", output: text, retries: 0 }));
    const { push, waitFor } = await scene.working([
      order.handle(({ finish }) =>
        within(scene.ground, async (db) => {
          await write(db, "lost");
          return await finish(db, "");
        }),
      ),
    ]);
    const outcome = await waitFor((await push(order())).id, limited);
    same(outcome.status, "failed", "the status");
    truth(errorOf(outcome)?.includes("Cannot record the output"), `the error names the output: ${errorOf(outcome)}`);
    same(await values(), [], "the rows");
  }),

  scenario("finish() refuses an isolation level under which it would not see what others did", async (scene) => {
    const { write, values } = await businessTable(scene);
    const order = defineCommand(scene.define({ name: "order", retries: 0 }));
    const { push, waitFor } = await scene.working([
      order.handle(({ finish }) =>
        within(scene.ground, async (db) => {
          await db.query("set transaction isolation level repeatable read", []);
          await write(db, "lost");
          return await finish(db);
        }),
      ),
    ]);
    const outcome = await waitFor((await push(order())).id, limited);
    same(outcome.status, "failed", "the status");
    truth(errorOf(outcome)?.includes("read committed"), `the error says what is wanted: ${errorOf(outcome)}`);
    same(await values(), [], "the rows");
  }),

  scenario("finish() after the lease was lost throws, and nothing of the transaction remains", async (scene) => {
    const { write, values } = await businessTable(scene);
    const order = defineCommand(scene.define({ name: "order", retries: 1 }));
    const refused = signal<Error & { code?: string }>();
    const { push, waitFor, get } = await scene.working([
      order.handle(async ({ id, fence, finish }) => {
        if (fence > 1) return;
        // As a claim of somebody else does when the lease is over.
        await scene.ground.driver.query(
          "update orchestratum.command set leased_by = 'other', fence = fence + 1, available_at = clock_timestamp() where id::text = $1",
          [id],
        );
        const error = await rejection(
          within(scene.ground, async (db) => {
            await write(db, "lost");
            return await finish(db);
          }),
        );
        refused.give(error);
        throw error;
      }),
    ]);
    const { id } = await push(order());
    same((await refused.got()).code, "ORCHESTRATUM_LEASE_LOST", "the code");
    same(await values(), [], "the rows");
    scene.orchestrators[0]?.wake([scene.queue]);
    same((await waitFor(id, limited)).status, "succeeded", "the status");
    truth(((await get(id))?.fence ?? 0) >= 3, "somebody else executed it");
  }),

  scenario("a heartbeat in flight is waited for, and progress goes on before finish()", async (scene) => {
    const order = defineCommand(scene.define({ name: "order", output: v.number(), retries: 0 }));
    const met = defineCommand(scene.define({ name: "met", output: v.number(), retries: 0 }));
    const { push, waitFor } = await scene.working([
      order.handle(async ({ progress, finish }) => {
        // Progress is sent at once, and once a second.
        for (let turn = 0; turn < 20; turn++) {
          progress(turn);
          await new Promise((done) => setTimeout(done, 60));
        }
        return await within(scene.ground, (db) => finish(db, 20));
      }),
      met.handle(async ({ id, finish }) => {
        const [locked, isMet] = [signal(), signal()];
        // Has the row as a heartbeat has it, until finish() has found that out.
        const beating = scene.ground.transaction(async (db) => {
          await db.query("select from orchestratum.command where id = $1::text::uuid for update", [id]);
          locked.give();
          await isMet.got();
        });
        await Promise.race([locked.got(), beating]);
        const finishing = within(scene.ground, (db) => {
          const query: Queryable["query"] = async <Row>(...statement: Parameters<Queryable["query"]>) => {
            const rows = await db.query<Row>(...statement);
            if (JSON.stringify(rows).includes('"busy"')) isMet.give();
            return rows;
          };
          return finish({ query }, 1);
        });
        const [finished] = await Promise.all([finishing, beating]);
        return finished;
      }),
    ]);
    const pushed = await push(Array.from({ length: 20 }, () => order()));
    for (const { id } of pushed) same(succeeded(await waitFor(id, limited)), 20, "the output");
    // PGlite has one transaction at a time: nobody has the row while finish() runs.
    if (scene.ground.driver.name !== "pglite") {
      same(succeeded(await waitFor((await push(met())).id, limited)), 1, "the output of what met another's lock");
    }
    same(scene.seen("lease_lost"), [], "leases lost");
  }),

  scenario("the transaction of a finish() ends with the lease at the latest", async (scene) => {
    const order = defineCommand(scene.define({ name: "order" }));
    const seen = signal<number>();
    const { push, waitFor } = await scene.working([
      order.handle(({ finish }) =>
        within(scene.ground, async (db) => {
          const finished = await finish(db);
          const [row] = await db.query<{ ms: number }>(
            "select setting::int as ms from pg_settings where name = 'idle_in_transaction_session_timeout'",
            [],
          );
          seen.give(row?.ms ?? 0);
          return finished;
        }),
      ),
    ]);
    await waitFor((await push(order())).id, limited);
    const ms = await seen.got();
    truth(ms > 0 && ms <= 30_000, `the timeout is what is left of the lease, got ${ms}`);
  }),

  scenario("a handler that goes on after its finish() is aborted, and stop() does not wait for it", async (scene) => {
    const order = defineCommand(scene.define({ name: "order" }));
    const aborted = signal<string>();
    const { push, get, stop } = await scene.working(
      [
        order.handle(async ({ finish, push: follow, signal: attempt }) => {
          await within(scene.ground, (db) => finish(db));
          try {
            follow(order());
          } catch (error) {
            const tell = () => aborted.give((error as Error).message);
            if (attempt.aborted) tell();
            else attempt.addEventListener("abort", tell);
          }
          await new Promise(() => {});
        }),
      ],
      { leaseMs: 1_000, abortGraceMs: 100 },
    );
    const { id } = await push(order());
    truth((await aborted.got()).includes("after its finish"), "a follow-up after finish() is refused");
    await stop({ graceMs: 100 });
    same((await get(id))?.status, "succeeded", "the status");
    same(scene.orchestrators[0]?.workers.length, 0, "the workers that are left");
  }),
];
