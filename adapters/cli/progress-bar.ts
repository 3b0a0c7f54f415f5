/** How far something long is, on stderr and only where that is a terminal: elsewhere nobody watches. */

import process from "node:process";
import { truncate } from "./terminal.ts";

export interface ProgressBar {
  /** `total` may become known later, or never. */
  update(done: number, total?: number): void;
  /** Takes the bar away, so that what is printed next stands alone. A second call is harmless. */
  end(): void;
}

const everyMs = 100;
const barWidth = 24;

/** @param label what is being done: "Pushing" */
export function showProgress(label: string, unit = "commands"): ProgressBar {
  const stream = process.stderr;
  if (!stream.isTTY) return { update() {}, end() {} };
  const begun = performance.now();
  let done = 0;
  let total: number | undefined;
  let shown = false;
  const draw = (): void => {
    const seconds = (performance.now() - begun) / 1000;
    const rate = seconds > 0 && done > 0 ? `  ${Math.round(done / seconds).toLocaleString("en")}/s` : "";
    const amount = done.toLocaleString("en");
    const of = total === undefined ? "" : ` of ${total.toLocaleString("en")}`;
    const bar = total === undefined || total === 0 ? "" : `${barOf(Math.min(done / total, 1))}  `;
    const what = done === 0 && total === undefined ? "" : `${amount}${of} ${unit}${rate}  `;
    stream.write(`\r\x1b[K${truncate(`${label}  ${bar}${what}${Math.round(seconds)} s`, (stream.columns || 80) - 1)}`);
    shown = true;
  };
  const timer = setInterval(draw, everyMs);
  timer.unref();
  return {
    update(nowDone, nowTotal) {
      done = nowDone;
      total = nowTotal ?? total;
    },
    end() {
      clearInterval(timer);
      if (shown) stream.write("\r\x1b[K");
      shown = false;
    },
  };
}

function barOf(share: number): string {
  const full = Math.round(share * barWidth);
  return `${"█".repeat(full)}${"░".repeat(barWidth - full)} ${String(Math.floor(share * 100)).padStart(3)} %`;
}
