/** From what came over HTTP to commands of the library: by name, with the actor that the authoriser named. */
import type { Command, Metadata } from "../../src/command.ts";
import type { AnyContract, Contract } from "../../src/define-command.ts";
import type { Orchestrator } from "../../src/index.ts";
import type { StandardSchemaV1 } from "../../src/standard-schema.ts";
import { deliveryPrefix } from "../../src/subscribe.ts";
import type { Principal } from "./authorise.ts";
import { keyedId } from "./idempotency.ts";
import { foreseen, Problem, refused } from "./problem.ts";
import type { PushedCommand } from "./schemas.ts";

/** Makes commands for one router. */
export interface Incoming {
  /**
   * @param place where it stands in its batch: for its id, where there is a key.
   * @throws Problem where the name, or the version, is not known here.
   */
  command(given: PushedCommand, sender: Sender, place: number): Promise<Command>;
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
  return {
    async command(given, { principal, key }, place) {
      const { name, input, version, runAt, metadata, queue, priority, delayMs, timeoutMs, retries } = given;
      const contract = version === undefined ? newest.get(name) : exact.get(`${name}\n${version}`);
      if (contract === undefined) {
        const path = newest.has(name) ? "version" : "name";
        throw new Problem(422, "invalid", { issues: [{ path, message: "is not known here" }] });
      }
      return (contract as Callable)(input, {
        ...{ queue, priority, delayMs, timeoutMs, retries },
        runAt: runAt === undefined ? undefined : new Date(runAt),
        metadata: layered(metadata, principal),
        id: key === undefined ? undefined : await keyedId(principal.name, key, place),
      });
    },
  };
}

/** The metadata with its actor: whom the authoriser named. A key named `__proto__` stays one, for push to refuse. */
export function layered(metadata: PushedCommand["metadata"], { name, actor }: Principal): Metadata {
  const result: Record<string, unknown> = Object.create(null);
  for (const [key, value] of Object.entries(metadata ?? {})) result[key] = value;
  result.actor = actor ?? { id: name, type: "principal" };
  return result as Metadata;
}

/** What is wrong with a command that push refused, or undefined where that is nothing foreseen. */
export function pushProblem(error: unknown, place: string, sent: unknown): Problem | undefined {
  return foreseen(error, place, sent) ?? refused(error, "Cannot push", 422);
}
