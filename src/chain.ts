/**
 * What of a command's metadata names the chain that it belongs to: ids and the trace context. Observations carry these
 * and nothing else of it, since the rest is the user's. Metadata is a text until somebody looks.
 */

/** The chain that a command belongs to. */
export interface Chain {
  /** One for the whole chain. */
  readonly correlationId: string;
  /** The id of the command or event that caused this one. */
  readonly causationId: string | undefined;
  /** The id of who wanted it. */
  readonly actorId: string | undefined;
  /** W3C Trace Context: while it runs that of its attempt, where something traces attempts, else that of its push. */
  readonly traceparent: string | undefined;
  /** W3C Trace Context. */
  readonly tracestate: string | undefined;
}

/** The chain of the command `id`, with its metadata as JSON. What is no text there (only SQL writes such) is left out. */
export function chainOf(id: string, metadata: string | null): Chain {
  return new LazyChain(id, metadata);
}

class LazyChain implements Chain {
  readonly #id: string;
  readonly #text: string | null;
  #parsed: Readonly<Record<string, unknown>> | undefined;

  constructor(id: string, text: string | null) {
    this.#id = id;
    this.#text = text;
  }
  get correlationId(): string {
    return this.#get("correlationId") ?? this.#id;
  }
  get causationId(): string | undefined {
    return this.#get("causationId");
  }
  get actorId(): string | undefined {
    const { actor } = this.#metadata;
    return textAt(actor, "id");
  }
  get traceparent(): string | undefined {
    return this.#get("traceparent");
  }
  get tracestate(): string | undefined {
    return this.#get("tracestate");
  }
  get #metadata(): Readonly<Record<string, unknown>> {
    this.#parsed ??= (this.#text === null ? null : JSON.parse(this.#text)) ?? {};
    return this.#parsed as Readonly<Record<string, unknown>>;
  }
  #get(key: string): string | undefined {
    return textAt(this.#metadata, key);
  }
}

function textAt(value: unknown, key: string): string | undefined {
  const text = (value as Readonly<Record<string, unknown>> | null | undefined)?.[key];
  return typeof text === "string" ? text : undefined;
}
