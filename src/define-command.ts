/**
 * Contracts: what the two sides of a command share. A contract imports no handler and names no other command, so that
 * producers, browsers and HTTP clients can share it. Handlers and hooks are declared beside it, by `handle`: within the
 * definition they would not type-check for a command that follows itself.
 */

import { type Backoff, requireBackoff } from "./backoff.ts";
import { type Command, type CommandOptions, commandKeys, isKind, kind, requireOptions } from "./command.ts";
import {
  type Awaitable,
  createHandler,
  type End,
  type Handler,
  type HandlerContext,
  type HandlerOptions,
} from "./handler.ts";
import type { Json } from "./json.ts";
import { type Keys, maxVersion, requireInteger, requireKeys, requireName, requireObject, shown } from "./limits.ts";
import type { StandardSchemaV1 } from "./standard-schema.ts";

/** A schema, or none. */
type Schema = StandardSchemaV1 | undefined;

/** What a caller gives: what the schema takes, or any JSON where there is none. */
export type InputOf<Input extends Schema> = Input extends StandardSchemaV1
  ? StandardSchemaV1.InferInput<Input>
  : Json | undefined;

/** What a handler gets: what the schema answers, or the JSON that was pushed where there is none. */
export type ParsedInputOf<Input extends Schema> = Input extends StandardSchemaV1
  ? StandardSchemaV1.InferOutput<Input>
  : Json | undefined;

/** What a handler returns: what the schema takes, or an end. Without a schema anything, of which nothing is stored. */
export type ReturnOf<Output extends Schema> = Output extends StandardSchemaV1
  ? StandardSchemaV1.InferInput<Output> | End
  : unknown;

/** What `finish(db, output)` takes for its output: without a schema nothing, so that options in its place are seen. */
export type MadeOf<Output extends Schema> = Output extends StandardSchemaV1
  ? [output: StandardSchemaV1.InferInput<Output>]
  : [output?: undefined];

/** What a command ends with, as hooks and `waitFor` get it: what the schema answers, undefined where there is none. */
export type ParsedOutputOf<Output extends Schema> = Output extends StandardSchemaV1
  ? StandardSchemaV1.InferOutput<Output>
  : undefined;

/** What `defineCommands` takes for each command: a definition whose name may be left to its key. */
export interface Definition<Input extends Schema = Schema, Output extends Schema = Schema> {
  /** 1 to 200 characters without control characters. Stored with every command: once used, it should not change. */
  readonly name?: string | undefined;
  /** Any Standard Schema (valibot, zod, arktype). Stored is what the caller gave; the handler gets what it answers. */
  readonly input?: Input;
  /** As `input`, for what the handler returns. Without one nothing of that is stored. */
  readonly output?: Output;
  /**
   * Of the input: 1 to 32,767, raised where old inputs do not fit the schema any more.
   *
   * @default 1
   */
  readonly version?: number | undefined;
  /**
   * Turns the input of an older version into one that this version's schema takes. The raw input is `unknown`;
   * annotate it with what the old version was.
   */
  upgrade?(input: unknown, fromVersion: number): Awaitable<InputOf<Input>>;
  /**
   * How long one attempt may take, in ms: 1 to 2,147,483,647.
   *
   * @default 60_000
   */
  readonly timeoutMs?: number | undefined;
  /**
   * Further attempts after a first one that failed, 0 to 32,766; 0 starts a command at most once.
   *
   * @default 3
   */
  readonly retries?: number | undefined;
  /**
   * How long a retry waits.
   *
   * @default { initialMs: 5_000, factor: 2, maxMs: 3_600_000, jitter: "full" }
   */
  readonly backoff?: Backoff | undefined;
  /**
   * 1 to 100 characters without white space.
   *
   * @default "default"
   */
  readonly queue?: string | undefined;
  /**
   * 0 (first) to 9 (last).
   *
   * @default 5
   */
  readonly priority?: number | undefined;
}

/** What holds for a command whose options do not say otherwise. */
export interface ContractDefaults {
  readonly queue: string;
  readonly priority: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly backoff: Backoff;
}

/** Any contract, whatever its types: without the call, which is what makes them differ. */
export interface AnyContract {
  readonly [kind]: "contract";
  readonly name: string;
  readonly version: number;
  readonly input: Schema;
  readonly output: Schema;
  readonly defaults: ContractDefaults;
  readonly upgrade: ((input: unknown, fromVersion: number) => unknown) | undefined;
}

/** What a contract is called with: the input may be left out where it may be undefined. */
type Arguments<Input> = undefined extends Input
  ? [input?: Input, options?: CommandOptions]
  : [input: Input, options?: CommandOptions];

/** A contract: called with an input and options it makes a command. Made by {@link defineCommand}. */
export interface Contract<Input extends Schema = undefined, Output extends Schema = undefined> extends AnyContract {
  /**
   * Makes a command. The input, and what the options say, is validated by push, before any I/O.
   *
   * @throws TypeError for an option that is none.
   */
  (...args: Arguments<InputOf<Input>>): Command<ParsedOutputOf<Output>>;
  readonly input: Input;
  readonly output: Output;
  /**
   * Declares what executes the commands, and the hooks that run after one ended.
   *
   * @throws TypeError where one of them is no function.
   */
  handle(
    run: (context: HandlerContext<ParsedInputOf<Input>, MadeOf<Output>>) => Awaitable<ReturnOf<Output>>,
    options?: HandlerOptions<ParsedInputOf<Input>, ParsedOutputOf<Output>>,
  ): Handler;
}

const definitionKeys: Keys<Definition> = {
  name: true,
  input: true,
  output: true,
  version: true,
  upgrade: true,
  timeoutMs: true,
  retries: true,
  backoff: true,
  queue: true,
  priority: true,
};

const noOptions: CommandOptions = Object.freeze({});

/**
 * Defines a command: its name, schemas and defaults.
 *
 * @throws TypeError or RangeError for a definition that is out of its limits.
 * @example
 * const sendEmail = defineCommand({
 *   name: "send_email",
 *   input: v.object({ to: v.pipe(v.string(), v.email()), subject: v.string() }),
 *   retries: 5,
 * });
 * await orchestrator.push(sendEmail({ to: "ada@example.com", subject: "Hello" }, { delayMs: 60_000 }));
 */
export function defineCommand<Input extends Schema = undefined, Output extends Schema = undefined>(
  definition: Definition<Input, Output> & { readonly name: string },
): Contract<Input, Output> {
  requireObject("Cannot define command", "a definition", definition);
  const { name, version = 1, input, output, upgrade, queue, priority, timeoutMs, retries, backoff } = definition;
  requireName("Cannot define command", name);
  const attempt = `Cannot define command "${name}"`;
  requireKeys(attempt, definition, definitionKeys);
  requireInteger(attempt, "version", version, 1, maxVersion);
  requireSchema(attempt, "input", input);
  requireSchema(attempt, "output", output);
  requireOptions(attempt, { queue, priority, timeoutMs, retries });
  if (backoff !== undefined) requireBackoff(attempt, backoff);
  if (upgrade !== undefined && typeof upgrade !== "function") {
    throw new TypeError(`${attempt}: upgrade must be a function, got ${shown(upgrade)}`);
  }

  const making = `Cannot make command "${name}"`;
  const contract = (...[value, options]: [value?: unknown, options?: CommandOptions]) => {
    requireKeys(making, options, commandKeys);
    return Object.freeze({
      contract,
      input: value,
      options: options === undefined ? noOptions : Object.freeze({ ...options }),
    });
  };
  const result = contract as unknown as Contract<Input, Output>;
  const properties: Omit<Contract<Input, Output>, never> = {
    [kind]: "contract",
    name,
    version,
    input: input as Input,
    output: output as Output,
    defaults: Object.freeze({
      queue: queue ?? "default",
      priority: priority ?? 5,
      timeoutMs: timeoutMs ?? 60_000,
      retries: retries ?? 3,
      backoff: backoff ?? {},
    }),
    upgrade: upgrade === undefined ? undefined : (old, fromVersion) => upgrade.call(definition, old, fromVersion),
    handle: (run, handlerOptions) => createHandler(result, run, handlerOptions as HandlerOptions),
  };
  // One by one, since the name of a function cannot be assigned to.
  for (const key of Reflect.ownKeys(properties) as (keyof typeof properties)[]) {
    Object.defineProperty(contract, key, { value: properties[key], enumerable: true });
  }
  return Object.freeze(result);
}

/** The schema that a definition has under `Key`, if any. */
type SchemaAt<D, Key extends "input" | "output"> = D extends { readonly [K in Key]: infer S extends StandardSchemaV1 }
  ? S
  : undefined;

/** The contracts that `defineCommands` makes, under the keys of their definitions. */
export type Contracts<D> = {
  readonly [Key in keyof D]: Contract<SchemaAt<D[Key], "input">, SchemaAt<D[Key], "output">>;
};

/**
 * Defines several commands at once, named by their keys in snake_case without the suffix `Command`: `sendEmail` is
 * `send_email`, `ChargeCardCommand` is `charge_card`. A `name` in the definition wins.
 *
 * @throws TypeError where two keys give one name, TypeError or RangeError for a definition that is out of its limits.
 */
export function defineCommands<const D extends Readonly<Record<string, Definition>>>(
  // What `upgrade` answers depends on the schema beside it, which the constraint alone cannot say; nor that there are
  // no other keys, since what a type parameter is inferred from may have any.
  definitions: D & {
    readonly [Key in keyof D]: {
      upgrade?(input: unknown, fromVersion: number): Awaitable<InputOf<SchemaAt<D[Key], "input">>>;
    } & {
      readonly [Slip in Exclude<keyof D[Key], keyof Definition>]: never;
    };
  },
): Contracts<D> {
  requireObject("Cannot define commands", "definitions", definitions);
  const contracts: Record<string, AnyContract> = {};
  const keys = new Map<string, string>();
  for (const [key, definition] of Object.entries<Definition>(definitions)) {
    requireObject("Cannot define command", "a definition", definition);
    const name = definition.name ?? commandName(key);
    const other = keys.get(name);
    if (other !== undefined) {
      throw new TypeError(`Cannot define commands: "${other}" and "${key}" both give the name "${name}"`);
    }
    keys.set(name, key);
    contracts[key] = defineCommand({ ...definition, name });
  }
  return contracts as Contracts<D>;
}

function commandName(key: string): string {
  return snakeCase(key.replace(/(?<=.)Command$/, ""));
}

/** `ChargeCard` and `chargeCard` as `charge_card`. */
export function snakeCase(key: string): string {
  return key
    .replace(/([\p{Ll}\p{N}])(\p{Lu})/gu, "$1_$2")
    .replace(/(\p{Lu})(\p{Lu}\p{Ll})/gu, "$1_$2")
    .replace(/[-\s]+/g, "_")
    .toLowerCase();
}

/** Whether `value` is a contract. Never throws. */
export function isContract(value: unknown): value is AnyContract {
  return isKind(value, "contract");
}

export function requireSchema(
  attempt: string,
  field: string,
  schema: Partial<StandardSchemaV1> | null | undefined,
): void {
  if (schema === undefined) return;
  if (typeof schema?.["~standard"]?.validate === "function") return;
  throw new TypeError(`${attempt}: ${field} must be a Standard Schema (valibot, zod, arktype), got ${shown(schema)}`);
}
