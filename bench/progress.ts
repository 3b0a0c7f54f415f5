/** Shows on stderr how far the run is: a bar on a terminal, a line for each step elsewhere. */
import process from "node:process";
import { Presets, SingleBar } from "cli-progress";

export interface Progress {
  /** Adds to the number of steps that are known of. */
  expect(steps: number): void;
  /** A step begins. */
  step(label: string): void;
  /** What came of it: a line that stays. */
  say(line: string): void;
  stop(): void;
}

export function showProgress(): Progress {
  let total = 0;
  let begun = 0;
  if (!process.stderr.isTTY) {
    return {
      expect: (steps) => void (total += steps),
      step: (label) => console.error(`[${++begun}/${total}] ${label}`),
      say: (line) => console.error(`    ${line}`),
      stop: () => {},
    };
  }
  const bar = new SingleBar(
    { format: "{bar} {value}/{total} | {duration_formatted} | {label}", hideCursor: true, noTTYOutput: false },
    Presets.shades_classic,
  );
  return {
    expect(steps) {
      if (total === 0) bar.start(steps, 0, { label: "" });
      total += steps;
      bar.setTotal(total);
    },
    step: (label) => bar.update(begun++, { label }),
    say(line) {
      // The bar is drawn again below it.
      process.stderr.write(`\r\x1b[K${line}\n`);
      if (total > 0) bar.render();
    },
    stop() {
      if (total === 0) return;
      bar.update(begun, { label: "" });
      bar.stop();
    },
  };
}
