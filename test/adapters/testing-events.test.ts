import * as v from "valibot";
import { expect, test } from "vitest";
import { createTestOrchestrator } from "../../adapters/testing.ts";
import { defineCommand, defineEvents, subscribe } from "../../src/index.ts";

const orders = defineEvents("orders", {
  Placed: { data: v.object({ orderId: v.string() }) },
  Confirmed: { data: v.object({ orderId: v.string() }) },
});

test("published() shows the events of a contract, and subscriptions are stored before the first drain", async () => {
  const place = defineCommand({ name: "place", input: v.object({ orderId: v.string() }) });
  const handlers = {
    place: place.handle(({ input, publish }) => void publish(orders.Placed(input))),
    confirm: subscribe({
      name: "confirm",
      to: orders.Placed,
      handler: ({ event, publish }) => void publish(orders.Confirmed({ orderId: event.data.orderId })),
    }),
  };
  await using test = await createTestOrchestrator({ handlers });
  const { orchestrator, drain, published, push, reset } = test;
  const { id } = await orchestrator.publish(orders.Placed({ orderId: "o-1" }));
  await push(place({ orderId: "o-2" }));
  const ran = await drain();
  expect(ran.map(({ name, verdict }) => [name, verdict]).toSorted()).toEqual([
    ["deliver:confirm", "succeeded"],
    ["deliver:confirm", "succeeded"],
    ["place", "succeeded"],
  ]);
  expect(await published(orders.Placed)).toMatchObject([
    { id, topic: "orders.placed", data: { orderId: "o-1" }, metadata: { correlationId: id } },
    { data: { orderId: "o-2" } },
  ]);
  expect((await published(orders.Confirmed)).map(({ data }) => data.orderId).toSorted()).toEqual(["o-1", "o-2"]);
  expect(await orchestrator.eventStatus(id)).toMatchObject({ status: "handled" });
  await reset();
  expect(await published(orders.Placed)).toEqual([]);
  await orchestrator.publish(orders.Placed({ orderId: "o-3" }));
  expect(await drain()).toMatchObject([{ name: "deliver:confirm" }]);
});

test("execute() answers what a handler and its hook would have published", async () => {
  const place = defineCommand({ name: "place", input: v.object({ orderId: v.string() }) });
  const handler = place.handle(({ input, publish }) => void publish(orders.Placed(input)), {
    onSuccess: ({ input }) => orders.Confirmed(input),
  });
  await using test = await createTestOrchestrator({ handlers: [handler] });
  const { events, followUps } = await test.orchestrator.execute(place({ orderId: "o-1" }));
  expect(events.map(({ contract, data }) => [contract.topic, data])).toEqual([
    ["orders.placed", { orderId: "o-1" }],
    ["orders.confirmed", { orderId: "o-1" }],
  ]);
  expect(followUps).toEqual([]);
  expect(await test.published(orders.Placed)).toEqual([]);
  // They can be published as they are.
  await test.orchestrator.publish(events);
  expect(await test.published(orders.Confirmed)).toMatchObject([{ metadata: { causationId: expect.any(String) } }]);
});
