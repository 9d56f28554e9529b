"""Names tests, runs them one after the other and says how each went. The last line sums up."""

import asyncio
import sys
import time
import traceback
from contextlib import AsyncExitStack

TEST_SECONDS_MAX = 20
tests = []


def test(run):
    """Names a test by the first line of its documentation."""
    tests.append(run)
    return run


async def run_all(gateway):
    """Runs everything named so far; what a test enters on its stack ends with it."""
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    passed = failed = 0
    for run in tests:
        name = run.__doc__.splitlines()[0].rstrip(".")
        if chosen not in name:
            continue
        since = time.monotonic()
        try:
            async with asyncio.timeout(TEST_SECONDS_MAX), AsyncExitStack() as stack:
                await run(gateway, stack)
            passed += 1
            print(f"ok     {name} ({(time.monotonic() - since) * 1000:.0f} ms)", flush=True)
        except Exception:  # whatever a test raises is its failure
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
    await gateway.stop()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


async def until(what, holds, seconds=8):
    """Waits until `holds` does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.01)


def equal(got, expected):
    """Asserts that both are the same, and shows them when they are not."""
    assert got == expected, f"\n     got {got!r}\nexpected {expected!r}"
