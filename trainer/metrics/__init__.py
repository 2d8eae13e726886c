"""The challenge's metrics: reading and writing its files, its figures, and their intervals."""

from trainer.metrics.auc import DomainAuc, MetricsError, auc_scores, harmonic_mean
from trainer.metrics.bootstrap import bootstrap, interval
from trainer.metrics.files import SectionScores, read_scores, write_scores
from trainer.metrics.names import read_key
from trainer.metrics.summary import MachineFigures, Official, official, summarize

__all__ = [
    "DomainAuc",
    "MachineFigures",
    "MetricsError",
    "Official",
    "SectionScores",
    "auc_scores",
    "bootstrap",
    "harmonic_mean",
    "interval",
    "official",
    "read_key",
    "read_scores",
    "summarize",
    "write_scores",
]
