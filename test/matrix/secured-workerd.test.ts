/** TLS and SCRAM from within workerd, whose sockets are not those of Node.js. */
import process from "node:process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../../adapters/postgres-js.ts";
import { migrate } from "../../src/index.ts";
import { type SecuredPostgres, startSecuredPostgres } from "../secured-postgres.ts";
import { startWorkerd } from "./miniflare.ts";

let server: SecuredPostgres;
beforeAll(async () => {
  server = await startSecuredPostgres();
  await using database = postgresJs(server.url, { ssl: { ca: server.ca } });
  await migrate(database);
  // Miniflare reads it when it is loaded: whose certificates workerd trusts.
  process.env.NODE_EXTRA_CA_CERTS = server.caFile;
});
afterAll(() => server[Symbol.asyncDispose]());

interface Asked {
  readonly module?: string;
  readonly search?: Record<string, string>;
  /** Makes the address another one. */
  readonly change?: (url: URL) => void;
}

/** What a module in workerd answers, on this server. */
async function ask({ url }: SecuredPostgres, { module = "statement", search, change }: Asked = {}): Promise<string> {
  const address = new URL(url);
  // workerd looks for the name of the host in the certificate, and for no address.
  address.hostname = "localhost";
  address.searchParams.set("sslmode", "require");
  change?.(address);
  await using workerd = await startWorkerd(`test/matrix/${module}-worker.ts`, {
    bindings: { DATABASE_URL: address.href },
  });
  return await (await workerd.dispatchFetch(`http://workerd/?${new URLSearchParams(search)}`)).text();
}

test.each([
  "push() then waitFor() gives the output as the contract's schema answers it",
  // By a notification.
  "cancel(id) of another process aborts the signal of what runs, without a heartbeat",
])("postgresJs() works over TLS with a password in workerd: %s", async (name) => {
  expect(await ask(server, { module: "suite", search: { suite: "commands", case: name } })).toBe("passed");
});

test("postgresJs() is refused in workerd with a wrong password, without TLS, and where nobody vouches for the server", async () => {
  expect(await ask(server)).toBe("answered");
  const password = (url: URL): void => {
    url.password = "wrong";
  };
  expect(await ask(server, { change: password })).toMatch(/password authentication failed/);
  expect(await ask(server, { change: (url) => url.searchParams.delete("sslmode") })).toMatch(/no encryption/);
  await using foreign = await startSecuredPostgres();
  // Why stands in the log of workerd alone: postgres.js connects again until the statement's deadline.
  expect(await ask(foreign)).toMatch(/TimeoutError/);
});
