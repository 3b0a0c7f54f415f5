/** Serves the router of the socket tests in another runtime. */

import type { Serving } from "../adapters/hono/socket-cases.ts";
import type { Database } from "../database.ts";
import { startWorkerd } from "./miniflare.ts";
import { startProgram } from "./runtimes.ts";

export async function serveSite(runtime: "deno" | "bun", database: Database): Promise<Serving> {
  const program = startProgram(runtime, "test/matrix/site-program.ts", {
    args: [database.url],
    permissions: [`--allow-net=${new URL(database.url).host},127.0.0.1:0`, "--allow-env=PG*"],
  });
  const [, base] = (await program.said("listening ")).split(" ");
  return { base: base as string, [Symbol.asyncDispose]: () => program[Symbol.asyncDispose]() };
}

export async function serveSiteInWorkerd(database: Database): Promise<Serving> {
  const workerd = await startWorkerd("test/matrix/site-worker.ts", {
    bindings: { DATABASE_URL: database.url },
    durableObjects: { SITE: "Site" },
    // What it says of clients that leave.
    handleRuntimeStdio: () => {},
  });
  const base = (await workerd.ready).origin;
  return { base, [Symbol.asyncDispose]: () => workerd.dispose() };
}
