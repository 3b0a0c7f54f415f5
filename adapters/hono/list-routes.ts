/** Many commands: lists page by page, and acts on what a filter finds. */
import type { CommandFilter, FilterResult, Orchestrator } from "../../src/index.ts";
import { refused } from "./problem.ts";
import { type AnyRoute, route } from "./route.ts";
import { bulkBody, bulkResult, commandList, type Filter, listQuery } from "./schemas.ts";

const usualPage = 50;

export function listRoutes(orchestrator: Orchestrator): AnyRoute[] {
  return [
    route({
      method: "GET",
      path: "/commands",
      scope: "read",
      summary: "List commands: the live ones first, then the finished ones, the newest first",
      query: listQuery,
      answers: { 200: { description: "A page, with a cursor where there are more", schema: commandList } },
      async handle({ c, query }) {
        const { limit = usualPage, cursor, ...filter } = query;
        try {
          return c.json(await orchestrator.list(filterOf(filter), { limit, cursor }));
        } catch (error) {
          throw refused(error, "Cannot list commands", 400, query) ?? error;
        }
      },
    }),
    bulk("cancel", "Cancel what a filter finds", (filter, options) => orchestrator.cancel(filter, options)),
    bulk("retry", "Run again what a filter finds, what ended badly where it says no status", (filter, options) =>
      orchestrator.retry(filter, options),
    ),
  ];
}

type Act = (filter: CommandFilter, options: { by: string; dryRun: boolean }) => Promise<FilterResult>;

function bulk(act: "cancel" | "retry", summary: string, run: Act): AnyRoute {
  return route({
    method: "POST",
    path: `/commands/${act}`,
    scope: "admin",
    summary,
    body: bulkBody,
    answers: { 200: { description: "How many it was; with dryRun, how many it would be", schema: bulkResult } },
    async handle({ c, principal, body: { filter, dryRun = false } }) {
      try {
        return c.json({ ...(await run(filterOf(filter), { by: principal.name, dryRun })), dryRun });
      } catch (error) {
        throw refused(error, `Cannot ${act}`, 422, filter, "filter") ?? error;
      }
    },
  });
}

interface Times {
  readonly from: Date | undefined;
  readonly to: Date | undefined;
}

/** A filter as the library takes it. */
export function filterOf<Given extends Pick<Filter, keyof Times>>({
  from,
  to,
  ...others
}: Given): Omit<Given, keyof Times> & Times {
  return {
    ...others,
    from: from === undefined ? undefined : new Date(from),
    to: to === undefined ? undefined : new Date(to),
  };
}
