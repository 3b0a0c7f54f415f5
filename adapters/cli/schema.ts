import { checkSchemaName } from "../../src/schema-name.ts";
import { MisuseError } from "./misuse.ts";

/** The value of `--schema`: a name that is none is the caller's mistake, not a failure. */
export function requireSchema(schema = "orchestratum"): string {
  try {
    checkSchemaName(schema);
  } catch (error) {
    throw new MisuseError((error as Error).message);
  }
  return schema;
}
