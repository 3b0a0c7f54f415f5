/** Makes `N passed, N failed` the last line of a test run. What did not run did not pass. */

import type { Reporter, TestModule, Vitest } from "vitest/node";

export default class LastLine implements Reporter {
  #line: string | undefined;
  /** Chosen by name (`-t`): what was not chosen is none of this run. */
  #isSelection = false;

  onInit(vitest: Vitest): void {
    this.#isSelection = vitest.config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    // Other reporters, and the teardown, may still have something to say.
    if (this.#line === undefined) process.once("exit", () => console.log(this.#line));
    const { passed, failed } = this.#count(modules);
    const allFailed = failed + unhandledErrors.length;
    this.#line = `${passed} passed, ${allFailed} failed`;
    if (allFailed > 0) process.exitCode = 1;
  }

  #count(modules: readonly TestModule[]): { passed: number; failed: number } {
    let passed = 0;
    let failed = 0;
    for (const module of modules) {
      const states = Array.from(module.children.allTests(), (test) => test.result().state);
      passed += states.filter((state) => state === "passed").length;
      failed += states.filter((state) => state !== "passed" && !(state === "skipped" && this.#isSelection)).length;
      // A file that cannot be loaded has no tests, and its error belongs to none.
      if (module.errors().length > 0 || states.length === 0) failed += 1;
    }
    return { passed, failed };
  }
}
