"""The distance of two sounds' mel spectrograms (Kong et al. 2020, HiFi-GAN, section 2.4)."""

import torch.nn.functional as F
from torch import Tensor

from bigtrain.core.schedules import ConstantSchedule, Schedule
from bigtrain.models.translator import Translator
from bigtrain.ops.mel import MelSettings
from bigtrain.tasks.terms.base import GeneratorLossContext, Setting
from bigtrain.tasks.terms.pixels import Paired


class Mel(Paired, MelSettings):
    """lambda · E |mel(G(x)) - mel(y)|, of the logarithms of mel spectrograms (equation 3)."""

    weight: Schedule = ConstantSchedule(value=45.0)

    def check(self, setting: Setting) -> None:
        """See Term: G makes sounds that are long enough."""
        super().check(setting)
        generator = setting.generator
        assert isinstance(generator, Translator)
        if len(generator.output.shape) != 2 or generator.output.shape[0] != 1:
            raise ValueError(f"this term compares sounds [1, samples], but G makes {list(generator.output.shape)}")
        self.frames(generator.output.shape[1])

    def in_generator(self, context: GeneratorLossContext) -> Tensor:
        """See GeneratorTerm."""
        return F.l1_loss(self.spectrogram(context.fake), self.spectrogram(context.real))
