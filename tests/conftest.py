"""Property tests draw the same examples everywhere in CI, and are never judged by the clock."""

import os

from hypothesis import settings

settings.register_profile("project", deadline=None, derandomize="CI" in os.environ, max_examples=75)
settings.load_profile("project")
