"""A whole training run: what is prepared from the training span, and what the checkpoint holds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stunet_deploy.checkpoint import Checkpoint
from stunet_deploy.errors import ConfigError, DataError
from training import reference
from training.baselines import damped_departure
from training.preparation import prepare_signal
from training.protocols import normalisation, protocol_a, protocol_b
from training.reference import reference_stream
from training.run import TrainingRun
from training.torch_predictor import TorchPredictor


def test_limits_and_normalisation_come_from_observed_readings_of_the_training_span(wave):
    series = wave(features=2)
    split = protocol_a(series, 6, 3)
    values, observed = series.values.copy(), series.observed.copy()
    values[10, 0, 0], observed[10, 0, 0] = 80, True
    values[11, 0, 0], observed[11, 0, 0] = 500, False
    values[split.train_rows.stop :] = 300
    series = replace(series, values=values, observed=observed)

    signal = prepare_signal(series, split, ("flow",))

    flow = values[split.train_rows, :, 1][observed[split.train_rows, :, 1]]
    assert signal.low == (0, 0)
    assert signal.high == pytest.approx((1.2 * 80, 1.2 * flow.max()))
    mean, std = normalisation(series, split)
    assert (signal.mean, signal.std) == (tuple(mean), tuple(std))
    assert (signal.features, signal.targets, signal.target_index) == (("speed", "flow"), ("flow",), (1,))


def test_in_literature_mode_the_statistics_count_missing_readings_as_zeros(series):
    split = protocol_a(series, 6, 3)

    native, literature = (prepare_signal(series, split, (), literature=zeros) for zeros in (False, True))

    mean, std = normalisation(series, split, literature=True)
    assert (literature.mean, literature.std) == (tuple(mean), tuple(std))
    assert literature.mean[0] < native.mean[0] - 2
    assert literature.std[0] > native.std[0] + 2
    assert (literature.low, literature.high) == (native.low, native.high)


@pytest.mark.parametrize(("shift", "scale"), [(-100, 1), (-30, 1), (0, 0), (-40, 0)])
def test_limits_leave_room_around_every_training_reading(series, shift, scale):
    values = (series.values * scale + shift).astype(np.float32)
    split = protocol_a(series, 6, 3)

    signal = prepare_signal(replace(series, values=values), split, ())

    seen = values[split.train_rows][series.observed[split.train_rows]]
    assert signal.low[0] <= min(seen.min(), 0)
    assert signal.high[0] > seen.max()
    assert signal.targets == ("speed",)


def test_the_reference_stream_is_the_last_rows_before_the_test_span(series):
    split = protocol_a(series, 6, 3)

    stream = reference_stream(series, split)

    rows = slice(0, split.test_start)
    np.testing.assert_array_equal(stream.timestamps, series.timestamps[rows])
    np.testing.assert_array_equal(stream.observed, series.observed[rows])
    np.testing.assert_array_equal(stream.values, series.values[rows])
    assert stream.values.dtype == np.float32


def test_the_reference_stream_keeps_within_its_intervals_and_bytes(series, monkeypatch):
    split = protocol_a(series, 6, 3)
    monkeypatch.setattr(reference, "REFERENCE_INTERVALS", 50)
    assert reference_stream(series, split).timestamps[0] == series.timestamps[split.test_start - 50]
    monkeypatch.setattr(reference, "REFERENCE_BYTES", 40 * (6 * 5 + 8))
    assert len(reference_stream(series, split).timestamps) == 40


@pytest.mark.parametrize(("break_at", "rows"), [(120, (120, 264)), (200, (0, 200)), (264, (0, 264)), (150, (0, 150))])
def test_the_reference_stream_is_one_unbroken_run(series, break_at, rows):
    split = protocol_b(series, (8, 3, 4), window=6, horizon=3)
    assert split.test_start == 264
    times = series.timestamps + np.where(np.arange(360) >= break_at, 5 * 86_400, 0)
    series = replace(series, timestamps=times)

    stream = reference_stream(series, split)

    assert set(np.diff(stream.timestamps)) == {3600}
    np.testing.assert_array_equal(stream.timestamps, times[slice(*rows)])


def test_garbage_under_an_unobserved_mark_is_not_stored(series):
    values = np.where(series.observed, series.values, np.float32(np.nan))

    stream = reference_stream(replace(series, values=values), protocol_a(series, 6, 3))

    assert np.isfinite(stream.values).all()


@pytest.fixture(scope="module")
def trained():
    """Collect what one run reported, with its checkpoint."""
    return {}


@pytest.fixture
def checkpoint(trained, wave, graph, config):
    if not trained:
        series = wave(features=2)
        coordinates = {"latitude": np.linspace(34, 34.1, 6), "longitude": np.linspace(-118, -117.9, 6)}
        epochs = []
        placed = replace(graph, **coordinates)
        result = TrainingRun(series, placed, config(("flow",)), seed=3, report=epochs.append).run()
        trained.update(checkpoint=result, epochs=epochs, series=series)
    return trained["checkpoint"]


def test_a_checkpoint_holds_the_site_and_how_it_was_trained(checkpoint, trained):
    series, site, training = trained["series"], checkpoint.site, checkpoint.training

    assert (site.sensor_ids, site.units, site.interval_s) == (series.sensor_ids, ("mph", "veh/h"), 3600)
    assert (site.stamp, site.timezone) == ("start", "UTC")
    assert site.latitude[:2] == pytest.approx((34, 34.02))
    assert site.longitude[-1] == pytest.approx(-117.9)
    assert (training["data"], training["graph"], training["seed"], training["protocol"]) == ("a wave", "a ring", 3, "a")
    errors = [epoch.validation_mae for epoch in trained["epochs"]]
    assert training["epochs"] == len(errors) == 2
    if training["best_epoch"]:
        assert errors[training["best_epoch"] - 1] == min(errors) == training["validation_mae"]
    else:  # the perceptron alone was better
        assert training["validation_mae"] < min(errors)
    assert not checkpoint.model.training


def test_a_checkpoint_forecasts_the_same_after_a_round_trip(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "model.pt")
    again = Checkpoint.load(tmp_path / "model.pt")

    for name, weight in checkpoint.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight)
    assert again.model.signal == checkpoint.model.signal
    assert again.site == checkpoint.site
    assert dict(again.training) == dict(checkpoint.training)
    np.testing.assert_array_equal(again.reference.values, checkpoint.reference.values)


@pytest.mark.usefixtures("shapes_unchecked")
def test_weights_are_learnt_with_a_fill_that_is_known_beforehand(series, graph, config):
    run = config(epochs=1, hide=0.2)
    found = {
        fill: TrainingRun(series, graph, replace(run, model=replace(run.model, fill=fill)), seed=3).run().model
        for fill in ("forecast", "usual")
    }

    assert [(fill, model.config.fill) for fill, model in found.items()] == [(fill, fill) for fill in found]
    for name, weight in found["usual"].state_dict().items():
        assert torch.equal(found["forecast"].state_dict()[name], weight), name


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_model_of_the_literature_mode_cannot_tell_a_hidden_reading_from_a_zero(series, graph, config):
    observed, values = series.observed.copy(), series.values.copy()
    split = protocol_a(series, 6, 3)
    observed[split.test[5], 2], values[split.test[5], 2] = False, 0
    hidden = replace(series, observed=observed, values=values)
    observed = observed.copy()
    observed[split.test[5], 2] = True
    zero = replace(hidden, observed=observed)

    def forecasts(fill, seen):
        run = config(epochs=1, hide=0.2)
        model = TrainingRun(series, graph, replace(run, model=replace(run.model, fill=fill)), seed=3).run().model
        assert model.signal == prepare_signal(series, split, (), literature=fill == "zeros")
        return np.concatenate(list(TorchPredictor(model).stream(seen, 0, split.test)))

    np.testing.assert_array_equal(forecasts("zeros", hidden), forecasts("zeros", zero))
    assert np.abs(forecasts("last", hidden) - forecasts("last", zero)).max() > 1


def test_a_graph_of_another_network_is_refused(series, graph, config):
    with pytest.raises(DataError, match="graph of 5 sensors for a series of 6"):
        TrainingRun(series, replace(graph, adjacency=graph.adjacency.selected(np.arange(5))), config()).run()


def test_an_unknown_target_is_refused(series, graph, config):
    with pytest.raises(ConfigError, match="volume"):
        TrainingRun(series, graph, config(("volume",))).run()


@pytest.mark.parametrize("minutes", [0, -1.0])
def test_no_time_to_train_is_refused(series, graph, config, minutes):
    with pytest.raises(ConfigError, match="max_minutes"):
        TrainingRun(series, graph, config(), max_minutes=float(minutes)).run()


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(series, graph, config, device):
    with pytest.raises(ConfigError, match=device):
        TrainingRun(series, graph, config(), device=device).run()


def test_a_recording_that_is_too_short_is_refused(wave, graph, config):
    with pytest.raises(DataError, match="longer recording"):
        TrainingRun(wave(12), graph, config()).run()


def test_a_regime_that_does_not_exist_is_refused(config):
    with pytest.raises(ConfigError, match="regime = 'mixed'"):
        config(regime="mixed")


def test_forecasts_begin_at_the_fitted_damped_departure(series, graph, config):
    settings = config()
    settings = replace(settings, model=replace(settings.model, profile=True))
    whole = TrainingRun(series, graph, settings)
    prepared = whole.prepare()
    split = prepared.split

    (forecast,) = TorchPredictor(prepared.model.eval()).window(series, split.test[-1:], 6)

    (expected,) = damped_departure(series, split).window(series, split.test[-1:], 6)
    seen = series.observed[split.test[-1], :, 0]
    np.testing.assert_allclose(forecast[0, :, seen], expected[0, :, seen], atol=1e-3)
