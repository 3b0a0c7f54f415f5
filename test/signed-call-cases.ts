/** Commands that an endpoint handles, as their users notice it: on every driver and database alike. See conformance.ts for the form. */
import * as v from "valibot";
import {
  callEndpoint,
  cancel,
  defineCommand,
  defineEvent,
  type Fetch,
  type Handler,
  PermanentFailure,
  receiveCall,
  snooze,
} from "../src/index.ts";
import { type Case, limited, minute, quick, same, scenario, signal, succeeded, truth } from "./conformance.ts";

const url = "https://endpoint.example/execute";
const keys = "whsec_b3JjaGVzdHJhdHVtLW9yY2hlc3RyYXR1bS1vcmNoZXN0cmF0dW0=";

/** A way to an endpoint that has these handlers, and knows nothing of the database. */
function endpoint(handlers: readonly Handler[]) {
  const receive = receiveCall({ handlers, keys });
  const calls: Record<string, unknown>[] = [];
  const fetch: Fetch = async (to, init) => {
    calls.push(JSON.parse(new TextDecoder().decode(init.body)));
    return await receive(new Request(to, init));
  };
  return { call: callEndpoint({ url, keys, fetch }), calls };
}

const framesOf = (stack = ""): string[] => stack.split("\n").filter((line) => /^\s+at /.test(line));

export const signedCallCases: readonly Case[] = [
  scenario(
    "an endpoint handles a command: input, attempt and metadata arrive, and its output is recorded",
    async (scene) => {
      const resize = defineCommand(
        scene.define({
          name: "resize",
          input: v.object({ width: v.optional(v.number(), 10) }),
          output: v.object({ area: v.number() }),
        }),
      );
      const seen: unknown[] = [];
      const { call, calls } = endpoint([
        resize.handle(({ input, id, attempt, fence, metadata, deadline }) => {
          seen.push([input, id, attempt, fence, metadata.actor, deadline.getTime() > Date.now()]);
          return { area: input.width ** 2 };
        }),
      ]);
      const { push, waitFor } = await scene.working([resize.handle(call)]);
      const actor = { id: "ada", type: "user" };
      const { id } = await push(resize({}, { metadata: { actor } }));
      same(succeeded(await waitFor(id, limited)), { area: 100 }, "the output");
      same(seen, [[{ width: 10 }, id, 1, 1, actor, true]], "what the handler got");
      same(calls[0]?.input, {}, "the input travels as it was pushed");
      same(calls[0]?.url, url, "the URL stands in the body");
    },
  ),

  scenario(
    "what is to follow comes with the answer and commits with the outcome, under the ids that were promised",
    async (scene) => {
      const order = defineCommand(scene.define({ name: "order", input: v.string(), output: v.string() }));
      // Of this one the worker's side knows nothing but that somebody handles it.
      const ship = defineCommand(
        scene.define({ name: "ship", input: v.object({ to: v.string() }), priority: 2, retries: 7 }),
      );
      const placed = defineEvent({ topic: `t${scene.queue}.placed`, data: v.object({ order: v.string() }) });
      const { call } = endpoint([
        order.handle(
          ({ input, push, publish }) => {
            publish(placed({ order: input }));
            return push(ship({ to: input }, { delayMs: minute })).id;
          },
          { onSuccess: ({ output }) => ship({ to: `after ${output}` }, { delayMs: minute }) },
        ),
      ]);
      const { push, waitFor, get, tree } = await scene.working([order.handle(call)]);
      const { id } = await push(order("Ada", { metadata: { source: "shop" } }));
      const promised = succeeded(await waitFor(id, limited));
      const first = await get(promised);
      same(
        [first?.name, first?.input, first?.status, first?.priority, first?.retriesLeft, first?.queue],
        [ship.name, { to: "Ada" }, "scheduled", 2, 8, scene.queue],
        "the follow-up",
      );
      same(
        [first?.metadata.correlationId, first?.metadata.causationId, first?.metadata.source],
        [id, id, "shop"],
        "its metadata",
      );
      const { root } = (await tree(id)) as never as { root: { children: unknown[] } };
      same(root.children.length, 2, "how many follow");
      const events = await scene.ground.driver.query<{ data: string }>(
        "select e.data::text as data from orchestratum.event e where e.topic = $1::text",
        [placed.topic],
      );
      same(
        events.map(({ data }) => JSON.parse(data)),
        [{ order: "Ada" }],
        "the events",
      );
    },
  ),

  scenario(
    "failures, permanent ones, snoozes and cancellations of an endpoint are as those of a handler here",
    async (scene) => {
      const act = defineCommand(scene.define({ name: "act", input: v.string(), retries: 1 }));
      const thrown: string[] = [];
      const { call, calls } = endpoint([
        act.handle(({ input, attempt }) => {
          if (input === "fail") {
            const error = Object.assign(new TypeError(`no ${attempt}`), { code: "EFAIL" });
            thrown.push(error.stack ?? "");
            throw error;
          }
          if (input === "permanent") throw new PermanentFailure("never");
          if (input === "cancel") return cancel("withdrawn");
          if (input === "snooze")
            return calls.filter((one) => one.input === "snooze").length > 1 ? undefined : snooze({ delayMs: 1 });
          return undefined;
        }),
      ]);
      const { push, waitFor, get } = await scene.working([act.handle(call)]);
      const pushed = await push([act("fail"), act("permanent"), act("cancel"), act("snooze")]);
      const outcomes = await waitFor(
        pushed.map(({ id }) => id),
        limited,
      );
      same(
        outcomes.map(({ status }) => status),
        ["failed", "failed", "cancelled", "succeeded"],
        "the statuses",
      );
      const trails = await Promise.all(pushed.map(async ({ id }) => (await get(id))?.trail));
      same(
        trails.slice(0, 3).map((trail) => trail?.map(({ code, name, message }) => [code, name, message])),
        [
          [
            ["EFAIL", "TypeError", "no 1"],
            ["EFAIL", "TypeError", "no 2"],
          ],
          [["ORCHESTRATUM_PERMANENT_FAILURE", "PermanentFailure", "never"]],
          [["cancelled", undefined, "withdrawn"]],
        ],
        "the trails",
      );
      // In a bundle functions and files have other names, in both alike.
      const [first = ""] = framesOf(thrown[0]);
      truth(first !== "", "an error has a stack");
      same(framesOf(trails[0]?.[0]?.stack)[0], first, "where it was thrown, at the endpoint");
      same((await get(pushed[3].id))?.attempt, 1, "the attempts of what was snoozed");
    },
  ),

  scenario("the hooks of an endpoint run there, and what they answer follows", async (scene) => {
    const pay = defineCommand(scene.define({ name: "pay", input: v.number(), retries: 0 }));
    const tell = defineCommand(scene.define({ name: "tell", input: v.string() }));
    const told = signal<string>();
    const hooked: unknown[] = [];
    const { call } = endpoint([
      pay.handle(
        () => {
          throw new Error("declined");
        },
        {
          onFailure: ({ id, input, status, error }) => {
            hooked.push([id, input, status, error?.message]);
            return tell(`${input} was ${error?.message}`);
          },
        },
      ),
    ]);
    const { push } = await scene.working([
      pay.handle(call, { onFailure: call }),
      tell.handle(({ input }) => told.give(input)),
    ]);
    const { id } = await push(pay(7));
    same(await told.got(), "7 was declined", "what followed");
    same(hooked, [[id, 7, "failed", "declined"]], "what the hook got");
  }),

  scenario(
    "an endpoint that refuses a call, or says that no other attempt helps, is not called again",
    async (scene) => {
      const job = defineCommand(scene.define({ name: "job", input: v.number(), retries: 3 }));
      const answers = [
        new Response(null, { status: 422 }),
        new Response('{"status":"failed","error":{"code":"declined"},"retry":false}'),
      ];
      const fetch: Fetch = async () => answers.shift() ?? new Response('{"status":"succeeded"}');
      const handler = job.handle(callEndpoint({ url, keys, fetch }));
      const { push, waitFor, get } = await scene.working([handler], { concurrency: 1 });
      for (const code of ["endpoint_refuses", "declined"]) {
        const { id } = await push(job(1));
        same((await waitFor(id, limited)).status, "failed", "its end");
        same(
          (await get(id))?.trail.map((entry) => entry.code),
          [code],
          "the trail",
        );
      }
    },
  ),

  scenario("an endpoint that is busy is left alone for as long as it asks", async (scene) => {
    const job = defineCommand(scene.define({ name: "job", retries: 1, backoff: quick }));
    const answers = [
      new Response(null, { status: 503, headers: { "retry-after": "2" } }),
      new Response('{"status":"succeeded"}', { headers: { "content-type": "application/json" } }),
    ];
    const at: number[] = [];
    const fetch: Fetch = async () => {
      at.push(performance.now());
      return answers.shift() as Response;
    };
    const { push, waitFor, get } = await scene.working([job.handle(callEndpoint({ url, keys, fetch }))]);
    const { id } = await push(job());
    same((await waitFor(id, limited)).status, "succeeded", "its end");
    truth((at[1] as number) - (at[0] as number) >= 1_950, "two seconds lie between the attempts");
    same(
      (await get(id))?.trail.map(({ code }) => code),
      ["endpoint_unavailable"],
      "the trail",
    );
  }),

  scenario("an attempt that is over ends the call, and the handler there with it", async (scene) => {
    const slow = defineCommand(scene.define({ name: "slow", retries: 0 }));
    const begun = signal();
    const aborted = signal<string>();
    const { call } = endpoint([
      slow.handle(
        ({ signal: over }) =>
          new Promise((_, reject) => {
            over.addEventListener("abort", () => {
              aborted.give(over.reason.code);
              reject(over.reason);
            });
            begun.give();
          }),
      ),
    ]);
    const orchestrator = await scene.working([slow.handle(call)]);
    const { id } = await orchestrator.push(slow());
    await begun.got();
    same(await orchestrator.cancel(id), "requested", "the cancellation");
    same((await orchestrator.waitFor(id, limited)).status, "cancelled", "its end");
    same(await aborted.got(), "ORCHESTRATUM_LEASE_LOST", "why the handler there ended");
  }),
];
