/** Answers as the library gives them: times are `Date`s again. What users wrote (inputs, outputs, data) is left alone. */

/** Where values of users stand. */
const foreign = new Set(["input", "output", "data", "progress", "metadata", "rawOutput", "trail"]);
/** How times are named. */
const isTime = (key: string): boolean => /(?:At|^at|^since|^until|^to)$/.test(key);
const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z$/;

export function revive<Value>(value: unknown): Value {
  if (Array.isArray(value)) return value.map((item) => revive(item)) as Value;
  if (typeof value !== "object" || value === null) return value as Value;
  const revived: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) {
    revived[key] = foreign.has(key)
      ? inner
      : typeof inner === "string" && isTime(key) && iso.test(inner)
        ? new Date(inner)
        : revive(inner);
  }
  return revived as Value;
}
