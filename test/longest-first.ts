/**
 * The files that take longest begin first, so that none of them is left to run alone at the end. Without a record of an
 * earlier run vitest goes by the size of the files, which says nothing: the conformance suite is a dozen lines.
 */
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** By their names, the longest first; the others follow in vitest's own order. */
const long = [
  "adapters/connections",
  "docs",
  "examples/digest",
  "adapters/conformance",
  "adapters/cli-remote",
  "idle",
  "adapters/cli-control",
  "processes/processes",
  "adapters/pglite",
  "worker",
  "adapters/hono/sockets",
  "adapters/cli",
  "doctor",
  "adapters/cli-directory",
  "package",
  "stop",
  "adapters/hono/feeds",
  "adapters/cli-serve",
  "sql/plans",
];

export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = long.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`));
      return place < 0 ? long.length : place;
    };
    return sorted.toSorted((a, b) => rank(a) - rank(b));
  }
}
