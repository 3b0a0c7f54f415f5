/**
 * An aggregate in a dozen lines: a stream is folded into a state, a decision is made on it, and its events are appended if
 * the stream is still where it was; else it is read and decided anew. `npx tsx examples/aggregate.ts`
 */
import { createOrchestrator, defineEvent, StreamConflictError } from "orchestratum";
import { pglite } from "orchestratum/pglite";
import * as v from "valibot";

const data = v.object({ cents: v.number() });
const deposited = defineEvent({ topic: "bank.account.deposited", data });
const withdrawn = defineEvent({ topic: "bank.account.withdrawn", data });
const events = [deposited, withdrawn];

await using database = await pglite();
await using orchestrator = createOrchestrator({ database });
const { append, readStream, migrate } = orchestrator;
await migrate();

type Decision = (balance: number) => Parameters<typeof append>[1];

async function decide(stream: string, decision: Decision): Promise<number> {
  for (;;) {
    let [balance, version] = [0, 0];
    for (const event of await readStream(stream, { events, limit: 10_000 })) {
      balance += deposited.is(event) ? event.data.cents : -event.data.cents;
      version = event.version ?? version;
    }
    try {
      return (await append(stream, decision(balance), { expectedVersion: version })).version;
    } catch (error) {
      if (!(error instanceof StreamConflictError)) throw error;
    }
  }
}

const withdraw =
  (cents: number): Decision =>
  (balance) => {
    if (balance < cents) throw new Error(`only ${balance} left`);
    return withdrawn({ cents });
  };

await append("account-1", deposited({ cents: 100 }));
// Five at once, and there is enough for three: each decides on what the ones before it have left.
const results = await Promise.allSettled(Array.from({ length: 5 }, () => decide("account-1", withdraw(30))));
for (const result of results) {
  if (result.status === "rejected") console.log(`refused: ${result.reason.message}`);
}
console.log(`withdrawn: ${results.filter(({ status }) => status === "fulfilled").length} times`);

/**
 * Where a stream is long, its state is kept now and then in a stream beside it: a snapshot, which only saves reading. The
 * newest is the last event there; one that is missing, or was made by older code, costs a longer read and nothing else.
 */
const snapshot = defineEvent({
  topic: "bank.snapshots.balance",
  data: v.object({ balance: v.number(), version: v.number() }),
});

async function balanceOf(stream: string, every = 100): Promise<number> {
  const [newest] = await readStream(`${stream}:snapshots`, { events: [snapshot], direction: "backwards", limit: 1 });
  let { balance, version } = newest?.data ?? { balance: 0, version: 0 };
  const since = await readStream(stream, { events, from: version + 1, limit: 10_000 });
  for (const event of since) {
    balance += deposited.is(event) ? event.data.cents : -event.data.cents;
    version = event.version ?? version;
  }
  if (since.length >= every) await append(`${stream}:snapshots`, snapshot({ balance, version }));
  console.log(`balance ${balance} after ${since.length} events`);
  return balance;
}

await append(
  "account-1",
  Array.from({ length: 200 }, () => deposited({ cents: 1 })),
);
await balanceOf("account-1");
await append("account-1", deposited({ cents: 5 }));
await balanceOf("account-1");
