"""Which terms a step computes while their weights are 0."""

import pytest

from bigtrain.core.schedules import ConstantSchedule, LinearSchedule
from bigtrain.core.state import Progress
from bigtrain.tasks.terms import due_weights
from bigtrain.tasks.terms.feature_matching import FeatureMatching
from bigtrain.tasks.terms.lecam import LeCam
from bigtrain.tasks.terms.patch_nce import PatchNCE
from bigtrain.tasks.terms.perceptual import Perceptual
from bigtrain.tasks.terms.pixels import L1

LATER = LinearSchedule(value=0.0, final=1.0, start=0.5)
START = Progress(total=1000, batch=10)


def test_a_frozen_network_rests_until_its_term_has_a_weight() -> None:
    terms = {"l1": L1(weight=ConstantSchedule(value=1.0)), "perceptual": Perceptual(weight=LATER)}
    assert due_weights("G", terms, START) == {"l1": 1.0}
    later = Progress(total=1000, batch=10)
    later.samples_seen = 750
    assert due_weights("G", terms, later) == {"l1": 1.0, "perceptual": pytest.approx(0.5)}


def test_features_are_not_matched_before_the_game_begins() -> None:
    terms = {"l1": L1(weight=ConstantSchedule(value=1.0)), "feature_matching": FeatureMatching(weight=LATER)}
    assert due_weights("G", terms, START) == {"l1": 1.0}


def test_terms_that_train_or_remember_something_are_always_computed() -> None:
    assert due_weights("G", {"patch_nce": PatchNCE(weight=LATER)}, START) == {"patch_nce": 0.0}
    assert due_weights("D", {"lecam": LeCam(weight=LATER)}, START) == {"lecam": 0.0}


def test_a_player_is_not_left_without_a_loss() -> None:
    assert due_weights("G", {"perceptual": Perceptual(weight=LATER)}, START) == {"perceptual": 0.0}
