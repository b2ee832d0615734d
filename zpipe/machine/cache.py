"""Where zpipe keeps what it builds or fetches for a machine."""

import os
from pathlib import Path

from zpipe.paths import expanded


def cache_folder() -> Path:
    """zpipe's folder in the user's cache (XDG_CACHE_HOME, or ~/.cache). It may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(cache) / "zpipe"
