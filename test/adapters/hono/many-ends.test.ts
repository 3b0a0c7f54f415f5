/** GET /stream where thousands of commands end within seconds: more than one read of the feed takes. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { postgresJs } from "../../../adapters/postgres-js.ts";
import { createDatabase, type Database } from "../../database.ts";
import { createSite, type Site, wait } from "./site.ts";

let database: Database;
let site: Site;
beforeAll(async () => {
  database = await createDatabase({ max: 8 });
  site = createSite(postgresJs(database.sql));
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await database.drop();
});

/** Of a burst: six pages of a read, and of two within the overlap more than it has. */
const burst = 6_000;

async function pushBurst(queue: string): Promise<string[]> {
  const ids: string[] = [];
  for (let first = 0; first < burst; first += 1_000) {
    const commands = Array.from({ length: 1_000 }, (_, index) => wait(first + index, { queue }));
    for (const { id } of await site.orchestrator.push(commands)) ids.push(id);
  }
  return ids;
}

/** Reads a stream for as long as it is asked to. */
function follow(response: Response) {
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const events: { event: string; id: string }[] = [];
  let text = "";
  return {
    events,
    cancel: () => reader.cancel(),
    async until(count: number): Promise<void> {
      while (events.length < count) {
        const { done, value } = await reader.read();
        if (done) throw new Error("The stream has ended");
        text += value;
        for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
          const part = text.slice(0, end);
          text = text.slice(end + 2);
          if (part.startsWith(":")) continue;
          const [, event = "", data = ""] = /^event: (\w+)\n(?:id: .*\n)?data: (.*)$/.exec(part) ?? [];
          events.push({ event, id: JSON.parse(data).id });
        }
      }
    },
  };
}

test("GET /stream tells all of many thousand that end at once, each of them once, and says that it left out none", async () => {
  const bursts = [await pushBurst("burst-1"), await pushBurst("burst-2")];
  const open = async () => follow(await site.app.request(site.request("GET /stream")));
  const streams = [await open(), await open()];
  let wanted = 0;
  for (const [index] of bursts.entries()) {
    const filter = { queue: `burst-${index + 1}`, status: ["pending"] };
    const { json } = await site.ask("POST /commands/cancel", { body: { filter } });
    expect(json).toMatchObject({ count: burst, busy: 0 });
    wanted += burst;
    await Promise.all(streams.map((stream) => stream.until(wanted)));
  }
  // Two reads later, which find most of them once more, there is one that ends the looking.
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  const last = await site.orchestrator.push(wait());
  await site.orchestrator.cancel(last.id);
  for (const stream of streams) {
    await stream.until(wanted + 1);
    expect(stream.events.filter(({ event }) => event !== "ended")).toEqual([]);
    expect(stream.events.at(-1)?.id).toBe(last.id);
    expect(new Set(stream.events.map(({ id }) => id))).toEqual(new Set([...bursts.flat(), last.id]));
    expect(stream.events).toHaveLength(wanted + 1);
    await stream.cancel();
  }
}, 120_000);

test("GET /stream says that it left some out where more end at once than one read takes", async () => {
  const stream = follow(await site.app.request(site.request("GET /stream")));
  // As if the two bursts had ended once more, and in one moment.
  const { count } = await database.sql`update orchestratum.history set finished_at = clock_timestamp()`;
  expect(count).toBeGreaterThan(10_000);
  await stream.until(10_001);
  expect(stream.events[0]?.event).toBe("skipped");
  expect(new Set(stream.events.slice(1).map(({ id }) => id)).size).toBe(10_000);
  await stream.cancel();
});
