/** The router's tests over real sockets, on what other runtimes serve by. */
import { describe } from "vitest";
import { socketCases } from "../adapters/hono/socket-cases.ts";
import { startWorkerd } from "./miniflare.ts";
import { startProgram } from "./runtimes.ts";

describe.each(["deno", "bun"])("on %s", (runtime) => {
  socketCases(async (database) => {
    const program = startProgram(runtime, "test/matrix/site-program.ts", {
      args: [database.url],
      permissions: [`--allow-net=${new URL(database.url).host},127.0.0.1:0`, "--allow-env=PG*"],
    });
    const [, base] = (await program.said("listening ")).split(" ");
    return { base: base as string, [Symbol.asyncDispose]: () => program[Symbol.asyncDispose]() };
  });
});

describe("on workerd, in a Durable Object", () => {
  socketCases(async (database) => {
    const workerd = await startWorkerd("test/matrix/site-worker.ts", {
      bindings: { DATABASE_URL: database.url },
      durableObjects: { SITE: "Site" },
    });
    const base = (await workerd.ready).origin;
    return { base, [Symbol.asyncDispose]: () => workerd.dispose() };
  });
});
