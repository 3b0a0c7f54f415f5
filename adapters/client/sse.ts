/** Server-Sent Events, read from a response: as much of the format as the router writes, and comments. */

export interface ServerEvent {
  readonly event: string;
  readonly data: string;
  readonly id: string | undefined;
}

const maxEventChars = 4 * 1024 * 1024;
/** The router sends a comment every 8 s: what is silent for as long as this is a connection that is half open. */
const silentMs = 30_000;

/** Events as they arrive. Ends with the body; leaving the loop cancels it. @throws TypeError where nothing comes any more. */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  limitMs: number = silentMs,
): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    while (true) {
      const { done, value } = await within(limitMs, reader.read());
      if (done) return;
      text += decoder.decode(value, { stream: true });
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const event = parse(text.slice(0, end));
        text = text.slice(end + 2);
        if (event) yield event;
      }
      if (text.length > maxEventChars)
        throw new Error(`Cannot read events: one of them is over ${maxEventChars} characters`);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function within<Value>(limitMs: number, reading: Promise<Value>): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TypeError(`Nothing came for ${limitMs} ms`)), limitMs);
  });
  try {
    return await Promise.race([reading, late]);
  } finally {
    clearTimeout(timer);
  }
}

function parse(block: string): ServerEvent | undefined {
  let event = "message";
  let id: string | undefined;
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [, field, value = ""] = /^(\w+):? ?(.*)$/.exec(line) ?? [];
    if (field === "event") event = value;
    else if (field === "id") id = value;
    else if (field === "data") data.push(value);
  }
  return data.length === 0 ? undefined : { event, data: data.join("\n"), id };
}
