import { readFileSync } from "node:fs";

export interface OwnPackage {
  readonly version: string;
  readonly peerDependencies: Readonly<Record<string, string>>;
}

/** The package that this file, adapters/cli/own-package.ts or that below dist, belongs to; undefined where it was moved. */
export function ownPackage(): OwnPackage | undefined {
  for (const folder of ["../..", "../../.."]) {
    try {
      const found = JSON.parse(readFileSync(new URL(`${folder}/package.json`, import.meta.url), "utf8"));
      if (found.name === "orchestratum") return found;
    } catch {
      // Not there: one further up.
    }
  }
  return undefined;
}
