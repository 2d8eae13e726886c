"""`auscult cache`: what the caches hold, and clearing it."""

from __future__ import annotations

from pathlib import Path

import click

from agent.commands.options import json_option


@click.command(short_help="Show or clear what was computed and kept.")
@click.option("--clear", is_flag=True, help="Remove all of it; it is computed anew when asked for.")
@json_option("What there is")
def cache(*, clear: bool, json_path: Path | None) -> None:
    """Show what is kept of earlier work: embeddings, measurements, fitted scorers, graphs.

    learn, train, inspect, export, evaluate, benchmark and reproduce look there before they compute.
    It lies in $XDG_CACHE_HOME/auscult (else ~/.cache/auscult), holds no sound, and may be removed
    at any time. AUSCULT_CACHE_MB says how much each kind may take; without it 1024, or a tenth of
    what the disk has free; with 0 nothing is kept.
    """
    from rich.console import Console
    from rich.markup import escape

    from agent.calibrate.fit_cache import FitCache
    from agent.commands.options import write_given
    from agent.core.cache_home import GRAPHS, cache_home, cache_limit, folder_size, remove_folder
    from agent.core.text import plural, shown
    from agent.encode.embedding_cache import EmbeddingCache
    from agent.hygiene.facts import FactsCache

    limit, graphs = cache_limit(), cache_home() / GRAPHS
    embeddings = EmbeddingCache.of_user()
    facts, fits = FactsCache.of_user(), FitCache.of_user()
    sqlite = (embeddings, facts, fits)
    before = sum(one.kept().bytes for one in sqlite) + folder_size(graphs).bytes
    if clear:
        for one in sqlite:
            one.clear()
        remove_folder(graphs)
    kept, measured, fitted = (one.kept() for one in sqlite)
    size = folder_size(graphs)
    data = {
        "folder": str(cache_home()),
        "limit_bytes": limit,
        "embeddings": {"count": kept.count, "bytes": kept.bytes},
        "recordings": {"count": measured.count, "bytes": measured.bytes},
        "scorers": {"count": fitted.count, "bytes": fitted.bytes},
        "graphs": {"count": size.count, "bytes": size.bytes},
    }
    console = Console()
    console.print(f"cache: {escape(shown(cache_home()))}", highlight=False, soft_wrap=True)
    for what, bytes_ in (
        (plural(kept.count, "embedding"), kept.bytes),
        (plural(measured.count, "measured recording"), measured.bytes),
        (plural(fitted.count, "fitted scorer"), fitted.bytes),
        (plural(size.count, "graph"), size.bytes),
    ):
        console.print(f"  {what}: {bytes_ / 1e6:.1f} MB of {limit / 1e6:.0f}", highlight=False)
    if clear:
        freed = max(0, before - kept.bytes - measured.bytes - fitted.bytes - size.bytes)
        console.print(f"cleared: {freed / 1e6:.1f} MB", highlight=False)
    write_given(json_path, data)
