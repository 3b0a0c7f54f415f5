/** Every suite that all drivers and runtimes must pass, by name; conformance.ts says how a case is written. */
import { askingCases } from "./asking-cases.ts";
import { type Case, cases } from "./conformance.ts";
import { controlCases } from "./control-cases.ts";
import { eventCases } from "./event-cases.ts";
import { eventStoreCases } from "./event-store-cases.ts";
import { executionCases } from "./execution-cases.ts";
import { explainCases } from "./explain-cases.ts";
import { fleetCases } from "./fleet-cases.ts";
import { repairCases } from "./repair-cases.ts";
import { signedCallCases } from "./signed-call-cases.ts";
import { statisticsCases } from "./statistics-cases.ts";
import { tickCases } from "./tick-cases.ts";
import { transactionCases } from "./transaction-cases.ts";

export const suites: Readonly<Record<string, readonly Case[]>> = {
  commands: cases,
  asking: askingCases,
  execution: executionCases,
  control: controlCases,
  events: eventCases,
  repair: repairCases,
  statistics: statisticsCases,
  fleet: fleetCases,
  explain: explainCases,
  transactions: transactionCases,
  ticks: tickCases,
  "signed calls": signedCallCases,
  "event store": eventStoreCases,
};
