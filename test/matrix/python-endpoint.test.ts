import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runExample } from "../examples/run-example.ts";

/** Python 3 must be on the machine, as the runtimes of other tests must: without it this fails, and says so. */
const python = process.platform === "win32" ? "python" : "python3";
const folder = fileURLToPath(new URL("../../examples/python-endpoint/", import.meta.url));
const key = `whsec_${btoa("k".repeat(32))}`;
const oldKey = `whsec_${btoa("o".repeat(32))}`;
let endpoint: ChildProcess;
let url: string;

beforeAll(async () => {
  endpoint = spawn(python, ["endpoint.py"], {
    cwd: folder,
    env: { ...process.env, KEYS: `${oldKey} ${key}`, URL: "", PORT: "0" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  url = await new Promise((resolve, reject) => {
    endpoint.on("error", (error) => reject(new Error(`Cannot run ${python}, which this test needs`, { cause: error })));
    endpoint.on("exit", (code) => reject(new Error(`endpoint.py ended with ${code}`)));
    let printed = "";
    endpoint.stdout?.setEncoding("utf8").on("data", (text: string) => {
      printed += text;
      const match = /Listening on (\S+)/.exec(printed);
      if (match) resolve(match[1] as string);
    });
  });
}, 60_000);

afterAll(() => void endpoint.kill());

test("endpoint.py handles the commands of worker.ts, failures and follow-ups among them", async () => {
  const texts = ["How many words are these?", "?", "Prestidigitation!"];
  const example = runExample("python-endpoint/worker", texts, { URL: url, KEYS: key });
  expect(await example.ended).toBe(0);
  expect(example.output).toBe(
    [
      "5 words, the longest is words",
      "It failed: there is no word in it",
      "To be defined: Prestidigitation",
      "1 words, the longest is Prestidigitation",
      "",
    ].join("\n"),
  );
}, 150_000);

const id = "0197a000-0000-7000-8000-000000000001";
const call = (fields: object = {}) =>
  JSON.stringify({ url, id, fence: 1, name: "count_words", version: 1, attempt: 1, input: { text: "a b" }, ...fields });

async function post(body: string, { by = key, at = Date.now(), sent = body, fence = 1, cut = 0 } = {}) {
  const webhookId = `${id}.${fence}`;
  const signature = new Webhook(by).sign(webhookId, new Date(at), body);
  const headers = {
    "content-type": "application/json",
    "webhook-id": webhookId,
    "webhook-timestamp": String(Math.floor(at / 1000)),
    "webhook-signature": signature.slice(0, signature.length - cut),
  };
  // Not by fetch: it loses count of a body where a server closes each connection after its answer.
  const request = http.request(url, { method: "POST", agent: false, headers }).end(sent);
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  return { status: response.statusCode, answer: JSON.parse(await text(response)) };
}

test("endpoint.py takes what a library of the field has signed, by either of its keys, and answers it once", async () => {
  const first = await post(call());
  expect(first).toEqual({
    status: 200,
    answer: { status: "succeeded", output: { words: 2, longest: "a" }, followUps: [] },
  });
  // Another body under the same id: had it run again, the answer would be another.
  expect(await post(call({ input: { text: "a b c" } }), { by: oldKey })).toEqual(first);
  const second = await post(call({ fence: 2, input: { text: "a b c" } }), { fence: 2 });
  expect(second.answer.output.words).toBe(3);
});

test("endpoint.py refuses what is forged, altered, cut, late, early, or meant for another", async () => {
  const forged = `whsec_${btoa("f".repeat(32))}`;
  expect((await post(call({ fence: 9 }), { fence: 9, by: forged })).status).toBe(401);
  expect((await post(call({ fence: 9 }), { fence: 9, sent: `${call({ fence: 9 })} ` })).status).toBe(401);
  expect((await post(call({ fence: 9 }), { fence: 9, cut: 4 })).status).toBe(401);
  expect((await post(call({ fence: 9 }), { fence: 9, at: Date.now() - 302_000 })).status).toBe(401);
  expect((await post(call({ fence: 9 }), { fence: 9, at: Date.now() + 400_000 })).status).toBe(401);
  expect((await post(call({ fence: 8 }), { fence: 9 })).status).toBe(400);
  expect((await post(call({ fence: 9, url: "http://other.example/execute" }), { fence: 9 })).status).toBe(421);
  expect((await post(call({ fence: 9, name: "unknown" }), { fence: 9 })).status).toBe(404);
});

test("endpoint.py hangs up on who drips, in the headers or in the body", async () => {
  const { hostname, port } = new URL(url);
  const beginnings = ["POST /execute HTTP/1.1\r\n", "POST /execute HTTP/1.1\r\nContent-Length: 100000\r\n\r\n"];
  await Promise.all(
    beginnings.map(async (beginning) => {
      const socket = connect(Number(port), hostname);
      socket.on("error", () => {});
      socket.resume();
      socket.write(beginning);
      const drip = setInterval(() => socket.write("x"), 500);
      await once(socket, "close");
      clearInterval(drip);
    }),
  );
  expect((await post(call({ fence: 7 }), { fence: 7 })).status).toBe(200);
}, 60_000);
