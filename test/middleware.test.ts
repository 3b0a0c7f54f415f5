import { expect, test } from "vitest";
import type { CommandId } from "../src/command.ts";
import { defineCommand } from "../src/define-command.ts";
import { withMiddleware } from "../src/handler.ts";
import {
  type Attempted,
  type Executing,
  executeWithin,
  labelled,
  type Middleware,
  pushWithin,
  requireMiddleware,
} from "../src/middleware.ts";

const id = "0197a000-0000-7000-8000-000000000001" as CommandId;
const executing = { name: "job", id } as Executing;
const succeeded: Attempted = { kind: "succeeded", output: undefined };

/** One attempt within these, by a handler that notes that it ran. */
async function within(middleware: readonly Middleware[], events: string[] = [], handler = async () => "done") {
  const inner = async () => {
    events.push("handler");
    return await handler();
  };
  return await executeWithin(
    middleware,
    executing,
    inner,
    () => succeeded,
    () => {},
  );
}

const looksOn = (events: string[], name: string): Middleware => ({
  name,
  async execute(_, next) {
    events.push(`${name} in`);
    events.push(`${name} ${(await next()).kind}`);
  },
});

test("executeWithin() runs the first outermost, and answers what the handler did", async () => {
  const events: string[] = [];
  expect(
    await within([looksOn(events, "a"), { push: async (_, next) => await next() }, looksOn(events, "b")], events),
  ).toBe("done");
  expect(events).toEqual(["a in", "b in", "handler", "b succeeded", "a succeeded"]);
});

test("executeWithin() does not let a layer replace the result, nor swallow what was thrown further in", async () => {
  const replaces: Middleware = { execute: async (_, next) => ({ ...(await next()), kind: "failed" }) };
  expect(await within([replaces])).toBe("done");
  const swallows: Middleware = { execute: async (_, next) => void (await next().catch(() => {})) };
  const throws: Middleware = { execute: () => Promise.reject(new Error("inner")) };
  await expect(within([swallows, throws])).rejects.toThrow("inner");
});

test("executeWithin() calls no handler where a layer throws first", async () => {
  const events: string[] = [];
  const refuses: Middleware = {
    execute() {
      throw new Error("refused");
    },
  };
  await expect(within([looksOn(events, "a"), refuses], events)).rejects.toThrow("refused");
  expect(events).toEqual(["a in"]);
});

test("executeWithin() waits for the handler, and layers further in, before a layer's error counts", async () => {
  const events: string[] = [];
  let end = (_: string): void => {};
  const held = new Promise<string>((resolve) => {
    end = resolve;
  });
  const hurries: Middleware = {
    execute(_, next) {
      void next();
      throw new Error("in a hurry");
    },
  };
  const lags: Middleware = {
    async execute(_, next) {
      await Promise.resolve();
      await next();
      events.push("lags out");
    },
  };
  const attempt = within([hurries, lags], events, () => held).then(
    () => {},
    (error: Error) => events.push(error.message),
  );
  // Whatever waits for promises alone has gone as far as it can.
  await new Promise((resolve) => setImmediate(resolve));
  expect(events).toEqual(["handler"]);
  end("done");
  await attempt;
  expect(events).toEqual(["handler", "lags out", "in a hurry"]);
});

test.each([
  ["neither called next nor threw", () => {}],
  ["called next twice", async (_: unknown, next: () => Promise<unknown>) => void (await next(), await next())],
  ["called next twice", async (_: unknown, next: () => Promise<unknown>) => void (await next(), void next())],
])("executeWithin() refuses a layer that %s, and says which of those that were given", async (what, execute) => {
  const bad = { execute } as Middleware;
  const others: Middleware[] = [{ push: async (_, next) => await next() }, looksOn([], "named")];
  const message = (which: string) => `Cannot execute command "job": ${which} ${what}`;
  await expect(within([...others, bad])).rejects.toThrow(message("middleware[2]"));
  await expect(within([...others, { ...bad, name: "tenancy" }])).rejects.toThrow(message('middleware "tenancy"'));
  // As part of a longer list: of an orchestrator's, and of a handler's own behind it.
  const first = looksOn([], "telemetry");
  await expect(within([first, ...labelled([...others, bad])])).rejects.toThrow(message("middleware[2]"));
  const handler = defineCommand({ name: "job" }).handle(() => {}, { middleware: [bad as never] });
  const { middleware = [] } = withMiddleware(handler, [first, ...labelled(others)]);
  await expect(within(middleware)).rejects.toThrow(message("middleware[0] of its handler"));
});

test("labelled() keeps an object's own state", async () => {
  class Counting implements Middleware {
    #count = 0;
    async execute(_: Executing, next: () => Promise<Attempted>) {
      this.#count += 1;
      await next();
    }
    get count() {
      return this.#count;
    }
  }
  const counting = new Counting();
  await within(labelled([counting]));
  expect(counting.count).toBe(1);
});

test("labelled() keeps every part of middleware, and adds none", () => {
  const parts = { push() {}, publish() {}, execute() {} } satisfies Required<Omit<Middleware, "name">>;
  for (const [part, run] of Object.entries(parts)) {
    const [kept] = labelled([{ [part]: run }]);
    expect(Object.keys(kept ?? {})).toEqual(["label", part]);
  }
});

test("pushWithin() lets a layer change metadata, and says which misuses next", async () => {
  const job = defineCommand({ name: "job" });
  const tenant: Middleware = { push: async (_, next) => await next(({ metadata }) => ({ ...metadata, tenant: "t1" })) };
  const sent: unknown[] = [];
  const send = async (commands: readonly { options: { metadata?: unknown } }[]) => {
    sent.push(...commands.map(({ options }) => options.metadata));
    return [{ id }];
  };
  await pushWithin([tenant], [job(1, { metadata: { own: 1 } })], { metadata: { from: "options" } }, send);
  expect(sent).toEqual([{ from: "options", own: 1, tenant: "t1" }]);
  const silent: Middleware = { push() {} };
  await expect(
    pushWithin([{ execute: async (_, next) => await next() }, tenant, silent], [job(1)], {}, send),
  ).rejects.toThrow("Cannot push: middleware[2] neither called next nor threw");
});

test.each([
  [1, "middleware must be a list, got 1"],
  [[null], "middleware[0] must be an object with push or execute, got null"],
  [[{ execute() {} }, "x"], "middleware[1] must be an object with push or execute"],
  [[{}], "middleware[0] must have push or execute, got none"],
  [[{ push: 1 }], "middleware[0].push must be a function, got 1"],
  [[{ execute: "x" }], "middleware[0].execute must be a function"],
])("requireMiddleware() refuses %j", (given, reason) => {
  const require = () => requireMiddleware("Cannot create orchestrator", given, ["push", "execute"]);
  expect(require).toThrow(TypeError);
  expect(require).toThrow(`Cannot create orchestrator: ${reason}`);
});

test("requireMiddleware() refuses push in the middleware of a handler, and says where it belongs", () => {
  expect(() => defineCommand({ name: "job" }).handle(() => {}, { middleware: [{ push() {} } as never] })).toThrow(
    "middleware[0] cannot have push: give it to createOrchestrator",
  );
});
