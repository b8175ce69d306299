"""Settings of models and training: frozen dataclasses, validated when built, stored as JSON beside every artifact."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stunet_deploy.config_mapping import check_choices
from stunet_deploy.errors import ConfigError, shown
from stunet_deploy.limits import MOST, MOST_BATCH, MOST_CHANNELS, MOST_INTERVALS, MOST_LAYERS, MOST_THREADS

#: How a recording is split: 70/10/20 of the windows (a), by day (b), or by its breaks (auto); see training.protocols.
SplitChoice = Literal["auto", "a", "b"]
#: How the time of an interval is fed to a model.
TimeFeatures = Literal["week", "day", "fraction", "none"]
#: The preparation of a graph: its matchings, its symmetric form, the form of its polynomials.
PartitionMethod = Literal["gpa", "pga"]
SymmetriseMethod = Literal["max", "mean"]
BasisForm = Literal["auto", "dense", "blocks"]


def require(valid: bool, name: str, value: object, expected: str) -> None:
    """Refuse the value of a setting that is not valid.

    Raises:
        ConfigError: naming the setting.
    """
    if not valid:
        raise ConfigError(f"{name} = {shown(value)}", expected, f"correct {name} in the config file")


def require_up_to(config: Any, names: Iterable[str], most: int, least: int = 1) -> None:
    """Refuse settings that are too small, or larger than anyone means.

    Raises:
        ConfigError: naming the first of them.
    """
    for name in names:
        value = getattr(config, name)
        require(least <= value <= most, name, value, f"at least {least} and at most {most:,}")


@dataclass(frozen=True)
class Signal:
    """The channels of a model in physical units, with statistics of the training span.

    Attributes:
        features: names of the input features, in the order of the feature axis.
        targets: names of the forecast variables, in the order of the target axis; each is also an input feature, unless
            ``target_std`` is given.
        mean, std: per input feature, over the training span.
        low, high: physical limits per input feature; a reading outside them counts as missing.
        target_std: where targets are not input features (probabilities of classes, parameters of a distribution), the
            typical size of a difference in each, by which export measures round-off; otherwise empty.
        target_units: the unit of each target that is not an input feature; otherwise empty.
    """

    features: tuple[str, ...]
    targets: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    target_std: tuple[float, ...] = ()
    target_units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("mean", "std", "low", "high"):
            numbers = getattr(self, name)
            require(len(numbers) == len(self.features), name, numbers, f"one number for each of {self.features}")
            require(all(map(math.isfinite, numbers)), name, numbers, "finite numbers")
        for name in ("features", "targets"):
            names = getattr(self, name)
            require(0 < len(names) == len(set(names)), name, names, "at least one name, none twice")
        if self.forecasts_features:
            require(set(self.targets) <= set(self.features), "targets", self.targets, f"features of {self.features}")
        require(all(std > 0 for std in self.std), "std", self.std, "positive numbers")
        require(all(0 < std < math.inf for std in self.target_std), "target_std", self.target_std, "positive numbers")
        expected = 0 if self.forecasts_features else len(self.targets)
        for name in ("target_std", "target_units"):
            require(len(getattr(self, name)) == expected, name, getattr(self, name), f"{expected} entries")
        require(all(a < b for a, b in zip(self.low, self.high, strict=True)), "low", self.low, "low below high")

    @property
    def forecasts_features(self) -> bool:
        """Whether the targets are input features, so that a recording holds their labels."""
        return not self.target_std

    @property
    def target_scale(self) -> tuple[float, ...]:
        """The typical size of a difference in each target, in its unit."""
        return self.target_std or tuple(self.std[index] for index in self.target_index)

    @property
    def target_index(self) -> tuple[int, ...]:
        """Position of each target among the input features; empty where targets are not input features."""
        return tuple(self.features.index(target) for target in self.targets)


@dataclass(frozen=True)
class STUNetConfig:
    """Architecture of an ST-UNet (Yu, Yin, Zhu 2019); the defaults are the paper's where it speaks.

    Attributes:
        scales: (pool levels, dilation) from the finest to the coarsest scale. Pool levels are matchings since the
            previous scale (each halves the graph at best); dilations are absolute, in intervals.
        hidden: channels of every recurrent layer; 0 for no encoder: the perceptron alone forecasts, without a graph.
        chebyshev_order: K, the number of Chebyshev polynomials T0 … T(K−1) of a graph convolution.
        partition: how matchings are found: ``gpa`` (Global Path Algorithm) or ``pga`` (the paper's Algorithm 1).
        symmetrise: how a directed adjacency becomes symmetric: ``max`` or ``mean``.
        basis: how the polynomials of a graph are multiplied: ``dense``, in ``blocks`` (for large graphs), or the
            cheaper one at each level (``auto``).
        pooling: ``max`` or ``mean`` over the members of a super node.
        skip: concatenate the contracting side's output before each expanding layer.
        layer_norm: normalise each recurrent layer's output over channels (not inside the recurrence).
        unpooling: ``copy`` the super node, ``ordered_deconv`` (a matrix per rank of a member by degree) or
            ``weighted_deconv`` (the same, fed the member's degree and strength too).
        decoder: ``direct`` (one graph convolution emits all horizons) or ``recurrent`` (the paper's: a second stack
            takes a step per horizon, fed its own forecast).
        residual: forecasts are differences to the present reading, instead of values (the paper).
        fill: the substitute for an unobserved value: ``usual`` (the sensor's daily profile, or mean, and what is left
            of the last reading's departure from it), ``forecast`` (that of the interval before, which returns there
            while the sensor stays silent; trained as ``usual``), ``last`` (the last filled value), ``mean`` (the
            training mean) or ``zeros`` (a reading of 0 that no mask marks and that counts in ``mean`` and ``std``, as
            in the literature).
        time_features: ``week`` (sine and cosine of day and week), ``day`` (sine and cosine of the day),
            ``fraction`` (time of day in [0, 1), as in DCRNN) or ``none`` (the paper).
        mask_channel: feed the observed mask as further input channels; never with ``fill = "zeros"``.
        profile: feed each sensor's mean working and weekend day over the training span, a table in the graph, and let
            every forecast that is residual start between the present reading and its profile.
        profile_ahead: feed the recurrent layers the profile of every horizon, where a perceptron receives it: otherwise
            only how far the present reading departs from it. Without a perceptron they always are.
        damped: with a profile, residual forecasts start at the damped departure (the profile ahead plus a share of how
            far the present reading departs from the profile now, fitted before training); otherwise at the reading.
        lags: with a direct decoder, so many last departures from the profile (readings, without one) of a sensor are
            fed to a perceptron beside the final graph convolution; 0 for no perceptron.
        head: width of that perceptron.
        members: so many such perceptrons, trained each by itself, whose mean counts.
        static_features: feed that perceptron statistics of each sensor's readings in the training span, and its present
            reading beside the departures; they are no weights, so that the model remains one for any sensor.
        changes: with a profile, feed that perceptron by how much each reading of the window differs from the present
            one, beside its departure from the profile.
        common: feed that perceptron what all sensors have in common: the mean of each lag over them, and the time.
        harmonics: the time of day is fed to it as sine and cosine of so many frequencies (of ``time_features``
            ``week`` and ``day``): a rush hour does not rise and fall like a sine of the day.
        compress: feed that perceptron its channels a second time, compressed by a logarithm.
        memory: with that perceptron and a profile, remember the departures of the last week by twenty minutes, and
            feed it those of a day and of a week before what is forecast; for recordings of weeks.
        sensor_scale: with a direct decoder and residual forecasts, departures of a sensor count in units of their own
            size: more of a busy sensor is needed to mean the same.
        horizon: number of intervals forecast.
        window: number of input intervals of the window protocol.
    """

    scales: tuple[tuple[int, int], ...] = ((2, 2),)
    hidden: int = 64
    chebyshev_order: int = 3
    partition: PartitionMethod = "gpa"
    symmetrise: SymmetriseMethod = "max"
    basis: BasisForm = "auto"
    pooling: Literal["max", "mean"] = "max"
    unpooling: Literal["copy", "ordered_deconv", "weighted_deconv"] = "copy"
    decoder: Literal["direct", "recurrent"] = "direct"
    residual: bool = True
    skip: bool = True
    layer_norm: bool = True
    fill: Literal["usual", "forecast", "last", "mean", "zeros"] = "usual"
    time_features: TimeFeatures = "week"
    mask_channel: bool = True
    profile: bool = False
    profile_ahead: bool = False
    damped: bool = True
    lags: int = 12
    head: int = 64
    members: int = 1
    static_features: bool = True
    changes: bool = True
    common: bool = True
    harmonics: int = 4
    compress: bool = True
    sensor_scale: bool = True
    memory: bool = False
    horizon: int = 12
    window: int = 12

    def __post_init__(self) -> None:
        scales_valid = 0 < len(self.scales) <= MOST_LAYERS and all(
            0 <= pool <= MOST and 1 <= dilation <= MOST_INTERVALS for pool, dilation in self.scales
        )
        require(
            scales_valid,
            "scales",
            self.scales,
            f"(pool levels of 0 to {MOST}, dilation of 1 to {MOST_INTERVALS:,}) for 1 to {MOST_LAYERS} scales",
        )
        require_up_to(self, ("chebyshev_order", "members", "harmonics"), MOST)
        require_up_to(self, ("head",), MOST_CHANNELS)
        require_up_to(self, ("horizon", "window"), MOST_INTERVALS)
        alone = self.decoder == "direct" and self.lags > 0
        require(alone or self.hidden > 0, "hidden", self.hidden, "at least 1, or 0 for a direct decoder with lags")
        require_up_to(self, ("hidden",), MOST_CHANNELS, least=0)
        require_up_to(self, ("lags",), MOST_INTERVALS, least=0)
        check_choices(self)


@dataclass(frozen=True)
class SRNNConfig:
    """Architecture of a Structural-RNN (Jain et al. 2016); widths are small ones for sensors, not the paper's.

    Attributes:
        edge_state: ``summed`` (the paper: features of a node's edges of a type are added before one edgeRNN) or
            ``per_edge`` (an edgeRNN state for every edge, combined after it).
        combine: how ``per_edge`` states of a node are combined: weighted ``sum``, or scaled dot-product ``attention``
            asked by the node's temporal edge (Vemula et al. 2018), which learns its weights and ignores the graph's.
        edge_features: input of an edgeRNN from two nodes, or from one at two times: both (``concat``, the paper) or
            their ``difference``, which is blind to where they are; needs ``presence``.
        cell: ``lstm`` (the paper) or ``gru``.
        edge_embedding: widths of the layers before an edgeRNN, ReLU between them (the paper: 256, 256).
        edge_hidden: channels of every edgeRNN (the paper: 512).
        edge_skip: an edgeRNN's output is concatenated with its input (the paper).
        node_embedding: widths of the layers that embed a node's own features.
        node_hidden: channels of every nodeRNN (the paper: 512).
        head: widths of the ReLU layers after a nodeRNN, before the linear one (the paper: 256, 100).
        output: ``regression`` (values of the targets), ``gaussian`` (means, standard deviations and correlation of
            the two features of every node) or ``classification`` (probabilities of ``classes``).
        classes: for ``classification``, the classes of every node type that is labelled; each step of the horizon
            has its own probabilities, the first being those of the present interval.
        decoder: ``direct`` (the head emits all horizons at once) or ``recurrent`` (the paper's roll-out: the model
            takes a step per horizon, fed its own forecast, the time of day held).
        residual: forecasts are differences to the present reading, with a recurrent decoder to the one before.
        presence: nodes come and go: one whose readings are not observed is absent and has no edges; one that comes
            starts from zero states.
        fill: the substitute for an unobserved value, as in :class:`STUNetConfig`, the mean being that of all sensors;
            ``mean`` with ``presence``.
        time_features: as in :class:`STUNetConfig`, fed to the nodeRNNs.
        mask_channel: the observed mask belongs to the features; never with ``fill = "zeros"`` or ``presence``.
        profile: as in :class:`STUNetConfig`, for a node per sensor and a direct decoder.
        damped: as in :class:`STUNetConfig`.
        horizon: number of intervals forecast.
        window: number of input intervals of the window protocol.
    """

    edge_state: Literal["summed", "per_edge"] = "summed"
    combine: Literal["sum", "attention"] = "sum"
    edge_features: Literal["concat", "difference"] = "concat"
    cell: Literal["lstm", "gru"] = "lstm"
    edge_embedding: tuple[int, ...] = (32,)
    edge_hidden: int = 32
    edge_skip: bool = True
    node_embedding: tuple[int, ...] = (32,)
    node_hidden: int = 64
    head: tuple[int, ...] = (64,)
    output: Literal["regression", "gaussian", "classification"] = "regression"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    decoder: Literal["direct", "recurrent"] = "direct"
    residual: bool = True
    presence: bool = False
    fill: Literal["usual", "last", "mean", "zeros"] = "last"
    time_features: TimeFeatures = "week"
    mask_channel: bool = True
    profile: bool = False
    damped: bool = True
    horizon: int = 12
    window: int = 12

    def __post_init__(self) -> None:
        require_up_to(self, ("edge_hidden", "node_hidden"), MOST_CHANNELS)
        require_up_to(self, ("horizon", "window"), MOST_INTERVALS)
        for name in ("edge_embedding", "node_embedding", "head"):
            widths = getattr(self, name)
            valid = len(widths) <= MOST_LAYERS and all(1 <= width <= MOST_CHANNELS for width in widths)
            require(valid, name, widths, f"widths of 1 to {MOST_CHANNELS:,}, up to {MOST_LAYERS} of them")
        check_choices(self)
        summed = self.edge_state == "summed"
        require(not (summed and self.combine == "attention"), "combine", self.combine, 'sum, or edge_state "per_edge"')
        differs = self.edge_features == "difference"
        require(not differs or self.presence, "edge_features", self.edge_features, "concat, or presence = true")
        require(not self.presence or self.fill == "mean", "fill", self.fill, '"mean" with presence = true')
        classifies = self.output == "classification"
        distinct = all(len(names) == len(set(names)) > 1 for names in self.classes.values())
        valid = bool(self.classes) == classifies and distinct
        require(valid, "classes", self.classes, 'two or more for each labelled node type, with output "classification"')
        rolled = self.decoder == "recurrent"
        require(not (rolled and classifies), "decoder", self.decoder, "direct with classification")
        plain = self.output == "regression" and not rolled
        require(not self.profile or plain, "profile", self.profile, "false, or regression with a direct decoder")


#: The paper's ablation, by configuration alone (its Table 3).
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "GCGRU": {"scales": ((0, 1),), "skip": False},
    "T-UNet": {"scales": ((0, 2),)},
    "S-UNet": {"scales": ((2, 1),)},
    "ST-UNet": {"scales": ((2, 2),)},
}


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained; the defaults are this project's, the paper's are named where they differ.

    Attributes:
        regime: ``stream`` (contiguous chunks, a loss after every interval past the warm-up: the state is trained as it
            is deployed) or ``window`` (the paper's: forecast after the last of ``window`` intervals from zero state).
        warm_up: intervals of a chunk before its first loss.
        chunk: intervals of a chunk with a loss.
        batch: chunks (or windows) per update; the paper's is 50.
        accumulate: batches whose gradients are summed for one update, which is that of one batch of all their chunks
            in the memory of one.
        epochs: passes over the training span; the paper's is 80.
        updates: so many updates in place of ``epochs``, in up to 20 epochs of equal length; 0 for passes.
        alone: updates, of some windows each, that train every perceptron of an ST-UNet first, without the encoder: more
            of a long recording, at most ``epochs`` passes, where these count, and as much of a limited time as the rest
            of the network has. They then stay as they are, and the rest learns what they do not know.
        learning_rate: Adam's; the paper's is 1e-2.
        decay, decay_every: the learning rate is multiplied by ``decay`` every ``decay_every`` epochs (0.7 and 8 in
            the paper); ignored by the cosine schedule.
        schedule: ``step`` (the paper's) or ``cosine`` (to zero over the planned epochs).
        weight_decay: decoupled weight decay (AdamW); 0 in the paper.
        clip_norm: largest norm of the gradient.
        loss_every: a loss after every n-th interval past the warm-up, from a random first one; a recurrent decoder
            takes ``horizon`` steps for each.
        teacher_forcing: input of a recurrent decoder in training: ``scheduled`` (the label with falling probability,
            the paper's scheduled sampling), ``always`` (the label) or ``never`` (its own forecast).
        sampling_decay: k of scheduled sampling, whose probability is k / (k + exp(i / k)) at update i; 0 chooses
            the k that reaches one half midway. DCRNN's 2,000 suits a run of 30,000 updates.
        loss: ``paper`` (½(mean|e| + mean e²)) or ``mae`` in normalised units, masked where the label is missing.
        dropout: share of layer outputs dropped in training.
        hide: share of observed cells hidden at random in training inputs, so that a model learns to do without.
        hide_sensors: share of sensors that are silent in a part of each training chunk, from one random interval to
            another: outages of any length that a chunk has room for.
        time_jitter: standard deviation, in minutes, of a random shift of each training chunk's time of week, so that
            a model learns the shape of a day and not the hours of the few days it has seen.
        average: decay of the exponential moving average of the weights that is evaluated and kept; 0 for none.
        patience: epochs without a better validation error before training stops early.
        precision: ``fp32`` or ``bf16`` (autocast).
        threads: CPU threads; 0 leaves the choice to torch.
    """

    regime: Literal["stream", "window"] = "stream"
    warm_up: int = 12
    chunk: int = 36
    batch: int = 16
    accumulate: int = 1
    epochs: int = 80
    updates: int = 0
    alone: int = 3000
    learning_rate: float = 3e-3
    decay: float = 0.7
    decay_every: int = 8
    schedule: Literal["step", "cosine"] = "cosine"
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    loss_every: int = 1
    teacher_forcing: Literal["scheduled", "always", "never"] = "scheduled"
    sampling_decay: float = 0.0
    loss: Literal["paper", "mae"] = "mae"
    dropout: float = 0.0
    hide: float = 0.0
    hide_sensors: float = 0.0
    time_jitter: float = 0.0
    average: float = 0.99
    patience: int = 20
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("accumulate", "epochs", "decay_every", "loss_every", "patience"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require_up_to(self, ("chunk",), MOST_INTERVALS)
        require_up_to(self, ("batch",), MOST_BATCH)
        require_up_to(self, ("warm_up",), MOST_INTERVALS, least=0)
        require_up_to(self, ("threads",), MOST_THREADS, least=0)
        counts = ("updates", "alone")
        for name in (*counts, "weight_decay", "sampling_decay", "time_jitter"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "a number of 0 or more")
        for name in ("learning_rate", "decay", "clip_norm"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a positive number")
        for name in ("dropout", "hide", "hide_sensors", "average"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a share in [0, 1)")


@dataclass(frozen=True)
class RunConfig:
    """A config file: ``targets`` and the tables ``[model]`` and ``[training]``; keys left out keep their defaults.

    Attributes:
        model, training: see their classes.
        targets: names of the features to forecast; empty means all of the recording's.
        protocol: how the recording is split: ``a`` (70/10/20 of the windows), ``b`` (by day) or ``auto``.
    """

    model: STUNetConfig = field(default_factory=STUNetConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    targets: tuple[str, ...] = ()
    protocol: SplitChoice = "auto"

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True)
class SRNNRunConfig:
    """A config file of a Structural-RNN; the same as :class:`RunConfig` with another ``[model]``."""

    model: SRNNConfig = field(default_factory=SRNNConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    targets: tuple[str, ...] = ()
    protocol: SplitChoice = "auto"

    def __post_init__(self) -> None:
        check_choices(self)


#: The config file of every model family.
RUN_CONFIGS: Mapping[str, type[RunConfig] | type[SRNNRunConfig]] = {"stunet": RunConfig, "srnn": SRNNRunConfig}
