/**
 * GET /metrics by the rules of Prometheus' text format 0.0.4, and by those of good names, which its linter has: a counter
 * ends in `_total`, a unit is a base unit and stands last, `quantile` is a summary's alone.
 */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openSite } from "./site.ts";

let site: Awaited<ReturnType<typeof openSite>>;
beforeAll(async () => {
  site = await openSite();
});
afterAll(() => site[Symbol.asyncDispose]());

interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: { readonly labels: Readonly<Record<string, string>>; readonly value: number }[];
}

const metricName = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const float = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?$|^NaN$|^[+-]Inf$/;
/** Of units that are no base units, or are shortened. */
const oddUnits =
  /_(?:ms|us|ns|s|sec|secs|min|h|d|milliseconds|microseconds|minutes|hours|days|weeks|kilobytes|percent)(?:_|$)/;

/** Reads the format as strictly as it can be read, and throws where it is another. */
function parse(text: string): Family[] {
  const families: Family[] = [];
  const series = new Set<string>();
  if (!text.endsWith("\n") || text.includes("\r")) throw new Error("Each line ends in a line feed, the last one too");
  const lines = text.slice(0, -1).split("\n");
  for (let index = 0; index < lines.length; index++) {
    const line = lines[index] as string;
    const [, helped, help] = /^# HELP (\S+) (.+)$/.exec(line) ?? [];
    if (helped !== undefined) {
      const [, typed, type] =
        /^# TYPE (\S+) (counter|gauge|histogram|summary|untyped)$/.exec(lines[++index] ?? "") ?? [];
      if (typed !== helped) throw new Error(`No TYPE behind the HELP of ${helped}`);
      if (!metricName.test(helped) || families.some(({ name }) => name === helped)) throw new Error(`Name: ${helped}`);
      if (/\\(?![\\n])/.test(help as string)) throw new Error(`A help with a wrong escape: ${help}`);
      families.push({ name: helped, type: type as string, help: help as string, samples: [] });
      continue;
    }
    const family = families.at(-1);
    const [, name, rest = ""] = /^([^{ ]+)(.*)$/.exec(line) ?? [];
    if (family === undefined || name !== family.name) throw new Error(`A sample apart from its family: ${line}`);
    const { labels, behind } = readLabels(rest);
    const [, value] = /^ (\S+)$/.exec(behind) ?? [];
    if (value === undefined || !float.test(value)) throw new Error(`No value: ${line}`);
    const key = JSON.stringify([name, Object.entries(labels).toSorted()]);
    if (series.has(key)) throw new Error(`A series that is there twice: ${line}`);
    series.add(key);
    family.samples.push({ labels, value: Number(value) });
  }
  return families;
}

function readLabels(text: string): { labels: Record<string, string>; behind: string } {
  const labels: Record<string, string> = {};
  if (!text.startsWith("{")) return { labels, behind: text };
  let behind = text.slice(1);
  while (!behind.startsWith("}")) {
    const [whole, name = "", value = ""] =
      /^([a-zA-Z_]\w*)="((?:[^"\\]|\\[\\"n])*)"(?:,(?!\})|(?=\}))/.exec(behind) ?? [];
    if (whole === undefined) throw new Error(`No label: ${behind}`);
    if (name.startsWith("__") || name in labels) throw new Error(`A label's name: ${name}`);
    labels[name] = value.replaceAll(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped));
    behind = behind.slice(whole.length);
  }
  return { labels, behind: behind.slice(1) };
}

async function metrics(): Promise<Map<string, Family>> {
  const { status, headers, text } = await site.ask("GET /metrics");
  expect([status, headers.get("content-type")]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  return new Map(parse(text).map((family) => [family.name, family]));
}

/** The value of a series; undefined where there is none. */
const valueOf = (families: Map<string, Family>, name: string, wanted: Record<string, string>): number | undefined =>
  families
    .get(name)
    ?.samples.find(({ labels }) => JSON.stringify(Object.entries(labels)) === JSON.stringify(Object.entries(wanted)))
    ?.value;

const oddQueue = 'q"\\\\n<b>ü';

test("GET /metrics is well-formed, and well named, whatever queues are called", async () => {
  for (const queue of [oddQueue, "default"]) await site.ask("POST /commands", { body: { name: "wait", queue } });
  await site.ask("POST /commands", { body: { name: "add", input: { a: 1 } } });
  await site.orchestrator.tick();
  await expect
    .poll(async () => valueOf(await metrics(), "orchestratum_live_commands", { queue: oddQueue, status: "pending" }), {
      timeout: 10_000,
    })
    .toBe(1);
  const families = [...(await metrics()).values()];
  expect(families.length).toBeGreaterThan(5);
  const told = readFileSync(new URL("../../../docs/http.md", import.meta.url), "utf8");
  for (const { name, type, help, samples } of families) {
    expect(told).toContain(`| \`${name.replace("_name_", "_")}\` `);
    expect(name).toMatch(/^orchestratum_/);
    expect(help, name).toMatch(/^[A-Z].*\.$/);
    expect(name.endsWith("_total"), `${name} is a ${type}`).toBe(type === "counter");
    expect(name).not.toMatch(oddUnits);
    expect(name).not.toMatch(/_(?:count|sum|bucket|info)$/);
    if (name.includes("seconds")) expect(name).toMatch(/_seconds$/);
    for (const { labels, value } of samples) {
      expect(Object.keys(labels)[0], name).toBe(name.startsWith("orchestratum_name_") ? "name" : "queue");
      expect("quantile" in labels, `${name} is a ${type}`).toBe(type === "summary");
      expect("le" in labels).toBe(false);
      expect(value, name).toBeGreaterThanOrEqual(0);
    }
  }
});

test("GET /metrics has depths, the oldest that is due and times, by queue and by name, as /stats has them, in seconds", async () => {
  const hourAgo = new Date(Date.now() - 3_600_000).toISOString();
  await site.ask("POST /commands", { body: { name: "wait", queue: "deep", runAt: hourAgo } });
  await site.ask("POST /commands", { body: { name: "wait", queue: "deep", delayMs: 3_600_000 } });
  await site.ask("POST /commands", { body: { name: "add", input: { a: 1 } } });
  await site.orchestrator.tick();
  await expect
    .poll(
      async () => {
        // What has ended is counted by a duty, which takes its time.
        await site.driver.query("select f.more from orchestratum.fold_history(0) f", []);
        const labels = { queue: "default", status: "succeeded" };
        return valueOf(await metrics(), "orchestratum_ended_commands_last_day", labels);
      },
      { timeout: 10_000 },
    )
    .toBeGreaterThan(0);
  const families = await metrics();
  for (const status of ["scheduled", "pending"])
    expect(valueOf(families, "orchestratum_live_commands", { queue: "deep", status })).toBe(1);
  const { json } = await site.ask("GET /stats");
  for (const [kind, key, figures] of [
    ["", "queue", json.queues],
    ["name_", "name", json.names],
  ] as const) {
    expect(figures.length).toBeGreaterThan(1);
    for (const one of figures) {
      const value = (metric: string, more: Record<string, string> = {}) =>
        valueOf(families, `orchestratum_${kind}${metric}`, { [key]: one[key], ...more });
      for (const status of ["scheduled", "pending", "running"])
        expect(value("live_commands", { status })).toBe(one[status]);
      for (const [status, count] of [
        ["succeeded", one.finished],
        ["failed", one.failed],
        ["cancelled", one.cancelled],
      ])
        expect(value("ended_commands_last_day", { status })).toBe(count);
      for (const [metric, durations] of [
        ["waiting_last_day_seconds", one.waiting],
        ["execution_last_day_seconds", one.execution],
      ]) {
        for (const [quantile, ms] of [
          ["0.5", durations?.p50Ms],
          ["0.95", durations?.p95Ms],
          ["0.99", durations?.p99Ms],
        ]) {
          expect(value(metric, { quantile })).toBe(ms === undefined ? undefined : ms / 1_000);
        }
      }
      const oldest = value("oldest_pending_seconds");
      if (one.oldestDueAt === undefined) expect(oldest).toBe(undefined);
      else expect(oldest).toBeGreaterThanOrEqual(0);
    }
  }
  const oldest = valueOf(families, "orchestratum_oldest_pending_seconds", { queue: "deep" });
  // An hour and however long the test has taken, which is no hour.
  expect(oldest).toBeGreaterThanOrEqual(3_600);
  expect(oldest).toBeLessThan(7_200);
  expect(
    valueOf(families, "orchestratum_execution_last_day_seconds", { queue: "default", quantile: "0.5" }),
  ).toBeDefined();
});
