/**
 * Lets so many callers run at once; the others wait for their turn. Commands are leased by the hundred, for the sake of
 * the database, but a process may have few files open, and the embedded database needs some of them.
 */
export function atOnce(max: number): <T>(run: () => Promise<T>) => Promise<T> {
  let free = max;
  const waiting: (() => void)[] = [];
  return async (run) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await run();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}
