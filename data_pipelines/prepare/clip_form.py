"""What a user asks of videos."""

from dataclasses import dataclass

from data_pipelines.errors import DataError
from data_pipelines.fields.spec import FieldSpec
from data_pipelines.prepare.sound_form import CUTS, Cut
from data_pipelines.protocol import Crop, Filter, ImageProtocol


@dataclass(frozen=True)
class ClipForm:
    """The form that videos are brought to; None leaves it as it is in most of them.

    Attributes:
        frames: of a clip; None: as many as the shortest of some videos that are looked at has.
        rate: frames a second that are taken; videos of a lower rate are rejected.
        stride: take one of so many frames (of those that `rate` takes).
        cut: what becomes of longer videos: their `first` frames, those in the `center`, or all whole `windows`, one
            behind the other, a clip each.
        resolution: height and width of the frames.
        crop: see `ImageProtocol`; None for `center`.
        filter: see `ImageProtocol`.
        upscale: see `ImageProtocol`.
        channels: 1 for grey, 3 for RGB, which is usual.
    """

    frames: int | None = None
    rate: int | None = None
    stride: int = 1
    cut: Cut = "first"
    resolution: tuple[int, int] | None = None
    crop: Crop | None = None
    filter: Filter = "lanczos"
    upscale: bool = False
    channels: int | None = None

    def check(self) -> None:
        """Raise DataError if there can be no such clips."""
        if self.frames is not None and self.frames < 1:
            raise DataError(f"--frames {self.frames}: expected the number of frames of a clip, such as 16")
        if self.rate is not None and not 1 <= self.rate <= 1000:
            raise DataError(f"--rate {self.rate}: expected frames per second, such as 10")
        if self.stride < 1:
            raise DataError(f"--stride {self.stride}: expected 1 for every frame, 2 for every other one, and so on")
        if self.cut not in CUTS:
            raise DataError(f"--cut {self.cut}: choose one of {', '.join(CUTS)}")
        if self.cut == "windows" and self.frames is None:
            raise DataError("--cut windows needs the clips' length, such as --frames 16")
        if self.channels not in (None, 1, 3):
            raise DataError(f"--channels {self.channels}: videos have 1 (grey) or 3 (RGB)")
        if self.crop is not None and self.resolution is None:
            raise DataError(f"a crop '{self.crop}' needs a --resolution")

    def step(self, rate: float | None) -> float:
        """Return the distance between the frames that are taken of a video of this rate, in its frames."""
        return self.stride * (rate / self.rate if self.rate is not None and rate is not None else 1.0)

    def length_of(self, frames: int, rate: float | None) -> int:
        """Return how many frames of a video of so many are taken if nothing is cut."""
        return int((frames - 1) / self.step(rate) + 1e-6) + 1 if frames else 0

    def chosen(self, frames: int, rate: float | None, length: int, number: int) -> list[int]:
        """Return the numbers of the frames of clip `number` of a video; fewer than `length` where it is too short."""
        there = self.length_of(frames, rate)
        first = number * length if self.cut == "windows" else 0
        if self.cut == "center":
            first = max(0, there - length) // 2
        step = self.step(rate)
        return [int(place * step + 0.5 + 1e-6) for place in range(first, min(first + length, there))]

    def protocol(self, height: int, width: int) -> ImageProtocol:
        """Return how frames are made; height and width are those of most videos, kept if no resolution is asked for."""
        channels = self.channels or 3
        if self.resolution is None:
            return ImageProtocol(height, width, channels, crop="exact")
        crop = self.crop or "center"
        return ImageProtocol(*self.resolution, channels, crop=crop, filter=self.filter, upscale=self.upscale)

    def words(self, spec: FieldSpec, protocol: ImageProtocol) -> str:
        """Say what is done, for the manifest."""
        rate = f" at {spec.rate:g} a second" if spec.rate else ""
        every = f", one of {self.stride}" if self.stride > 1 else ""
        return f"clips: {self.cut} {spec.shape[0]} frames{rate}{every}, each {protocol.words}"
