/** What the caller of the command line got wrong: shown with the usage, exit code 2. */
export class MisuseError extends Error {
  override readonly name = "MisuseError";
}
