/**
 * Middleware for tenants: whose command it is comes in at the push, from whatever the request says, travels along the
 * chain, and is checked before each attempt. `npx tsx examples/tenancy.ts`
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { createOrchestrator, defineCommands, type Middleware, PermanentFailure } from "orchestratum";
import { pglite } from "orchestratum/pglite";

const tenants = new AsyncLocalStorage<string>();
const closed = new Set(["umbrella"]);

const tenancy: Middleware = {
  name: "tenancy",
  async push(_, next) {
    const tenant = tenants.getStore();
    if (tenant === undefined) throw new Error("Cannot push without a tenant");
    await next(({ metadata }) => ({ ...metadata, tenant }));
  },
  async execute({ metadata: { tenant } }, next) {
    if (typeof tenant !== "string") throw new PermanentFailure("It belongs to no tenant");
    if (closed.has(tenant)) throw new PermanentFailure(`Tenant ${tenant} is closed`);
    await tenants.run(tenant, next); // what the handler calls knows the tenant, too
  },
};

const { sendInvoice, bookInvoice } = defineCommands({ sendInvoice: {}, bookInvoice: {} });

let book = () => {};
const booked = new Promise<void>((resolve) => {
  book = resolve;
});
const database = await pglite();
const orchestrator = createOrchestrator({
  database,
  middleware: [tenancy],
  handlers: [
    sendInvoice.handle(() => console.log(`sent for ${tenants.getStore()}`), { onSuccess: () => bookInvoice() }),
    bookInvoice.handle(() => {
      console.log(`booked for ${tenants.getStore()}`);
      book();
    }),
  ],
});

await orchestrator.migrate();
orchestrator.startWorker();

await orchestrator.push(sendInvoice()).catch((error: Error) => console.log(error.message));
await tenants.run("acme", () => orchestrator.push(sendInvoice()));
await booked;
const { id } = await tenants.run("umbrella", () => orchestrator.push(sendInvoice()));
const outcome = await orchestrator.waitFor(id);
console.log(outcome.status === "succeeded" ? "sent" : outcome.error?.message);

await orchestrator.stop();
await database.close();
