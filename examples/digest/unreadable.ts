import { PermanentFailure } from "orchestratum";

/** What another attempt will not change. Everything else (EMFILE, EBUSY, EAGAIN, EIO …) is tried again. */
const unreadable: ReadonlySet<unknown> = new Set([
  "EACCES",
  "EINVAL",
  "EISDIR",
  "ELOOP",
  "ENAMETOOLONG",
  "ENODEV",
  "ENOENT",
  "ENOTDIR",
  "ENXIO",
  "EPERM",
]);

/** Throws what it gets; what cannot be read at all, as a failure for good. */
export function permanentIfUnreadable(error: unknown): never {
  if (!(error instanceof Error) || !unreadable.has((error as NodeJS.ErrnoException).code)) throw error;
  // "ENOENT: no such file or directory, open '/the/path'": the path is in the command's input.
  throw new PermanentFailure(error.message.replace(/, \w+ '.*'$/s, ""), { cause: error });
}
