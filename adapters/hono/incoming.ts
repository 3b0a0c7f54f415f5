/** From what came over HTTP to commands of the library: by name, with the actor that the authoriser named. */
import * as v from "valibot";
import type { Command, Metadata } from "../../src/command.ts";
import type { AnyContract, Contract } from "../../src/define-command.ts";
import { encodeCommand, merged, metadataIssues } from "../../src/encode-command.ts";
import { InvalidInputError, type Orchestrator } from "../../src/index.ts";
import type { StandardSchemaV1 } from "../../src/standard-schema.ts";
import { deliveryPrefix } from "../../src/subscribe.ts";
import type { Issue } from "../../src/validate.ts";
import type { Principal } from "./authorise.ts";
import { keyedId } from "./idempotency.ts";
import { issuesAt, unknownKeys } from "./problem.ts";
import { issuesBy } from "./route.ts";
import { commandKeys, type PushedCommand, pushedCommand } from "./schemas.ts";

/** Makes commands for one router. */
export interface Incoming {
  /**
   * The command, or undefined where `issues` has something to say. Its input and its metadata are left to push.
   *
   * @param place where it stands in its batch: for its id, where there is a key.
   */
  command(given: unknown, sender: Sender, place: number): Promise<Command | undefined>;
  /** Everything that is wrong with a command, by its place: its envelope, name, input and metadata. */
  issues(given: unknown, sender: Sender): Promise<readonly Issue[]>;
}

export interface Sender {
  readonly principal: Principal;
  readonly key: string | undefined;
}

type Callable = Contract<StandardSchemaV1>;

export function createIncoming({ contracts }: Pick<Orchestrator, "contracts">): Incoming {
  const newest = new Map<string, AnyContract>();
  const exact = new Map<string, AnyContract>();
  for (const contract of contracts) {
    const { name, version } = contract;
    // Deliveries of events are pushed by publishing.
    if (name.startsWith(deliveryPrefix)) continue;
    exact.set(`${name}\n${version}`, contract);
    if (version >= (newest.get(name)?.version ?? 0)) newest.set(name, contract);
  }
  const contractOf = ({ name, version }: Pick<PushedCommand, "name" | "version">): Callable | undefined =>
    (version === undefined ? newest.get(name) : exact.get(`${name}\n${version}`)) as Callable | undefined;

  return {
    async command(given, { principal, key }, place) {
      const result = v.safeParse(pushedCommand, given);
      const contract = result.success ? contractOf(result.output) : undefined;
      if (contract === undefined) return undefined;
      const { input, runAt, metadata, queue, priority, delayMs, timeoutMs, retries } = result.output as PushedCommand;
      return contract(input, {
        ...{ queue, priority, delayMs, timeoutMs, retries },
        runAt: runAt === undefined ? undefined : new Date(runAt),
        metadata: layered(metadata, principal),
        id: key === undefined ? undefined : await keyedId(principal.name, key, place),
      });
    },
    async issues(given, { principal }) {
      const found = issuesBy(pushedCommand, given);
      if (!isRecord(given)) return found;
      const { name, version, input, metadata } = given as Partial<PushedCommand>;
      const more = unknownKeys(given, commandKeys);
      if (typeof name === "string") {
        const contract = contractOf({ name, version });
        if (contract !== undefined) more.push(...(await inputIssues(contract, input)));
        else more.push({ path: newest.has(name) ? "version" : "name", message: "is not known here" });
      }
      more.push(...issuesOfMetadata(metadata, principal));
      return merged(found, more);
    },
  };
}

async function inputIssues(contract: Callable, input: unknown): Promise<Issue[]> {
  try {
    await encodeCommand(contract(input));
    return [];
  } catch (error) {
    if (!(error instanceof InvalidInputError)) throw error;
    return issuesAt("input", error.issues, input);
  }
}

/** What is wrong with the metadata of a command or an event, where it is an object. */
export function issuesOfMetadata(metadata: unknown, principal: Principal): Issue[] {
  if (!isRecord(metadata)) return [];
  return issuesAt("metadata", metadataIssues(layered(metadata, principal)), metadata);
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The metadata with its actor: whom the authoriser named. A key named `__proto__` stays one, for push to refuse. */
export function layered(metadata: PushedCommand["metadata"], { name, actor }: Principal): Metadata {
  const result: Record<string, unknown> = Object.create(null);
  for (const [key, value] of Object.entries(metadata ?? {})) result[key] = value;
  result.actor = actor ?? { id: name, type: "principal" };
  return result as Metadata;
}
