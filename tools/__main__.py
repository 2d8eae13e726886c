"""`python -m tools` writes every generated page of docs/; `--check` tells which are stale."""

from __future__ import annotations

from tools import bundle, configuration, messages

for page in (configuration, messages, bundle):
    page.main()
