/** `orchestratum serve` on each runtime that has processes; test/adapters/cli-serve.test.ts has the rest of it, on Node.js. */
import { createClient } from "orchestratum/client";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { add, tokenOf } from "../adapters/hono/contracts.ts";
import { createDatabase, type Database } from "../database.ts";
import { type Program, runtimes, startProgram } from "./runtimes.ts";

let database: Database;
beforeAll(async () => {
  database = await createDatabase({ max: 2 });
});
afterAll(() => database.drop());

const programs: Program[] = [];
afterEach(async () => {
  for (const program of programs.splice(0)) await program[Symbol.asyncDispose]();
});

function serve(runtime: string, ...args: string[]): Program {
  const program = startProgram(runtime, "adapters/cli/main.ts", {
    args: ["serve", ...args, "--port", "0"],
    env: { DATABASE_URL: database.url },
    // As docs/command-line.md starts it: what a module does is not known beforehand.
    permissions: ["-A"],
  });
  programs.push(program);
  return program;
}

describe.each(runtimes)("serve on %s", (runtime) => {
  test("takes a push by who has a token, runs it, and ends with code 0 at a signal", async () => {
    const program = serve(runtime, "test/matrix/serve-module.ts");
    const url = (await program.said("Listening at ")).split(" ").at(-1) as string;
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
    expect((await fetch(`${url}/queues`)).status).toBe(401);
    const client = createClient({ url, token: tokenOf("everything") });
    const { id } = await client.push(add({ a: 1 }));
    expect(await client.waitFor(id, { timeoutMs: 30_000 })).toMatchObject({ status: "succeeded", output: { sum: 2 } });
    const workers = () => database.sql`
      select 1 from orchestratum.worker where stopped_at is null and runtime like ${`${runtime} %`}`;
    expect(await workers()).toHaveLength(1);
    program.child.kill("SIGTERM");
    expect(await program.ended).toBe(0);
    expect(await workers()).toHaveLength(0);
  });

  test.each([
    ["test/matrix/commands", "nobody says who may do what"],
    ["test/matrix/nothing.ts", "there is no such file"],
  ])("is misused with %s: code 2, and it says that %s", async (module, reason) => {
    const program = serve(runtime, module);
    expect([await program.ended, program.errors, program.lines]).toEqual([2, expect.stringContaining(reason), []]);
  });
});
