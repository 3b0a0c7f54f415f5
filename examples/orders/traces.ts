/** Spans that are kept in memory, and printed as the trees that they are. A service would export them instead. */
import { context, type Tracer } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-base";
import type { Telemetry } from "orchestratum";
import { openTelemetry } from "orchestratum/opentelemetry";

export interface Traces {
  readonly tracer: Tracer;
  readonly telemetry: Telemetry;
  /** Every trace as lines, what an attempt came to behind its name. */
  tree(): string[];
}

export function keepTraces(): Traces {
  const exporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  return {
    tracer: tracerProvider.getTracer("shop"),
    // A claim is a trace of its own, since it leases for many.
    telemetry: openTelemetry({ tracerProvider, claims: false, gauges: false }),
    tree: () => lines(exporter.getFinishedSpans(), undefined, 0),
  };
}

function lines(spans: readonly ReadableSpan[], parent: string | undefined, depth: number): string[] {
  const children = spans.filter((span) => span.parentSpanContext?.spanId === parent);
  return children.toSorted(byNameAndTime).flatMap((span) => {
    const outcome = span.attributes["orchestratum.outcome"];
    const line = "  ".repeat(depth) + span.name + (outcome === undefined ? "" : `: ${outcome}`);
    return [line, ...lines(spans, span.spanContext().spanId, depth + 1)];
  });
}

/** Subscribers run side by side, so only the attempts of one of them have an order that means something. */
function byNameAndTime(a: ReadableSpan, b: ReadableSpan): number {
  const [seconds, nanoseconds] = [a.startTime[0] - b.startTime[0], a.startTime[1] - b.startTime[1]];
  return a.name.localeCompare(b.name) || seconds || nanoseconds;
}
