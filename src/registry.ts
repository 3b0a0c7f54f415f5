/** Which handlers a process has, and which of them takes a command of some version. */
import type { Database } from "./database.ts";
import type { Handler } from "./handler.ts";
import { registerSubscriptions } from "./subscriptions.ts";

export interface Registry {
  readonly handlers: readonly Handler[];
  /**
   * The handler for a command: of its very version, else the nearest newer one that can upgrade its input. Undefined
   * where nobody here knows it, an older version among it.
   */
  find(name: string, version: number): Handler | undefined;
  /** Tells the fleet which names have handlers here, with their hooks and defaults. */
  register(database: Database): Promise<void>;
}

export function createRegistry(handlers: readonly Handler[]): Registry {
  const versions = new Map<string, Handler[]>();
  for (const handler of handlers) {
    const list = versions.get(handler.contract.name) ?? [];
    list.push(handler);
    list.sort((a, b) => a.contract.version - b.contract.version);
    versions.set(handler.contract.name, list);
  }

  let declared = false;
  return {
    handlers,
    find(name, version) {
      return versions
        .get(name)
        ?.find(
          ({ contract }) =>
            contract.version === version || (contract.version > version && contract.upgrade !== undefined),
        );
    },
    async register(database) {
      const rows = handlers.map(({ contract, onFailure, onCancellation }) => ({
        name: contract.name,
        version: contract.version,
        hooks: [...(onCancellation ? ["cancellation"] : []), ...(onFailure ? ["failure"] : [])],
        upgrades: contract.upgrade !== undefined,
        queue: contract.defaults.queue,
        priority: contract.defaults.priority,
        max_attempts: contract.defaults.retries + 1,
        timeout_ms: contract.defaults.timeoutMs,
      }));
      await database.run("registerHandlers", [JSON.stringify(rows)]);
      // The newest start decides what a subscription is; what comes later only says that its worker is there.
      await registerSubscriptions(database, handlers, declared ? "see" : "declare");
      declared = true;
    },
  };
}
