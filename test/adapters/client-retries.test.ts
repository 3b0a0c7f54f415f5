/** What the client sends again, when, and what it makes of the second answer: by a clock that the tests turn, without a server. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Client, type ClientOptions, createClient, HttpProblemError } from "../../adapters/client/client.ts";
import { defineCommand } from "../../src/index.ts";

const id = "01999f3e-7c1b-7000-8000-3f2a9f0e6d11";
const add = defineCommand({ name: "add" });

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

type Reply = Response | Error;
const lost = (): Error => new TypeError("fetch failed");
const json = (body: object, status: number = 200, headers: Record<string, string> = {}): Response =>
  new Response(JSON.stringify(body), { status, headers });
const conflict = (result: string): Response => json({ type: "urn:orchestratum:problem:conflict", result }, 409);

/** A client of a server that gives these replies, the last one again and again, and what was asked of it and when. */
function connect(
  replies: readonly (() => Reply)[],
  options: Partial<ClientOptions> = {},
): { client: Client; asked: string[]; at: number[]; keys: (string | null)[] } {
  const asked: string[] = [];
  const at: number[] = [];
  const keys: (string | null)[] = [];
  const client = createClient({
    url: "http://jobs.test",
    ...options,
    fetch: async (input, init) => {
      const reply = (replies[Math.min(asked.length, replies.length - 1)] as () => Reply)();
      asked.push(`${init.method} ${new URL(input).pathname.replace(id, "…")}`);
      at.push(Date.now());
      keys.push(new Headers(init.headers).get("idempotency-key"));
      if (reply instanceof Error) throw reply;
      return reply;
    },
  });
  return { client, asked, at, keys };
}

/** What a promise comes to, with the clock going on. */
async function settled<Value>(promise: Promise<Value>): Promise<Value | HttpProblemError> {
  const outcome = promise.catch((error: unknown) => error as HttpProblemError);
  await vi.advanceTimersByTimeAsync(1_000_000);
  return await outcome;
}

const gaps = (at: readonly number[]): number[] => at.slice(1).map((one, index) => one - (at[index] as number));

test("Retry-After is waited for, and jitter comes on top of it, so that not all clients come back at once", async () => {
  const busy = (seconds: string) => () => json({}, 429, { "Retry-After": seconds });
  const taken = () => json({ id }, 202);
  const firsts = new Set<number>();
  for (const random of [0, 0.25, 0.5, 0.999]) {
    vi.spyOn(Math, "random").mockReturnValue(random);
    const { client, at, keys } = connect([busy("3"), busy("3"), taken]);
    expect(await settled(client.push(add()))).toEqual({ id });
    const [first = 0, second = 0] = gaps(at);
    expect(first).toBeGreaterThanOrEqual(3_000);
    expect(first).toBeLessThanOrEqual(3_200);
    expect(second).toBeGreaterThanOrEqual(3_000);
    expect(second).toBeLessThanOrEqual(3_400);
    firsts.add(first);
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toEqual(expect.any(String));
  }
  expect(firsts.size).toBe(4);
  // A time is one, too; a minute is the longest.
  vi.spyOn(Math, "random").mockReturnValue(0);
  const dated = connect([() => json({}, 503, { "Retry-After": new Date(Date.now() + 5_000).toUTCString() }), taken]);
  await settled(dated.client.push(add()));
  expect(gaps(dated.at)[0]).toBeGreaterThan(3_000);
  const long = connect([busy("86400"), taken]);
  await settled(long.client.push(add()));
  expect(gaps(long.at)).toEqual([60_000]);
});

test("without Retry-After the pauses have full jitter under a bound that doubles, up to ten seconds", async () => {
  for (const [random, bounds] of [
    [0.1, [20, 40, 80, 160]],
    [0.5, [100, 200, 400, 800]],
  ] as const) {
    vi.spyOn(Math, "random").mockReturnValue(random);
    const { client, at } = connect([lost]);
    await settled(client.queues());
    expect(gaps(at)).toEqual(bounds);
  }
  const { client, at } = connect([lost], { retries: 9 });
  await settled(client.queues());
  expect(Math.max(...gaps(at))).toBe(5_000);
});

test.each([
  ["a lost reply", lost],
  ["502", () => json({}, 502)],
  ["504", () => json({}, 504)],
])("cancel and erase by id are sent again after %s", async (_, failure) => {
  const cancelling = connect([failure, () => json({ id, result: "requested" }, 202)]);
  expect(await settled(cancelling.client.cancel(id))).toBe("requested");
  expect(cancelling.asked).toEqual(["POST /commands/…/cancel", "POST /commands/…/cancel"]);
  const erasing = connect([failure, () => json({ id, result: "erased" })]);
  expect(await settled(erasing.client.erase(id))).toBe("erased");
  expect(erasing.asked).toHaveLength(2);
});

test("cancel takes what has ended as cancelled for done, after a lost reply only", async () => {
  const state = (status: string) => () => json({ id, status });
  const repeated = connect([lost, () => conflict("finished"), state("cancelled")]);
  expect(await settled(repeated.client.cancel(id))).toBe("cancelled");
  expect(repeated.asked.at(-1)).toBe("GET /commands/…");
  const late = connect([lost, () => conflict("finished"), state("succeeded")]);
  expect(await settled(late.client.cancel(id))).toBe("finished");
  // Who may not read is told what the server said.
  const blind = connect([lost, () => conflict("finished"), () => json({}, 403)]);
  expect(await settled(blind.client.cancel(id))).toBe("finished");
  const first = connect([() => conflict("finished"), state("cancelled")]);
  expect(await settled(first.client.cancel(id))).toBe("finished");
  expect(first.asked).toHaveLength(1);
});

test("what would be done twice is sent once after a lost reply, and again where it was only put off", async () => {
  const acts: ((client: Client) => Promise<unknown>)[] = [
    (client) => client.retry(id),
    (client) => client.cancel({ queue: "mail" }),
    (client) => client.retry({ queue: "mail" }),
    (client) => client.retryDeadLetters({ queue: "mail" }),
    (client) => client.dropDeadLetters({ queue: "mail" }),
  ];
  for (const act of acts) {
    for (const failure of [lost, () => json({}, 502), () => json({}, 500)]) {
      const { client, asked } = connect([failure, () => json({ result: "retried", count: 1, busy: 0 })]);
      expect(await settled(act(client))).toBeInstanceOf(Error);
      expect(asked).toHaveLength(1);
    }
    const limited = connect([() => json({}, 429), () => json({ result: "retried", count: 1, busy: 0 })]);
    expect(await settled(act(limited.client))).not.toBeInstanceOf(Error);
    expect(limited.asked).toHaveLength(2);
  }
});

test("a dry run changes nothing, and is sent again", async () => {
  const dry: ((client: Client) => Promise<unknown>)[] = [
    (client) => client.cancel({ queue: "mail" }, { dryRun: true }),
    (client) => client.retry({ queue: "mail" }, { dryRun: true }),
    (client) => client.retryDeadLetters({ queue: "mail" }, { dryRun: true }),
    (client) => client.dropDeadLetters({ queue: "mail" }, { dryRun: true }),
  ];
  for (const ask of dry) {
    const { client } = connect([lost, () => json({ count: 1, busy: 0, dryRun: true })]);
    expect(await settled(ask(client))).toEqual({ count: 1, busy: 0 });
  }
});

test("a command that somebody holds is told of at once", async () => {
  const { client, asked } = connect([() => json({ result: "busy" }, 503, { "Retry-After": "1" })]);
  expect(await settled(client.cancel(id))).toBe("busy");
  expect(asked).toHaveLength(1);
});
