"""What all tests share: how hard Hypothesis looks."""

import os

from hypothesis import HealthCheck, settings

# The same examples for everybody and every run: a commit that fails here fails anywhere. `explore` looks for new ones.
settings.register_profile(
    "default",
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("default"), max_examples=1500, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
