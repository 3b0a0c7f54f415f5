/** What streams share: feeds that ask the database once a second, however many follow, and what ends them. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { createEndedFeed } from "../../../adapters/hono/ended-feed.ts";
import { createLogFeed } from "../../../adapters/hono/log-feed.ts";
import { router } from "../../../adapters/hono/router.ts";
import type { Orchestrator } from "../../../src/index.ts";
import { onceASecond } from "./once-a-second.ts";
import { authorise, createSite, noted, openSite, type Site, wait } from "./site.ts";

let site: Awaited<ReturnType<typeof openSite>>;
beforeAll(async () => {
  site = await openSite();
});
afterAll(() => site[Symbol.asyncDispose]());

const seconds = (count: number) => new Promise<void>((resolve) => setTimeout(resolve, count * 1_000));

/** The orchestrator, with a look at what it is asked, before it is. */
function watched(
  orchestrator: Orchestrator,
  asked: (method: "list" | "readAll") => void | Promise<void>,
): Orchestrator {
  return Object.assign(Object.create(orchestrator), {
    list: async (...given: Parameters<Orchestrator["list"]>) => (await asked("list"), orchestrator.list(...given)),
    readAll: async (...given: Parameters<Orchestrator["readAll"]>) => (
      await asked("readAll"), orchestrator.readAll(...given)
    ),
  });
}

async function ended(): Promise<string> {
  const { id } = await site.orchestrator.push(wait());
  await site.orchestrator.cancel(id);
  return id;
}

/** Collects the data of a stream's events until it ends, which `over` tells. */
function follow(response: Response) {
  const events: { event: string; data: any; id: string | undefined }[] = [];
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const over = (async () => {
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const lines = text.slice(0, end).split("\n");
        text = text.slice(end + 2);
        const field = (name: string) => lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        const event = field("event");
        if (event) events.push({ event, data: JSON.parse(field("data") ?? "null"), id: field("id") });
      }
    }
  })();
  over.catch(() => {});
  return { events, over, cancel: () => reader.cancel() };
}

const open = async (path: string, { app, request }: Pick<Site, "app" | "request"> = site, headers = {}) => {
  const response = await app.request(request(`GET ${path}`, { headers: { Accept: "text/event-stream", ...headers } }));
  expect(response.status).toBe(200);
  return follow(response);
};

const publish = async (data: number): Promise<void> => {
  await site.orchestrator.publish(noted(data));
};

test("who follows the log from beyond its end leaves the others together", async () => {
  let asked = 0;
  const feed = createLogFeed(watched(site.orchestrator, () => void asked++));
  const controller = new AbortController();
  await publish(0);
  const after = [999_999_999_999_999, 0, 0, 0, 0, 0];
  const seen: unknown[][] = after.map(() => []);
  for (const [index, position] of after.entries()) {
    // One after the other: the first one is from beyond the end.
    const events = await feed.follow(controller.signal, position, []);
    void (async () => {
      for (;;) for (const { data } of (await events.next()).value) seen[index]?.push(data);
    })().catch(() => {});
  }
  await expect.poll(() => seen.map((one) => one.length), { timeout: 10_000 }).toEqual([0, 1, 1, 1, 1, 1]);
  await seconds(1.5);
  await onceASecond(() => asked);
  for (const data of [1, 2, 3]) await publish(data);
  await expect.poll(() => seen[5], { timeout: 10_000 }).toEqual([0, 1, 2, 3]);
  await seconds(1.5);
  expect(seen).toEqual([[], ...Array.from({ length: 5 }, () => [0, 1, 2, 3])]);
  controller.abort(new Error("enough"));
});

test("who joins while the log is read for somebody beyond its end misses nothing", async () => {
  let asked = 0;
  let arrive = (): void => {};
  let release = (): void => {};
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const feed = createLogFeed(
    watched(site.orchestrator, async () => {
      // The first one is the follower's own, the second one the poller's.
      if (++asked !== 2) return;
      arrive();
      await released;
    }),
  );
  const controller = new AbortController();
  await feed.follow(controller.signal, 999_999_999_999_999, []);
  await arrived;
  await publish(4);
  const events = await feed.follow(controller.signal, 0, []);
  const seen = (await events.next()).value.map(({ data }: { data: unknown }) => data);
  expect(seen.at(-1)).toBe(4);
  release();
  await publish(5);
  const next = events.next();
  const late = seconds(10).then(() => "nothing came");
  expect(
    await Promise.race([next.then(({ value }) => value.map(({ data }: { data: unknown }) => data)), late]),
  ).toEqual([5]);
  controller.abort(new Error("enough"));
});

test("a catch-up that fails lets down nobody but who asked for it", async () => {
  let fails = false;
  const feed = createEndedFeed(
    watched(site.orchestrator, () => {
      if (fails) throw new Error("no connection");
    }),
  );
  const controller = new AbortController();
  await ended();
  const first = await feed.watch(controller.signal);
  fails = true;
  const catchingUp = feed.watch(controller.signal, new Date(Date.now() - 60_000));
  await expect(catchingUp).rejects.toThrow("no connection");
  fails = false;
  const id = await ended();
  const second = await feed.watch(controller.signal);
  const told = (await first.next()).value.commands.map((one: { id: string }) => one.id);
  expect(told).toEqual([id]);
  const next = await ended();
  // What ended just before it joined may come first.
  const others: string[] = [];
  while (!others.includes(next)) {
    others.push(...(await second.next()).value.commands.map((one: { id: string }) => one.id));
  }
  controller.abort(new Error("enough"));
});

test("a feed begins anew after its beginning has failed", async () => {
  let fails = true;
  const feed = createEndedFeed(
    watched(site.orchestrator, () => {
      if (fails) throw new Error("no connection");
    }),
  );
  const controller = new AbortController();
  const failing = [feed.watch(controller.signal), feed.watch(controller.signal)];
  for (const one of failing) await expect(one).rejects.toThrow("no connection");
  fails = false;
  const watching = await feed.watch(controller.signal);
  const id = await ended();
  expect((await watching.next()).value.commands.map((one: { id: string }) => one.id)).toEqual([id]);
  controller.abort(new Error("enough"));
});

test("routers of one orchestrator ask together", async () => {
  const asked = { list: 0, readAll: 0 };
  const orchestrator = watched(site.orchestrator, (method) => void asked[method]++);
  const apps = [1, 2, 3].map(() => router(orchestrator, { authorise }));
  const streams = [];
  for (const app of apps) {
    const other = { app, request: site.request };
    streams.push(await open("/stream", other), await open("/events?after=999999", other));
  }
  await Promise.all([onceASecond(() => asked.list), onceASecond(() => asked.readAll)]);
  for (const { cancel } of streams) await cancel();
});

test("GET /stream takes up from a time with any offset, and refuses what is none", async () => {
  const id = await ended();
  const minuteAgo = Date.now() - 60_000;
  const offset = 2 * 3_600_000;
  const local = new Date(minuteAgo + offset).toISOString().replace("Z", "+02:00");
  const stream = await open(`/stream?since=${encodeURIComponent(local)}`);
  await seconds(0.5);
  const later = await ended();
  const ids = () => stream.events.map(({ data }) => data.id);
  await expect.poll(ids, { timeout: 10_000 }).toContain(later);
  expect(ids()).toContain(id);
  await stream.cancel();
  for (const query of ["since=yesterday", "since=2026-01-01T00:00:00%2B02", "since=2026-01-01", "until=2026-01-01"]) {
    expect((await site.ask(`GET /stream?${query}`)).status, query).toBe(400);
  }
});

test("GET /commands/:id/stream is over for who saw this end, and not for who saw an earlier one", async () => {
  const id = await ended();
  const read = async (headers = {}) => {
    const { events, over } = await open(`/commands/${id}/stream`, site, headers);
    await over;
    return events;
  };
  const [first] = await read();
  expect([first?.data.status, first?.id]).toEqual(["cancelled", expect.stringMatching(/^over\./)]);
  const last = { "Last-Event-ID": first?.id as string };
  expect((await site.ask(`GET /commands/${id}/stream`, { headers: last })).status).toBe(204);
  await site.orchestrator.retry(id);
  const again = await open(`/commands/${id}/stream`, site, last);
  await expect.poll(() => again.events.map(({ data }) => data.status), { timeout: 10_000 }).toEqual(["pending"]);
  await site.orchestrator.cancel(id);
  await again.over;
  expect(again.events.at(-1)?.data.status).toBe("cancelled");
  // It ended once more while this client was away.
  expect((await read(last)).map(({ data }) => data.status)).toEqual(["cancelled"]);
});

test("stop() ends every stream, and none can be opened after it", async () => {
  const asked = { list: 0, readAll: 0 };
  await using other = createSite(site.driver);
  const app = router(
    watched(other.orchestrator, (method) => void asked[method]++),
    { authorise },
  );
  const { id } = await other.orchestrator.push(wait());
  const paths = ["/stream", "/events", "/events?after=999999999", `/commands/${id}/stream`];
  const streams = await Promise.all(paths.map((path) => open(path, { app, request: other.request })));
  await seconds(1.5);
  await other.orchestrator.stop();
  const ends = Promise.all(streams.map(({ over }) => over.catch(() => {})));
  expect(await Promise.race([ends.then(() => "ended"), seconds(10).then(() => "open")])).toBe("ended");
  const before = { ...asked };
  await seconds(2.5);
  expect(asked).toEqual(before);
  for (const path of paths) {
    const { status, headers } = await app.request(
      other.request(`GET ${path}`, { headers: { Accept: "text/event-stream" } }),
    );
    expect([status, headers.get("retry-after")], path).toEqual([503, "1"]);
  }
});
