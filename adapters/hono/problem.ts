/**
 * Refusals and failures as problem documents (RFC 9457). They say what is wrong and where, and never what was sent:
 * messages of schemas like to quote the value, so what they quote is taken out. What nobody foresaw is a 500 with an
 * id and nothing else; the observers of the orchestrator get the error under that id.
 */
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { DatabaseUnresponsiveError, sqlState } from "../../src/database.ts";
import { InvalidInputError } from "../../src/encode-command.ts";
import { CommandConflictError } from "../../src/push.ts";
import { uuidv7 } from "../../src/uuid.ts";
import { formatPath, type Issue } from "../../src/validate.ts";
import { StoppedError, UnknownCommandError } from "../../src/wait-errors.ts";

/** What kinds of problems there are; the `type` of a document is `urn:orchestratum:problem:` and one of these. */
export const problemTitles = {
  malformed: "The request cannot be read",
  invalid: "The request is not valid",
  unauthorised: "Nobody is known by these credentials",
  forbidden: "The credentials do not allow this",
  cross_site: "The request comes from another site",
  wrong_host: "This host is not served here",
  unknown: "There is no such thing",
  method: "The method is not one of this address",
  conflict: "The state does not allow this",
  key_reused: "The idempotency key was used for something else",
  too_large: "The request is too large",
  media_type: "The media type is not supported",
  timeout: "The request did not arrive in time",
  busy: "Try again later",
  internal: "Something went wrong",
} as const;

export type ProblemKind = keyof typeof problemTitles;

export interface ProblemDocument {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail?: string | undefined;
  /** Everything that is wrong with what was sent, by its place in the body: `input.to[0]`. */
  readonly issues?: readonly Issue[] | undefined;
  /** By which the observers know it. */
  readonly id?: string | undefined;
  readonly [key: string]: unknown;
}

interface ProblemOptions {
  readonly detail?: string | undefined;
  readonly issues?: readonly Issue[] | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  /** Further members of the document. */
  readonly members?: Readonly<Record<string, unknown>>;
}

/** Thrown where a request is refused. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly status: number;
  readonly kind: ProblemKind;
  readonly options: ProblemOptions;

  constructor(status: number, kind: ProblemKind, options: ProblemOptions = {}) {
    super(options.detail ?? problemTitles[kind]);
    this.status = status;
    this.kind = kind;
    this.options = options;
  }

  get document(): ProblemDocument {
    const { detail, issues, members } = this.options;
    return {
      type: `urn:orchestratum:problem:${this.kind}`,
      title: problemTitles[this.kind],
      status: this.status,
      detail,
      issues,
      ...members,
    };
  }
}

/** Makes a problem of an error, or undefined where nobody foresaw it. `place` is where the input stood in the body. */
export function foreseen(error: unknown, place: string = "input", sent?: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (error instanceof InvalidInputError) {
    return new Problem(422, "invalid", { issues: issuesAt(place, error.issues, sent) });
  }
  if (error instanceof CommandConflictError) {
    return new Problem(422, "key_reused", { detail: "Another name or another input was sent with this key before" });
  }
  if (error instanceof UnknownCommandError) return unknownCommand();
  if (error instanceof StoppedError) return later("The orchestrator was stopped");
  if (error instanceof HTTPException) return new Problem(error.status, "malformed", { detail: "The body is not JSON" });
  return undefined;
}

/**
 * What the library refuses at the call, as against what fails in it: its messages begin with the attempt. 422 where what
 * it refuses was in a body. `sent` is what was in the request, which is not told back, and `place` where that stood.
 */
export function refused(
  error: unknown,
  attempt: string,
  status: 400 | 422,
  sent: unknown,
  place: string = "",
): Problem | undefined {
  if (!(error instanceof TypeError || error instanceof RangeError)) return undefined;
  if (!error.message.startsWith(attempt)) return undefined;
  // "Cannot list commands: cursor must be …": most messages name the field.
  const [, path = "", message = error.message] =
    /^[^:]*: (?:filter\.)?(\w+) (must [^]*)$/.exec(error.message.slice(attempt.length)) ?? [];
  return new Problem(status, "invalid", { issues: issuesAt(place, [{ path, message }], sent) });
}

/** What to answer for an error, whatever it is. Those that nobody foresaw are reported. */
export function problemOf(error: unknown, report: (id: string, error: unknown) => void): Problem {
  const known = foreseen(error);
  if (known) return known;
  const id = uuidv7();
  report(id, error);
  const members = { id };
  const passing =
    error instanceof DatabaseUnresponsiveError || ["08", "53", "57"].includes(sqlState(error)?.slice(0, 2) ?? "");
  return passing
    ? new Problem(503, "busy", { members, headers: { "Retry-After": "1" } })
    : new Problem(500, "internal", { members });
}

export function answerProblem(c: Context, problem: Problem): Response {
  const { status, document, options } = problem;
  return c.body(JSON.stringify(document), status as 400, {
    "Content-Type": "application/problem+json",
    "Cache-Control": "no-store",
    ...options.headers,
  });
}

export function unknownCommand(): Problem {
  return new Problem(404, "unknown", {
    detail: "There is no command with this id: not pushed, not committed, or expired",
  });
}

/** For what may go another time. */
export function later(detail: string, seconds: number = 1, members: Readonly<Record<string, unknown>> = {}): Problem {
  return new Problem(503, "busy", { detail, headers: { "Retry-After": String(seconds) }, members });
}

/** Issues under the place where the value stood. `sent` is that value, which no message may quote. */
export function issuesAt(place: string, issues: readonly Issue[], sent: unknown): Issue[] {
  if (issues.length === 0) return [];
  // A schema may have changed a value before it refused it: by case and by the space around it.
  const leaves = leavesOf(sent);
  return issues.map(({ path, message }) => {
    const told = withoutValues(message);
    const small = told.toLowerCase();
    return {
      path: cut(under(place, path)),
      message: leaves.some((leaf) => small.includes(leaf)) ? "is refused" : told,
    };
  });
}

/** A path under a place: `input` and `a` are `input.a`, `input` and `[0]` are `input[0]`. */
export function under(place: string, path: string): string {
  return path === "" || path.startsWith("[") || place === "" ? `${place}${path}` : `${place}.${path}`;
}

/** Issues for what is not among the keys that something may have. */
export function unknownKeys(given: object, known: readonly string[]): Issue[] {
  const unknown = Object.keys(given).filter((key) => !known.includes(key));
  return unknown.slice(0, maxIssues).map((key) => ({ path: cut(formatPath([key])), message: "is not known here" }));
}

/** Of one problem document. */
export const maxIssues = 100;

/**
 * A message without the value that it ends with: valibot's "but received …" and "Received …", arktype's "(was …)", yup's
 * "but the final value was", Effect's "actual …", this library's "got …". Each of them cuts from the first place that it
 * finds, up to the end: values are long, and whoever sent them chose what stands in them.
 */
export function withoutValues(message: string): string {
  return cut(
    message
      .replace(/,? but received [^]*$/, "")
      .replace(/:? Received [^]*$/, "")
      .replace(/ \(was [^]*$/, "")
      .replace(/,? but the final value was[^]*$/, "")
      .replace(/, actual [^]*$/, "")
      .replace(/, got [^]*$/, ""),
  );
}

/** Shorter ones stand in any sentence. */
const leastLeaf = 4;
const maxLeaves = 20_000;

/**
 * The beginnings of all texts and numbers in a value, in small letters, with the names of properties left out, which
 * paths tell anyway.
 */
function leavesOf(value: unknown): string[] {
  const found: string[] = [];
  const open: unknown[] = [value];
  while (open.length > 0 && found.length < maxLeaves) {
    const one = open.pop();
    if (typeof one === "object" && one !== null) for (const inner of Object.values(one)) open.push(inner);
    else if (typeof one === "string" || typeof one === "number") {
      // There may be millions of digits.
      if (typeof one === "number" && Number.isInteger(one) && one >= 0 && one < 10) continue;
      const text = String(one).trim().slice(0, 20).toLowerCase();
      if (text.length >= leastLeaf) found.push(text);
    }
  }
  return found;
}

const maxLength = 300;

function cut(text: string): string {
  return text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
}
