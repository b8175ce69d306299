"""Whether a model is worth deploying: it must forecast better than what needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stunet_deploy.wording import span_in_words
from training.evaluation import Result


@dataclass(frozen=True)
class Verdict:
    """A model's carried forecasts beside the best baseline at every scored horizon of every target.

    Attributes:
        rows: (target, minutes ahead, the model's MAE, name of the best baseline, its MAE).
    """

    rows: tuple[tuple[str, float, float, str, float], ...]

    @classmethod
    def of(cls, results: Sequence[Result], model: str) -> Verdict:
        """Compare a model with all others in the results of the stream regime, where nothing is hidden.

        Horizons without a label are left out.
        """
        scored = [one for one in results if one.protocol == "stream" and not one.hidden and one.count]
        rows = []
        for ours in (one for one in scored if one.model == model):
            place = (ours.target, ours.horizon_minutes)
            others = [one for one in scored if one.model != model and (one.target, one.horizon_minutes) == place]
            if others:
                best = min(others, key=lambda one: one.mae)
                rows.append((*place, ours.mae, best.model, best.mae))
        return cls(tuple(rows))

    @property
    def worth_deploying(self) -> bool:
        """Whether the model is better than every baseline at every horizon."""
        return bool(self.rows) and all(ours < best for _, _, ours, _, best in self.rows)

    def __str__(self) -> str:
        """One line: the gain at every horizon, or where a baseline is better."""
        if not self.rows:
            return "no verdict: nothing to compare with"
        several = len({target for target, *_ in self.rows}) > 1
        parts = []
        for target, minutes, ours, name, best in self.rows:
            if self.worth_deploying or ours >= best:
                change = f"{100 * abs(1 - ours / best):.1f} %" if best else f"{abs(ours - best):.3g}"
                way = "below" if ours < best else "above" if ours > best else "equal to"
                parts.append(f"{f'{target} ' if several else ''}{span_in_words(minutes)} {change} {way} {name}")
        opening = "worth deploying" if self.worth_deploying else "not worth deploying"
        return f"{opening}: carried MAE at {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        keys = ("target", "horizon_minutes", "mae", "best_baseline", "baseline_mae")
        rows = [dict(zip(keys, row, strict=True)) for row in self.rows]
        return {"worth_deploying": self.worth_deploying, "horizons": rows}
