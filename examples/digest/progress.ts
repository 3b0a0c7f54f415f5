/** How far a run is: a bar on a terminal, elsewhere a line now and then. Both go to stderr; stdout gets the table. */
import process from "node:process";
import { Presets, SingleBar } from "cli-progress";
import { amount } from "./text.ts";

export interface Progress {
  update(done: number, left: number): void;
  /** A line of its own, above the bar. */
  say(line: string): void;
  /** Leaves the bar as it is. A second call is harmless. */
  stop(): void;
}

const plainEveryMs = 2_000;

export function showProgress(): Progress {
  return process.stderr.isTTY ? showBar() : showLines();
}

function showBar(): Progress {
  const bar = new SingleBar(
    {
      format: "{bar} {percentage}% | {value} of {total} commands | {rate}/s | {duration_formatted}",
      formatValue: (value, _, type) => (type === "value" || type === "total" ? amount(value) : String(value)),
      hideCursor: true,
      // Signals are handled in main.ts, which has more to end than the bar.
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  const rate = createRate();
  let state: "new" | "shown" | "stopped" = "new";
  const progress: Progress = {
    update(done, left) {
      if (state === "stopped") return;
      const payload = { rate: amount(rate(done)) };
      if (state === "new") {
        state = "shown";
        bar.start(done + left, done, payload);
        return;
      }
      bar.setTotal(done + left);
      bar.update(done, payload);
    },
    say(line) {
      // The bar is drawn again below it, at its next turn.
      process.stderr.write(state === "shown" ? `\r\x1b[K${line}\n` : `${line}\n`);
    },
    stop() {
      if (state === "shown") bar.stop();
      state = "stopped";
    },
  };
  return progress;
}

function showLines(): Progress {
  const rate = createRate();
  let begun: number | undefined;
  let saidAt = Number.NEGATIVE_INFINITY;
  let stopped = false;
  return {
    update(done, left) {
      begun ??= done;
      const perSecond = rate(done);
      if (stopped || done === begun || (left > 0 && performance.now() - saidAt < plainEveryMs)) return;
      saidAt = performance.now();
      console.error(`${amount(done)} of ${amount(done + left)} commands, ${amount(perSecond)}/s`);
    },
    say: (line) => console.error(line),
    stop() {
      stopped = true;
    },
  };
}

/** Commands a second since the first call. */
function createRate(): (done: number) => number {
  let first: { done: number; at: number } | undefined;
  return (done) => {
    const now = performance.now();
    first ??= { done, at: now };
    return now === first.at ? 0 : Math.round(((done - first.done) * 1000) / (now - first.at));
  };
}
