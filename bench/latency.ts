/**
 * Latency: from the reply to a push in one process to the start of the handler in another. On an idle worker beside
 * what one would write by hand; then with sixteen pushers, of whose pushes a tenth is inside longer transactions.
 */
import { median, percentile, type Ratio, ratioOfRounds } from "./figures.ts";
import { clear, type Ground } from "./ground.ts";
import { startProgram } from "./program.ts";

const pushes = 200;
const busyMs = 15_000;
const limitMs = 120_000;

export async function latency(ground: Ground): Promise<Ratio[]> {
  const { progress, rounds } = ground;
  progress.expect(2 * rounds);
  const idle: number[] = [];
  const whole: number[] = [];
  const busy: number[] = [];
  for (let round = 0; round < rounds; round++) {
    progress.step(`latency, round ${round + 1}: idle worker`);
    const { ours, bare } = await onIdleWorkers(ground);
    idle.push(median(ours.afterReply) / median(bare.afterReply));
    whole.push(median(ours.whole) / median(bare.whole));
    progress.step(`latency, round ${round + 1}: sixteen pushers, a tenth in transactions`);
    busy.push(await amongTransactions(ground));
  }
  return [
    ratioOfRounds("latency, idle: reply to start / bare insert, notify, claim", idle, { atMost: 2 }),
    ratioOfRounds("latency, idle: push to start / bare, notified within the insert", whole),
    ratioOfRounds("latency, sixteen pushers: 99th percentile / median", busy, { atMost: 10 }),
  ];
}

async function onIdleWorkers(ground: Ground) {
  const { sql, url, progress } = ground;
  await clear(ground);
  await sql`drop schema if exists bare cascade`;
  await sql`create schema bare`;
  await sql`
    create table bare.command (
      id int primary key generated always as identity,
      input json not null,
      leased_until timestamptz not null default '-infinity'
    )`;
  const ours = startProgram("programs/start-orchestratum.ts", [url], limitMs);
  const bare = startProgram("programs/start-hand-written.ts", [url], limitMs);
  await Promise.all([ours.ready, bare.ready]);
  const pushed = await startProgram("programs/push-in-turn.ts", [url, String(pushes)], limitMs).result;
  const starts = new Map([
    ...((await ours.ask()) as [number, number][]),
    ...((await bare.ask()) as [number, number][]),
  ]);

  const afterReply: Record<string, number[]> = {};
  const whole: Record<string, number[]> = {};
  for (const [name, key, before, replied] of pushed as [string, number, number, number][]) {
    const start = starts.get(key);
    if (start === undefined) throw new Error(`Cannot measure latency: command ${key} of ${name} was not started`);
    (afterReply[name] ??= []).push(start - replied);
    (whole[name] ??= []).push(start - before);
  }
  for (const [name, values] of Object.entries(afterReply)) {
    const ms = [median(values), percentile(values, 0.99), median(whole[name] as number[])].map((value) =>
      value.toFixed(2),
    );
    progress.say(`${name}: reply to start ${ms[0]} ms, 99th percentile ${ms[1]} ms; push to start ${ms[2]} ms`);
  }
  return {
    ours: { afterReply: afterReply.orchestratum as number[], whole: whole.orchestratum as number[] },
    bare: { afterReply: afterReply.bare as number[], whole: whole["bare, notified within"] as number[] },
  };
}

async function amongTransactions(ground: Ground): Promise<number> {
  const { url, progress } = ground;
  await clear(ground);
  const worker = startProgram("programs/start-orchestratum.ts", [url], limitMs);
  await worker.ready;
  const pushed = await startProgram("programs/push-among-transactions.ts", [url, String(busyMs)], limitMs).result;
  const starts = new Map((await worker.ask()) as [number, number][]);
  const others: number[] = [];
  const within: number[] = [];
  for (const [key, replied, inside] of pushed as [number, number, boolean][]) {
    const start = starts.get(key);
    if (start === undefined) throw new Error(`Cannot measure latency: command ${key} was not started`);
    // A start that overtakes the reply of its own push took no time.
    (inside ? within : others).push(Math.max(0, start - replied));
  }
  for (const [name, values] of Object.entries({ others, "within transactions": within })) {
    const ms = [median(values), percentile(values, 0.99), Math.max(...values)].map((value) => value.toFixed(2));
    progress.say(`${name} (${values.length}): median ${ms[0]} ms, 99th percentile ${ms[1]} ms, longest ${ms[2]} ms`);
  }
  return percentile(others, 0.99) / median(others);
}
