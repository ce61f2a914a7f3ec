"""Class accuracy: the share of samples that a classifier of the data's own classes finds to be of theirs.

Ravuri & Vinyals (2019) train on fakes and test on reals; this is the other way round: the classifier, a probe, has only
seen real samples. The accuracy of real samples beside it says what can be expected.
"""

import math

from bigtrain.evaluation.errors import EvaluationError
from bigtrain.evaluation.extractors.base import OWN_LOGITS
from bigtrain.evaluation.metrics.base import Metric, Need, Scores
from bigtrain.evaluation.statistics.class_hits import ClassHits, ClassHitSums


def _score(reference: ClassHits, generated: ClassHits) -> Scores:
    if math.isnan(generated.accuracy):
        raise EvaluationError("class_accuracy needs samples that are made from classes: the generator has none")
    return {"class_accuracy": generated.accuracy, "class_accuracy_real": reference.accuracy}


CLASS_ACCURACY = Metric(
    Need(OWN_LOGITS, ClassHitSums),
    _score,
    least=1,
    by_class=True,
    better="higher",
    values=("class_accuracy", "class_accuracy_real"),
)
