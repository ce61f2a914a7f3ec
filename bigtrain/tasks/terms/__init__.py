"""The terms that an objective adds to its game: one class each, and one line in the table below.

Other packages add theirs by entry points of the group `bigtrain.terms`.
"""

from bigtrain.tasks.terms.auxiliary_classifier import AuxiliaryClassifier
from bigtrain.tasks.terms.base import (
    OTHER_TERMS,
    DiscriminatorLossContext,
    DiscriminatorTerm,
    GeneratorLossContext,
    GeneratorTerm,
    LossContext,
    NamedTerms,
    Setting,
    Term,
)
from bigtrain.tasks.terms.consistency import BCR, CR, ZCR
from bigtrain.tasks.terms.due import Due, demands_of, due_terms, due_weights, frozen_of, is_second_order
from bigtrain.tasks.terms.feature_matching import FeatureMatching
from bigtrain.tasks.terms.gradient_penalties import DRAGAN, R1, R2, WGANGP
from bigtrain.tasks.terms.lecam import LeCam
from bigtrain.tasks.terms.orthogonal import Orthogonal
from bigtrain.tasks.terms.path_length import PathLength


class TermsConfig(NamedTerms):
    """Which terms, each under its name: `terms: {r1: {gamma: 1.0, interval: 16}, lecam: {}}`."""

    r1: R1 | None = None
    r2: R2 | None = None
    wgan_gp: WGANGP | None = None
    dragan: DRAGAN | None = None
    cr: CR | None = None
    bcr: BCR | None = None
    zcr: ZCR | None = None
    lecam: LeCam | None = None
    auxiliary_classifier: AuxiliaryClassifier | None = None
    feature_matching: FeatureMatching | None = None
    path_length: PathLength | None = None
    orthogonal: Orthogonal | None = None


__all__ = [
    "OTHER_TERMS",
    "DiscriminatorLossContext",
    "DiscriminatorTerm",
    "Due",
    "GeneratorLossContext",
    "GeneratorTerm",
    "LossContext",
    "NamedTerms",
    "Setting",
    "Term",
    "TermsConfig",
    "demands_of",
    "due_terms",
    "due_weights",
    "frozen_of",
    "is_second_order",
]
