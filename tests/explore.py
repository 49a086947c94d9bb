"""Search at random for a counterexample to the laws: `python -m tests.explore --seconds 1800 [--seed N] [PATH …]`.

Each round runs the tests with another Hypothesis seed. The first round that fails ends the search with exit code 1 and
prints the seed that repeats it. The counterexample becomes an explicit example of its law. Exit code 0: the time is up
and no counterexample was found.
"""

import argparse
import os
import subprocess
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser(description="Search at random for a counterexample to the laws.")
    parser.add_argument("--seconds", type=float, default=600, help="how long to begin new rounds (default 600)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round; 0: from the clock")
    parser.add_argument("paths", nargs="*", default=["tests/laws", "tests/unit"], help="tests to run in each round")
    asked = parser.parse_args()
    first = asked.seed or int(time.time()) % 1_000_000
    ends_at = time.monotonic() + asked.seconds
    rounds = 0
    while rounds == 0 or time.monotonic() < ends_at:
        seed = first + rounds
        command = [sys.executable, "-m", "pytest", "-q", "-x", f"--hypothesis-seed={seed}", *asked.paths]
        code = subprocess.run(command, env={**os.environ, "HYPOTHESIS_PROFILE": "explore"}).returncode
        if code:
            print(f"explore: round {rounds + 1} failed; repeat: make explore EXPLORE_SECONDS=1 EXPLORE_SEED={seed}")
            return code
        rounds += 1
    print(f"explore: {rounds} rounds, seeds {first} to {first + rounds - 1}: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
