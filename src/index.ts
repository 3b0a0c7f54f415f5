/** Orchestratum: commands for TypeScript on PostgreSQL's `FOR UPDATE SKIP LOCKED`. See README.md and ARCHITECTURE.md. */
export type { Asking } from "./asking.ts";
export type { Backoff, BackoffOptions } from "./backoff.ts";
export type { FilterOptions, FilterResult } from "./by-filter.ts";
export type { CancelResult } from "./cancel.ts";
export { type Clock, systemClock, type Timer } from "./clock.ts";
export type { Actor, Command, CommandId, CommandOptions, Metadata, OutputOf } from "./command.ts";
export type {
  Act,
  ActOptions,
  AmendResult,
  Control,
  EraseResult,
  QueueState,
  RetryOptions,
  RetryResult,
} from "./control.ts";
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
export type { Executed, ExecuteOnce, ExecuteOptions, ExecuteOutcome, FollowUp } from "./execute-once.ts";
export { type ErrorRecord, PermanentFailure } from "./failure.ts";
export type { CommandFilter } from "./filter.ts";
export type { CommandSnapshot, CommandStatus } from "./get.ts";
export {
  type Cancel,
  type CancellationContext,
  cancel,
  type End,
  type FailureContext,
  type Finished,
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
export type { CommandList, ListOptions } from "./list.ts";
export type {
  Attempted,
  ExecuteNext,
  Executing,
  HandlerMiddleware,
  Middleware,
  Pushing,
  PushingCommand,
  PushNext,
} from "./middleware.ts";
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
export type { CommandProgress, ProgressOptions } from "./progress.ts";
export { CommandConflictError } from "./push.ts";
export type { StandardSchemaV1 } from "./standard-schema.ts";
export type {
  Durations,
  Figures,
  NameFigures,
  QueueFigures,
  Statistics,
  Stats,
  StatsOptions,
  WorkerFigures,
} from "./statistics.ts";
export type { CommandSummary } from "./summary.ts";
export type { LeaseEnd, Timeline, TimelineEntry } from "./timeline.ts";
export type { CommandNode, CommandTree } from "./tree.ts";
export type { Issue } from "./validate.ts";
export { StoppedError, UnknownCommandError, type WaitOptions, WaitTimeoutError } from "./wait-for.ts";
export type { StopOptions, Worker, WorkerCounts } from "./worker.ts";
export type { WorkerOptions } from "./worker-options.ts";
