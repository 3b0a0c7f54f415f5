/**
 * A route as data: what it wants, what it answers, what it does. Mounting lays the guards around it, and the document
 * that describes the router is made of the same schemas that validate the requests.
 */
import { type Context, Hono, type MiddlewareHandler } from "hono";
import { describeRoute, resolver, validator } from "hono-openapi";
import * as v from "valibot";
import type { Orchestrator } from "../../src/index.ts";
import { formatPath, type Issue } from "../../src/validate.ts";
import type { Principal, Scope } from "./authorise.ts";
import {
  problemHeaders,
  type RequestHeader,
  type ResponseHeader,
  requestHeaders,
  responseHeaders,
  signatureHeaders,
} from "./headers.ts";
import { answerProblem, issuesAt, maxIssues, Problem, problemOf } from "./problem.ts";
import { problemDocument } from "./schemas.ts";
import {
  dataHeaders,
  type Env,
  limitBody,
  pageHeaders,
  requireHost,
  requireMediaType,
  requireSameSite,
  requireScope,
  type SecurityOptions,
} from "./security.ts";

export type Schema = v.GenericSchema | v.GenericSchemaAsync;

/** What a handler gets. */
export interface Call<Params = unknown, Query = unknown, Body = unknown> {
  readonly c: Context<Env>;
  /** Who asks; nobody where the route needs no scope. */
  readonly principal: Principal;
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
}

/** One thing that a route may answer. Problems are not listed: any route may answer them. */
export interface Answer {
  readonly description: string;
  readonly schema?: Schema;
  /** @default "application/json" */
  readonly media?: string;
  /** Other media types that it is answered in where the request accepts them. @default none */
  readonly also?: Readonly<Record<string, Schema>>;
  /** @default none */
  readonly headers?: readonly ResponseHeader[];
}

/** A body that the handler reads for itself, by media type. */
export type Streamed = Readonly<Record<string, Schema>>;

export interface Route<
  Params extends Schema | undefined = Schema | undefined,
  Query extends Schema | undefined = Schema | undefined,
  Body extends Schema | undefined = Schema | undefined,
> {
  readonly method: "GET" | "POST" | "DELETE";
  /** As hono writes it: `/commands/:id`. */
  readonly path: string;
  /** Undefined: anybody may ask, since it says nothing; or its handler wants a signature. */
  readonly scope: Scope | undefined;
  /** Whether its handler wants a signature by Standard Webhooks. @default false */
  readonly wantsSignature?: boolean;
  /** Whether a request is signed, which lets it in without a token. @throws Problem where it is badly signed. */
  readonly isSigned?: ((c: Context<Env>, maxBodyBytes: number) => Promise<boolean>) | undefined;
  readonly summary: string;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  /** In place of `body`. */
  readonly streamed?: Streamed;
  /** The headers that it hears. @default none */
  readonly headers?: readonly RequestHeader[];
  /** @default 16 KiB */
  readonly maxBodyBytes?: number;
  readonly answers: Readonly<Record<number, Answer>>;
  /** Whether it is a part of the page of documentation. @default false */
  readonly page?: boolean;
  /** Middleware of its own, around the handler. */
  readonly within?: MiddlewareHandler;
  handle(call: Call<Parsed<Params>, Parsed<Query>, Parsed<Body>>): Response | Promise<Response>;
}

type Parsed<S> = S extends Schema ? v.InferOutput<S> : undefined;

/** A route among others: what it takes is between its schemas and its handler. */
export type AnyRoute = Omit<Route, "handle"> & { handle(call: Call<any, any, any>): Response | Promise<Response> };

/** Lets the handler's types come from the schemas. */
export function route<
  Params extends Schema | undefined = undefined,
  Query extends Schema | undefined = undefined,
  Body extends Schema | undefined = undefined,
>(one: Route<Params, Query, Body>): AnyRoute {
  return one as AnyRoute;
}

const usualBodyBytes = 16 * 1024;

/** A Hono app of these routes, each with its guards. */
export function mount(routes: readonly AnyRoute[], orchestrator: Orchestrator, options: SecurityOptions): Hono<Env> {
  const app = new Hono<Env>();
  app.onError((error, c) => {
    // Its client has gone, and was what ended it: nobody reads the answer, and nothing went wrong.
    if (error === c.req.raw.signal.reason) return answerProblem(c, new Problem(408, "timeout"));
    return answerProblem(c, problemOf(error, report(c, orchestrator)));
  });
  for (const one of routes) {
    const isUnsafe = one.method !== "GET";
    const guards: MiddlewareHandler<any>[] = [
      describe(one),
      one.page ? pageHeaders : dataHeaders,
      requireHost(options),
    ];
    if (isUnsafe) guards.push(requireSameSite(options));
    const { isSigned, maxBodyBytes = usualBodyBytes } = one;
    if (one.scope !== undefined) {
      guards.push(requireScope(options, one.scope, isSigned && ((c) => isSigned(c, maxBodyBytes))));
    }
    if (one.streamed) guards.push(requireMediaType(Object.keys(one.streamed)));
    else if (isUnsafe) guards.push(requireMediaType(["application/json"]), limitBody(maxBodyBytes));
    if (one.params) guards.push(validator("param", one.params, refuse("", 400)));
    if (one.query) guards.push(validator("query", one.query, refuse("", 400)));
    if (one.body) guards.push(validator("json", one.body, refuse("", 422)));
    if (one.within) guards.push(one.within);
    app.on(one.method, [one.path], ...guards, async (c: Context<Env>) => {
      const valid = (target: string): unknown => c.req.valid(target as never);
      c.header("Cache-Control", "no-store");
      try {
        return await one.handle({
          c,
          principal: c.get("principal"),
          params: one.params && valid("param"),
          query: one.query && valid("query"),
          body: one.body && valid("json"),
        });
      } catch (error) {
        throw asError(error);
      }
    });
  }
  for (const path of new Set(routes.map((one) => one.path))) {
    const methods = routes.filter((one) => one.path === path).map(({ method }) => method);
    const allowed = methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
    app.all(path, async (c, next) => {
      const at = c.req.routeIndex;
      await next();
      // Somebody else's route at this address has answered: nothing is laid around neighbours. Where it answers that
      // there is nothing, it is known by its method: one of all methods is to hono what middleware is.
      if (c.res.status !== 404 && c.res.status !== 405) return;
      // The helper of `hono/route` knows no request of another copy of hono, which whoever mounts this may have.
      if (c.req.matchedRoutes.slice(at + 1).some(({ method }) => method !== "ALL")) return;
      // An address may be of two routes here, as `/commands/batch` is that of an id.
      const others = c.res.status === 405 ? (c.res.headers.get("Allow")?.split(", ") ?? []) : [];
      const headers = { Allow: [...new Set([...allowed, ...others])].join(", ") };
      c.res = undefined;
      c.res = answerProblem(c, new Problem(405, "method", { headers }));
    });
  }
  app.notFound((c) => answerProblem(c, new Problem(404, "unknown", { detail: "There is no such route" })));
  return app;
}

/** Whatever was thrown as an error: hono answers nothing else. */
function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error("Cannot answer: what was thrown is no error", { cause: thrown });
}

/** Tells the observers of an error that nobody foresaw, under the id that the caller got. */
function report(c: Context, orchestrator: Orchestrator): (id: string, error: unknown) => void {
  return (id, error) =>
    orchestrator.report({ type: "internal_error", operation: `HTTP ${c.req.method} request ${id}`, error });
}

interface Validation {
  readonly success: boolean;
  readonly error?: readonly { readonly message: string; readonly path?: readonly unknown[] | undefined }[];
  readonly data: unknown;
}

/** A hook of the validator: refuses by a problem that lists the issues. */
function refuse(place: string, status: number): (result: Validation) => void {
  return ({ success, error = [], data }) => {
    if (!success) throw invalid(place, status, error, data);
  };
}

/** A problem of what a schema found, without what was sent. */
export function invalid(
  place: string,
  status: number,
  found: NonNullable<Validation["error"]>,
  sent: unknown,
): Problem {
  return new Problem(status, "invalid", { issues: issuesFound(place, found, sent) });
}

function issuesFound(place: string, found: NonNullable<Validation["error"]>, sent: unknown): Issue[] {
  const issues: Issue[] = found.slice(0, maxIssues).map(({ path = [], message }) => ({
    path: formatPath(path.map((key) => (isSegment(key) ? key.key : (key as PropertyKey)))),
    message,
  }));
  return issuesAt(place, issues, sent);
}

/** What a schema finds in a body, without what was sent. Empty: nothing. */
export function issuesBy(schema: v.GenericSchema, sent: unknown): Issue[] {
  return issuesFound("", v.safeParse(schema, sent).issues ?? [], sent);
}

const isSegment = (key: unknown): key is { readonly key: PropertyKey } => typeof key === "object" && key !== null;

/** What hono-openapi makes the document of. */
function describe(one: AnyRoute): MiddlewareHandler {
  const { summary, scope, isSigned, wantsSignature, answers, page, streamed, path, headers = [] } = one;
  const [, tag = ""] = path.split("/");
  const heard = [...headers, ...(isSigned || wantsSignature ? signatureHeaders : [])];
  const signature = isSigned || wantsSignature ? [{ signature: [] }] : [];
  return describeRoute({
    summary,
    tags: [tag.split(".")[0] as string],
    ...(page ? { hide: true } : {}),
    security: scope === undefined ? signature : [{ bearer: [] }, ...signature],
    ...(scope === undefined ? {} : { "x-scope": scope }),
    ...(heard.length > 0
      ? {
          parameters: heard.map((name) => ({
            ...{ in: "header", name, ...requestHeaders[name] },
            required: wantsSignature === true && signatureHeaders.includes(name),
          })),
        }
      : {}),
    ...(streamed ? { requestBody: { required: true, content: contentOf(streamed) } } : {}),
    responses: {
      ...Object.fromEntries(Object.entries(answers).map(([status, answer]) => [status, describedAnswer(answer)])),
      default: describedAnswer({
        description: "A problem",
        schema: problemDocument,
        media: "application/problem+json",
        headers: problemHeaders,
      }),
    },
  } as Parameters<typeof describeRoute>[0]);
}

function describedAnswer({ description, schema, media = "application/json", also = {}, headers = [] }: Answer): object {
  return {
    description,
    ...(headers.length > 0
      ? { headers: Object.fromEntries(headers.map((name) => [name, responseHeaders[name]])) }
      : {}),
    ...(schema ? { content: contentOf({ [media]: schema, ...also }) } : {}),
  };
}

function contentOf(schemas: Readonly<Record<string, Schema>>): Record<string, { schema: ReturnType<typeof resolver> }> {
  return Object.fromEntries(
    Object.entries(schemas).map(([media, schema]) => [media, { schema: resolver(schema as v.GenericSchema) }]),
  );
}
