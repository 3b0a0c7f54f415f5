/** Validation by any Standard Schema, and the one form in which issues are told: a path and a message. */

import type { StandardSchemaV1 } from "./standard-schema.ts";

/** One thing that is wrong with a value. */
export interface Issue {
  /** Where: `to[0].name`, `["first name"]`; empty for the value itself. */
  readonly path: string;
  /** What, in a sentence without a final period. */
  readonly message: string;
}

/** What a validation came to: the schema's output, or at least one issue. */
export type Validated<Value> =
  | { readonly value: Value; readonly issues?: undefined }
  | { readonly issues: readonly Issue[] };

/**
 * Validates `value`. Answers at once where the schema does, so that a push with an ordinary schema costs no turn of
 * the event loop. What the schema throws is thrown.
 */
export function validate<Schema extends StandardSchemaV1>(
  schema: Schema,
  value: unknown,
): Validated<StandardSchemaV1.InferOutput<Schema>> | Promise<Validated<StandardSchemaV1.InferOutput<Schema>>> {
  const result = schema["~standard"].validate(value);
  // A schema library may bring a promise of its own, so what counts is that it can be waited for.
  return "then" in result ? Promise.resolve(result).then(validated) : validated(result);
}

function validated<Value>(result: StandardSchemaV1.Result<Value>): Validated<Value> {
  if (!result.issues) return { value: result.value };
  if (result.issues.length === 0) return { issues: [{ path: "", message: "refused without a reason" }] };
  return {
    issues: result.issues.map((issue) => ({
      path: formatPath(issue.path?.map((segment) => (typeof segment === "object" ? segment.key : segment)) ?? []),
      message: issue.message,
    })),
  };
}

/** A path as it would be written in JavaScript, without what it starts from. */
export function formatPath(path: readonly PropertyKey[]): string {
  let text = "";
  for (const key of path) {
    if (typeof key === "number") text += `[${key}]`;
    else if (typeof key === "symbol") text += `[${String(key)}]`;
    else if (!/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key)) text += `[${JSON.stringify(key)}]`;
    else text += text === "" ? key : `.${key}`;
  }
  return text;
}

/** Issues in one line, for a message. At most a hundred: all of them are in the error's `issues`. */
export function formatIssues(issues: readonly Issue[]): string {
  const lines = issues.slice(0, 100).map(({ path, message }) => (path === "" ? message : `${path}: ${message}`));
  if (issues.length > lines.length) lines.push(`and ${issues.length - lines.length} more`);
  return lines.join("; ");
}
