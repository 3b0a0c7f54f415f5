/** What passes through the router stays out of observations and logs: bodies, keys, queries and tokens. */
import { inspect } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { router } from "../../../adapters/hono/router.ts";
import { postgresJs } from "../../../adapters/postgres-js.ts";
import { createOrchestrator, type Driver, type LogRecord, logTo, type Observation } from "../../../src/index.ts";
import { createDatabase } from "../../database.ts";
import { add, authorise, noted, placed, tokenOf, wait } from "./contracts.ts";

const secret = "s3cr3t-0f-ada";
let database: Awaited<ReturnType<typeof createDatabase>>;

beforeAll(async () => {
  database = await createDatabase({ max: 4 });
});
afterAll(() => database.drop());

/** Everything with the secret in it, good and bad. */
const token = `Bearer ${tokenOf("everything")}`;
const key = { "Idempotency-Key": secret };
const ndjson = { "Content-Type": "application/x-ndjson" };
const good = { name: "wait", input: { mail: secret }, metadata: { correlationId: secret, note: secret } };
const bad = { name: "add", input: { a: secret }, priority: secret, metadata: { source: [secret] }, [secret]: secret };
const event = { topic: "notes.noted", data: secret, metadata: { source: secret } };
const sent: readonly [string, unknown?, Record<string, string>?][] = [
  ["POST /commands", good, key],
  ["POST /commands", { ...good, input: `another ${secret}` }, key],
  ["POST /commands", bad, key],
  ["POST /commands", `{"input":"${secret}`],
  ["POST /commands", good, { Authorization: `Bearer ${secret}` }],
  ["POST /commands", good, { Origin: `https://${secret}.test` }],
  ["POST /commands/batch", [good, good], key],
  ["POST /commands/batch", [good, bad]],
  ["POST /commands/batch", `${JSON.stringify(good)}\n${JSON.stringify(bad)}\n{"${secret}`, { ...ndjson, ...key }],
  ["POST /events", { events: [event], stream: secret }, key],
  ["POST /events", { events: [event, { topic: "orders.events.placed", data: { order: secret } }, { topic: secret }] }],
  [`GET /commands?correlationId=${secret}`],
  [`GET /commands?cursor=${secret}&errorText=${secret}&colour=${secret}`],
  [`GET /commands/${secret}`],
  [`GET /streams/${secret}`],
  [`GET /events?topic=${secret}.%23`],
  [`POST /commands/cancel`, { filter: { correlationId: secret } }],
  [`POST /queues/${secret}/${secret}`, {}],
  [`PUT /commands?${secret}`],
  ["POST /tick", { queues: [secret, ` ${secret}`] }, { "webhook-signature": secret }],
];

/** What was observed and logged, also without the messages of errors, and every answer. */
async function through(driver: Driver) {
  const seen: Observation[] = [];
  const logged: LogRecord[] = [];
  const quiet: LogRecord[] = [];
  const log = logTo((record) => void logged.push(record), { level: "debug" });
  const logQuietly = logTo((record) => void quiet.push(record), { level: "debug", errorMessages: false });
  await using orchestrator = createOrchestrator({
    database: driver,
    handlers: [],
    commands: [wait, add],
    observe(observation) {
      seen.push(observation);
      log(observation);
      logQuietly(observation);
    },
  });
  const app = router(orchestrator, { authorise, events: [placed, noted] });
  const statuses: number[] = [];
  for (const [route, body, headers = {}] of sent) {
    const [method = "", path = ""] = route.split(" ");
    const response = await app.request(`http://jobs.test${path}`, {
      method,
      headers: { Authorization: token, "Content-Type": "application/json", ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    await response.text();
    statuses.push(response.status);
  }
  return { seen, logged, quiet, statuses };
}

const told = (value: unknown): string => inspect(value, { depth: 20, showHidden: true, maxStringLength: Infinity });

test("nothing of it is observed or logged, whether it is taken or refused", async () => {
  const { seen, logged, statuses } = await through(postgresJs(database.sql));
  expect(statuses.filter((status) => status < 300).length).toBeGreaterThan(7);
  expect(statuses.filter((status) => status >= 400 && status < 500).length).toBeGreaterThan(7);
  expect(statuses.filter((status) => status >= 500)).toEqual([]);
  expect(told(seen)).not.toContain(secret);
  expect(told(logged)).not.toContain(secret);
});

test("nor where the database fails, and says in its error what was sent", async () => {
  const failing = (failure: Error): Driver => ({
    name: "failing",
    query: () => Promise.reject(failure),
    script: () => Promise.reject(failure),
  });
  const dry = await through(failing(Object.assign(new Error("It cannot go on"), { code: "XX000" })));
  expect(dry.statuses.filter((status) => status === 500).length).toBeGreaterThan(5);
  expect(dry.seen.filter(({ type }) => type === "internal_error").length).toBeGreaterThan(5);
  expect(dry.logged.length).toBeGreaterThan(5);
  expect(told(dry.seen)).not.toContain(secret);
  expect(told(dry.logged)).not.toContain(secret);
  // What a database tells beside its message is not logged; its message is, unless that is not wanted.
  const around = {
    code: "XX000",
    detail: `Key (input)=(${secret})`,
    where: secret,
    query: secret,
    parameters: [secret],
  };
  const { logged } = await through(failing(Object.assign(new Error("It cannot", { cause: secret }), around)));
  expect(logged.length).toBeGreaterThan(5);
  expect(told(logged)).not.toContain(secret);
  const { quiet } = await through(failing(Object.assign(new Error(`invalid input: "${secret}"`), around)));
  expect(quiet.length).toBeGreaterThan(5);
  expect(told(quiet)).not.toContain(secret);
});
