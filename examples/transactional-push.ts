/**
 * A business row and the command that follows from it, in one transaction: either both are there, or neither is.
 * `DATABASE_URL=postgres://… npx tsx examples/transactional-push.ts`
 */
import process from "node:process";
import { createOrchestrator, defineCommand } from "orchestratum";
import { postgresJs } from "orchestratum/postgres-js";
import postgres from "postgres";
import * as v from "valibot";

const url = process.env.DATABASE_URL;
if (!url) {
  console.error(
    "Cannot start: DATABASE_URL must name a PostgreSQL server, as in postgres://user:password@host:5432/name",
  );
  process.exit(1);
}

const sendInvoice = defineCommand({
  name: "send_invoice",
  input: v.object({ invoice: v.number() }),
  queue: "invoices",
});

const sql = postgres(url, { fetch_types: false, onnotice: () => {} });
const orchestrator = createOrchestrator({
  database: postgresJs(sql),
  handlers: [sendInvoice.handle(({ input }) => console.log(`sent invoice ${input.invoice}`))],
});

await orchestrator.migrate();
await sql`create table if not exists example_invoice (id int generated always as identity primary key, amount int not null)`;
orchestrator.startWorker({ queues: ["invoices"] });

/** Everything within commits together, or not at all. */
async function invoice(amount: number) {
  return await sql.begin(async (tx) => {
    const [row] = await tx<{ id: number }[]>`insert into example_invoice (amount) values (${amount}) returning id`;
    const command = sendInvoice({ invoice: row?.id ?? 0 });
    const { id } = await orchestrator.push(command, { db: postgresJs(tx) });
    const seen = await orchestrator.get(id); // by another connection, as a worker's would be
    console.log(`pushed, not committed: ${seen === undefined ? "nobody else sees it" : seen.status}`);
    if (amount < 0) throw new RangeError(`an invoice over ${amount} is refused`);
    return id;
  });
}

const id = await invoice(100);
console.log(`committed: ${(await orchestrator.waitFor(id)).status}`);

const before = await rows();
await invoice(-5).catch((error: Error) => console.log(`rolled back: ${error.message}`));
const after = await rows();
console.log(
  `rows and commands that the rollback left: ${after.invoices - before.invoices} and ${after.commands - before.commands}`,
);

async function rows(): Promise<{ invoices: number; commands: number }> {
  const [row] = await sql<{ invoices: number; commands: number }[]>`
    select
      (select count(*)::int from example_invoice) as invoices,
      (select count(*)::int from orchestratum.all_commands where name = 'send_invoice') as commands`;
  return row ?? { invoices: 0, commands: 0 };
}

await orchestrator.stop();
await sql.end();
