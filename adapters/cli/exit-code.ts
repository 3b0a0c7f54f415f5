/** How the command line ends. Scripts build on these numbers: they are never given another meaning. */
export const exitCode = {
  done: 0,
  /** An error: the database, the network, a module that throws. */
  failed: 1,
  /** What was asked for makes no sense: the message says what would. */
  misused: 2,
  /** There is no such command. */
  unknown: 3,
  /** The command ended otherwise than succeeded. */
  ended: 4,
  /** Not all of it was done: something was busy, running or had ended before, or a time ran out. */
  partly: 5,
  /** What was examined will keep commands from running, or may. */
  warned: 6,
  /** What was examined keeps commands from running. */
  ailing: 7,
} as const;

export type ExitCode = (typeof exitCode)[keyof typeof exitCode];
