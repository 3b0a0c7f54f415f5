/** An orchestrator behind a router: what a command asks of one here, over HTTP. */

import process from "node:process";
import type { CommandFilter } from "../../src/filter.ts";
import type { CommandSummary } from "../../src/summary.ts";
import { createClient } from "../client/client.ts";
import { checked } from "./arguments.ts";
import type { Reached } from "./connection.ts";
import { MisuseError } from "./misuse.ts";

/** A page of a list here; over HTTP it takes several. */
const usualLimit = 100;
const maxPage = 200;

/** @throws MisuseError for an address or a token that is none; neither is shown where it may hold a secret. */
export function createRemote(url: string, givenToken: string | undefined): Reached {
  requirePlain(url);
  const token = givenToken ?? (process.env.ORCHESTRATUM_TOKEN || undefined);
  // What fetch says of a header that is none quotes it.
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    throw new MisuseError(
      "Cannot send the token: it must be visible characters of ASCII; does it end with a line break?",
    );
  }
  const client = checked(() => createClient({ url, ...(token !== undefined && { token }) }));
  const keyed = (key: string | undefined) => (key === undefined ? {} : { idempotencyKey: key });

  /** For one id, for each of several, or for what a filter finds. */
  function act<Result>(
    given: string | readonly string[] | CommandFilter,
    onId: (id: string) => Promise<Result>,
    onFilter: (filter: CommandFilter) => Promise<unknown>,
  ): Promise<unknown> {
    if (typeof given === "string") return onId(given);
    return Array.isArray(given) ? forEach(given as readonly string[], onId) : onFilter(given as CommandFilter);
  }

  return {
    ...client,
    push: (command, { key }) => client.push(command, keyed(key)),
    pushMany: (commands, { key }) => client.pushMany(commands, keyed(key)),
    async list(filter = {}, { limit = usualLimit, cursor: first } = {}) {
      const commands: CommandSummary[] = [];
      let cursor = first;
      do {
        const page = await client.list(filter, { limit: Math.min(limit - commands.length, maxPage), cursor });
        commands.push(...page.commands);
        cursor = page.cursor;
      } while (cursor !== undefined && commands.length < limit);
      return { commands, cursor };
    },
    cancel: ((given: string | readonly string[] | CommandFilter, options: { dryRun?: boolean } = {}) =>
      act(
        given,
        (id) => client.cancel(id),
        (filter) => client.cancel(filter, { dryRun: options.dryRun }),
      )) as Reached["cancel"],
    retry: ((given: string | readonly string[] | CommandFilter, options: { dryRun?: boolean; input?: unknown } = {}) =>
      act(
        given,
        (id) => client.retry(id, { input: options.input }),
        (filter) => client.retry(filter, { dryRun: options.dryRun }),
      )) as Reached["retry"],
    erase: ((given: string | readonly string[]) =>
      typeof given === "string" ? client.erase(given) : forEach(given, (id) => client.erase(id))) as Reached["erase"],
  };
}

/** A password in the address would be shown by every message that names it, and fetch refuses it anyway. */
function requirePlain(url: string): void {
  const { username, password } = URL.canParse(url) ? new URL(url) : { username: "", password: "" };
  if (username === "" && password === "") return;
  throw new MisuseError("Cannot use --url: it must have no user and password in it; pass --token");
}

/** All at the same time, answered in the order of the ids: whoever has many gives them in parts. */
const forEach = async <Result>(
  ids: readonly string[],
  act: (id: string) => Promise<Result>,
): Promise<ReadonlyMap<string, Result>> =>
  new Map(await Promise.all(ids.map(async (id) => [id, await act(id)] as const)));
