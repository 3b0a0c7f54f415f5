/**
 * The description of the router (OpenAPI 3.1), made once: of the routes by the schemas that validate their requests, and
 * of the commands that may be pushed by the schemas of their contracts.
 */
import { toJsonSchema } from "@valibot/to-json-schema";
import type { Hono } from "hono";
import { generateSpecs } from "hono-openapi";
import type { AnyContract, Orchestrator } from "../../src/index.ts";
import type { StandardSchemaV1 } from "../../src/standard-schema.ts";
import { deliveryPrefix } from "../../src/subscribe.ts";
import { type AnyRoute, route } from "./route.ts";
import { anyJson } from "./schemas.ts";
import type { Env } from "./security.ts";

export type JsonSchema = Readonly<Record<string, unknown>>;

export interface DescriptionOptions {
  /** @default "Orchestratum" */
  readonly title?: string | undefined;
  /**
   * Writes schemas of other libraries than valibot as JSON Schema; undefined where it cannot. `side` says which side of
   * the schema travels. What it does not know is described as any JSON.
   */
  readonly jsonSchema?: ((schema: StandardSchemaV1, side: "input" | "output") => JsonSchema | undefined) | undefined;
}

/** The route that answers it. It describes `app`, with itself. */
export function descriptionRoute(
  app: () => Hono<Env>,
  { contracts }: Pick<Orchestrator, "contracts">,
  options: DescriptionOptions,
): AnyRoute {
  let description: Promise<object> | undefined;
  return route({
    method: "GET",
    path: "/openapi.json",
    scope: "read",
    summary: "This description",
    answers: { 200: { description: "OpenAPI 3.1", schema: anyJson } },
    async handle({ c }) {
      description ??= describe(app(), contracts, options);
      return c.json(await description);
    },
  });
}

type Part = Record<string, any>;

async function describe(
  app: Hono<Env>,
  contracts: readonly AnyContract[],
  options: DescriptionOptions,
): Promise<object> {
  const document: Part = await generateSpecs(app as never, {
    excludeStaticFile: false,
    defaultValidationErrorResponse: false,
    documentation: {
      info: { title: options.title ?? "Orchestratum", version: "1", description: "Commands over HTTP." },
      // Relative to where this document is.
      servers: [{ url: "." }],
      components: {
        securitySchemes: {
          bearer: { type: "http", scheme: "bearer" },
          signature: {
            type: "apiKey",
            in: "header",
            name: "webhook-signature",
            description: "By Standard Webhooks, with webhook-id and webhook-timestamp",
          },
        },
      },
    },
  });
  // Without tags of the document's own it would be null.
  if (document.tags === undefined) delete document.tags;
  const schemas: Part = { ...document.components.schemas };
  const pushed = contracts.filter(({ name }) => !name.startsWith(deliveryPrefix));
  const commands = pushed.map((contract, index) => {
    // A name may be any text, a key of components may not.
    const key = `command.${contract.name.replaceAll(/[^A-Za-z0-9._-]/g, "_").slice(0, 80)}.${contract.version}.${index}`;
    Object.assign(schemas, lifted(`${key}.input`, schemaOf(contract.input, "input", options)));
    Object.assign(schemas, lifted(`${key}.output`, schemaOf(contract.output, "output", options)));
    const named = {
      name: { const: contract.name },
      version: { const: contract.version },
      input: { $ref: `#/components/schemas/${key}.input` },
    };
    return {
      title: contract.name,
      properties: named,
      "x-version": contract.version,
      "x-output": { $ref: `#/components/schemas/${key}.output` },
    };
  });
  document.components = { ...document.components, schemas };
  if (commands.length > 0) {
    const one = { anyOf: commands };
    narrow(document, "/commands", "application/json", one);
    narrow(document, "/commands/batch", "application/x-ndjson", one);
    narrow(document, "/commands/batch", "application/json", { items: one });
  }
  return document;
}

/** Makes the body of a route what another schema takes, too. */
function narrow(document: Part, path: string, media: string, schema: object): void {
  const body: Part | undefined = document.paths[path]?.post?.requestBody?.content?.[media];
  if (body) body.schema = { allOf: [body.schema, schema] };
}

function schemaOf(
  schema: StandardSchemaV1 | undefined,
  side: "input" | "output",
  { jsonSchema }: DescriptionOptions,
): object {
  if (schema === undefined) return side === "input" ? {} : { description: "Nothing is recorded." };
  const given = jsonSchema?.(schema, side);
  if (given !== undefined) return given;
  if (schema["~standard"].vendor !== "valibot") return {};
  // What travels is what a caller gives, and what a handler returned: the sides before a schema's transformations.
  const { $schema: _, ...plain } = toJsonSchema(schema as never, { errorMode: "ignore", typeMode: "input" });
  return plain;
}

/** A schema under its key, and its definitions under keys of their own: references hold in the document only so. */
function lifted(key: string, { $defs = {}, ...schema }: Part): Part {
  const keyOf = (name: string): string => `${key}.${name.replaceAll(/[^A-Za-z0-9._-]/g, "_")}`;
  /** "#" is the schema itself, and a name is written as JSON Pointers write it. */
  const moved = (reference: string): string =>
    reference.replace(/^#(?:\/\$defs\/([^/]+))?(?=\/|$)/, (_, name?: string) => {
      const own = name === undefined ? key : keyOf(name.replaceAll("~1", "/").replaceAll("~0", "~"));
      return `#/components/schemas/${own}`;
    });
  const rewritten = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(rewritten);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, one]) => {
        return [name, name === "$ref" && typeof one === "string" ? moved(one) : rewritten(one)];
      }),
    );
  };
  const definitions = Object.entries($defs).map(([name, one]) => [keyOf(name), rewritten(one)]);
  return { [key]: rewritten(schema), ...Object.fromEntries(definitions) };
}
