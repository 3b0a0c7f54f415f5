import * as v from "valibot";
import { expect, test } from "vitest";
import { defineCommand } from "../src/define-command.ts";
import { cancel, type Handler, handlersOf, isCancel, isHandler, isSnooze, snooze } from "../src/handler.ts";

const send = defineCommand({ name: "send", input: v.object({ to: v.string() }) });
const ping = defineCommand({ name: "ping" });

test("handle() gives a frozen handler of its contract, with the hooks that were given", () => {
  const run = () => "sent";
  const onSuccess = () => [ping()];
  const handler = send.handle(run, { onSuccess });
  expect(handler).toMatchObject({ contract: send, run, onSuccess, onFailure: undefined, onCancellation: undefined });
  expect(isHandler(handler)).toBe(true);
  expect(Object.isFrozen(handler)).toBe(true);
});

test("handle() refuses what is no function, and hooks that do not exist", () => {
  const handle = send.handle as (run: unknown, options?: unknown) => Handler;
  expect(() => handle(undefined)).toThrow(
    new TypeError('Cannot handle command "send": the handler must be a function, got undefined'),
  );
  expect(() => handle(() => {}, { onFailure: [] })).toThrow(
    'Cannot handle command "send": onFailure must be a function, got an array',
  );
  expect(() => handle(() => {}, { onError: () => {} })).toThrow(
    'there is no option "onError", only onSuccess, onFailure, onCancellation, middleware',
  );
});

test("handlersOf() takes a list", () => {
  const handlers = [send.handle(() => {}), ping.handle(() => {})];
  expect(handlersOf(handlers)).toEqual(handlers);
  expect(handlersOf([])).toEqual([]);
});

test("handlersOf() takes the handlers among a module's exports", () => {
  const sendHandler = send.handle(() => {});
  const pingHandler = ping.handle(() => {});
  const module = Object.assign(Object.create(null), {
    send,
    sendHandler,
    helper: () => 1,
    limit: 5,
    pingHandler,
    none: null,
  });
  expect(handlersOf(module)).toEqual([sendHandler, pingHandler]);
});

test("handlersOf() counts a handler once that it meets twice", () => {
  const handler = send.handle(() => {});
  expect(handlersOf({ handler, default: handler })).toEqual([handler]);
  expect(handlersOf([handler, handler])).toEqual([handler]);
});

test("handlersOf() refuses two handlers of one name and version, and names both", () => {
  const twice = () =>
    handlersOf({ first: send.handle(() => {}), other: ping.handle(() => {}), second: send.handle(() => {}) });
  expect(twice).toThrow(TypeError);
  expect(twice).toThrow('Cannot register handlers: "send" version 1 has two, export "first" and export "second"');
  expect(() => handlersOf([send.handle(() => {}), send.handle(() => {})])).toThrow(
    'Cannot register handlers: "send" version 1 has two, number 0 of the list and number 1 of the list',
  );
});

test("handlersOf() takes two versions of one name", () => {
  const next = defineCommand({ name: "send", version: 2 });
  expect(handlersOf([send.handle(() => {}), next.handle(() => {})])).toHaveLength(2);
});

test("handlersOf() refuses a module without handlers, and a list with something else in it", () => {
  expect(() => handlersOf({ send, limit: 5 })).toThrow(
    new TypeError("Cannot register handlers: the module exports none, only send, limit"),
  );
  expect(() => handlersOf({})).toThrow("the module exports none, only nothing");
  const list = (item: unknown) => () => (handlersOf as (source: unknown[]) => Handler[])([item]);
  expect(list(send)).toThrow(
    new TypeError("Cannot register handlers: number 0 of the list is no handler, got a contract: call its handle(fn)"),
  );
  expect(list(() => {})).toThrow("number 0 of the list is no handler, got a function");
});

test("snooze() says until when or for how long", () => {
  const until = new Date("2030-01-01");
  expect(snooze(until)).toMatchObject({ until, delayMs: undefined });
  expect(snooze({ delayMs: 5 })).toMatchObject({ until: undefined, delayMs: 5 });
  expect(Object.isFrozen(snooze(until))).toBe(true);
});

test("snooze() refuses what is no time", () => {
  const wrong = snooze as (until: unknown) => unknown;
  expect(() => wrong(5)).toThrow(new TypeError("Cannot snooze: until must be a Date, got 5"));
  expect(() => wrong(undefined)).toThrow(TypeError);
  expect(() => wrong(null)).toThrow(TypeError);
  expect(() => wrong(new Date("?"))).toThrow(
    new RangeError("Cannot snooze: until must lie between 1970-01-01 and 9999-12-31, got an invalid Date"),
  );
  expect(() => wrong({ delayMs: -1 })).toThrow(
    new RangeError("Cannot snooze: delayMs must be a number of milliseconds from 0 to 3155760000000, got -1"),
  );
  expect(() => wrong({ delayMs: Number.NaN })).toThrow(RangeError);
  expect(() => wrong({ delayMs: "5" })).toThrow(TypeError);
});

test("cancel() keeps its reason, and refuses one that is no text", () => {
  expect(cancel("withdrawn")).toMatchObject({ reason: "withdrawn" });
  expect(cancel().reason).toBeUndefined();
  expect(() => (cancel as (reason: unknown) => unknown)({})).toThrow(
    new TypeError("Cannot cancel: the reason must be a string, got an object"),
  );
});

test("isSnooze() and isCancel() know ends from outputs that look like them, and never throw", () => {
  expect([isSnooze(snooze({ delayMs: 1 })), isCancel(snooze({ delayMs: 1 }))]).toEqual([true, false]);
  expect([isSnooze(cancel()), isCancel(cancel())]).toEqual([false, true]);
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  for (const output of [
    undefined,
    null,
    1,
    "cancel",
    { reason: "x" },
    { delayMs: 5, until: undefined },
    cancel,
    proxy,
  ]) {
    expect([isSnooze(output), isCancel(output)]).toEqual([false, false]);
  }
});
