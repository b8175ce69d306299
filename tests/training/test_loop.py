"""The training loop: its loss by hand, its promises about seeds, spans, patience and resuming."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
import torch

from stunet_deploy.errors import CheckpointError, ConfigError, DataError
from stunet_deploy.graph.adjacency import Adjacency
from training.baselines import persistence
from training.evaluation import evaluate
from training.loop import Trainer
from training.protocols import protocol_a, protocol_b
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    trainer.run()
    return trainer.model.state_dict()


def same(left, right) -> bool:
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def loss_by_hand(trainer: Trainer, series, rows, kind: str) -> float:
    """Return the loss of a batch, cell by cell, from the recording itself."""
    with torch.inference_mode():
        inputs = trainer.objective.series.inputs(rows)
        forecast, _ = trainer.model(inputs, trainer.model.initial_lines(len(rows)))
    sizes = []
    for batch, time, ahead, node in product(
        range(len(rows)), range(trainer.objective.warm_up, rows.shape[1]), range(3), range(6)
    ):
        row = int(rows[batch, time]) + 1 + ahead
        for target, feature in enumerate(trainer.model.signal.target_index):
            if series.observed[row, node, feature]:
                error = float(forecast[batch, time, ahead, node, target]) - float(series.values[row, node, feature])
                sizes.append(abs(error) / trainer.model.signal.std[feature])
    sizes = np.array(sizes)
    return sizes.mean() if kind == "mae" else (sizes.mean() + (sizes**2).mean()) / 2


@pytest.mark.parametrize("kind", ["mae", "paper"])
@pytest.mark.parametrize("regime", ["stream", "window"])
def test_the_loss_is_the_mean_over_observed_raw_labels(make_trainer, wave, graph, config, kind, regime):
    series = wave(features=2)
    values, observed = series.values.copy(), series.observed.copy()
    values[60:63, :, 1] = 0  # measured zeros count
    observed[60:63] = True
    observed[64:67, :3] = False  # what is under an unobserved mark does not, whatever it is
    values[64:67, :3] = 75
    series = replace(series, values=values, observed=observed)
    trainer = make_trainer(series, graph, config(("flow",), loss=kind, regime=regime))
    torch.nn.init.normal_(trainer.model.decoder.head.weight, std=0.3)
    trainer.model.eval()
    rows = torch.tensor([50, 58])[:, None] + torch.arange(trainer.sampler.length)

    loss = trainer.objective.loss(rows)

    assert float(loss.detach()) == pytest.approx(loss_by_hand(trainer, series, rows, kind), rel=1e-5)


def test_a_batch_without_a_single_label_gives_no_gradient_and_no_nan(make_trainer, series, graph, config):
    observed = series.observed.copy()
    observed[40:70] = False
    trainer = make_trainer(replace(series, observed=observed), graph, config())
    rows = 40 + torch.arange(trainer.sampler.length)[None]

    loss = trainer.objective.loss(rows)
    loss.backward()

    assert float(loss.detach()) == 0
    assert all(not parameter.grad.any() for parameter in trainer.model.parameters() if parameter.grad is not None)


def test_hiding_touches_inputs_and_never_labels(make_trainer, series, graph, config):
    trainer = make_trainer(series, graph, config(hide=0.4))
    trainer.model.eval()
    torch.nn.init.normal_(trainer.model.decoder.head.weight, std=0.3)
    rows = torch.tensor([20, 90])[:, None] + torch.arange(trainer.sampler.length)
    seen = []
    trainer.model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    asked = []
    recording = trainer.objective.series
    labels_of = type(recording).labels
    object.__setattr__(recording, "labels", lambda *given: asked.append(labels_of(recording, *given)) or asked[-1])

    trainer.objective.loss(rows)

    recorded = torch.from_numpy(series.observed[rows].astype(np.float32))
    assert (seen[0].observed <= recorded).all()
    assert 0.3 < 1 - float(seen[0].observed.sum() / recorded.sum()) < 0.5
    after = rows[:, trainer.objective.warm_up :, None] + torch.arange(1, 4)
    np.testing.assert_array_equal(asked[0][1], series.observed[after])


def test_hidden_sensors_are_silent_from_one_interval_to_another_with_all_their_features(
    make_trainer, wave, graph, config
):
    trainer = make_trainer(wave(features=2), graph, config(("flow",), hide_sensors=0.5))
    whole = torch.ones(400, 24, 6, 2)

    left = trainer.objective.hidden(whole)

    np.testing.assert_array_equal(left[..., 0], left[..., 1])
    silent = left[..., 0] == 0
    silences = torch.diff(torch.nn.functional.pad(silent.int(), (0, 0, 1, 1)), dim=1).clamp(min=0).sum(1)
    assert set(silences.unique().tolist()) == {0, 1}
    assert float(silences.float().mean()) == pytest.approx(0.5, abs=0.05)
    lengths = silent.sum(1)[silences == 1].float()
    assert float(lengths.mean()) == pytest.approx(24 / 3, abs=0.5)  # between two points at random
    assert lengths.min() == 1
    assert lengths.max() > 20
    assert torch.equal(whole, torch.ones(400, 24, 6, 2))


def test_time_jitter_shifts_a_chunk_as_a_whole_and_leaves_the_readings(make_trainer, series, graph, config):
    trainer = make_trainer(series, graph, config(time_jitter=30.0))
    trainer.model.eval()
    rows = torch.tensor([20, 90])[:, None] + torch.arange(trainer.sampler.length)
    seen = []
    trainer.model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))

    trainer.objective.loss(rows)

    plain = trainer.objective.series.inputs(rows)
    shift = seen[0].time_of_week - plain.time_of_week
    assert torch.equal(seen[0].values, plain.values)
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), atol=0.1, rtol=0)
    assert shift[0, 0, 0] != shift[1, 0, 0] != 0
    assert shift.abs().max() < 5 * 30 * 60


def test_chunks_keep_to_the_training_rows_and_the_runs_of_the_recording(make_trainer, broken, graph, config):
    trainer = make_trainer(broken, graph, config())
    train_rows = trainer.split.train_rows

    last = trainer.sampler.starts + trainer.sampler.length - 1 + trainer.split.horizon

    assert train_rows.stop < 360
    assert trainer.sampler.starts.min() >= train_rows.start
    assert last.max() == train_rows.stop - 1
    assert not ((trainer.sampler.starts < 120) & (last >= 120)).any()


def test_windows_are_those_of_the_split_even_where_days_touch(make_trainer, series, graph, config):
    split = protocol_b(series, (8, 3, 3), window=6, horizon=3)

    trainer = make_trainer(series, graph, config(regime="window"), split=split)

    assert trainer.sampler.length == 6
    assert trainer.objective.warm_up == 5
    np.testing.assert_array_equal(trainer.sampler.starts + 5, split.train)
    assert (trainer.sampler.starts // 24 == (trainer.sampler.starts + 8) // 24).all()


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("settings", [{"dropout": 0.2, "hide": 0.2}, {"regime": "window", "loss": "paper"}])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(make_trainer, series, graph, config, settings):
    settings = config(epochs=1, batch=32, **settings)
    first = weights_of(make_trainer(series, graph, settings))

    assert same(first, weights_of(make_trainer(series, graph, settings)))
    assert not same(first, weights_of(make_trainer(series, graph, settings, seed=2)))


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("regime", ["stream", "window"])
def test_nothing_that_the_test_scores_changes_the_weights(make_trainer, series, graph, config, regime):
    settings = config(epochs=2, regime=regime, batch=32)
    split = protocol_a(series, 6, 3)
    first = int(split.test[0]) + 1
    values, observed = series.values.copy(), series.observed.copy()
    values[first:], observed[first:] = 5, True
    other = replace(series, values=values, observed=observed)

    left, right = (make_trainer(data, graph, settings) for data in (series, other))

    assert same(weights_of(left), weights_of(right))
    assert [epoch.validation_mae for epoch in left.history] == [epoch.validation_mae for epoch in right.history]


def test_a_changed_training_reading_does_change_the_weights(make_trainer, series, graph, config):
    values = series.values.copy()
    values[40:60] = 20
    left, right = (make_trainer(data, graph, config(epochs=1)) for data in (series, replace(series, values=values)))

    assert not same(weights_of(left), weights_of(right))


@pytest.mark.usefixtures("shapes_unchecked")
def test_training_stops_when_patience_is_out_and_keeps_the_best_weights(make_trainer, series, graph, config):
    trainer = make_trainer(series, graph, config(epochs=30, learning_rate=0.3, patience=2, average=0.0))
    trainer.run()
    errors = [epoch.validation_mae for epoch in trainer.history]

    best = errors.index(min(errors))
    assert len(errors) == best + 1 + 2 < 30
    assert trainer.validate() == min(errors)
    assert not trainer.model.training


@pytest.mark.parametrize("regime", ["stream", "window"])
def test_bfloat16_trains_and_stays_finite(make_trainer, series, graph, config, regime):
    trainer = make_trainer(series, graph, config(epochs=1, precision="bf16", regime=regime, batch=32))
    weights = weights_of(trainer)

    assert all(weight.dtype == torch.float32 and torch.isfinite(weight).all() for weight in weights.values())
    assert np.isfinite(trainer.history[0].loss)
    assert np.isfinite(trainer.history[0].validation_mae)


def test_the_learning_rate_follows_its_schedule(make_trainer, series, graph, config):
    step = make_trainer(
        series, graph, config(schedule="step", decay=0.5, decay_every=2, epochs=4, learning_rate=0.01, batch=64)
    )
    assert [epoch.learning_rate for epoch in step.run()] == pytest.approx([0.01, 0.01, 0.005, 0.005])

    cosine = make_trainer(series, graph, config(epochs=4, learning_rate=0.01))
    for done, expected in ((0.0, 0.01), (2.0, 0.005), (4.0, 0)):
        progress = cosine.schedule.progress(done, 0.0)
        assert cosine.schedule.learning_rate(done, progress) == pytest.approx(expected)


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_short_training_beats_persistence_on_validation(make_trainer, series, graph, config):
    trainer = make_trainer(series, graph, config(epochs=12, learning_rate=0.02, average=0.0))
    trainer.run()
    predictors = [persistence(series, trainer.split), TorchPredictor(trainer.model)]

    results = evaluate(series, trainer.validation.split, predictors, regimes=["stream"])

    errors = {(result.model, result.horizon_minutes): result.mae for result in results}
    for minutes in (60, 120, 180):
        assert errors["stunet", minutes] < 0.7 * errors["persistence", minutes]


def test_a_training_that_diverges_at_once_says_so(make_trainer, series, graph, config):
    trainer = make_trainer(series, graph, config(epochs=3, patience=1, average=0.0))
    with torch.no_grad():
        trainer.model.encoder.contracting[0].cell.bias.fill_(torch.nan)

    with pytest.raises(ConfigError, match="learning_rate"):
        trainer.run()


def test_a_validation_span_without_readings_is_refused(make_trainer, series, graph, config):
    split = protocol_a(series, 6, 3)
    observed = series.observed.copy()
    observed[int(split.validation[0]) : int(split.test[0]) + 1] = False

    with pytest.raises(DataError, match="without a reading"):
        make_trainer(replace(series, observed=observed), graph, config()).run()


def test_too_few_validation_windows_are_refused(make_trainer, series, graph, config):
    split = protocol_a(series, 6, 3)

    with pytest.raises(DataError, match="validation windows"):
        make_trainer(series, graph, config(), split=replace(split, validation=split.validation[-2:]))


KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from training.run import TrainingRun

given, state = sys.argv[1:]
series, graph, config = pickle.loads(Path(given).read_bytes())

def report(epoch):
    if epoch.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)

TrainingRun(series, graph, config, seed=4, state_file=Path(state), report=report).run()
"""


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_killed_run_resumes_to_the_weights_of_an_uninterrupted_one(series, graph, config, tmp_path, pytestconfig):
    settings = config(epochs=4, dropout=0.2, hide=0.1)
    given, state = tmp_path / "given.pickle", tmp_path / "run.state"
    given.write_bytes(pickle.dumps((series, graph, settings)))
    uninterrupted = TrainingRun(series, graph, settings, seed=4).run()

    killed = subprocess.run(
        [sys.executable, "-c", KILLED, given, state],
        env=os.environ | {"PYTHONPATH": str(pytestconfig.rootpath)},
        capture_output=True,
        check=False,
    )
    epochs = []
    resumed = TrainingRun(series, graph, settings, seed=4, state_file=state, resume=True, report=epochs.append).run()

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [epoch.epoch for epoch in epochs] == [3, 4]
    assert same(resumed.model.state_dict(), uninterrupted.model.state_dict())
    assert resumed.training == uninterrupted.training
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_finished_run_resumes_to_itself(make_trainer, series, graph, config, tmp_path):
    state = tmp_path / "run.state"
    first = make_trainer(series, graph, config(), path=state, max_minutes=1e-4)
    weights = weights_of(first)
    second = make_trainer(series, graph, config(), path=state, max_minutes=1e-4)
    second.resume()

    assert same(weights_of(second), weights)
    assert [asdict(epoch) for epoch in second.history] == [asdict(epoch) for epoch in first.history]


@pytest.fixture
def interrupted(make_trainer, series, graph, config, tmp_path):
    trainer = make_trainer(series, graph, config(epochs=1), path=tmp_path / "run.state")
    trainer.run()
    return trainer


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("change", ["config", "seed", "reading", "mark", "sensor", "graph", "horizon"])
def test_another_runs_state_is_refused(make_trainer, interrupted, series, graph, config, change):
    settings, seed = config(epochs=1), 1
    if change == "config":
        settings = config(epochs=3)
    elif change == "horizon":
        settings = replace(settings, model=replace(settings.model, horizon=2))
    elif change == "seed":
        seed = 2
    elif change == "graph":
        weights = graph.adjacency.dense() * np.arange(1, 7) * np.arange(1, 7)[:, None]
        graph = replace(graph, adjacency=Adjacency.from_matrix(weights))
    elif change == "sensor":
        series = replace(series, site=replace(series.site, sensor_ids=("other", *series.sensor_ids[1:])))
    else:
        # In the test span, so that normalisation stays the same and only the data itself tells.
        values, observed = series.values.copy(), series.observed.copy()
        values[-1, 0] += change == "reading"
        observed[-1, 0] ^= change == "mark"
        series = replace(series, values=values, observed=observed)
    other = make_trainer(series, graph, settings, seed=seed, path=interrupted.state_file.path)

    with pytest.raises(CheckpointError, match="another run"):
        other.resume()


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("content", [b"", b"no checkpoint", None, "cut", "list"])
def test_a_damaged_or_missing_state_is_refused(make_trainer, interrupted, series, graph, config, content):
    path = interrupted.state_file.path
    if content is None:
        path.unlink()
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-500])
    elif content == "list":
        torch.save([1, 2], path)
    else:
        path.write_bytes(content)
    trainer = make_trainer(series, graph, config(epochs=1), path=path)

    with pytest.raises(CheckpointError, match="without --resume"):
        trainer.resume()


def test_a_trainer_without_a_state_file_cannot_resume(make_trainer, series, graph, config):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        make_trainer(series, graph, config()).resume()


def test_the_state_can_be_read_without_running_code(interrupted):
    state = torch.load(interrupted.state_file.path, weights_only=True)

    assert json.loads(state["history"])[0]["epoch"] == 1
