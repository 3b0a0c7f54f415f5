/**
 * Topics, by which events are told apart, and patterns, by which subscriptions choose them. A topic has one to eight
 * levels between dots. In a pattern `*` is any one level, and `#`, only at the end, any number of levels, none among
 * them. The database finds subscriptions by equality with every pattern that could match a topic, so a level is either
 * written out or `*`, never a part of it.
 */
import { maxTopicLength, maxTopicLevels, requireText, shown } from "./limits.ts";

/** @throws TypeError and RangeError for what is no topic. */
export function requireTopic(attempt: string, topic: unknown): asserts topic is string {
  const levels = levelsOf(attempt, "topic", topic);
  if (levels.some((level) => level.includes("*") || level.includes("#"))) {
    throw new RangeError(`${attempt}: topic must be free of "*" and "#", which patterns have, got ${shown(topic)}`);
  }
}

/** @throws TypeError and RangeError for what is no pattern. */
export function requirePattern(attempt: string, pattern: unknown): asserts pattern is string {
  const levels = levelsOf(attempt, "pattern", pattern, 1);
  const isWrong = levels.some((level, index) => {
    if (level === "#") return index !== levels.length - 1;
    return level !== "*" && (level.includes("*") || level.includes("#"));
  });
  if (!isWrong) return;
  throw new RangeError(
    `${attempt}: pattern must have "*" only as a whole level, and "#" only as the last one, got ${shown(pattern)}`,
  );
}

function levelsOf(attempt: string, field: string, text: unknown, rest: number = 0): string[] {
  requireText(attempt, field, text, maxTopicLength);
  const levels = (text as string).split(".");
  const count = levels.at(-1) === "#" ? levels.length - rest : levels.length;
  if (count > maxTopicLevels) {
    throw new RangeError(
      `${attempt}: ${field} must have at most ${maxTopicLevels} levels, got ${count} in ${shown(text)}`,
    );
  }
  if (levels.includes("") || /[\s\p{Cc}]/u.test(text as string)) {
    throw new RangeError(
      `${attempt}: ${field} must be levels between dots, none empty, without white space, got ${shown(text)}`,
    );
  }
  return levels;
}
