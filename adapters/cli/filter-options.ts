/** The options by which list, cancel and retry choose among commands. */

import { type CommandFilter, encodeFilter } from "../../src/filter.ts";
import { checked, readId, readTime } from "./arguments.ts";
import { MisuseError } from "./misuse.ts";

export const filterOptions = {
  status: { type: "string" },
  queue: { type: "string" },
  name: { type: "string" },
  parent: { type: "string" },
  correlation: { type: "string" },
  from: { type: "string" },
  to: { type: "string" },
  error: { type: "string" },
  hooks: { type: "boolean" },
} as const;

export const filterUsage = `  --status          one or several with commas between them: scheduled, pending, running,
                    succeeded, failed, cancelled, timed_out, not_found [all]
  --queue           of this queue
  --name            of this name
  --parent          the id of the command that they follow
  --correlation     the correlation id of their chain
  --from, --to      finished (live: created) in this time: ISO 8601 (UTC without a zone), or so long ago:
                    90s, 15m, 1h, 2d, 1w. Among the finished, --queue, --name and --error need --from
  --error           a part of an error's code, name or message
  --hooks           hook commands, too`;

export interface FilterValues {
  readonly status?: string | undefined;
  readonly queue?: string | undefined;
  readonly name?: string | undefined;
  readonly parent?: string | undefined;
  readonly correlation?: string | undefined;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly error?: string | undefined;
  readonly hooks?: boolean | undefined;
}

/** Whether anything was chosen at all. */
export const hasFilter = (values: FilterValues): boolean =>
  (Object.keys(filterOptions) as (keyof FilterValues)[]).some((key) => key !== "hooks" && values[key] !== undefined);

/** @throws MisuseError as the library would refuse it, before anything is opened. */
export function readFilter(attempt: string, values: FilterValues): CommandFilter {
  const filter = {
    status: values.status?.split(",").map((one) => one.trim()),
    queue: values.queue,
    name: values.name,
    parentId: values.parent === undefined ? undefined : readId(`${attempt} by --parent`, [values.parent]),
    correlationId: values.correlation,
    from: readTime(attempt, "--from", values.from),
    to: readTime(attempt, "--to", values.to),
    errorText: values.error,
    hooks: values.hooks,
  } as CommandFilter;
  try {
    checked(() => encodeFilter(attempt, filter));
  } catch (error) {
    throw error instanceof MisuseError ? new MisuseError(asTyped(error.message)) : error;
  }
  return filter;
}

const typed: Readonly<Record<string, string>> = {
  parentId: "--parent",
  correlationId: "--correlation",
  errorText: "--error",
  "from must": "--from must",
  "pass from": "pass --from",
};

/** The library names its own fields; here they are options. */
const asTyped = (message: string): string =>
  message.replaceAll(/\b(?:parentId|correlationId|errorText|from must|pass from)\b/g, (found) => typed[found] ?? found);
