"""Anticipating driver manoeuvres on Brain4Cars: a Structural-RNN, an LSTM of equal size and chance.

    python -m benchmarks.accuracy.srnn_anticipation [--seeds 3] [--folds 1] [--models srnn] [--checkpoints DIR]

Needs brain4cars.npz in the folder named by STUNET_DATA. Runs in benchmarks/results/srnn-anticipation.json are not
repeated.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy.srnn_tasks import Experiment, Sections, TaskScores, reproduce
from training.tasks.anticipation.data import FEATURES, FOLDS, best_threshold, chance, fire, read_fold, score
from training.tasks.anticipation.model import build_anticipation, manoeuvre_probabilities, train_anticipation
from training.tasks.learning import Report, task_checkpoint
from training.tasks.settings import TaskConfig

CHANCE = "chance"


def run(options: Namespace, config: TaskConfig, model: str, fold: str, seed: int, report: Report) -> TaskScores:
    """Train one model on a fold and score it, with the threshold that is best on other training recordings.

    The choice of these validation recordings does not depend on the seed.
    """
    parts = read_fold(options.data / "brain4cars.npz", int(fold))
    if model == CHANCE:
        drawn = chance(parts.train, parts.test, np.random.default_rng(seed))
        return TaskScores(asdict(score(*drawn, parts.test.label)))
    torch.manual_seed(seed)
    learner = build_anticipation(config, model, parts.train)
    train_anticipation(config, learner, parts.train, seed, report)
    kept_back = manoeuvre_probabilities(learner, parts.validation)
    threshold = best_threshold(kept_back, parts.validation)
    validated = score(*fire(kept_back, parts.validation.present, threshold), parts.validation.label).f1
    tested = manoeuvre_probabilities(learner, parts.test)
    found = score(*fire(tested, parts.test.present, threshold), parts.test.label)
    checkpoint = task_checkpoint(
        learner,
        ["car"],
        ["1"] * FEATURES,
        parts.train.features[parts.train.present][:, None],
        None,
        {"task": "anticipation", "fold": fold, "config": asdict(config.training), "seed": seed, "threshold": threshold},
    )
    return TaskScores(asdict(found) | {"threshold": threshold, "validation_f1": validated}, checkpoint)


def sections(fold: str, scores: Mapping[str, Any]) -> Sections:
    """Return the scores of a fold."""
    columns = {"precision": "precision", "recall": "recall", "time, s": "time", "F1": "f1"}
    columns |= {"false alarms": "false_alarms"}
    return {f"fold {fold}": {column: scores[key] for column, key in columns.items()}}


ANTICIPATION = Experiment(
    "anticipation",
    "Anticipating driver manoeuvres on Brain4Cars",
    "Threshold chosen on held-out training recordings, never on the test. The public test files of the two folds share "
    "93 sequences: they are not independent. The published row is over all five original folds, its threshold and "
    "checkpoint chosen on the test sequences.",
    ("srnn", "lstm", CHANCE),
    run,
    sections,
    folds=tuple(map(str, FOLDS)),
    published={f"fold {fold}": {"precision": "0.90", "recall": "0.87", "time, s": "3.2"} for fold in FOLDS},
)

if __name__ == "__main__":
    reproduce(ANTICIPATION, __doc__)
