/** Orchestratum: commands for TypeScript on PostgreSQL's `FOR UPDATE SKIP LOCKED`. See README.md and ARCHITECTURE.md. */
export type { Backoff, BackoffOptions } from "./backoff.ts";
export type { CancelResult } from "./cancel.ts";
export { type Clock, systemClock, type Timer } from "./clock.ts";
export type { Actor, Command, CommandId, CommandOptions, Metadata, OutputOf } from "./command.ts";
export { DatabaseUnresponsiveError, NotMigratedError } from "./database.ts";
export {
  type AnyContract,
  type Contract,
  type Contracts,
  type Definition,
  defineCommand,
  defineCommands,
} from "./define-command.ts";
export type { Driver, Listener, Param, Queryable } from "./driver.ts";
export { InvalidInputError } from "./encode-command.ts";
export { type ErrorRecord, PermanentFailure } from "./failure.ts";
export type { CommandSnapshot, CommandStatus } from "./get.ts";
export {
  type Cancel,
  type CancellationContext,
  cancel,
  type End,
  type FailureContext,
  type FollowUps,
  type Handler,
  type HandlerContext,
  type HandlerOptions,
  type HookContext,
  type Logger,
  type Snooze,
  type SuccessContext,
  snooze,
} from "./handler.ts";
export type { Json } from "./json.ts";
export { AttemptAbortedError } from "./lease.ts";
export {
  type MigrateOptions,
  type MigrateResult,
  type MigrationState,
  migrate,
  migrateDown,
  migrationScript,
  migrationState,
} from "./migrate.ts";
export type { Observation, ObservedCommand, Observer, Verdict } from "./observation.ts";
export {
  type CommandCount,
  createOrchestrator,
  type Orchestrator,
  type OrchestratorOptions,
  type Pushed,
  type PushOptions,
} from "./orchestrator.ts";
export { type CommandOutcome, InvalidOutputError, type TrailEntry } from "./outcome.ts";
export { CommandConflictError } from "./push.ts";
export type { StandardSchemaV1 } from "./standard-schema.ts";
export type { Issue } from "./validate.ts";
export { StoppedError, UnknownCommandError, type WaitOptions, WaitTimeoutError } from "./wait-for.ts";
export type { StopOptions, Worker, WorkerCounts } from "./worker.ts";
export type { WorkerOptions } from "./worker-options.ts";
