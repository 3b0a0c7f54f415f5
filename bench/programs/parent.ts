/** What the programs share: how they hear of run.ts that started them, and how they answer it. */
import process from "node:process";

/** Resolves when run.ts wants the result; it also does when run.ts is gone. Never asked: does not keep the process up. */
export function untilAsked(): Promise<void> {
  process.stdin.resume();
  return new Promise((resolve) => process.stdin.once("close", resolve));
}

/** For programs that end by themselves: they do so early where run.ts is gone. */
export function endWithParent(): void {
  void untilAsked().then(() => process.exit(1));
}

export function ready(): void {
  console.log("ready");
}

/** Prints the result and ends, whatever is still open. */
export function answer(result: unknown): void {
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}

export interface Taken {
  readonly seconds: number;
  /** Of this process: user and system time. */
  readonly cpuSeconds: number;
}

/** Begins to measure; the result tells what was taken since. */
export function stopwatch(): () => Taken {
  const cpu = process.cpuUsage();
  const begun = performance.now();
  return () => {
    const seconds = (performance.now() - begun) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    return { seconds, cpuSeconds: (user + system) / 1e6 };
  };
}

/** A clock that all processes of this machine share, in ms. */
export function sharedNow(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
