/** The headers that routes hear and answer, as the description tells of them. What every answer has is left out. */

interface Described {
  readonly description: string;
  readonly schema: object;
}

const text = { type: "string" };
const seconds = { type: "integer", minimum: 1 };

export type RequestHeader =
  | "Idempotency-Key"
  | "Prefer"
  | "If-None-Match"
  | "Last-Event-ID"
  | "webhook-id"
  | "webhook-timestamp"
  | "webhook-signature";

export const requestHeaders: Readonly<Record<RequestHeader, Described>> = {
  "Idempotency-Key": {
    description: "What a repeat is known by: with it nothing is stored twice",
    schema: { ...text, pattern: "^[\\x21-\\x7e]{1,255}$" },
  },
  Prefer: { description: "`wait=10` waits for the end, so many seconds, 50 at most", schema: text },
  "If-None-Match": { description: "The ETag of what is known already", schema: text },
  "Last-Event-ID": { description: "The id of the last event that came, to go on behind it", schema: text },
  "webhook-id": { description: "What the request is known by (Standard Webhooks)", schema: text },
  "webhook-timestamp": { description: "When it was signed, in seconds since 1970", schema: text },
  "webhook-signature": { description: "Of id, timestamp and body: `v1,` and base64", schema: text },
};

export const signatureHeaders: readonly RequestHeader[] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

export type ResponseHeader =
  | "Location"
  | "ETag"
  | "Retry-After"
  | "Preference-Applied"
  | "WWW-Authenticate"
  | "Allow"
  | "Accept-Post";

export const responseHeaders: Readonly<Record<ResponseHeader, Described>> = {
  Location: { description: "Relative to the address that was asked", schema: { ...text, format: "uri-reference" } },
  ETag: { description: "Another one when the state is", schema: text },
  "Retry-After": { description: "In how many seconds to ask again", schema: seconds },
  "Preference-Applied": { description: "For how long it would have waited", schema: text },
  "WWW-Authenticate": { description: "With 401 and 403: what is wanted", schema: text },
  Allow: { description: "With 405: the methods of the address", schema: text },
  "Accept-Post": { description: "With 415: the media types that are taken", schema: text },
};

/** What a problem may have. */
export const problemHeaders: readonly ResponseHeader[] = ["Retry-After", "WWW-Authenticate", "Allow", "Accept-Post"];
