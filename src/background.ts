import type { Observer } from "./observation.ts";

/** Hands what goes on by itself to somebody who reports its failure. */
export type Background = (operation: string, work: Promise<unknown>) => void;

export function createBackground(report: Observer): Background {
  return (operation, work) => void work.catch((error: unknown) => report({ type: "internal_error", operation, error }));
}
