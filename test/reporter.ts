/** Makes `N passed, N failed` the last line of a test run. What did not run did not pass. */

import type { Reporter, TestModule } from "vitest/node";

const endings = { passed: 0, failed: 0 };

function count(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
  endings.passed = 0;
  endings.failed = unhandledErrors.length;
  for (const module of modules) {
    let tests = 0;
    for (const test of module.children.allTests()) {
      tests += 1;
      endings[test.result().state === "passed" ? "passed" : "failed"] += 1;
    }
    // A file that cannot be loaded has no tests, and its error belongs to none.
    if (tests === 0 || module.errors().length > 0) endings.failed += 1;
  }
}

const print = (): void => console.log(`${endings.passed} passed, ${endings.failed} failed`);

export default class LastLine implements Reporter {
  #ending = false;

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    count(modules, unhandledErrors);
    // Other reporters, and the teardown, may still have something to say.
    if (!this.#ending) process.once("exit", print);
    this.#ending = true;
    if (endings.failed > 0) process.exitCode = 1;
  }
}
