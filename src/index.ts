/** Orchestratum: commands for TypeScript on PostgreSQL's `FOR UPDATE SKIP LOCKED`. See README.md and ARCHITECTURE.md. */
export type { Asking } from "./asking.ts";
export type { Backoff, BackoffOptions } from "./backoff.ts";
export type { FilterOptions, FilterResult } from "./by-filter.ts";
export { type CallEndpointOptions, callEndpoint, type EndpointCall, type Fetch } from "./call-endpoint.ts";
export type { CallStore } from "./call-store.ts";
export type { CancelResult } from "./cancel.ts";
export type { Chain } from "./chain.ts";
export { type Clock, systemClock, type Timer } from "./clock.ts";
export type { Actor, Command, CommandId, CommandOptions, Metadata, OutputOf } from "./command.ts";
export type {
  Act,
  ActOptions,
  AmendResult,
  Control,
  EraseResult,
  PausedName,
  QueueState,
  RetryOptions,
  RetryResult,
} from "./control.ts";
export { DatabaseUnresponsiveError, NotMigratedError } from "./database.ts";
export type {
  DeadLetterFilter,
  DeadLetters,
  DeadStatus,
  DropResult,
  RetryDeadLettersOptions,
} from "./dead-letters.ts";
export {
  type AnyContract,
  type Contract,
  type Contracts,
  type Definition,
  defineCommand,
  defineCommands,
} from "./define-command.ts";
export {
  type AnyEventContract,
  defineEvent,
  defineEvents,
  type EventContract,
  type EventContracts,
  type EventDefinition,
  type EventOptions,
  type NewEvent,
} from "./define-event.ts";
export {
  type DoctorLimits,
  type DoctorOptions,
  type Examination,
  examine,
  type Finding,
  type FindingCode,
  type Severity,
} from "./doctor.ts";
export type { Driver, Listener, Param, Queryable } from "./driver.ts";
export { InvalidInputError } from "./encode-command.ts";
export { InvalidDataError } from "./encode-event.ts";
export type { DeliveryState, EventAsking, EventStatus } from "./event-status.ts";
export type { Executed, ExecuteOnce, ExecuteOptions, ExecuteOutcome, FollowUp } from "./execute-once.ts";
export type { Explaining, Explanation, ExplanationCause } from "./explain.ts";
export { type ErrorRecord, PermanentFailure } from "./failure.ts";
export type { CommandFilter } from "./filter.ts";
export type { DutyState, Fleet, FleetWorker } from "./fleet.ts";
export type { CommandSnapshot, CommandStatus } from "./get.ts";
export {
  type Cancel,
  type CancellationContext,
  cancel,
  type End,
  type FailureContext,
  type Finished,
  type FinishOptions,
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
export { InvalidOutputError } from "./invalid-output.ts";
export type { Json } from "./json.ts";
export { AttemptAbortedError } from "./lease.ts";
export type { CommandList, ListOptions } from "./list.ts";
export { type LogLevel, type LogRecord, type LogTarget, type LogToOptions, logTo } from "./log.ts";
export type {
  Attempted,
  ExecuteNext,
  Executing,
  HandlerMiddleware,
  Middleware,
  PublishingEvent,
  PublishingEvents,
  PublishNext,
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
export {
  type Observation,
  type ObservedCommand,
  type Observer,
  observing,
  type Sent,
  type Verdict,
} from "./observation.ts";
export {
  type CommandCount,
  createOrchestrator,
  type Orchestrator,
  type OrchestratorOptions,
  type Pushed,
  type PushOptions,
} from "./orchestrator.ts";
export { type CommandOutcome, type TrailEntry } from "./outcome.ts";
export type { CommandProgress, ProgressOptions } from "./progress.ts";
export {
  type Appended,
  type AppendOptions,
  EventConflictError,
  type Published,
  type Publishing,
  type PublishOptions,
  type StreamAppend,
  StreamConflictError,
} from "./publish.ts";
export { CommandConflictError } from "./push.ts";
export type { LogPage, LogPosition, ReadAllOptions, ReadEvent, ReadingLog } from "./read-log.ts";
export type { Reader } from "./reader.ts";
export { type ReaderContext, ReaderLeaseLostError } from "./reader-lease.ts";
export type { ReaderOptions } from "./reader-options.ts";
export { type EventStore, type ReaderState, type RebuildOptions, UnknownReaderError } from "./readers.ts";
export {
  type CallReceiver,
  type ReceiveCallOptions,
  type ReceivingOptions,
  receiveCall,
} from "./receive-call.ts";
export {
  causedBy,
  type EventParser,
  InvalidEventError,
  type ParsedEvent,
  type RecordedEvent,
} from "./recorded-event.ts";
export type { SigningKeys } from "./signature.ts";
export { type CalledEvent, type CalledFollowUp, type CallOutcome, EndpointError } from "./signed-call.ts";
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
export type { ReadingStreams, ReadStreamOptions } from "./streams.ts";
export {
  type DeliveryContext,
  type EventOf,
  type Subscription,
  type SubscriptionDefinition,
  type SubscriptionTarget,
  subscribe,
} from "./subscribe.ts";
export {
  type AddSubscriptionOptions,
  OpenPublishersError,
  type RemoveSubscriptionOptions,
  type SubscriptionState,
  type Subscriptions,
} from "./subscriptions.ts";
export type { CommandSummary } from "./summary.ts";
export type { Telemetry } from "./telemetry.ts";
export type { Ticking, TickOptions, TickResult } from "./tick.ts";
export type { LeaseEnd, Timeline, TimelineEntry } from "./timeline.ts";
export type { CommandNode, CommandTree } from "./tree.ts";
export type { Issue } from "./validate.ts";
export { StoppedError, UnknownCommandError, type WaitOptions, WaitTimeoutError } from "./wait-errors.ts";
export type { StopOptions, Worker, WorkerCounts } from "./worker.ts";
export type { WorkerOptions } from "./worker-options.ts";
