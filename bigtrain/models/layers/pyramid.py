"""The levels of a network that doubles (or halves) its resolution from block to block, from 4 pixels up."""

from dataclasses import dataclass

from bigtrain.models.base import ImageSpec


@dataclass(frozen=True)
class Pyramid:
    """Levels are named by their shorter side: 4, 8, ..., the image's.

    Attributes:
        levels: in ascending order.
        start: height and width at the first level; the shorter one is 4.
    """

    levels: tuple[int, ...]
    start: tuple[int, int]

    @classmethod
    def of(cls, image: ImageSpec, family: str) -> "Pyramid":
        """Return the levels that lead to `image`.

        Raises:
            ValueError: halving the image does not lead to 4 pixels.
        """
        _, height, width = image.shape
        top = min(height, width)
        if top < 8 or top & (top - 1) or max(height, width) * 4 % top:
            raise ValueError(
                f"{family} needs a shorter side that is a power of two from 8 up, and a longer one that is a multiple "
                f"of a quarter of it, got {height}x{width}"
            )
        levels = tuple(2**power for power in range(2, top.bit_length()))
        return cls(levels, (height * 4 // top, width * 4 // top))

    @property
    def top(self) -> int:
        """The image's level."""
        return self.levels[-1]

    def size(self, level: int) -> tuple[int, int]:
        """Return height and width at a level."""
        height, width = self.start
        return height * level // 4, width * level // 4

    def widths(self, channel_base: int, channel_max: int) -> dict[int, int]:
        """Return the channels at each level: `channel_base / level`, bounded."""
        return {level: min(channel_base // level, channel_max) for level in self.levels}
