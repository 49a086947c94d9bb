"""Hypothesis profiles: HYPOTHESIS_PROFILE=ci tries more examples, and the same ones on every run."""

import os

from hypothesis import HealthCheck, settings

# No deadline: two cores are shared, and the first example compiles the wire scanner.
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), max_examples=300, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
