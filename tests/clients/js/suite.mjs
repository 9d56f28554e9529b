// Names tests, runs them one after the other and says how each went. The last line sums up.

const TEST_MS_MAX = 20_000;
const tests = [];

export function test(name, run) {
  tests.push({ name, run });
}

// Runs everything named so far. `context` goes to every test; `end` is called behind the last.
export async function runAll(context, end) {
  const chosen = process.argv[2] ?? "";
  let failed = 0;
  let passed = 0;
  for (const { name, run } of tests.filter((test) => test.name.includes(chosen))) {
    const since = performance.now();
    const cleanups = [];
    try {
      await within(TEST_MS_MAX, name, run({ ...context, after: (cleanup) => cleanups.unshift(cleanup) }));
      passed += 1;
      console.log(`ok     ${name} (${Math.round(performance.now() - since)} ms)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}\n${error.stack ?? error}`);
    }
    for (const cleanup of cleanups) await cleanup();
  }
  await end();
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

// Waits for `promise` at most `ms` milliseconds.
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// Waits until `holds` does.
export async function until(what, holds, ms = 8_000) {
  const deadline = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${ms} ms`);
    await pause(10);
  }
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
