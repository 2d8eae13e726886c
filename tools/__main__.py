"""`python -m tools` writes every generated page of docs/; `--check` tells which are stale."""

from __future__ import annotations

from tools import api, bundle, commands, configuration, messages, plant

for page in (configuration, messages, bundle, commands, api, plant):
    page.main()
