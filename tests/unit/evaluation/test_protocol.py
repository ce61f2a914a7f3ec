import json
from dataclasses import replace

import pytest

from bigtrain.evaluation.noise import Interval
from bigtrain.evaluation.protocol import ProtocolError, Score, ScoreProtocol, flat_metrics, pair_up

PROTOCOL = ScoreProtocol(
    metric="fid",
    samples=1000,
    extractor="efficientnet-lite0",
    weights_sha256="ab" * 32,
    preprocessing="bilinear to 224",
    quantisation="uint8",
    dtype="fp32",
    reference="cd" * 32,
    reference_samples=5000,
)
OTHER = {
    "metric": "kid",
    "samples": 2000,
    "extractor": "inception-v3-compat",
    "weights_sha256": "00" * 32,
    "preprocessing": "bicubic to 299",
    "quantisation": "none",
    "dtype": "bf16",
    "reference": "11" * 32,
    "reference_samples": None,
    "truncation": 0.7,
    "ema": "sigma_rel 0.05",
    "generator_precision": "bf16",
    "prior": "classes even",
    "seeds": 3,
}


def test_whatever_changes_the_stamp_changes_and_the_refusal_names_it() -> None:
    stamps = {PROTOCOL.stamp}
    for name, value in OTHER.items():
        other = replace(PROTOCOL, **{name: value})
        stamps.add(other.stamp)
        (told,) = PROTOCOL.differences(other)
        assert told.startswith(f"{name}: ")
        if name != "metric":
            with pytest.raises(ProtocolError, match=f"fid: these scores cannot be compared: {name}: "):
                pair_up({"fid": Score(1.0, PROTOCOL)}, {"fid": Score(1.0, other)})
    assert len(stamps) == 1 + len(OTHER)


def test_a_score_survives_a_file_and_a_changed_one_is_told() -> None:
    score = Score(12.5, PROTOCOL, noise=Interval(12.0, 13.0, 0.25))
    document = json.loads(json.dumps(score.as_json()))
    assert Score.from_json(document) == score
    document["protocol"]["samples"] = 50_000
    with pytest.raises(ProtocolError, match="stamp is"):
        Score.from_json(document)
    with pytest.raises(ProtocolError, match="not a score"):
        Score.from_json({"value": 3})


def test_only_more_than_the_noise_beats() -> None:
    old = Score(12.5, PROTOCOL, noise=Interval(12.0, 13.0, 0.25))
    assert Score(11.5, PROTOCOL, noise=Interval(11.0, 12.0, 0.25)).beats(old)
    assert not Score(12.0, PROTOCOL, noise=Interval(11.5, 12.5, 0.25)).beats(old)
    with pytest.raises(ProtocolError, match="truncation: 0.5 and 1.0"):
        Score(2.0, replace(PROTOCOL, truncation=0.5)).beats(old)


def test_metrics_of_a_run_show_the_interval() -> None:
    scores = {"eval/fid1k": Score(12.5, PROTOCOL, noise=Interval(12.0, 13.0, 0.25)), "eval/is1k": Score(3.0, PROTOCOL)}
    assert flat_metrics(scores) == {
        "eval/fid1k": 12.5,
        "interval/fid1k_low": 12.0,
        "interval/fid1k_high": 13.0,
        "eval/is1k": 3.0,
    }
