"""What a user asks of sounds."""

from dataclasses import dataclass
from typing import Literal, get_args

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec

Cut = Literal["first", "center", "windows"]
CUTS: tuple[str, ...] = get_args(Cut)


@dataclass(frozen=True)
class SoundForm:
    """The form that sounds are brought to; None leaves it as it is in most of them.

    Attributes:
        rate: samples a second.
        channels: 1 mixes; more than one are made of one only.
        seconds: length of a sample; None: that of the longest of some sounds that are looked at. Silence is put behind
            what is shorter.
        cut: what becomes of longer recordings: their `first` seconds, those in the `center`, or all whole `windows` of
            that length, one behind the other, a sample each.
    """

    rate: int | None = None
    channels: int | None = None
    seconds: float | None = None
    cut: Cut = "first"

    @property
    def is_usual(self) -> bool:
        """Whether nothing is asked for that only sounds have."""
        return (self.rate, self.seconds, self.cut) == (None, None, "first")

    def check(self) -> None:
        """Raise DataError if there can be no such sounds."""
        if self.rate is not None and not 100 <= self.rate <= 768_000:
            raise DataError(f"--rate {self.rate}: expected samples per second, such as 16000")
        if self.channels is not None and not 1 <= self.channels <= 64:
            raise DataError(f"--channels {self.channels}: sounds have 1 to 64")
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise DataError(f"--seconds {self.seconds:g}: expected the length of a sample, such as 1.0")
        if self.cut not in CUTS:
            raise DataError(f"--cut {self.cut}: choose one of {', '.join(CUTS)}")
        if self.cut == "windows" and self.seconds is None:
            raise DataError("--cut windows needs the windows' length, such as --seconds 1.0")

    def first_sample(self, length: int, samples: int, number: int) -> int:
        """Return where excerpt `number` of a recording of this length begins."""
        if self.cut == "windows":
            return number * samples
        return max(0, length - samples) // 2 if self.cut == "center" else 0

    def words(self, spec: FieldSpec) -> str:
        """Say what is done, for the manifest."""
        channels, samples = spec.shape
        changes = [
            f"resampled to {spec.rate:g} Hz" if self.rate else f"of {spec.rate:g} Hz",
            f"brought to {channels} channels" if self.channels else f"of {channels} channels",
            f"{self.cut} {samples} samples, silence behind what is shorter",
        ]
        return f"sounds {', '.join(changes)}"
