"""What a score depends on besides the generator: scores can be compared only where all of it is the same."""

import hashlib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from bigtrain.engine.sampler import NO_PRIOR
from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.noise import Interval, is_better
from data_pipelines.fields.spec import FieldSpec

QUANTISATION = "uint8, rounded"
"""What becomes of generated pixels before they are scored; see `core.quantise`."""

_STAMP_LENGTH = 12
_NO_NETWORK = {"extractor": "none", "weights_sha256": "none", "preprocessing": "none", "dtype": "float64"}


def quantisation_of(spec: FieldSpec) -> str:
    """Return what becomes of generated samples of a field before they are scored."""
    return QUANTISATION if spec.kind == "image" else f"{spec.dtype}, rounded"


class ProtocolError(EvaluationError):
    """Two scores do not follow the same protocol, or one tells of none."""


@dataclass(frozen=True)
class ScoreProtocol:
    """Everything on which a score depends besides the networks.

    Attributes:
        metric: name of the metric, and its settings if it has some.
        samples: number of generated images.
        extractor: network that computes the features.
        weights_sha256: SHA-256 of the extractor's weights.
        preprocessing: how images are resized (including the filter) and normalised for the extractor.
        quantisation: how generated pixels are quantised before that.
        dtype: precision of the features.
        reference: digest of the real images or of their statistics.
        reference_samples: number of real images; None if published statistics do not contain it.
        truncation: truncation of the latents (psi), 1 for none.
        ema: which average of the weights was sampled, see `Sampling`.
        generator_precision: precision of the generator's forward pass.
        prior: how its inputs were drawn, see `Sampler.prior`: `none`, `classes even`, or a hash of the classes' shares.
        seeds: of latents, over which scores are averaged: a mean is less noisy, but as biased.
    """

    metric: str
    samples: int
    extractor: str
    weights_sha256: str
    preprocessing: str
    quantisation: str
    dtype: str
    reference: str
    reference_samples: int | None
    truncation: float = 1.0
    ema: str = "half_life"
    generator_precision: str = "fp32"
    prior: str = NO_PRIOR
    seeds: int = 1

    @property
    def stamp(self) -> str:
        """A short hash of all of it; without a prior, the one that it had before protocols told of priors."""
        facts = asdict(self)
        if self.prior == NO_PRIOR:
            del facts["prior"]
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_STAMP_LENGTH]

    def differences(self, other: "ScoreProtocol") -> list[str]:
        """Say in what two protocols differ: `truncation: 1.0 and 0.7`."""
        pairs = ((field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return [f"{name}: {_brief(mine)} and {_brief(theirs)}" for name, mine, theirs in pairs if mine != theirs]

    def as_json(self) -> dict[str, Any]:
        """Return all of it, and the stamp."""
        return {"stamp": self.stamp, **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "ScoreProtocol":
        """Read what `as_json` wrote.

        Raises:
            ProtocolError: it is something else, or was changed since.
        """
        try:
            protocol = cls(**{name: value for name, value in document.items() if name != "stamp"})
        except TypeError as error:
            raise ProtocolError(f"not a protocol of this version of bigtrain ({error})") from None
        if protocol.stamp != document.get("stamp"):
            raise ProtocolError(f"the protocol's stamp is {document.get('stamp')}, its content has {protocol.stamp}")
        return protocol


class Network(typing.Protocol):
    """What a protocol tells of a network that looks at images; see Extractor, LPIPS."""

    name: str
    preprocessing: str

    @property
    def weights_sha256(self) -> str:
        """SHA-256 of its weights."""
        ...

    @property
    def dtype(self) -> str:
        """Precision inside it."""
        ...


def seen_by(network: Network | None) -> dict[str, Any]:
    """Return the fields of a protocol that tell what looks at images; None for a metric of pixels."""
    if network is None:
        return _NO_NETWORK
    return {
        "extractor": network.name,
        "weights_sha256": network.weights_sha256,
        "preprocessing": network.preprocessing,
        "dtype": network.dtype,
    }


@dataclass(frozen=True)
class Sampling:
    """How a generator is sampled: its part of a protocol.

    Attributes:
        truncation: of the latents (psi), 1 for none.
        ema: which average of the weights it has: `half_life`, or `sigma_rel 0.05`. Its width is the model's own, like a
            learning rate, and no part of the protocol.
        generator_precision: of its forward.
        prior: how its inputs are drawn, see `Sampler.prior`.
    """

    truncation: float = 1.0
    ema: str = "half_life"
    generator_precision: str = "fp32"
    prior: str = NO_PRIOR


@dataclass(frozen=True)
class Score:
    """A score with its protocol and its confidence interval.

    Attributes:
        value: value of the score.
        protocol: everything on which it depends besides the networks.
        higher_is_better: whether higher values are better.
        noise: its 95 % confidence interval; None if the metric has none.
    """

    value: float
    protocol: ScoreProtocol
    higher_is_better: bool = False
    noise: Interval | None = None

    @property
    def error(self) -> float:
        """Standard error; 0 where it is not known."""
        return self.noise.error if self.noise else 0.0

    def beats(self, other: "Score") -> bool:
        """Tell whether it is better by more than the noise of both.

        Raises:
            ProtocolError: they cannot be compared.
        """
        check_comparable(self, other)
        return is_better(self.value, self.error, other.value, other.error, higher=self.higher_is_better)

    def as_json(self) -> dict[str, Any]:
        """Return it for a file."""
        return {
            "value": self.value,
            "higher_is_better": self.higher_is_better,
            "noise": asdict(self.noise) if self.noise else None,
            "protocol": self.protocol.as_json(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Score":
        """Read what `as_json` wrote.

        Raises:
            ProtocolError: it is something else.
        """
        try:
            noise = Interval(**document["noise"]) if document["noise"] else None
            protocol = ScoreProtocol.from_json(document["protocol"])
            return cls(float(document["value"]), protocol, bool(document["higher_is_better"]), noise)
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"not a score with its protocol ({error!r})") from None


def check_comparable(one: Score, other: Score) -> None:
    """See that two scores follow the same protocol.

    Raises:
        ProtocolError: they do not; it says what differs.
    """
    differences = one.protocol.differences(other.protocol)
    if differences:
        raise ProtocolError(f"these scores cannot be compared: {'; '.join(differences)}")


def flat_metrics(scores: Mapping[str, Score]) -> dict[str, float]:
    """Return scores as metrics of a run: by their names, and intervals as `interval/fid5k_low` and `_high`."""
    metrics: dict[str, float] = {}
    for name, score in scores.items():
        metrics[name] = score.value
        if score.noise:
            short = name.removeprefix("eval/")
            metrics |= {f"interval/{short}_low": score.noise.low, f"interval/{short}_high": score.noise.high}
    return metrics


def in_words(scores: Mapping[str, Score]) -> str:
    """Return scores for a line of the log: `eval/fid1k 12.34 ± 0.31`."""
    parts = (f"{name} {s.value:.4g}{f' ± {1.96 * s.error:.2g}' if s.noise else ''}" for name, s in scores.items())
    return "  ".join(parts) or "evaluation broken off"


def as_json(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Return scores for a file."""
    return {name: score.as_json() for name, score in scores.items()}


def pair_up(ours: Mapping[str, Score], theirs: Mapping[str, Score]) -> Sequence[tuple[str, Score, Score]]:
    """Return the scores that two evaluations have both.

    Raises:
        ProtocolError: scores of one metric follow different protocols, or there is no metric that both have.
    """
    pairs = []
    for name, score in ours.items():
        other = theirs.get(name) or next((s for s in theirs.values() if kind_of(s) == kind_of(score)), None)
        if other is None:
            continue
        try:
            check_comparable(score, other)
        except ProtocolError as error:
            raise ProtocolError(f"{name}: {error}") from None
        pairs.append((name, score, other))
    if not pairs:
        raise ProtocolError(f"no metric in common: {', '.join(ours)} and {', '.join(theirs)}")
    return pairs


def with_settings(metric: str, settings: str) -> str:
    """Return how a protocol names a metric: with its own settings, where it has some."""
    return f"{metric} ({settings})" if settings else metric


def kind_of(score: Score) -> str:
    """Return a score's metric, without its settings."""
    return score.protocol.metric.split(" ")[0]


def _brief(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 and text.isalnum() else text
