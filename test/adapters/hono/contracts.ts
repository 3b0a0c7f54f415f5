/** What the router of tests knows, and who may ask it: free of test frameworks, so that it also runs where none does. */
import * as v from "valibot";
import { type Scope, tokenAuthoriser } from "../../../adapters/hono/router.ts";
import { defineCommand, defineEvent, PermanentFailure, subscribe } from "../../../src/index.ts";

export const add = defineCommand({
  name: "add",
  input: v.object({ a: v.number(), mail: v.optional(v.pipe(v.string(), v.email())) }),
  output: v.object({ sum: v.number() }),
});
export const shout = defineCommand({ name: "shout", retries: 0 });
export const tidy = defineCommand({ name: "tidy" });
/** No worker has a handler for it. */
export const wait = defineCommand({ name: "wait", queue: "nobody" });

export const placed = defineEvent({
  topic: "orders.events.placed",
  data: v.object({ order: v.string(), total: v.number() }),
});
export const noted = defineEvent({ topic: "notes.noted" });

export const handlers = [
  subscribe({
    name: "billing",
    to: [placed],
    retries: 0,
    handler: ({ event }) => {
      if (event.data.total < 0) throw new PermanentFailure("less than nothing");
    },
  }),
  add.handle(({ input }) => ({ sum: input.a + 1 })),
  tidy.handle(() => {}),
  shout.handle(() => {
    throw new PermanentFailure("too loud");
  }),
];

/** A secret of Standard Webhooks. */
export const signingKey = `whsec_${btoa("0123456789abcdef0123456789abcdef")}`;

export const everything: readonly Scope[] = ["push", "read", "process", "admin"];
export const tokenOf = (scope: string): string => `token-of-${scope}-0123456789`;

/** A token for each scope, and one with all of them. */
export const authorise = tokenAuthoriser([
  { name: "everything", token: tokenOf("everything"), scopes: everything },
  ...everything.map((scope) => ({ name: scope, token: tokenOf(scope), scopes: [scope] })),
]);
