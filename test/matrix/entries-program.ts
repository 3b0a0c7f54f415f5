/**
 * Loads every entry point, as a program without any permission, and as a module of an edge platform. Answers a line for
 * each, with how many names it exports.
 */
// Statically: packages that Deno 2.9 copies for their peers it does not find when they are imported later alone.
import * as hono from "orchestratum/hono";

const entries: Readonly<Record<string, () => Promise<object>>> = {
  orchestratum: () => import("orchestratum"),
  "orchestratum/postgres-js": () => import("orchestratum/postgres-js"),
  "orchestratum/pglite": () => import("orchestratum/pglite"),
  "orchestratum/node-postgres": () => import("orchestratum/node-postgres"),
  "orchestratum/bun-sql": () => import("orchestratum/bun-sql"),
  "orchestratum/drizzle": () => import("orchestratum/drizzle"),
  "orchestratum/kysely": () => import("orchestratum/kysely"),
  "orchestratum/knex": () => import("orchestratum/knex"),
  "orchestratum/prisma": () => import("orchestratum/prisma"),
  "orchestratum/node": () => import("orchestratum/node"),
  "orchestratum/deno": () => import("orchestratum/deno"),
  "orchestratum/bun": () => import("orchestratum/bun"),
  "orchestratum/workers": () => import("orchestratum/workers"),
  "orchestratum/guarded-fetch": () => import("orchestratum/guarded-fetch"),
  "orchestratum/client": () => import("orchestratum/client"),
  "orchestratum/testing": () => import("orchestratum/testing"),
  "orchestratum/hono": async () => hono,
  "orchestratum/opentelemetry": () => import("orchestratum/opentelemetry"),
};

async function load(): Promise<string> {
  const lines: string[] = [];
  for (const [specifier, entry] of Object.entries(entries)) {
    try {
      lines.push(`${specifier} ${Object.keys(await entry()).length}`);
    } catch (error) {
      lines.push(`${specifier} cannot be loaded: ${error}`);
    }
  }
  return lines.join("\n");
}

const { navigator } = globalThis as { navigator?: { userAgent?: string } };
const isEdge = navigator?.userAgent === "Cloudflare-Workers";
if (!isEdge) console.log(await load());

export default isEdge ? { fetch: async (): Promise<Response> => new Response(await load()) } : undefined;
