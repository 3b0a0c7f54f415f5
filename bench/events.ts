/**
 * Events: how fast they are published, delivered, appended, placed in the log and read. What the machine does besides meets
 * the two sides of a ratio alike: they take turns, and ratios are taken within the round. CPU seconds are of client and server.
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type postgres from "postgres";
import { postgresJs } from "../adapters/postgres-js.ts";
import { createDatabase } from "../src/database.ts";
import { createOrchestrator, subscribe, systemClock } from "../src/index.ts";
import { createLogReader } from "../src/read-log.ts";
import { median, type Ratio, ratioOfRounds } from "./figures.ts";
import type { Ground } from "./ground.ts";
import { startProgram } from "./program.ts";
import { pause, type Taken } from "./programs/parent.ts";
import { orderOf, orderPlaced, placeOrder } from "./programs/shop-event.ts";
import { serverCpuSeconds } from "./server-cpu.ts";

const published = 20_000;
const delivered = 60_000;
const limitMs = 120_000;

/** Of so many subscriptions that are stored, so many match. */
const audiences = [
  { matching: 0, stored: 0 },
  { matching: 0, stored: 10 },
  { matching: 0, stored: 1_000 },
  { matching: 1, stored: 10 },
  { matching: 1, stored: 1_000 },
  { matching: 10, stored: 10 },
  { matching: 10, stored: 1_000 },
] as const;

/** In history a correlation id is in an index, so commands that have one are what deliveries are like. */
const drained = ["deliveries", "commands", "commands with a correlation id"] as const;

/** What a store does, and how many events one measurement takes: a second or more of it, and long enough to be compiled. */
const doings = [
  { what: "append", named: "append, one at a time", count: 32_000 },
  { what: "append-100", named: "append, 100 at a time", count: 160_000 },
  { what: "place", named: "place", count: 160_000 },
  { what: "read-all", named: "read all", count: 160_000 },
] as const;

/** Rates and CPU seconds per million, round by round. */
interface Figures {
  readonly rates: number[];
  readonly costs: number[];
}

type Figure = (name: string) => Figures;

export async function events(ground: Ground): Promise<Ratio[]> {
  const { progress, rounds, sql } = ground;
  const known = new Map<string, Figures>();
  const figure: Figure = (name) => {
    const figures = known.get(name) ?? { rates: [], costs: [] };
    known.set(name, figures);
    return figures;
  };
  progress.expect(rounds * (audiences.length + drained.length + 2 * doings.length));
  await sql.unsafe(readFileSync(new URL("bare/events.sql", import.meta.url), "utf8"));
  for (let round = 0; round < rounds; round++) {
    for (const audience of turned(audiences, round)) await publishing(ground, audience, figure);
    for (const what of turned(drained, round)) await draining(ground, what, figure);
    for (const who of turned(["library", "bare"] as const, round)) await storing(ground, who, figure);
  }
  for (const [name, { rates, costs }] of known) {
    progress.say(`median ${Math.round(median(rates))}/s, ${median(costs).toFixed(0)} s of CPU a million: ${name}`);
  }

  /** How many of `one` in the time of `other`; and in the same processor time. */
  const ratios = (what: string, one: string, other: string, wanted?: Ratio["wanted"]): Ratio[] => {
    const [a, b] = [figure(one), figure(other)];
    const rates = a.rates.map((rate, round) => rate / (b.rates[round] as number));
    const costs = a.costs.map((cost, round) => (b.costs[round] as number) / cost);
    return [ratioOfRounds(what, rates, wanted), ratioOfRounds(`${what}, by CPU seconds`, costs)];
  };
  const [none, ...others] = audiences.map(nameOf) as [string, ...string[]];
  return [
    ...others.flatMap((name) => ratios(`events, ${name} / ${none}`, name, none)),
    ...ratios("events: deliveries / plain commands", "drain: deliveries", "drain: commands", { atLeast: 0.8 }),
    ...ratios(
      "events: deliveries / commands with a correlation id",
      "drain: deliveries",
      "drain: commands with a correlation id",
    ),
    ...doings.flatMap(({ named }) =>
      ratios(`events: ${named}, orchestratum / bare`, `${named}: library`, `${named}: bare`, { atLeast: 0.7 }),
    ),
  ];
}

type Audience = (typeof audiences)[number];

const nameOf = ({ matching, stored }: Audience) => `published to ${matching} of ${stored} subscriptions`;

/** The same things, beginning with another one each round. */
const turned = <Thing>(things: readonly Thing[], round: number): Thing[] => {
  const shift = round % things.length;
  return [...things.slice(shift), ...things.slice(0, shift)];
};

async function publishing(ground: Ground, audience: Audience, figure: Figure): Promise<void> {
  ground.progress.step(nameOf(audience));
  await clear(ground);
  const { matching, stored } = audience;
  await store(ground, [
    ...Array.from({ length: matching }, (_, i) => [`matching-${i}`, orderPlaced.topic] as const),
    ...Array.from({ length: stored - matching }, (_, i) => [`other-${i}`, `shop.other_${i}.#`] as const),
  ]);
  await measure(ground, figure(nameOf(audience)), published, "programs/publish-events.ts", []);
  await requireCount(ground, "event", published);
  await requireCount(ground, "command", published * matching);
}

async function draining(ground: Ground, what: (typeof drained)[number], figure: Figure): Promise<void> {
  const { progress, sql } = ground;
  progress.step(`drain: ${what}`);
  await clear(ground);
  const orchestrator = createOrchestrator({ database: postgresJs(sql), commands: [placeOrder] });
  if (what === "deliveries") await store(ground, [["bench", orderPlaced.topic]]);
  for (let i = 0; i < delivered; i += 1_000) {
    const orders = Array.from({ length: 1_000 }, (_, j) => orderOf(i + j));
    if (what === "deliveries") await orchestrator.publish(orders.map((order) => orderPlaced(order)));
    else if (what === "commands") await orchestrator.push(orders.map((order) => placeOrder(order)));
    else
      await orchestrator.push(orders.map((order) => placeOrder(order, { metadata: { correlationId: randomUUID() } })));
  }
  // Who drains would place the events in the log meanwhile: that is measured by itself.
  const log = createLogReader(
    createDatabase(postgresJs(sql), "orchestratum", systemClock, () => {}),
    systemClock,
  );
  while ((await log.place()).count > 0);
  await orchestrator.stop();
  await settle(sql);
  await measure(ground, figure(`drain: ${what}`), delivered, "programs/drain-deliveries.ts", [what]);
  await requireCount(ground, "command", 0);
  await requireCount(ground, "history", delivered);
}

/** Everything that one of the two does, in order: what is read was placed before, and what is placed appended. */
async function storing(ground: Ground, who: "library" | "bare", figure: Figure): Promise<void> {
  const schema = who === "library" ? "orchestratum" : "bare";
  for (const { what, named, count } of doings) {
    ground.progress.step(`${named}: ${who}`);
    // Placing goes on with what was appended, reading with what was placed.
    if (what.startsWith("append")) await clear(ground);
    await measure(ground, figure(`${named}: ${who}`), count, "programs/event-store.ts", [who, what]);
    if (what.startsWith("append")) await requireCount(ground, "event", count, schema);
    if (what === "place") await requireCount(ground, "event_position", count, schema);
    if (what !== "append") await settle(ground.sql);
  }
}

async function measure(
  { sql, url, progress }: Ground,
  { rates, costs }: Figures,
  count: number,
  program: string,
  args: readonly string[],
): Promise<void> {
  const before = await serverCpuSeconds(sql);
  const taken = (await startProgram(program, [url, String(count), ...args], limitMs).result) as Taken;
  // What the server's processes for it have taken is sure only when they have ended.
  await pause(300);
  const after = await serverCpuSeconds(sql);
  const server = before === undefined || after === undefined ? 0 : after - before;
  const rate = count / taken.seconds;
  rates.push(rate);
  costs.push(((taken.cpuSeconds + server) / count) * 1e6);
  progress.say(
    `${Math.round(rate)}/s, client and server ${taken.cpuSeconds.toFixed(2)} + ${server.toFixed(2)} s of CPU`,
  );
}

async function store({ sql }: Ground, subscriptions: readonly (readonly [name: string, to: string])[]): Promise<void> {
  const orchestrator = createOrchestrator({ database: postgresJs(sql) });
  for (const [name, to] of subscriptions) {
    await orchestrator.addSubscription(subscribe({ name, to, handler: () => {} }));
  }
  await orchestrator.stop();
}

/** Nothing of what was measured before is left. */
async function clear({ sql }: Ground): Promise<void> {
  for (const schema of ["orchestratum", "bare"]) {
    await sql.unsafe(`
      truncate ${schema}.event, ${schema}.event_position, ${schema}.event_inbox, ${schema}.stream;
      update ${schema}.event_head set position = 0`);
  }
  await sql.unsafe(`
    truncate orchestratum.command, orchestratum.history, orchestratum.duty;
    truncate orchestratum.subscription, orchestratum.subscription_pattern`);
  await settle(sql);
}

async function settle(sql: postgres.Sql): Promise<void> {
  for (const table of ["orchestratum.command", "orchestratum.event_inbox", "bare.event_inbox"]) {
    await sql.unsafe(`vacuum analyze ${table}`);
  }
  await sql`checkpoint`;
}

/** Who leaves something undone would be the fastest. */
async function requireCount({ sql }: Ground, table: string, wanted: number, schema = "orchestratum"): Promise<void> {
  const [row] = await sql.unsafe(`select count(*)::int as count from ${schema}.${table}`);
  if (row?.count !== wanted) throw new Error(`Cannot count this: ${table} has ${row?.count} rows, not ${wanted}`);
}
