/** Clients of streams that take too little, or leave. */

import { Hono } from "hono";
import { afterEach, expect, test, vi } from "vitest";
import { eventStream, OpenStreams } from "../../../adapters/hono/event-stream.ts";
import { createMailbox } from "../../../adapters/hono/mailbox.ts";

afterEach(() => void vi.useRealTimers());

/** A stream that tells numbers, as fast as they are taken. */
async function open() {
  const closed = vi.fn<() => void>();
  let told = 0;
  const app = new Hono();
  const source = { next: async () => ({ done: false as const, value: { event: "n", data: told++ } }) };
  app.get("/", (c) => eventStream(c, source, closed));
  const response = await app.request("/");
  return { app, closed, told: () => told, reader: response.body!.getReader() };
}

test("eventStream() asks for no more than its client takes", async () => {
  const { reader, told } = await open();
  for (let count = 1; count <= 3; count++) {
    await reader.read();
    expect(told()).toBe(count);
  }
  await reader.cancel();
});

test("eventStream() lets a client go that takes nothing for a minute", async () => {
  vi.useFakeTimers();
  const { reader, closed } = await open();
  await reader.read();
  await vi.advanceTimersByTimeAsync(59_000);
  expect(closed).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(closed).toHaveBeenCalledTimes(1);
  await expect(reader.read()).rejects.toThrow("its client takes nothing");
  expect(vi.getTimerCount()).toBe(0);
});

test("eventStream() is closed once when its client leaves, and leaves no timer", async () => {
  vi.useFakeTimers();
  const { reader, closed } = await open();
  await reader.read();
  await reader.cancel();
  expect(closed).toHaveBeenCalledTimes(1);
  expect(vi.getTimerCount()).toBe(0);
});

test("eventStream() lets a client go that never takes anything", async () => {
  vi.useFakeTimers();
  const { closed, told } = await open();
  await vi.advanceTimersByTimeAsync(59_000);
  expect(closed).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(2_000);
  expect([closed.mock.calls.length, told(), vi.getTimerCount()]).toEqual([1, 0, 0]);
});

test("eventStream() answers HEAD with the headers alone, and is closed at once", async () => {
  vi.useFakeTimers();
  const { app, closed, told } = await open();
  vi.clearAllTimers();
  const response = await app.request("/", { method: "HEAD" });
  expect([response.status, response.headers.get("content-type"), response.body]).toEqual([
    200,
    "text/event-stream",
    null,
  ]);
  expect([closed.mock.calls.length, told(), vi.getTimerCount()]).toEqual([1, 0, 0]);
});

test("eventStream() waits for its source once, however often it pings", async () => {
  vi.useFakeTimers();
  const pending = new Promise<never>(() => {});
  const then = vi.spyOn(pending, "then");
  const app = new Hono();
  app.get("/", (c) => eventStream(c, { next: () => pending }, () => {}));
  const reader = (await app.request("/")).body!.getReader();
  for (let ping = 0; ping < 10; ping++) {
    const read = reader.read();
    await vi.advanceTimersByTimeAsync(8_000);
    expect(new TextDecoder().decode((await read).value)).toBe(": ping\n\n");
  }
  expect(then).toHaveBeenCalledTimes(1);
  await reader.cancel();
  expect(vi.getTimerCount()).toBe(0);
});

test("OpenStreams refuses more than there may be, and counts each that leaves once", () => {
  const streams = new OpenStreams(2);
  const leave = streams.open();
  streams.open();
  expect(() => streams.open()).toThrow("There are 2 streams open");
  leave();
  leave();
  expect(streams.count).toBe(1);
});

test("createMailbox() keeps 10,000 for a client, and lets it go with the next one", async () => {
  const left = vi.fn<() => void>();
  const { put, taken } = createMailbox<string>(new AbortController().signal, left);
  put("first", 9_999);
  put("second", 1);
  expect(await taken.next()).toMatchObject({ value: "first" });
  put("third", 9_999);
  expect(left).not.toHaveBeenCalled();
  put("too many", 1);
  expect(left).toHaveBeenCalledTimes(1);
  await expect(taken.next()).rejects.toThrow("Cannot keep up: the client takes too little");
});

test("createMailbox() ends for whoever waits when its signal is aborted", async () => {
  const controller = new AbortController();
  const left = vi.fn<() => void>();
  const next = createMailbox(controller.signal, left).taken.next();
  controller.abort(new Error("gone"));
  await expect(next).rejects.toThrow("gone");
  expect(left).toHaveBeenCalledTimes(1);
});
