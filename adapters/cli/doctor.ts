import { examine, type Finding } from "../../src/doctor.ts";
import { databaseOptions, databaseUsage, parseOptions, refusePositionals } from "./arguments.ts";
import type { CliCommand } from "./commands.ts";
import { withDatabase } from "./connection.ts";
import { exitCode } from "./exit-code.ts";
import { type Colour, paint, plain, print, printJson } from "./terminal.ts";

const attempt = "Cannot examine the database";

const options = { ...databaseOptions, json: { type: "boolean" } } as const;

export const doctorCommand: CliCommand = {
  summary: "examines the database: what keeps commands from running, and what will",
  options,
  usage: `Usage: orchestratum doctor [options]

Looks at the schema, the clock, open transactions, replication slots, dead rows, autovacuum, retention, notifications,
queues, names and duties. Prints each finding with what to do about it. It changes nothing; one notification is sent,
to see whether it arrives. A role with few rights is told what could not be looked at.

  --json            prints one document, {"worst", "findings": [{"code", "severity", "seen", "advice", "figures"}]}
${databaseUsage}

Exit codes, by the worst finding:
  0  nothing was found, or notes only
  6  a warning: it will keep commands from running, or may
  7  an error: it keeps commands from running

Examples:
  orchestratum doctor
  orchestratum doctor --json | jq -r '.findings[].code'
`,

  async run(args) {
    const { values, positionals } = parseOptions(attempt, args, options);
    refusePositionals(attempt, positionals);
    const { findings, worst } = await withDatabase(values, ({ database, schema }) => examine(database, { schema }));
    if (values.json) await printJson({ worst: worst ?? null, findings });
    else await print(findings.length === 0 ? "Nothing was found" : findings.map(described).join("\n\n"));
    if (worst === "error") return exitCode.ailing;
    return worst === "warning" ? exitCode.warned : exitCode.done;
  },
};

const colours: Readonly<Record<Finding["severity"], Colour>> = { error: "red", warning: "yellow", note: "dim" };

const described = ({ code, severity, seen, advice }: Finding): string =>
  `${paint(severity, colours[severity])}: ${plain(seen)} (${code})\n  ${plain(advice)}`;
