"""Stop a run that lags behind the runs beside it: the median stopping rule of Golovin et al.
(2017), Google Vizier, KDD.

After each epoch, a run ends whose best development score so far is below the median of what the
other runs in the same folder had reached by then. It is for sweeps: `minbert sweep
--stop-hopeless`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from minbert.checks import check_counts
from multitask.extensions.base import Extension, register


@register("median_stop")
@dataclass(frozen=True, kw_only=True)
class MedianStop(Extension):
    """End runs that lag behind the others in their folder."""

    least: int = 3
    """Other runs that must have come as far."""
    after: int = 1
    """Epochs that every run has."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "least", "after")

    def stops(self, epoch: float, score: float, beside: Callable[[float], list[float]]) -> bool:
        if epoch < self.after:
            return False
        others = beside(epoch)
        return len(others) >= self.least and score < median(others)
