/**
 * Traces and metrics as OpenTelemetry's SDK exports them, in memory. The context manager is the process's; providers are
 * each test's own.
 */
import { readFileSync } from "node:fs";
import { PGlite } from "@electric-sql/pglite";
import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  AggregationTemporality,
  type DataPoint,
  type Histogram,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from "@opentelemetry/sdk-metrics";
import {
  AlwaysOffSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  type Sampler,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import {
  type CommandId,
  cancel,
  createOrchestrator,
  type Driver,
  defineCommand,
  defineEvent,
  type Handler,
  migrate,
  type Observation,
  type Orchestrator,
  PermanentFailure,
  snooze,
  subscribe,
  systemClock,
} from "orchestratum";
import { type OpenTelemetryOptions, openTelemetry } from "orchestratum/opentelemetry";
import { pglite } from "orchestratum/pglite";
import { postgresJs } from "orchestratum/postgres-js";
import * as v from "valibot";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { signal } from "../conformance.ts";
import { createDatabase } from "../database.ts";

const contexts = new AsyncLocalStorageContextManager();
beforeAll(() => void context.setGlobalContextManager(contexts.enable()));
afterAll(() => context.disable());

/** What a process has: providers of its own, whose exporters keep what they get. */
class Process {
  readonly spans = new InMemorySpanExporter();
  readonly tracerProvider: BasicTracerProvider;
  readonly reader = new PeriodicExportingMetricReader({
    exporter: new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE),
    exportIntervalMillis: 2 ** 31 - 1,
  });
  readonly meterProvider = new MeterProvider({ readers: [this.reader] });

  constructor(sampler?: Sampler) {
    this.tracerProvider = new BasicTracerProvider({
      spanProcessors: [new SimpleSpanProcessor(this.spans)],
      ...(sampler ? { sampler } : {}),
    });
  }

  telemetry(options: OpenTelemetryOptions = {}) {
    const { tracerProvider, meterProvider } = this;
    return openTelemetry({ tracerProvider, meterProvider, ...options });
  }

  get tracer() {
    return this.tracerProvider.getTracer("test");
  }

  /** The finished spans of that name, once there are so many. */
  async finished(name: string, count = 1): Promise<ReadableSpan[]> {
    return await vi.waitFor(
      () => {
        const found = this.spans.getFinishedSpans().filter((span) => span.name === name);
        expect(found.length, `spans named ${name} among ${this.names()}`).toBeGreaterThanOrEqual(count);
        return found;
      },
      { timeout: 20_000 },
    );
  }

  names(): string[] {
    return this.spans.getFinishedSpans().map(({ name }) => name);
  }

  /** The data points of a metric, by the attribute named. */
  async metric(name: string): Promise<DataPoint<any>[]> {
    const { resourceMetrics } = await this.reader.collect();
    return resourceMetrics.scopeMetrics
      .flatMap(({ metrics }) => metrics)
      .filter(({ descriptor }) => descriptor.name === name)
      .flatMap(({ dataPoints }): DataPoint<any>[] => dataPoints);
  }
}

const grounds: Readonly<Record<string, () => Promise<{ driver: Driver; close(): Promise<unknown> }>>> = {
  async PostgreSQL() {
    const database = await createDatabase({ max: 8 });
    return { driver: postgresJs(database.sql), close: () => database.drop() };
  },
  async PGlite() {
    const instance = await PGlite.create();
    const driver = pglite(instance);
    await migrate(driver);
    return { driver, close: () => instance.close() };
  },
};

const quick = { initialMs: 1, jitter: "none" } as const;
function histogramOf(point: DataPoint<any> | undefined): Histogram {
  if (!point) throw new Error("It does not hold that there is a data point");
  return point.value as Histogram;
}

const parentOf = (span: ReadableSpan | undefined) => span?.parentSpanContext?.spanId;
const idOf = (span: ReadableSpan | undefined) => span?.spanContext().spanId;
const traceOf = (span: ReadableSpan | undefined) => span?.spanContext().traceId;
const linked = (span: ReadableSpan | undefined) => span?.links.map((link) => link.context.spanId);

describe.each(Object.entries(grounds))("openTelemetry() on %s", (_, open) => {
  let driver: Driver;
  let close: () => Promise<unknown>;
  beforeAll(async () => {
    ({ driver, close } = await open());
  });
  afterAll(() => close());

  const orchestrators: Orchestrator[] = [];
  afterEach(async () => {
    await Promise.all(orchestrators.splice(0).map((one) => one.stop({ graceMs: 0 })));
  });

  let queues = 0;
  const newQueue = () => `q${Date.now().toString(36)}${queues++}`;

  function orchestratorOf(
    of: Process,
    handlers: readonly Handler[],
    options: OpenTelemetryOptions & { readonly observe?: (observation: Observation) => void } = {},
  ): Orchestrator {
    const { observe, ...rest } = options;
    const telemetry = of.telemetry(rest);
    const one = createOrchestrator({ database: driver, handlers, telemetry, ...(observe ? { observe } : {}) });
    orchestrators.push(one);
    return one;
  }

  async function work(one: Orchestrator, queue: string) {
    const worker = one.startWorker({ queues: [queue], pollIntervalMs: 60_000 });
    await worker.started;
    return worker;
  }

  test("a chain over two processes is one trace, from the caller's span to the last follow-up's own", async () => {
    const queue = newQueue();
    const first = defineCommand({ name: "first", queue, input: v.object({ secret: v.string() }) });
    const second = defineCommand({ name: "second", queue: `${queue}b` });
    const third = defineCommand({ name: "third", queue: `${queue}b` });
    const [web, near, far] = [new Process(), new Process(), new Process()];
    const producer = orchestratorOf(web, [], {});
    const own = orchestratorOf(near, [first.handle(({ push }) => void push(second()), { onSuccess: () => third() })]);
    const other = orchestratorOf(far, [
      second.handle(async ({ metadata }) => {
        await far.tracer.startActiveSpan("inner", async (span) => {
          span.setAttribute("seen", metadata.traceparent ?? "none");
          span.end();
        });
      }),
      third.handle(() => {}),
    ]);
    const [worker] = [await work(own, queue), await work(other, `${queue}b`)];

    const { id } = await web.tracer.startActiveSpan("request", async (request) => {
      const metadata = { correlationId: "order-7", actor: { id: "ada", type: "user" } };
      const pushed = await producer.push(first({ secret: "s3cret" }, { metadata }));
      request.end();
      return pushed;
    });
    const [request] = await web.finished("request");
    const [push] = await web.finished("push first");
    const [executed] = await near.finished("execute first");
    const [followed] = await far.finished("execute second");
    const [hooked] = await far.finished("execute third");
    const [inner] = await far.finished("inner");

    const all = [request, push, executed, followed, hooked, inner];
    expect(new Set(all.map(traceOf)).size).toBe(1);
    expect(all.slice(1).map(parentOf)).toEqual([push, executed, followed, hooked, inner].map((span) => parentOf(span)));
    expect(parentOf(push)).toBe(idOf(request));
    expect(parentOf(executed)).toBe(idOf(push));
    expect(linked(executed)).toEqual([idOf(push)]);
    expect(parentOf(followed)).toBe(idOf(executed));
    expect(parentOf(hooked)).toBe(idOf(executed));
    // The user's own span nests in the attempt's, whose context the handler's metadata has.
    expect(parentOf(inner)).toBe(idOf(followed));
    expect(inner?.attributes.seen).toBe(`00-${traceOf(followed)}-${idOf(followed)}-01`);

    expect(push?.kind).toBe(SpanKind.PRODUCER);
    expect(push?.attributes).toEqual({
      "messaging.system.name": "orchestratum",
      "messaging.operation.name": "push",
      "messaging.operation.type": "send",
      "messaging.destination.name": queue,
      "messaging.message.id": id,
      "messaging.message.conversation_id": "order-7",
      "orchestratum.command.id": id,
      "orchestratum.command.name": "first",
      "orchestratum.correlation_id": "order-7",
      "orchestratum.actor.id": "ada",
      "orchestratum.actor.type": "user",
    });
    expect(executed?.kind).toBe(SpanKind.CONSUMER);
    expect(executed?.attributes).toEqual({
      "messaging.system.name": "orchestratum",
      "messaging.operation.name": "execute",
      "messaging.operation.type": "process",
      "messaging.destination.name": queue,
      "messaging.message.id": id,
      "messaging.message.conversation_id": "order-7",
      "messaging.client.id": worker.id,
      "orchestratum.command.id": id,
      "orchestratum.command.name": "first",
      "orchestratum.command.version": 1,
      "orchestratum.queue": queue,
      "orchestratum.attempt": 1,
      "orchestratum.fence": 1,
      "orchestratum.handler": "first",
      "orchestratum.correlation_id": "order-7",
      "orchestratum.actor.id": "ada",
      "orchestratum.actor.type": "user",
      "orchestratum.outcome": "succeeded",
    });
    expect(followed?.attributes).toMatchObject({
      "orchestratum.causation_id": id,
      "orchestratum.correlation_id": "order-7",
      "orchestratum.actor.id": "ada",
      "orchestratum.parent_id": id,
    });
    expect(executed?.status.code).toBe(SpanStatusCode.UNSET);

    // What the attempt pushed committed with its outcome, at the end of the attempt.
    const [pushed] = await near.finished("push");
    expect([traceOf(pushed), parentOf(pushed), pushed?.kind]).toEqual([
      traceOf(executed),
      idOf(executed),
      SpanKind.PRODUCER,
    ]);
    expect(pushed?.attributes).toEqual({
      "messaging.system.name": "orchestratum",
      "messaging.operation.name": "push",
      "messaging.operation.type": "send",
      "messaging.destination.name": `${queue}b`,
      "messaging.batch.message_count": 2,
    });
    expect([pushed?.startTime, pushed?.endTime]).toEqual([executed?.endTime, executed?.endTime]);
    const sent = (await near.metric("messaging.client.sent.messages")).map(({ attributes, value }) => [
      attributes["messaging.operation.name"],
      attributes["orchestratum.command.name"],
      attributes["messaging.destination.name"],
      value,
    ]);
    expect(sent.toSorted()).toEqual([
      ["push", "second", `${queue}b`, 1],
      ["push", "third", `${queue}b`, 1],
    ]);

    // A claim is a trace of its own, which links to what it leased.
    const [claim] = await near.finished(`claim ${queue}`);
    expect(claim?.kind).toBe(SpanKind.CLIENT);
    expect(parentOf(claim)).toBe(undefined);
    expect(traceOf(claim)).not.toBe(traceOf(push));
    expect(linked(claim)).toEqual([idOf(push)]);
    expect(claim?.attributes).toMatchObject({
      "messaging.operation.type": "receive",
      "messaging.batch.message_count": 1,
      "messaging.client.id": worker.id,
    });
  });

  test("an event is one trace with its deliveries, wherever it is published", async () => {
    const queue = newQueue();
    const topic = `orders.${queue}`;
    const placed = defineEvent({ topic: `${topic}.placed`, data: v.object({ order: v.string() }) });
    const shipped = defineEvent({ topic: `${topic}.shipped` });
    const place = defineCommand({ name: "place", queue });
    const [web, near] = [new Process(), new Process()];
    const publisher = orchestratorOf(web, []);
    const confirm = `confirm_${queue}`;
    const track = `track_${queue}`;
    const one = orchestratorOf(near, [
      place.handle(({ publish }) => void publish(shipped())),
      subscribe({
        name: confirm,
        to: placed,
        queue,
        backoff: quick,
        handler: ({ attempt }) => {
          if (attempt === 1) throw new Error("away");
        },
      }),
      subscribe({ name: track, to: shipped, queue, handler: () => {} }),
    ]);
    await work(one, queue);
    const [published] = await web.tracer.startActiveSpan("request", async (span) => {
      const metadata = { correlationId: "order-7", actor: { id: "ada", type: "user" } };
      const result = await Promise.all([
        publisher.publish(placed({ order: "s3cret" }, { metadata })),
        publisher.push(place()),
      ]);
      await publisher.append(`order-${queue}`, [placed({ order: "1" }), placed({ order: "2" })]);
      span.end();
      return result;
    });
    const [request] = await web.finished("request");
    const [publish] = await web.finished(`publish ${topic}.placed`);
    const [append] = await web.finished(`append ${topic}.placed`);
    const [push] = await web.finished("push place");
    const delivered = await near.finished(`deliver ${confirm}`, 6);
    const retries = await near.finished(`retry ${confirm}`, 3);
    const [executed] = await near.finished("execute place");
    const [followed] = await near.finished(`deliver ${track}`);
    const [publishedBy] = await near.finished(`publish ${topic}.shipped`);
    expect(parentOf(publishedBy)).toBe(idOf(executed));
    expect(publishedBy?.attributes).toEqual({
      "messaging.system.name": "orchestratum",
      "messaging.operation.name": "publish",
      "messaging.operation.type": "send",
      "messaging.destination.name": `${topic}.shipped`,
      "orchestratum.topic": `${topic}.shipped`,
    });
    const all = [request, publish, append, push, ...delivered, ...retries, executed, followed];
    expect(new Set(all.map(traceOf)).size).toBe(1);
    expect([publish, append, push].map(parentOf)).toEqual([idOf(request), idOf(request), idOf(request)]);
    expect(parentOf(followed)).toBe(idOf(executed));
    expect(publish?.kind).toBe(SpanKind.PRODUCER);
    expect(publish?.attributes).toEqual({
      "messaging.system.name": "orchestratum",
      "messaging.operation.name": "publish",
      "messaging.operation.type": "send",
      "messaging.destination.name": `${topic}.placed`,
      "messaging.message.id": published.id,
      "messaging.message.conversation_id": "order-7",
      "orchestratum.event.id": published.id,
      "orchestratum.topic": `${topic}.placed`,
      "orchestratum.correlation_id": "order-7",
      "orchestratum.actor.id": "ada",
      "orchestratum.actor.type": "user",
    });
    expect(append?.attributes).toMatchObject({
      "messaging.operation.name": "append",
      "orchestratum.stream": `order-${queue}`,
      "messaging.batch.message_count": 2,
    });
    const own = delivered.filter(({ attributes }) => attributes["orchestratum.causation_id"] === published.id);
    expect(own.map(parentOf)).toEqual([idOf(publish), idOf(publish)]);
    expect(delivered.filter((span) => parentOf(span) === idOf(append))).toHaveLength(4);
    expect(own[0]?.attributes).toMatchObject({
      "messaging.operation.name": "deliver",
      "messaging.operation.type": "process",
      "messaging.destination.name": queue,
      "messaging.destination.subscription.name": confirm,
      "orchestratum.correlation_id": "order-7",
      "orchestratum.outcome": "retry",
    });
    expect(retries.map(({ attributes }) => attributes["orchestratum.retry.delay"])).toEqual([0.001, 0.001, 0.001]);
    const sent = (await web.metric("messaging.client.sent.messages")).map(({ attributes, value }) => [
      attributes["messaging.operation.name"],
      value,
    ]);
    expect(sent.toSorted()).toEqual([
      ["append", 2],
      ["publish", 1],
      ["push", 1],
    ]);

    // A context that the caller gave is the event's, said with the event or with the call.
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
    await publisher.publish(shipped(undefined, { metadata: { traceparent } }));
    await publisher.publish([shipped()], { metadata: { traceparent } });
    const tracked = await near.finished(`deliver ${track}`, 3);
    expect(tracked.slice(1).map(parentOf)).toEqual(["b".repeat(16), "b".repeat(16)]);
    expect((await web.finished(`publish ${topic}.shipped`, 2)).map(parentOf)).toEqual(["b".repeat(16), "b".repeat(16)]);
  });

  test("each attempt is a span, and each retry one below the attempt that failed", async () => {
    const queue = newQueue();
    const flaky = defineCommand({ name: "flaky", queue, retries: 2, backoff: quick });
    const here = new Process();
    const one = orchestratorOf(here, [
      flaky.handle(({ attempt }) => {
        if (attempt < 3) throw Object.assign(new Error("the bank is away"), { code: "EAWAY" });
      }),
    ]);
    await work(one, queue);
    const { id } = await one.push(flaky());
    expect((await one.waitFor(id)).status).toBe("succeeded");
    const attempts = await here.finished("execute flaky", 3);
    const retries = await here.finished("retry flaky", 2);
    const [push] = await here.finished("push flaky");
    expect(attempts.map(({ attributes }) => attributes["orchestratum.attempt"])).toEqual([1, 2, 3]);
    expect(attempts.map(({ attributes }) => attributes["orchestratum.outcome"])).toEqual([
      "retry",
      "retry",
      "succeeded",
    ]);
    expect(attempts.map(parentOf)).toEqual([idOf(push), idOf(push), idOf(push)]);
    expect(retries.map(parentOf)).toEqual(attempts.slice(0, 2).map(idOf));
    expect(retries[0]?.attributes).toMatchObject({
      "messaging.operation.type": "settle",
      "orchestratum.attempt": 1,
      "orchestratum.retry.delay": 0.001,
    });
    expect(attempts[0]?.status).toEqual({ code: SpanStatusCode.ERROR, message: "the bank is away" });
    expect(attempts[0]?.attributes["error.type"]).toBe("EAWAY");
    const [exception] = attempts[0]?.events ?? [];
    expect(exception?.name).toBe("exception");
    expect(exception?.attributes).toMatchObject({
      "exception.type": "Error",
      "exception.message": "the bank is away",
      "exception.stacktrace": expect.stringMatching(/^\s+at /),
    });
    expect(attempts[2]?.status.code).toBe(SpanStatusCode.UNSET);
  });

  test("a failure, its hook, a cancellation, a timeout and a snooze are told apart", async () => {
    const queue = newQueue();
    const here = new Process();
    const definition = { queue, retries: 0, backoff: quick };
    const breaks = defineCommand({ ...definition, name: "breaks" });
    const gives = defineCommand({ ...definition, name: "gives_up" });
    const late = defineCommand({ ...definition, name: "late", timeoutMs: 30 });
    const naps = defineCommand({ ...definition, name: "naps" });
    let napped = false;
    const held = signal();
    const one = orchestratorOf(here, [
      breaks.handle(
        () => {
          throw new PermanentFailure("No");
        },
        { onFailure: () => {} },
      ),
      gives.handle(() => cancel("enough")),
      // It goes on after its timeout: the attempt is over all the same.
      late.handle(() => held.got(60_000)),
      naps.handle(() => {
        if (napped) return undefined;
        napped = true;
        return snooze({ delayMs: 1 });
      }),
    ]);
    await work(one, queue);
    const pushed = await one.push([breaks(), gives(), late(), naps()]);
    await one.waitFor(pushed.map(({ id }): CommandId => id));

    const [push] = await here.finished("push");
    expect(push?.attributes["messaging.batch.message_count"]).toBe(4);
    expect(push?.attributes["orchestratum.command.name"]).toBe(undefined);
    const outcomes = async (name: string, count = 1) =>
      (await here.finished(`execute ${name}`, count)).map(({ attributes, status }) => [
        attributes["orchestratum.outcome"],
        attributes["error.type"],
        status.code === SpanStatusCode.ERROR,
      ]);
    expect(await outcomes("breaks")).toEqual([["failed", "ORCHESTRATUM_PERMANENT_FAILURE", true]]);
    expect(await outcomes("gives_up")).toEqual([["cancelled", undefined, false]]);
    expect(await outcomes("late")).toEqual([["timed_out", "timed_out", true]]);
    expect(await outcomes("naps", 2)).toEqual([
      ["snooze", undefined, false],
      ["succeeded", undefined, false],
    ]);
    const [hook] = await here.finished("execute breaks onFailure");
    expect(parentOf(hook)).toBe(idOf(push));
    expect(hook?.attributes).toMatchObject({
      "orchestratum.hook": "failure",
      "orchestratum.handler": "breaks.onFailure",
      "orchestratum.parent_id": pushed[0].id,
      "orchestratum.causation_id": pushed[0].id,
    });
    held.give();
  });

  test("a running command that somebody cancels ends as that", async () => {
    const queue = newQueue();
    const here = new Process();
    const holds = defineCommand({ name: "holds", queue });
    let runs = () => {};
    const running = new Promise<void>((resolve) => {
      runs = resolve;
    });
    const one = orchestratorOf(here, [
      holds.handle(({ signal }) => {
        runs();
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      }),
    ]);
    await work(one, queue);
    const { id } = await one.push(holds());
    await running;
    await one.cancel(id);
    expect((await one.waitFor(id)).status).toBe("cancelled");
    const [span] = await here.finished("execute holds");
    expect(span?.attributes["orchestratum.outcome"]).toBe("cancelled");
    expect(span?.status.code).toBe(SpanStatusCode.UNSET);
  });

  test("a context that the caller gave is the command's: it is linked to, and never replaced", async () => {
    const queue = newQueue();
    const here = new Process();
    const given = defineCommand({ name: "given", queue });
    const one = orchestratorOf(here, [given.handle(() => {})]);
    await work(one, queue);
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
    const options = { metadata: { traceparent, tracestate: "vendor=1" } };
    await one.push(given(null, options));
    const [alone] = await here.finished("push given");
    const [executed] = await here.finished("execute given");
    expect([traceOf(alone), parentOf(alone)]).toEqual(["a".repeat(32), "b".repeat(16)]);
    expect([traceOf(executed), parentOf(executed)]).toEqual(["a".repeat(32), "b".repeat(16)]);
    expect(executed?.spanContext().traceState?.serialize()).toBe("vendor=1");

    await here.tracer.startActiveSpan("request", async (span) => {
      await one.push(given(null, options));
      span.end();
    });
    const [, within] = await here.finished("push given", 2);
    expect(parentOf(within)).toBe(idOf((await here.finished("request"))[0]));
    expect(linked(within)).toEqual(["b".repeat(16)]);
    // What is no trace context is none: it is replaced.
    const { id } = await one.push(
      given(null, { metadata: { traceparent: `00-${"0".repeat(32)}-${"b".repeat(16)}-01` } }),
    );
    await one.waitFor(id);
    const [, , third] = await here.finished("push given", 3);
    expect((await one.get(id))?.metadata.traceparent).toBe(`00-${traceOf(third)}-${idOf(third)}-01`);
  });

  test("a trace that is not sampled stays so in the next process, and nothing is exported", async () => {
    const queue = newQueue();
    const [web, here] = [new Process(new AlwaysOffSampler()), new Process()];
    const quiet = defineCommand({ name: "quiet", queue });
    const producer = orchestratorOf(web, []);
    const one = orchestratorOf(here, [quiet.handle(() => {})], { claims: false });
    await work(one, queue);
    const { id } = await producer.push(quiet());
    await producer.waitFor(id);
    expect((await one.get(id))?.metadata.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
    await one.stop();
    expect([...web.names(), ...here.names()]).toEqual([]);
  });

  test("nothing of a payload is in any span or metric; messages of errors only where that is wanted", async () => {
    const queue = newQueue();
    const secret = "s3cret-7c1f";
    const leaks = defineCommand({
      name: "leaks",
      queue,
      retries: 0,
      input: v.object({ secret: v.string() }),
      output: v.object({ secret: v.string() }),
    });
    const strict = defineCommand({ name: "strict", queue, retries: 0, input: v.object({ count: v.number() }) });
    const thrower = defineCommand({ name: "thrower", queue, retries: 0 });
    const wrong = defineCommand({ name: "wrong", queue, retries: 0, output: v.object({ count: v.number() }) });
    for (const errorMessages of [true, false]) {
      const here = new Process();
      const one = orchestratorOf(
        here,
        [
          leaks.handle(({ input, progress }) => {
            progress(input);
            return input;
          }),
          wrong.handle(() => ({ count: secret }) as never),
          thrower.handle(() => {
            // What is beside the message is nobody's, and the message where it is not wanted.
            throw Object.assign(new Error(errorMessages ? "away" : secret, { cause: new Error(secret) }), {
              data: secret,
            });
          }),
        ],
        { errorMessages },
      );
      await work(one, queue);
      const refused = one.push(strict({ count: secret } as never, { metadata: { own: secret } }));
      await expect(refused).rejects.toThrow(secret);
      const [push] = await here.finished("push strict");
      expect(push?.status.code).toBe(SpanStatusCode.ERROR);
      expect(push?.attributes["error.type"]).toBe("ORCHESTRATUM_INVALID_INPUT");
      const commands = [
        leaks({ secret }, { metadata: { own: secret, source: secret } }),
        wrong(),
        thrower(null, { metadata: { own: secret } }),
      ] as const;
      const pushed = await one.push(commands);
      await one.waitFor(pushed.map(({ id }): CommandId => id));
      for (const name of ["leaks", "wrong", "thrower"]) await here.finished(`execute ${name}`);
      const spans = here.spans.getFinishedSpans().map(({ name, attributes, status, events, links }) => {
        return JSON.stringify({ name, attributes, status, events, links });
      });
      expect(spans.length).toBeGreaterThan(4);
      expect(spans.filter((span) => span.includes(secret))).toEqual([]);
      const { resourceMetrics } = await here.reader.collect();
      expect(JSON.stringify(resourceMetrics.scopeMetrics)).not.toContain(secret);
      expect(spans.join()).toContain("invalid_output");
      expect(spans.join().includes("away")).toBe(errorMessages);
      await one.stop();
    }
  });

  test("metrics count outcomes, and measure waiting, execution and claims", async () => {
    const queue = newQueue();
    const here = new Process();
    const counts = defineCommand({ name: "counts", queue, retries: 1, backoff: quick, input: v.string() });
    const observations: Observation[] = [];
    const one = orchestratorOf(
      here,
      [
        counts.handle(({ input, attempt }) => {
          if (input === "fails" || (input === "retries" && attempt === 1)) throw new TypeError("no");
        }),
      ],
      { observe: (observation) => void observations.push(observation) },
    );
    const pushed = await one.push([counts("works"), counts("works"), counts("fails"), counts("retries")]);
    await one.push(counts("later", { delayMs: 3_600_000 }));
    const oldest = (await here.metric("orchestratum.queue.depth")).find(
      ({ attributes }) => attributes["messaging.destination.name"] === queue,
    );
    expect(oldest?.value).toBe(4);
    const worker = await work(one, queue);
    await one.waitFor(pushed.map(({ id }): CommandId => id));
    await here.finished("execute counts", 6);
    // It claims until then.
    await worker.stop();

    const of = async (name: string, ...keys: string[]) =>
      Object.fromEntries(
        (await here.metric(name))
          .map(({ attributes, value }) => [
            keys.map((key) => attributes[key] ?? "none").join(" "),
            typeof value === "number" ? value : (value as Histogram).count,
          ])
          .toSorted(),
      );
    expect(await of("orchestratum.command.outcomes", "orchestratum.outcome", "error.type")).toEqual({
      "succeeded none": 3,
      "retry TypeError": 2,
      "failed TypeError": 1,
    });
    expect(await of("messaging.process.duration", "orchestratum.outcome", "messaging.operation.type")).toEqual({
      "succeeded process": 3,
      "retry process": 2,
      "failed process": 1,
    });
    expect(await of("orchestratum.command.wait", "messaging.destination.name", "orchestratum.command.name")).toEqual({
      [`${queue} counts`]: 6,
    });
    expect(await of("messaging.client.sent.messages", "messaging.operation.name")).toEqual({ push: 5 });
    expect(await of("messaging.client.consumed.messages", "messaging.operation.name")).toEqual({ claim: 6 });
    const [sizes] = await here.metric("orchestratum.claim.size");
    const claims = observations.filter(({ type }) => type === "claimed");
    expect((await of("messaging.client.operation.duration", "messaging.operation.name")).push).toBe(2);
    // A claim that leased nothing has no queue.
    const durations = (await here.metric("messaging.client.operation.duration"))
      .filter(({ attributes }) => attributes["messaging.operation.name"] === "claim")
      .map(histogramOf);
    expect(durations.reduce((sum, { count }) => sum + count, 0)).toBe(claims.length);
    expect(durations.every(({ min = 0, max = 60 }) => min > 0 && max < 60)).toBe(true);
    expect(histogramOf(sizes).sum).toBe(6);
    expect(histogramOf(sizes).count).toBe(claims.length);
    const [wait] = await here.metric("orchestratum.command.wait");
    expect(histogramOf(wait).buckets.boundaries).toContain(86_400);
    expect(histogramOf(wait).min).toBeGreaterThanOrEqual(0);
  });

  test("waiting is measured from when a command was due until it was claimed", async () => {
    const queue = newQueue();
    const here = new Process();
    const waits = defineCommand({ name: "waits", queue });
    let startedAt = 0;
    const one = orchestratorOf(here, [
      waits.handle(() => {
        startedAt = performance.now();
      }),
    ]);
    const before = performance.now();
    const { id } = await one.push(waits());
    const pushedAt = performance.now();
    // Some statements long.
    for (let i = 0; i < 20; i++) await one.counts();
    const workedAt = performance.now();
    await work(one, queue);
    await one.waitFor(id);
    const [wait] = await here.metric("orchestratum.command.wait");
    const { sum = 0 } = histogramOf(wait);
    expect(sum * 1000).toBeGreaterThanOrEqual(workedAt - pushedAt - 1);
    expect(sum * 1000).toBeLessThanOrEqual(startedAt - before + 1);
  });

  test("gauges are of the whole database, and fall to zero", async () => {
    const queue = newQueue();
    const here = new Process();
    const waits = defineCommand({ name: "waits", queue });
    const released = signal();
    const one = orchestratorOf(here, [waits.handle(() => released.got())], { gaugesEveryMs: 0 });
    const pushed = await one.push([waits(), waits(), waits(null, { delayMs: 3_600_000 })]);
    const gauge = async (name: string) =>
      (await here.metric(`orchestratum.queue.${name}`)).find(
        ({ attributes }) => attributes["messaging.destination.name"] === queue,
      )?.value;
    expect([await gauge("depth"), await gauge("scheduled"), await gauge("running")]).toEqual([2, 1, 0]);
    const age = await gauge("oldest_due_age");
    await vi.waitFor(async () => expect(await gauge("oldest_due_age")).toBeGreaterThan(age), { timeout: 20_000 });
    const worker = one.startWorker({ queues: [queue], concurrency: 1 });
    const workerRunning = async () =>
      (await here.metric("orchestratum.worker.running")).find(
        ({ attributes }) => attributes["messaging.client.id"] === worker.id,
      )?.value;
    await vi.waitFor(
      async () => {
        const gauges = [await gauge("depth"), await gauge("scheduled"), await gauge("running"), await workerRunning()];
        expect(gauges).toEqual([1, 1, 1, 1]);
      },
      { timeout: 20_000 },
    );
    released.give();
    await one.cancel(pushed[2].id);
    // A queue in which nothing is left is none that stats() names, and yet it is told of.
    await vi.waitFor(
      async () => {
        expect([await gauge("depth"), await gauge("scheduled"), await gauge("oldest_due_age")]).toEqual([0, 0, 0]);
      },
      { timeout: 20_000 },
    );
  });

  test("a gauge tells how far each reader is behind", async () => {
    const here = new Process();
    const topic = newQueue();
    const noted = defineEvent({ topic });
    const one = orchestratorOf(here, [], { gaugesEveryMs: 0 });
    const lag = async () =>
      (await here.metric("orchestratum.reader.lag")).find(
        ({ attributes }) => attributes["orchestratum.reader"] === topic,
      )?.value;
    const released = signal();
    const reader = one.startReader({
      name: topic,
      from: "now",
      batchSize: 1,
      pollIntervalMs: 10,
      handle: () => released.got(),
    });
    await vi.waitFor(async () => expect(await lag()).toBe(0), { timeout: 20_000 });
    await one.publish([noted(), noted()]);
    await vi.waitFor(async () => expect(await lag()).toBe(2), { timeout: 20_000 });
    released.give();
    await vi.waitFor(async () => expect(await lag()).toBe(0), { timeout: 20_000 });
    await reader.stop();
  });

  test("gauges tell of queues and workers what came of the last day", async () => {
    const queue = newQueue();
    const here = new Process();
    const some = defineCommand({ name: "some", queue, retries: 0, input: v.string() });
    const one = orchestratorOf(
      here,
      [
        some.handle(({ input }) => {
          if (input === "gives up") return cancel("enough");
          if (input === "fails") throw new Error("no");
          return undefined;
        }),
      ],
      { gaugesEveryMs: 0 },
    );
    const worker = await work(one, queue);
    const before = performance.now();
    const pushed = await one.push([some("works"), some("works"), some("fails"), some("gives up")]);
    await one.waitFor(pushed.map(({ id }): CommandId => id));
    const seconds = (performance.now() - before) / 1_000;
    // Counts at once what has ended, as the duty would a minute later.
    for (let more = true; more; ) {
      const [step] = await driver.query<{ more: boolean; later: boolean }>(
        "select f.more, f.later from orchestratum.fold_history(0) f",
        [],
      );
      more = step?.more === true || step?.later === true;
    }
    for (const [kind, key, value] of [
      ["queue", "messaging.destination.name", queue],
      ["worker", "messaging.client.id", worker.id],
    ] as const) {
      const points = async (name: string) =>
        (await here.metric(`orchestratum.${kind}.${name}`)).filter(({ attributes }) => attributes[key] === value);
      await vi.waitFor(
        async () => {
          const ended = await points("ended");
          expect(ended.map((point) => [point.attributes["orchestratum.outcome"], point.value])).toEqual([
            ["succeeded", 2],
            ["failed", 1],
            ["cancelled", 1],
          ]);
        },
        { timeout: 20_000 },
      );
      const [mean] = await points("mean_execution");
      expect(mean?.value).toBeGreaterThan(0);
      // Seconds: none of these took longer than all of them.
      expect(mean?.value).toBeLessThan(seconds);
      if (kind === "worker") expect((await points("running")).map((point) => point.value)).toEqual([0]);
    }
  });

  test("collections share a reading of the gauges, and one that stopped reads no more", async () => {
    let asked = 0;
    const counting: Driver = {
      name: driver.name,
      script: (text) => driver.script(text),
      query: (...given: Parameters<Driver["query"]>) => {
        if (given[0].includes("count_live")) asked++;
        return driver.query(...given);
      },
    };
    // Two seconds at each look, so that what stats() itself shares is over at the next.
    let now = 0;
    const clock = { ...systemClock, now: () => (now += 2_000) };
    const here = new Process();
    const reading = (options: OpenTelemetryOptions) => {
      const one = createOrchestrator({ database: counting, telemetry: here.telemetry(options), clock });
      orchestrators.push(one);
      return one;
    };
    const collect = async () => {
      for (let i = 0; i < 5; i++) await here.reader.collect();
      const count = asked;
      asked = 0;
      return count;
    };
    const fresh = reading({ gaugesEveryMs: 0 });
    expect(await collect()).toBe(5);
    await fresh.stop();
    expect(await collect()).toBe(0);
    await reading({ gauges: false });
    expect(await collect()).toBe(0);
    await reading({});
    expect(await collect()).toBe(1);
  });

  test("a lease that is lost is counted, and its span says so", async () => {
    const queue = newQueue();
    const here = new Process();
    const stolen = defineCommand({ name: "stolen", queue });
    const schema = "orchestratum";
    const one = orchestratorOf(here, [
      stolen.handle(async ({ id, signal }) => {
        // Somebody else claims it: as after a standstill that outlasted the lease.
        await driver.query(
          `update ${schema}.command set fence = fence + 1, leased_by = 'other' where id = $1::text::uuid`,
          [id],
        );
        signal.throwIfAborted();
      }),
    ]);
    await work(one, queue);
    await one.push(stolen());
    const [span] = await here.finished("execute stolen");
    expect(span?.attributes).toMatchObject({ "orchestratum.outcome": "lost", "error.type": "lost" });
    const [losses] = await here.metric("orchestratum.lease.losses");
    expect([losses?.value, losses?.attributes["orchestratum.reason"]]).toEqual([1, "taken"]);
  });

  test("a lease whose worker was killed is counted by who claims its command again", async () => {
    const queue = newQueue();
    const here = new Process();
    const left = defineCommand({ name: "left", queue });
    const one = orchestratorOf(here, [left.handle(() => {})]);
    await one.push(left());
    const lanes = JSON.stringify([{ queue, priority: 5 }]);
    await driver.query("select id from orchestratum.claim('killed', $1::text::json, 10, 8000000, 1)", [lanes]);
    await work(one, queue);
    await here.finished("execute left");
    const losses = await here.metric("orchestratum.lease.losses");
    expect(losses.map(({ value, attributes }) => [value, attributes])).toEqual([
      [
        1,
        {
          "messaging.destination.name": queue,
          "orchestratum.command.name": "left",
          "orchestratum.reason": "abandoned",
        },
      ],
    ]);
  });

  test("the lag of notifications is measured where they arrive", async () => {
    const queue = newQueue();
    const here = new Process();
    const one = orchestratorOf(here, [defineCommand({ name: "hears", queue }).handle(() => {})]);
    await work(one, queue);
    await vi.waitFor(
      async () => {
        const [lag] = await here.metric("orchestratum.notification.lag");
        expect(histogramOf(lag).count).toBeGreaterThanOrEqual(1);
        expect(histogramOf(lag).min).toBeGreaterThanOrEqual(0);
      },
      { timeout: 30_000, interval: 200 },
    );
  });

  test("execute() without the queue nests in what is active, and ends its span by itself", async () => {
    const here = new Process();
    const direct = defineCommand({ name: "direct" });
    const one = orchestratorOf(here, [
      direct.handle(() => {
        throw new Error("no");
      }),
    ]);
    await here.tracer.startActiveSpan("request", async (span) => {
      await one.execute(direct());
      span.end();
    });
    const [span] = await here.finished("execute direct");
    expect(parentOf(span)).toBe(idOf((await here.finished("request"))[0]));
    expect(span?.attributes["orchestratum.outcome"]).toBe("failed");
    expect(span?.status.code).toBe(SpanStatusCode.ERROR);
  });

  test("a worker that was started within a span does not put its commands there", async () => {
    const queue = newQueue();
    const here = new Process();
    const plain = defineCommand({ name: "plain", queue });
    const one = orchestratorOf(here, [plain.handle(() => {})]);
    // Pushed by somebody who traces nothing.
    const untraced = createOrchestrator({ database: driver });
    orchestrators.push(untraced);
    const { id } = await untraced.push(plain());
    await here.tracer.startActiveSpan("start", async (span) => {
      await work(one, queue);
      await one.waitFor(id);
      span.end();
    });
    const [executed] = await here.finished("execute plain");
    expect(parentOf(executed)).toBe(undefined);
    expect(executed?.links).toEqual([]);
    expect((await here.finished(`claim ${queue}`)).map(parentOf)).toEqual([undefined]);
  });

  test("without an SDK nothing is written to metadata but what the caller gave", async () => {
    const queue = newQueue();
    const bare = defineCommand({ name: "bare", queue });
    const one = createOrchestrator({
      database: driver,
      handlers: [bare.handle(() => {})],
      telemetry: openTelemetry({ tracerProvider: trace }),
    });
    orchestrators.push(one);
    await work(one, queue);
    const { id } = await one.push(bare());
    expect((await one.waitFor(id)).status).toBe("succeeded");
    expect((await one.get(id))?.metadata).toEqual({ correlationId: id });
  });
});

test("every attribute and metric is in docs/telemetry.md", () => {
  const source = readFileSync(new URL("../../adapters/opentelemetry.ts", import.meta.url), "utf8");
  const guide = readFileSync(new URL("../../docs/telemetry.md", import.meta.url), "utf8");
  const names = new Set(source.match(/"(?:messaging|orchestratum|error)\.[a-z_.]+"/g));
  expect(names.size).toBeGreaterThan(30);
  expect([...names].filter((name) => !guide.includes(`\`${name.slice(1, -1)}\``))).toEqual([]);
});

test("metadata that is as large as it may be still takes a trace context", async () => {
  const database = await createDatabase();
  try {
    const here = new Process();
    const large = defineCommand({ name: "large" });
    const follows = defineCommand({ name: "follows" });
    const one = createOrchestrator({
      database: postgresJs(database.sql),
      handlers: [large.handle(({ push }) => void push(follows())), follows.handle(() => {})],
      telemetry: here.telemetry(),
    });
    one.startWorker();
    const metadata = { own: "" };
    metadata.own = "x".repeat(8 * 1024 - JSON.stringify(metadata).length);
    const { id } = await one.push(large(null, { metadata }));
    expect((await one.waitFor(id)).status).toBe("succeeded");
    await here.finished("execute follows");
    await one.stop();
  } finally {
    await database.drop();
  }
});

test("createOrchestrator() refuses telemetry that is none, and openTelemetry() a time that is none", () => {
  const database = { query: async () => [], script: async () => {} } as unknown as Driver;
  expect(() => createOrchestrator({ database, telemetry: openTelemetry as never })).toThrow(
    /^Cannot create orchestrator: telemetry must be as openTelemetry\(\) makes it, got .*: call it$/,
  );
  expect(() => openTelemetry({ gaugesEveryMs: Number.NaN })).toThrow(RangeError);
});
