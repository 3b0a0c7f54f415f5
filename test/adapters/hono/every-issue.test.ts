/** Refusals list everything that is wrong, each at its place, whatever else is wrong beside it; and quote nothing. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { openSite, type Site } from "./site.ts";

let site: Site;

beforeAll(async () => {
  site = await openSite();
});
afterAll(() => site[Symbol.asyncDispose]());

const pathsOf = ({ issues = [] }: { readonly issues?: { readonly path: string }[] }): string[] =>
  issues.map(({ path }) => path);

async function refusedPaths(route: string, body: unknown, headers = {}): Promise<string[]> {
  const { status, json, text } = await site.ask(route, { body, headers });
  expect(status, text).toBe(422);
  expect(text).not.toContain("secret");
  return pathsOf(json);
}

const bad = {
  name: "add",
  priority: 99,
  runAt: "2031-01-01T00:00:00.000Z",
  delayMs: 5,
  input: { a: "secret", mail: "secret" },
  metadata: { source: ["secret"], actor: { id: "secret", type: "user" }, issuedAt: 5 },
  colour: "secret",
  size: "secret",
};
const badPaths = [
  ...["priority", "metadata", "colour", "size", ""],
  ...["input.a", "input.mail", "metadata.source", "metadata.issuedAt"],
];

test("POST /commands lists what is wrong with envelope, name, input and metadata together", async () => {
  expect((await refusedPaths("POST /commands", bad)).toSorted()).toEqual(badPaths.toSorted());
  const early = { name: "nobody", runAt: "1901-01-01T00:00:00.000Z", retries: -1, metadata: { source: 5 } };
  expect(await refusedPaths("POST /commands", early)).toEqual(["runAt", "retries", "name", "metadata.source"]);
  const [long = "", ...others] = await refusedPaths("POST /commands", {
    name: "nobody",
    ["k".repeat(100_000)]: 1,
    z: 1,
  });
  expect([long.length < 310, others]).toEqual([true, ["z", "name"]]);
  expect(await refusedPaths("POST /commands", { name: "wait", metadata: { colour: "x".repeat(9_000) } })).toEqual([
    "metadata",
  ]);
  expect(
    await refusedPaths("POST /commands", { name: "wait", metadata: { a: { b: "\u0000" }, traceparent: {} } }),
  ).toEqual(["metadata.traceparent", "metadata.a.b"]);
});

test("POST /commands/batch lists what is wrong with each command, whatever is wrong with the others", async () => {
  const list = [
    { name: "wait" },
    { name: "nobody" },
    { name: "add", input: { a: "secret" } },
    { name: "add", priority: 99, input: { a: "secret" } },
    { name: "wait", metadata: { source: 5 } },
    { name: "add", version: 9, input: { a: "secret" } },
    5,
  ];
  const paths = ["[1].name", "[2].input.a", "[3].priority", "[3].input.a", "[4].metadata.source", "[5].version", "[6]"];
  expect(await refusedPaths("POST /commands/batch", list)).toEqual(paths);
  // Also where nothing but a push would find it.
  expect(
    await refusedPaths("POST /commands/batch", [
      { name: "add", input: { a: "secret" } },
      { name: "wait", metadata: { source: 5 } },
    ]),
  ).toEqual(["[0].input.a", "[1].metadata.source"]);
  const many = Array.from({ length: 1_000 }, () => bad);
  expect(await refusedPaths("POST /commands/batch", many)).toHaveLength(100);
});

test("each line of NDJSON lists what is wrong with it", async () => {
  const body = [bad, { name: "wait" }, { name: "wait", metadata: { source: "shop", issuedAt: 5 } }]
    .map((one) => JSON.stringify(one))
    .join("\n");
  const { text } = await site.ask("POST /commands/batch", {
    body,
    headers: { "Content-Type": "application/x-ndjson" },
  });
  const answers = text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(pathsOf(answers[0].problem).toSorted()).toEqual(badPaths.toSorted());
  expect(answers[1].id).toEqual(expect.any(String));
  expect(pathsOf(answers[2].problem)).toEqual(["metadata.issuedAt"]);
});

test("POST /events lists what is wrong with each event, at its own place", async () => {
  const topic = "orders.events.placed";
  const good = { topic, data: { order: "o1", total: 1 } };
  const wrong = { topic, data: { order: 5, total: "secret" } };
  const places = ["events[1].data.order", "events[1].data.total", "events[2].data.order", "events[2].data.total"];
  expect(await refusedPaths("POST /events", { events: [good, wrong, wrong] })).toEqual(places);
  const events = [
    good,
    wrong,
    { topic: "nobody.knows", metadata: { source: 5 } },
    { topic: "notes.noted", metadata: { source: "shop", issuedAt: 5 } },
    { topic: "notes.noted", data: "\u0000", colour: "secret" },
  ];
  expect((await refusedPaths("POST /events", { events, expectedVersion: 1 })).toSorted()).toEqual(
    [
      ...places.slice(0, 2),
      ...["events[2].topic", "events[2].metadata.source", "events[3].metadata.issuedAt"],
      ...["events[4].data", "events[4].colour", ""],
    ].toSorted(),
  );
});

test("queries and filters say which field is wrong", async () => {
  const asked: [string, unknown, string][] = [
    ["GET /commands?cursor=nothing-of-the-kind", undefined, "cursor"],
    ["GET /commands?from=2031-01-01T00:00:00Z&to=2030-01-01T00:00:00Z", undefined, "from"],
    ["GET /dead-letters?cursor=nothing-of-the-kind", undefined, "cursor"],
    ["GET /events?topic=a.b&topic=%23.a", undefined, "topic[1]"],
    ["POST /commands/cancel", { filter: { status: ["failed"] } }, "filter.status"],
    ["POST /commands/retry", { filter: { status: ["pending"] } }, "filter.status"],
    ["POST /dead-letters/drop", { filter: { name: "a", from: "1901-01-01T00:00:00Z" } }, "filter.from"],
  ];
  for (const [route, body, path] of asked) {
    const { status, json } = await site.ask(route, body === undefined ? {} : { body });
    expect([status, ...pathsOf(json)], route).toEqual([body === undefined ? 400 : 422, path]);
  }
});

test("what a query said is not told back, however it is written", async () => {
  const secret = "SECRET-of-ada";
  const said = [`: pass ${secret}`, `", got ": pass ${secret}`, `${secret}: pass it on`];
  for (const text of said) {
    for (const query of [
      `/commands?cursor=${encodeURIComponent(text)}`,
      `/commands?queue=${encodeURIComponent(text)}`,
      `/commands?name=${encodeURIComponent(`${text}\n`)}`,
      `/commands?errorText=${encodeURIComponent(text)}`,
      `/commands?parentId=${encodeURIComponent(text)}`,
      `/commands?from=${encodeURIComponent(text)}`,
      `/dead-letters?cursor=${encodeURIComponent(text)}`,
      `/events?topic=${encodeURIComponent(`#.${text}`)}`,
      `/events?topic=a&topic=${encodeURIComponent(`#.: pass ${secret}`)}`,
      `/stream?since=${encodeURIComponent(text)}`,
      `/streams/${encodeURIComponent(text)}?limit=${encodeURIComponent(text)}`,
    ]) {
      const answer = await site.ask(`GET ${query}`);
      expect([answer.status, answer.text], query).toEqual([400, expect.not.stringContaining(secret)]);
    }
    const sent: [string, object][] = [
      ["POST /tick", { queues: [text] }],
      ["POST /dead-letters/retry", { filter: { name: `${text}\u0000` } }],
      ["POST /commands/cancel", { filter: { errorText: text, status: ["succeeded"] } }],
      ["POST /events", { stream: text, events: [{ topic: text }] }],
      ["POST /events", { stream: `${text}\u0000`, events: [{ topic: "notes.noted" }] }],
      [`POST /subscriptions/${encodeURIComponent(text)}/remove`, { deliveries: text }],
      ["POST /commands", { name: "wait", queue: text, metadata: { source: [text], [text]: "\u0000" } }],
    ];
    for (const [route, body] of sent) {
      const answer = await site.ask(route, { body });
      expect(answer.status, route).toBe(422);
      expect(answer.text.replaceAll(/"path":"(?:[^"\\]|\\.)*"/g, ""), route).not.toContain(secret);
    }
  }
});
