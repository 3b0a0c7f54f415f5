/** Ticks by signature in place of a token, signed by the field's own library. */
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Driver } from "../../../src/index.ts";
import { createSite, openSite, type Site, signingKey } from "./site.ts";

const newKey = `whsec_${btoa("n".repeat(32))}`;
const strangeKey = `whsec_${btoa("s".repeat(32))}`;

let site: Awaited<ReturnType<typeof openSite>>;
beforeAll(async () => {
  site = await openSite({ tickKeys: [newKey, signingKey] });
});
afterAll(() => site[Symbol.asyncDispose]());

interface Sent {
  readonly id?: string;
  readonly body?: string;
  readonly key?: string;
  /** How old the signature says that it is. */
  readonly secondsAgo?: number;
  readonly scope?: string | null;
}

let ids = 0;

/** The options of a request that is signed as they say. */
function signed({ id = `tick-${++ids}`, body = '{"maxMs":10000}', key = signingKey, ...more }: Sent = {}) {
  const { secondsAgo = 0, scope = null } = more;
  const at = new Date(Date.now() - secondsAgo * 1_000);
  const headers = {
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(at.getTime() / 1_000)),
    "webhook-signature": new Webhook(key).sign(id, at, body),
  };
  return { scope, body, headers };
}

const tick = (options: Parameters<Site["ask"]>[1]) => site.ask("POST /tick", options);
const push = async () => {
  const { json } = await site.ask("POST /commands", { body: { name: "tidy" } });
  return json.id as string;
};
const statusOf = async (id: string) => (await site.ask(`GET /commands/${id}`)).json.status as string;

describe("POST /tick by signature", () => {
  test("works off what is due, without a token, by an old key and a new one", async () => {
    for (const key of [signingKey, newKey]) {
      const id = await push();
      const { status, json } = await tick(signed({ key }));
      expect([status, json.succeeded, await statusOf(id)]).toEqual([200, 1, "succeeded"]);
    }
    expect((await tick(signed({ body: "" }))).status).toBe(200);
  });

  test("by a token needs no signature still, and the scope", async () => {
    expect((await tick({ scope: "process", body: { maxMs: 10_000 } })).status).toBe(200);
    expect((await tick({ scope: "push", body: {} })).status).toBe(403);
    expect((await tick({ scope: null, body: {} })).status).toBe(401);
  });

  test("that is repeated does nothing more, and answers as the first time", async () => {
    await push();
    const options = signed();
    const first = await tick(options);
    expect(first.json.succeeded).toBe(1);
    const late = await push();
    for (const again of await Promise.all([tick(options), tick(options)])) {
      expect([again.status, again.text]).toEqual([200, first.text]);
    }
    expect(await statusOf(late)).toBe("pending");
    expect((await tick(signed())).json.succeeded).toBe(1);
  });

  test("that comes twice at once is one", async () => {
    await push();
    const options = signed();
    const [one, other] = await Promise.all([tick(options), tick(options)]);
    expect(one.text).toBe(other.text);
    expect(one.json.succeeded).toBe(1);
  });

  test("is refused where it is late, early, altered, cut, by another key or hardly signed, and does nothing", async () => {
    const id = await push();
    const good = signed();
    const { "webhook-signature": signature } = good.headers;
    const bad: Record<string, Parameters<Site["ask"]>[1]> = {
      late: signed({ secondsAgo: 310 }),
      early: signed({ secondsAgo: -310 }),
      "by another key": signed({ key: strangeKey }),
      altered: { ...good, body: '{"maxMs":10001}' },
      "with a mark of byte order": { ...good, body: `\ufeff${good.body}` },
      cut: { ...good, body: good.body.slice(0, -1) },
      "without its body": { ...good, body: "" },
      "with a cut signature": { ...good, headers: { ...good.headers, "webhook-signature": signature.slice(0, -4) } },
      "with no version": { ...good, headers: { ...good.headers, "webhook-signature": signature.slice(3) } },
      "with an empty one": { ...good, headers: { ...good.headers, "webhook-signature": "" } },
      "with too many": { ...good, headers: { ...good.headers, "webhook-signature": `${signature} `.repeat(100) } },
      "under another id": { ...good, headers: { ...good.headers, "webhook-id": "another" } },
      "under a long id": signed({ id: "x".repeat(65) }),
      "without an id": { ...good, headers: { ...good.headers, "webhook-id": "" } },
      "at no time": { ...good, headers: { ...good.headers, "webhook-timestamp": "now" } },
      // A signature that is wrong is somebody's attempt, whatever else they know.
      "by another key, with a token": signed({ key: strangeKey, scope: "process" }),
    };
    for (const [how, options] of Object.entries(bad)) {
      const { status, json, headers } = await tick(options);
      expect([status, json.type], how).toEqual([401, "urn:orchestratum:problem:unauthorised"]);
      expect(headers.get("www-authenticate"), how).toBe("Bearer");
    }
    expect(await statusOf(id)).toBe("pending");
    // None of them has used the id up.
    expect((await tick(good)).json.succeeded).toBe(1);
  });

  test("has the limits of every other body", async () => {
    const large = await tick(signed({ body: `{"maxMs":${" ".repeat(20_000)}1000}` }));
    expect([large.status, large.json.type]).toEqual([413, "urn:orchestratum:problem:too_large"]);
    expect((await tick(signed({ body: '{"maxMs":1}' }))).status).toBe(422);
    expect((await tick(signed({ body: "{" }))).status).toBe(400);
    const { headers, ...others } = signed();
    expect((await tick({ ...others, headers: { ...headers, Origin: "https://evil.test" } })).status).toBe(403);
    expect((await tick({ ...others, headers: { ...headers, "Content-Type": "text/plain" } })).status).toBe(415);
  });

  test("opens no other route", async () => {
    for (const route of ["POST /commands", "POST /queues/q/pause", "GET /queues"]) {
      const { headers, body } = signed();
      const sent = route.startsWith("GET") ? { headers } : { headers, body };
      expect((await site.ask(route, { scope: null, ...sent })).status, route).toBe(401);
    }
  });

  test("is repeated to another instance in vain where they share a store", async () => {
    const known = new Map<string, string | undefined>();
    const tickStore = {
      begin(id: string) {
        if (known.has(id)) return { answer: known.get(id) };
        known.set(id, undefined);
        return undefined;
      },
      end: (id: string, answer: string) => void known.set(id, answer),
    };
    await using one = createSite(site.driver, { tickKeys: signingKey, tickStore });
    await using other = createSite(site.driver, { tickKeys: signingKey, tickStore });
    const options = signed();
    const first = await one.ask("POST /tick", options);
    expect((await other.ask("POST /tick", options)).text).toBe(first.text);
    const begun = signed({ id: "begun" });
    known.set("begun", undefined);
    const refused = await other.ask("POST /tick", begun);
    expect([refused.status, refused.headers.get("retry-after")]).toEqual([409, "1"]);
  });

  test("that failed is done again under its id, and once it has not, no more", async () => {
    let fails = true;
    const failing: Driver = Object.assign(Object.create(site.driver), {
      query: (...given: Parameters<Driver["query"]>) => {
        // A state that does not pass: what does would be tried again until the time of the tick is over.
        if (fails) throw Object.assign(new Error("corrupted"), { code: "XX000" });
        return site.driver.query(...given);
      },
    });
    await using other = createSite(failing, { tickKeys: signingKey });
    const options = signed();
    expect((await other.ask("POST /tick", options)).status).toBeGreaterThanOrEqual(500);
    fails = false;
    await push();
    const second = await other.ask("POST /tick", options);
    expect([second.status, second.json.succeeded]).toEqual([200, 1]);
    const late = await push();
    expect((await other.ask("POST /tick", options)).text).toBe(second.text);
    expect(await statusOf(late)).toBe("pending");
    await tick(signed());
  });

  test("is not there where there are no keys, and wants keys that are some", async () => {
    await using without = createSite(site.driver);
    expect((await without.ask("POST /tick", signed())).status).toBe(401);
    for (const tickKeys of ["secret", [], `whsec_${btoa("short")}`, Array(9).fill(signingKey)]) {
      expect(() => createSite(site.driver, { tickKeys })).toThrow(/^Cannot mount the router with tickKeys: /);
      expect(() => createSite(site.driver, { tickKeys })).not.toThrow("secret");
    }
  });
});
