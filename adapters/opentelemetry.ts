/**
 * Traces and metrics by OpenTelemetry's API: `createOrchestrator({ …, telemetry: openTelemetry() })`.
 *
 * The trace travels in the metadata, as W3C Trace Context, whatever propagator the process uses elsewhere: what a push
 * wrote there, another process reads. An attempt's span is a child of the push that it comes from, and links to it; what
 * the attempt pushes, publishes or is followed by carries the attempt's context. So a chain is one trace.
 *
 * An attempt's span ends when its outcome is recorded, since only then it is known what came of it, and is dated back to
 * when the handler had ended. A claim leases for many traces at once: it is a trace of its own, which links to them.
 *
 * Attributes are those of the semantic conventions for messaging, version 1.45.0, and `orchestratum.*`. No input, output
 * or metadata but ids; of errors what `logTo` would write.
 */
import {
  type Attributes,
  type Context,
  context,
  createTraceState,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  type Meter,
  type MeterProvider,
  metrics,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  type TracerProvider,
  trace,
} from "@opentelemetry/api";
import type {
  Attempted,
  Executing,
  Metadata,
  Middleware,
  Observation,
  ObservedCommand,
  ReaderState,
  Sent,
  Stats,
  Telemetry,
  WorkerFigures,
} from "../src/index.ts";
import { tellable } from "../src/log.ts";
import { deliveryPrefix } from "../src/subscribe.ts";

export interface OpenTelemetryOptions {
  /** @default the global one */
  readonly tracerProvider?: TracerProvider;
  /** Set up before `openTelemetry()` is called: the global one cannot be replaced later. @default the global one */
  readonly meterProvider?: MeterProvider;
  /** Whether each claim that leased something is a span. @default true */
  readonly claims?: boolean;
  /** Whether this process reports the gauges of queues, workers and readers. They are of the whole database, so one process is enough. @default true */
  readonly gauges?: boolean;
  /** For how long a reading of the gauges is good, in ms: more frequent collections ask no database. @default 10_000 */
  readonly gaugesEveryMs?: number;
  /** Whether the messages of errors are told; their types and stack frames are. @default true */
  readonly errorMessages?: boolean;
}

/** In seconds. The first fourteen are those of the conventions; commands run, and wait, for longer than messages do. */
const durationBuckets = [
  0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 1_800, 7_200, 86_400,
];
const sizeBuckets = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000];

/** W3C wants that many characters to be carried; more may be left out. */
const maxStateLength = 512;
/** As many as an SDK keeps, unless it is told otherwise. */
const maxLinks = 128;

/** What one call pushes, publishes or appends. */
interface Sending {
  readonly verb: string;
  /** Of the span, after the verb. */
  readonly name: string | undefined;
  readonly to: string | undefined;
  readonly attributes: Attributes;
  readonly messages: readonly {
    readonly name: string;
    readonly queue: string;
    readonly metadata: Metadata;
    readonly idAttribute: string;
    /** What metrics tell it apart by. */
    readonly measured: Attributes;
  }[];
}

/** An attempt that runs here, or whose outcome is not recorded yet. */
interface Running {
  readonly span: Span;
  readonly context: Context;
  readonly executing: Executing;
  readonly startedAt: number;
  /** The same moment by the calendar, in ms. */
  readonly startTime: number;
  /** When the handler ended; undefined while it goes on. */
  endedAt: number | undefined;
}

/** What goes wrong in telemetry must not fail a push that has committed, nor an attempt. */
function quietly<Value>(work: () => Value): Value | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/**
 * Traces pushes, claims and attempts, and measures them, by the providers of the process or those that are given. One
 * may serve several orchestrators.
 *
 * @example
 * createOrchestrator({ database, handlers, telemetry: openTelemetry() });
 */
export function openTelemetry(options: OpenTelemetryOptions = {}): Telemetry {
  const { claims = true, gauges = true, gaugesEveryMs = 10_000, errorMessages = true } = options;
  if (!(gaugesEveryMs >= 0)) {
    throw new RangeError(`Cannot trace: gaugesEveryMs must be a number from 0, got ${String(gaugesEveryMs)}`);
  }
  const tracer = (options.tracerProvider ?? trace).getTracer("orchestratum");
  const meter = (options.meterProvider ?? metrics).getMeter("orchestratum");
  const instruments = createInstruments(meter);
  const attempts = new Map<string, Running>();

  /** A span that records nothing where the tracer throws: a processor, an exporter or a sampler of the user's. */
  const startSpan = (...given: Parameters<Tracer["startSpan"]>): Span =>
    quietly(() => tracer.startSpan(...given)) ?? trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

  /** Says of a span what went wrong, and answers the error's type. */
  function fail(span: Span, error: unknown, time?: number): string {
    const { code, name, message, stack } = tellable(error, errorMessages);
    const type = code === "error" ? (name ?? "_OTHER") : code;
    const exception: Attributes = { "exception.type": name ?? code };
    if (message !== undefined) exception["exception.message"] = message;
    if (stack !== undefined) exception["exception.stacktrace"] = stack;
    span.addEvent("exception", exception, time);
    span.setStatus({ code: SpanStatusCode.ERROR, message: message ?? type });
    span.setAttribute("error.type", type);
    return type;
  }

  /** A span around what is sent, whose context `next` is to put into it; undefined where nothing traces. */
  async function send(
    { verb, name, to, attributes, messages }: Sending,
    next: (carried: Carried | undefined) => Promise<readonly { readonly id: string }[]>,
  ): Promise<void> {
    const [first] = messages;
    if (first === undefined) return void (await next(undefined));
    const given = messages.map(({ metadata }) => remoteOf(metadata));
    const parent = parentOf(context.active(), given);
    const kind = operation(verb, "send");
    const isOne = messages.length === 1;
    const span = startSpan(
      name === undefined ? verb : `${verb} ${name}`,
      {
        kind: SpanKind.PRODUCER,
        attributes: {
          ...kind,
          ...destination(to),
          ...attributes,
          ...(isOne ? chainAttributes(first.metadata) : { "messaging.batch.message_count": messages.length }),
        },
        links: linksTo(given, trace.getSpanContext(parent)),
      },
      parent,
    );
    const within = trace.setSpan(parent, span);
    const startedAt = performance.now();
    let error: string | undefined;
    try {
      const [sent] = await context.with(within, () => next(carriedBy(within)));
      quietly(() => {
        if (!isOne || !sent) return;
        span.setAttributes({
          ...{ "messaging.message.id": sent.id, [first.idAttribute]: sent.id },
          ...chainAttributes({ correlationId: first.metadata.correlationId ?? sent.id }),
        });
      });
    } catch (thrown) {
      error = quietly(() => fail(span, thrown)) ?? "_OTHER";
      throw thrown;
    } finally {
      quietly(() => {
        span.end();
        const failed: Attributes = error === undefined ? {} : { "error.type": error };
        const durationMs = performance.now() - startedAt;
        instruments.operationDuration.record(durationMs / 1000, { ...kind, ...destination(to), ...failed });
        for (const [message, count] of counted(messages)) {
          instruments.sent.add(count, { ...kind, ...message.measured, ...failed });
        }
      });
    }
  }

  const push: NonNullable<Middleware["push"]> = ({ commands }, next) => {
    const name = only(commands, (command) => command.name);
    return send(
      {
        verb: "push",
        name,
        to: only(commands, (command) => command.queue),
        attributes: name === undefined ? {} : { "orchestratum.command.name": name },
        messages: commands.map((command) => ({
          name: command.name,
          queue: command.queue,
          metadata: command.metadata,
          idAttribute: "orchestratum.command.id",
          measured: ofCommand(command),
        })),
      },
      (carried) =>
        next(({ metadata }) => {
          // A context that the caller chose is the command's: it is linked to, and not replaced.
          return carried && !remoteOf(metadata) ? carrying(metadata, carried) : undefined;
        }),
    );
  };

  const publish: NonNullable<Middleware["publish"]> = ({ stream, events }, next) => {
    const topic = only(events, (event) => event.topic);
    return send(
      {
        verb: stream === undefined ? "publish" : "append",
        name: topic,
        to: topic,
        attributes: {
          ...(topic === undefined ? {} : { "orchestratum.topic": topic }),
          ...(stream === undefined ? {} : { "orchestratum.stream": stream }),
        },
        messages: events.map((event) => ({
          name: event.topic,
          queue: "",
          metadata: event.metadata,
          idAttribute: "orchestratum.event.id",
          measured: destination(event.topic),
        })),
      },
      // An event's own lies over it; what the call's options gave would not.
      (carried) => next(events.every(({ metadata }) => remoteOf(metadata)) ? undefined : (carried as Metadata)),
    );
  };

  async function execute(executing: Executing, next: Parameters<NonNullable<Middleware["execute"]>>[1]): Promise<void> {
    const { metadata, worker } = executing;
    const creation = remoteOf(metadata);
    // A worker's loop began in some context that has nothing to do with the commands it runs.
    const base = worker === undefined ? context.active() : ROOT_CONTEXT;
    const parent = creation ? trace.setSpanContext(base, creation) : base;
    const span = startSpan(
      spanName(executing),
      {
        kind: SpanKind.CONSUMER,
        attributes: executeAttributes(executing, metadata),
        links: linksTo([creation], undefined),
      },
      parent,
    );
    const within = trace.setSpan(parent, span);
    const running: Running = {
      span,
      context: within,
      executing,
      startedAt: performance.now(),
      startTime: Date.now(),
      endedAt: undefined,
    };
    const key = keyOf(executing);
    if (worker !== undefined) attempts.set(key, running);
    const carried = carriedBy(within);
    const isChanged = carried !== undefined && carried.traceparent !== metadata.traceparent;
    let attempted: Attempted | undefined;
    let thrown: unknown;
    try {
      attempted = await context.with(within, () => next(isChanged ? carrying(metadata, carried) : undefined));
    } catch (error) {
      thrown = error;
      throw error;
    } finally {
      running.endedAt = performance.now();
      // Without a worker nothing else is heard of it.
      if (worker === undefined) {
        const failure = attempted?.kind === "failed" ? attempted.error : thrown;
        quietly(() => settle(running, outcomeOf(attempted), failure));
      }
    }
  }

  /** The outcome of an attempt is known: its span ends, as of when its handler had ended. */
  function settle(running: Running, outcome: string, error: unknown): number {
    const { span, executing, startedAt, startTime } = running;
    const durationMs = (running.endedAt ?? performance.now()) - startedAt;
    const endTime = startTime + durationMs;
    const measured: Attributes = {
      ...processing(executing.name),
      ...ofCommand(executing),
      "orchestratum.outcome": outcome,
    };
    span.setAttribute("orchestratum.outcome", outcome);
    if (isFailure(outcome)) measured["error.type"] = fail(span, error ?? { code: outcome, message: outcome }, endTime);
    span.end(endTime);
    instruments.processDuration.record(durationMs / 1000, measured);
    return endTime;
  }

  /** What committed with the outcome of an attempt was no call of its own: spans without a length, below the attempt. */
  function sentWith(sent: readonly Sent[], running: Running | undefined, time: number | undefined): void {
    const calls = new Map<string, Sent[]>();
    for (const one of sent) {
      const { verb, name, queue, stream, count } = one;
      const measured = queue === undefined ? destination(name) : ofCommand({ name, queue });
      instruments.sent.add(count, { ...operation(verb, "send"), ...measured });
      const key = `${verb}\n${stream}`;
      const call = calls.get(key);
      if (call) call.push(one);
      else calls.set(key, [one]);
    }
    if (!running || time === undefined) return;
    for (const call of calls.values()) {
      const { verb, stream } = call[0] as Sent;
      const name = only(call, (one) => one.name);
      const count = call.reduce((sum, one) => sum + one.count, 0);
      const attributes: Attributes = {
        ...operation(verb, "send"),
        ...destination(verb === "push" ? only(call, (one) => one.queue) : name),
      };
      if (name !== undefined) attributes[verb === "push" ? "orchestratum.command.name" : "orchestratum.topic"] = name;
      if (stream !== undefined) attributes["orchestratum.stream"] = stream;
      if (count > 1) attributes["messaging.batch.message_count"] = count;
      const kind = SpanKind.PRODUCER;
      tracer
        .startSpan(
          name === undefined ? verb : `${verb} ${name}`,
          { kind, attributes, startTime: time },
          running.context,
        )
        .end(time);
    }
  }

  function finished(observation: Extract<Observation, { type: "command_finished" }>): void {
    const { verdict, error, delayMs, sent } = observation;
    const key = keyOf(observation);
    const running = attempts.get(key);
    attempts.delete(key);
    instruments.outcomes.add(1, {
      ...ofCommand(observation),
      "orchestratum.outcome": verdict,
      ...(error && isFailure(verdict) ? { "error.type": errorType(error) } : {}),
    });
    const endTime = running && settle(running, verdict, error);
    if (sent) sentWith(sent, running, endTime);
    if (!running || endTime === undefined || verdict !== "retry") return;
    const { executing } = running;
    const attributes = { ...executeAttributes(executing, executing.metadata), ...operation("retry", "settle") };
    if (delayMs !== undefined) attributes["orchestratum.retry.delay"] = delayMs / 1000;
    const name = spanName(executing, "retry");
    tracer
      .startSpan(name, { kind: SpanKind.CLIENT, attributes, startTime: endTime }, running.context)
      .end(Math.max(endTime, Date.now()));
  }

  function countLoss(command: ObservedCommand, reason: "expired" | "taken" | "abandoned"): void {
    instruments.losses.add(1, { ...ofCommand(command), "orchestratum.reason": reason });
  }

  function lost(observation: Extract<Observation, { type: "lease_lost" }>): void {
    const key = keyOf(observation);
    const running = attempts.get(key);
    attempts.delete(key);
    countLoss(observation, observation.reason);
    if (running) settle(running, "lost", undefined);
  }

  function claimed({ worker, count, durationMs, commands }: Extract<Observation, { type: "claimed" }>): void {
    const queue = only(commands, (command) => command.queue);
    const attributes: Attributes = { ...operation("claim", "receive"), ...destination(queue) };
    instruments.claimSize.record(count);
    instruments.operationDuration.record(durationMs / 1000, attributes);
    for (const [command, some] of counted(commands)) {
      instruments.consumed.add(some, { ...operation("claim", "receive"), ...ofCommand(command) });
    }
    if (!claims || count === 0) return;
    const endTime = Date.now();
    const span = tracer.startSpan(
      queue === undefined ? "claim" : `claim ${queue}`,
      {
        kind: SpanKind.CLIENT,
        startTime: endTime - durationMs,
        attributes: { ...attributes, "messaging.batch.message_count": count, "messaging.client.id": worker },
      },
      ROOT_CONTEXT,
    );
    // Metadata is read for those alone who keep it.
    if (span.isRecording()) {
      span.addLinks(
        linksTo(
          commands.slice(0, maxLinks).map(({ chain }) => remoteOf(chain)),
          undefined,
        ),
      );
    }
    span.end(endTime);
  }

  function observe(observation: Observation): void {
    switch (observation.type) {
      case "claimed":
        return claimed(observation);
      case "command_started":
        if (Number.isFinite(observation.waitedMs)) {
          instruments.wait.record(Math.max(observation.waitedMs, 0) / 1000, ofCommand(observation));
        }
        return;
      case "command_finished":
        return finished(observation);
      case "lease_lost":
        return lost(observation);
      case "lease_abandoned":
        return countLoss(observation, "abandoned");
      case "notification_heard":
        return instruments.notificationLag.record(observation.lagMs / 1000);
      case "worker_stopped":
        // What it could not record in time is nobody's to tell any more.
        for (const [key, running] of attempts) {
          if (running.executing.worker !== observation.worker) continue;
          attempts.delete(key);
          settle(running, "lost", undefined);
        }
        return;
    }
  }

  return {
    middleware: { name: "opentelemetry", push, publish, execute },
    observe,
    attach: (orchestrator) => (gauges ? observeGauges(meter, instruments, orchestrator, gaugesEveryMs) : () => {}),
  };
}

type Instruments = ReturnType<typeof createInstruments>;

function createInstruments(meter: Meter) {
  const seconds = { unit: "s", advice: { explicitBucketBoundaries: durationBuckets } };
  const commands = { unit: "{command}" };
  return {
    operationDuration: meter.createHistogram("messaging.client.operation.duration", {
      ...seconds,
      description: "How long pushes and claims take",
    }),
    processDuration: meter.createHistogram("messaging.process.duration", {
      ...seconds,
      description: "How long attempts take",
    }),
    sent: meter.createCounter("messaging.client.sent.messages", {
      unit: "{message}",
      description: "Commands that were pushed, or were to be",
    }),
    consumed: meter.createCounter("messaging.client.consumed.messages", {
      unit: "{message}",
      description: "Commands that were claimed",
    }),
    outcomes: meter.createCounter("orchestratum.command.outcomes", {
      ...commands,
      description: "How leases ended: final statuses, and what became of attempts",
    }),
    wait: meter.createHistogram("orchestratum.command.wait", {
      ...seconds,
      description: "How long commands were due before they were claimed",
    }),
    claimSize: meter.createHistogram("orchestratum.claim.size", {
      ...commands,
      description: "Commands of one claim",
      advice: { explicitBucketBoundaries: sizeBuckets },
    }),
    notificationLag: meter.createHistogram("orchestratum.notification.lag", {
      ...seconds,
      description: "From when a notification was to be sent until it was heard",
    }),
    losses: meter.createCounter("orchestratum.lease.losses", { unit: "{lease}", description: "Leases that were lost" }),
    depth: meter.createObservableGauge("orchestratum.queue.depth", {
      ...commands,
      description: "Commands that are due, and that no worker has",
    }),
    scheduled: meter.createObservableGauge("orchestratum.queue.scheduled", {
      ...commands,
      description: "Commands that wait for their time",
    }),
    running: meter.createObservableGauge("orchestratum.queue.running", {
      ...commands,
      description: "Commands that a worker has",
    }),
    oldestDueAge: meter.createObservableGauge("orchestratum.queue.oldest_due_age", {
      unit: "s",
      description: "How long the command has been due that has been due for longest; 0 where none is",
    }),
    ended: meter.createObservableGauge("orchestratum.queue.ended", {
      ...commands,
      description: "Commands that ended in the last 24 hours",
    }),
    meanExecution: meter.createObservableGauge("orchestratum.queue.mean_execution", {
      unit: "s",
      description: "How long attempts took in the last 24 hours, on average",
    }),
    workerRunning: meter.createObservableGauge("orchestratum.worker.running", {
      ...commands,
      description: "Commands that the worker has",
    }),
    workerEnded: meter.createObservableGauge("orchestratum.worker.ended", {
      ...commands,
      description: "Commands that the worker ended in the last 24 hours",
    }),
    workerMeanExecution: meter.createObservableGauge("orchestratum.worker.mean_execution", {
      unit: "s",
      description: "How long the worker's attempts took in the last 24 hours, on average",
    }),
    readerLag: meter.createObservableGauge("orchestratum.reader.lag", {
      unit: "{event}",
      description: "Events of the log that the reader has not dealt with",
    }),
  };
}

/** Reports queues, workers and readers at each collection, from a reading that is good for a while. */
function observeGauges(
  meter: Meter,
  instruments: Instruments,
  orchestrator: Parameters<Telemetry["attach"]>[0],
  everyMs: number,
): () => void {
  const { depth, scheduled, running, oldestDueAge, ended, meanExecution } = instruments;
  const { workerRunning, workerEnded, workerMeanExecution, readerLag } = instruments;
  let reading: Promise<[Stats | undefined, readonly ReaderState[]]> | undefined;
  let readAt = 0;
  /** A queue that is empty is not read any more, but a gauge that falls silent is no zero. */
  const known = new Set<string>();

  function read(): NonNullable<typeof reading> {
    if (reading === undefined || performance.now() >= readAt + everyMs) {
      readAt = performance.now();
      // A database that cannot be asked has no say: the collection goes on without these.
      reading = Promise.all([
        orchestrator.stats().catch(() => undefined),
        orchestrator.readers().catch((): ReaderState[] => []),
      ]);
    }
    return reading;
  }

  const callback: Parameters<Meter["addBatchObservableCallback"]>[0] = async (result) => {
    const [figuresNow, readers] = await read();
    for (const { name, lag } of readers.filter(({ building }) => !building)) {
      result.observe(readerLag, lag, { "orchestratum.reader": name });
    }
    if (!figuresNow) return;
    const { at, queues, workers } = figuresNow;
    const found = new Map(queues.map((figures) => [figures.queue, figures]));
    for (const queue of found.keys()) known.add(queue);
    for (const queue of known) {
      const figures = found.get(queue);
      const attributes = destination(queue);
      const dueAt = figures?.oldestDueAt;
      result.observe(depth, figures?.pending ?? 0, attributes);
      result.observe(scheduled, figures?.scheduled ?? 0, attributes);
      result.observe(running, figures?.running ?? 0, attributes);
      result.observe(oldestDueAge, dueAt ? Math.max(at.getTime() - dueAt.getTime(), 0) / 1000 : 0, attributes);
      for (const [outcome, count] of endings(figures)) {
        result.observe(ended, count, { ...attributes, "orchestratum.outcome": outcome });
      }
      if (figures?.execution) result.observe(meanExecution, figures.execution.meanMs / 1000, attributes);
    }
    // Their ids are new at every start, so that those which are gone need no zero.
    for (const figures of workers) {
      const attributes = { "messaging.client.id": figures.worker };
      result.observe(workerRunning, figures.running, attributes);
      for (const [outcome, count] of endings(figures)) {
        result.observe(workerEnded, count, { ...attributes, "orchestratum.outcome": outcome });
      }
      if (figures.execution) result.observe(workerMeanExecution, figures.execution.meanMs / 1000, attributes);
    }
  };
  const observables = [
    ...[depth, scheduled, running, oldestDueAge, ended, meanExecution],
    ...[workerRunning, workerEnded, workerMeanExecution, readerLag],
  ];
  meter.addBatchObservableCallback(callback, observables);
  return () => meter.removeBatchObservableCallback(callback, observables);
}

/** How many ended, by how. */
function endings(figures: Pick<WorkerFigures, "finished" | "failed" | "cancelled"> | undefined): [string, number][] {
  return [
    ["succeeded", figures?.finished ?? 0],
    ["failed", figures?.failed ?? 0],
    ["cancelled", figures?.cancelled ?? 0],
  ];
}

// Trace context.

const traceparentForm = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** The context that somebody's metadata carries; undefined where it carries none that is valid. */
function remoteOf(metadata: Pick<Metadata, "traceparent" | "tracestate">): SpanContext | undefined {
  const { traceparent, tracestate } = metadata;
  if (typeof traceparent !== "string") return undefined;
  const [, traceId, spanId, flags] = traceparentForm.exec(traceparent) ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  const remote = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
  if (!isSpanContextValid(remote)) return undefined;
  return typeof tracestate === "string" ? { ...remote, traceState: createTraceState(tracestate) } : remote;
}

interface Carried {
  readonly traceparent: string;
  readonly tracestate: string | undefined;
}

/** A context as metadata carries it; undefined where nothing traces. */
function carriedBy(within: Context): Carried | undefined {
  const span = trace.getSpanContext(within);
  if (!span || !isSpanContextValid(span)) return undefined;
  const state = span.traceState?.serialize();
  return {
    traceparent: `00-${span.traceId}-${span.spanId}-${(span.traceFlags & 1) === 1 ? "01" : "00"}`,
    tracestate: state && state.length <= maxStateLength ? state : undefined,
  };
}

function carrying(metadata: Metadata, { traceparent, tracestate }: Carried): Metadata {
  return { ...metadata, traceparent, tracestate };
}

/** What is active; where nothing is, the context that the caller gave. */
function parentOf(active: Context, given: readonly (SpanContext | undefined)[]): Context {
  if (trace.getSpanContext(active)) return active;
  const first = given.find((one) => one !== undefined);
  return first ? trace.setSpanContext(active, first) : active;
}

/** Links to contexts, each once, but for `except`. */
function linksTo(
  contexts: readonly (SpanContext | undefined)[],
  except: SpanContext | undefined,
): { context: SpanContext }[] {
  const links = new Map<string, { context: SpanContext }>();
  for (const one of contexts) {
    if (one && one.spanId !== except?.spanId && links.size < maxLinks) links.set(one.spanId, { context: one });
  }
  return [...links.values()];
}

// Names and attributes.

function operation(name: string, type: string): Attributes {
  return {
    "messaging.system.name": "orchestratum",
    "messaging.operation.name": name,
    "messaging.operation.type": type,
  };
}

function destination(queue: string | undefined): Attributes {
  return queue === undefined ? {} : { "messaging.destination.name": queue };
}

/** What metrics are told apart by: both are few, other than ids. */
function ofCommand({ name, queue }: { readonly name: string; readonly queue: string }): Attributes {
  return { ...destination(queue), "orchestratum.command.name": name };
}

const hooks = { failure: "onFailure", cancellation: "onCancellation" } as const;

/** The name of a span about an attempt: of a delivery by its subscription. */
function spanName({ name, hook }: Executing, verb?: string): string {
  const subscription = subscriptionOf(name);
  const named = `${verb ?? (subscription === undefined ? "execute" : "deliver")} ${subscription ?? name}`;
  return hook === undefined ? named : `${named} ${hooks[hook]}`;
}

/** The subscription whose deliveries have this name; undefined where it is that of other commands. */
function subscriptionOf(name: string): string | undefined {
  return name.startsWith(deliveryPrefix) ? name.slice(deliveryPrefix.length) : undefined;
}

function processing(name: string): Attributes {
  const subscription = subscriptionOf(name);
  if (subscription === undefined) return operation("execute", "process");
  return { ...operation("deliver", "process"), "messaging.destination.subscription.name": subscription };
}

// Assigned one by one: with every attempt some objects less to collect.
function executeAttributes(executing: Executing, metadata: Metadata): Attributes {
  const { id, name, queue, hook, parentId, worker } = executing;
  const attributes = processing(name);
  attributes["messaging.destination.name"] = queue;
  attributes["messaging.message.id"] = id;
  attributes["orchestratum.command.id"] = id;
  attributes["orchestratum.command.name"] = name;
  attributes["orchestratum.command.version"] = executing.version;
  attributes["orchestratum.queue"] = queue;
  attributes["orchestratum.attempt"] = executing.attempt;
  attributes["orchestratum.fence"] = executing.fence;
  attributes["orchestratum.handler"] = hook === undefined ? name : `${name}.${hooks[hook]}`;
  if (worker !== undefined) attributes["messaging.client.id"] = worker;
  if (hook !== undefined) attributes["orchestratum.hook"] = hook;
  if (parentId !== undefined) attributes["orchestratum.parent_id"] = parentId;
  return chainAttributes(metadata, attributes);
}

function chainAttributes({ correlationId, causationId, actor }: Metadata, attributes: Attributes = {}): Attributes {
  if (correlationId !== undefined) {
    attributes["messaging.message.conversation_id"] = correlationId;
    attributes["orchestratum.correlation_id"] = correlationId;
  }
  if (causationId !== undefined) attributes["orchestratum.causation_id"] = causationId;
  if (typeof actor?.id === "string") attributes["orchestratum.actor.id"] = actor.id;
  if (typeof actor?.type === "string") attributes["orchestratum.actor.type"] = actor.type;
  return attributes;
}

function keyOf({ id, fence }: { readonly id: string; readonly fence: number }): string {
  return `${id}:${fence}`;
}

function isFailure(outcome: string): boolean {
  return ["retry", "failed", "timed_out", "not_found", "lost"].includes(outcome);
}

function outcomeOf(attempted: Attempted | undefined): string {
  if (attempted === undefined) return "failed";
  if (attempted.kind === "finished") return "succeeded";
  return attempted.kind === "snoozed" ? "snooze" : attempted.kind;
}

function errorType(error: unknown): string {
  const { code, name } = tellable(error, false);
  return code === "error" ? (name ?? "_OTHER") : code;
}

/** What all of them have in common; undefined where they differ, or there are none. */
function only<Item>(items: readonly Item[], of: (item: Item) => string | undefined): string | undefined {
  const [first] = items;
  if (first === undefined) return undefined;
  const value = of(first);
  return items.every((item) => of(item) === value) ? value : undefined;
}

/** One of each name and queue, with how many there are. */
function counted<Item extends { readonly name: string; readonly queue: string }>(
  items: readonly Item[],
): [Item, number][] {
  const counts = new Map<string, [Item, number]>();
  for (const item of items) {
    const key = `${item.queue}\n${item.name}`;
    const entry = counts.get(key);
    if (entry) entry[1]++;
    else counts.set(key, [item, 1]);
  }
  return [...counts.values()];
}
