"""Hypothesis profiles: `test` draws the same examples on every run, `explore` (`make explore`) others each time.

`mutants` draws those of `test` and stops at the first that fails, however large it is.
"""

import os

from hypothesis import HealthCheck, Phase, settings

# No deadline: two cores are shared, and the first example compiles the wire scanner. No example database: what a run
# finds must not depend on an earlier one; what `make explore` finds becomes an explicit example.
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
settings.register_profile("mutants", settings.get_profile("test"), phases=(Phase.explicit, Phase.generate))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))
