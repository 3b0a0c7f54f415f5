/** Commands of the modules that run on an edge platform, and of the test that pushes them. */
import { defineCommand } from "orchestratum";
import * as v from "valibot";

export const echo = defineCommand({ name: "echo", input: v.string(), output: v.string() });
export const hold = defineCommand({ name: "hold", timeoutMs: 600_000, retries: 5 });
/** Handled where there is no database, by a signed call; `echo` follows. */
export const resize = defineCommand({ name: "resize", input: v.string(), output: v.string() });

export const signingKey = `whsec_${btoa("0123456789abcdef0123456789abcdef")}`;

/** How long a platform lets an invocation live. */
export const limitMs = 4_000;
