"""Hypothesis profiles: `test` draws the same examples in every run, `explore` (`make explore`) draws new ones.

`mutants` draws the examples of `test` and stops at the first one that fails, without shrinking it. `thorough` draws 30
times as many: 300 for the laws of machines.
"""

import os

from hypothesis import HealthCheck, Phase, settings

# Fixtures of real components, shared by the suites that are run together; nothing starts unless a test asks for it.
pytest_plugins = ("tests.support.components", "tests.support.verdicts", "tests.support.skips")

# No deadline: two cores are shared, and the first example compiles the wire scanner. No example database: the result of
# a run must not depend on an earlier run. A counterexample of `make explore` becomes an explicit example.
settings.register_profile(
    "test",
    max_examples=50,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("test"), derandomize=False)
settings.register_profile("thorough", settings.get_profile("test"), max_examples=1_500)
settings.register_profile("mutants", settings.get_profile("test"), phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))
