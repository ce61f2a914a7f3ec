"""What a cluster can do: cards by name, and how they are connected."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from bigtrain.core.config import Config, ConfigError, parse_config, read_yaml

HARDWARE = Path(__file__).with_name("hardware.yaml")
Format = Literal["fp32", "tf32", "bf16", "fp16"]
Share = Annotated[float, Field(gt=0, le=1)]
_RATE = re.compile(r"(?:(\d+)\s*[x×]\s*)?(\d+(?:\.\d+)?)\s*([GM])(b|bit|B)(?:/s|ps)?")


class GPU(Config):
    """A card, as its data sheet has it.

    Attributes:
        name: in full.
        memory_gb: in 10^9 bytes.
        bandwidth_gb_s: of its memory.
        tflops: dense peaks by the format of the operands.
        link_gb_s: to the other cards of its node, in one direction.
        network_gbit_s: usual network of a node with such cards, all of them together.
        usd_per_hour: of one card, as an example; null where none is known.
        arithmetic_share: of its peak that operators reach, fitted to published speeds; null for what is assumed.
        bandwidth_share: of its memory's bandwidth, likewise.
        source: where the numbers are from.
    """

    name: str
    memory_gb: PositiveFloat
    bandwidth_gb_s: PositiveFloat
    tflops: dict[Format, PositiveFloat]
    link_gb_s: PositiveFloat
    network_gbit_s: PositiveFloat
    usd_per_hour: NonNegativeFloat | None = None
    arithmetic_share: Share | None = None
    bandwidth_share: Share | None = None
    source: str

    def peak(self, *formats: Format) -> float:
        """Return FLOP/s of the first of some formats that the card has; float32 it always has."""
        return 1e12 * next(self.tflops[name] for name in (*formats, "fp32") if name in self.tflops)


class Assumed(Config):
    """What no data sheet tells; see hardware.yaml.

    Attributes:
        reach: share of a link's bandwidth that a kind of operation reaches, by its name, where that is not all of it:
            libraries do not have a ring for each.
    """

    arithmetic_share: Share
    bandwidth_share: Share
    kernel_us: NonNegativeFloat
    host_us: NonNegativeFloat
    link_latency_us: NonNegativeFloat
    network_latency_us: NonNegativeFloat
    host_copy_gb_s: PositiveFloat
    disk_gb_s: PositiveFloat
    overlaps: bool
    reach: dict[str, PositiveFloat] = Field(default_factory=dict)


class Hardware(Config):
    """A file of cards."""

    gpus: dict[str, GPU]
    assumed: Assumed


@dataclass(frozen=True)
class Cluster:
    """Equal nodes of equal cards.

    Attributes:
        gpu: the card.
        assumed: what is reached of it.
        nodes: how many.
        gpus_per_node: cards of each.
        network: bytes a second between nodes, all cards of a node together, in one direction.
    """

    gpu: GPU
    assumed: Assumed
    nodes: int
    gpus_per_node: int
    network: float

    @property
    def world_size(self) -> int:
        """Ranks: one a card."""
        return self.nodes * self.gpus_per_node

    @property
    def arithmetic_share(self) -> float:
        """Share of the card's peak that operators reach: the card's own, or what is assumed of all."""
        return self.gpu.arithmetic_share or self.assumed.arithmetic_share

    @property
    def memory_share(self) -> float:
        """Share of the bandwidth of the card's memory that operators reach, likewise."""
        return self.gpu.bandwidth_share or self.assumed.bandwidth_share

    def of(self, gpus: int) -> "Cluster | None":
        """Return a cluster of other size: parts of one node, or whole nodes; None if that does not divide."""
        if gpus <= self.gpus_per_node:
            return replace(self, nodes=1, gpus_per_node=gpus)
        nodes, rest = divmod(gpus, self.gpus_per_node)
        return None if rest else replace(self, nodes=nodes)


def load_hardware(path: Path | None = None) -> Hardware:
    """Read the cards that are known, and those of a further file, which also wins where both say something.

    Raises:
        ConfigError: the file does not fit.
    """
    data = read_yaml(HARDWARE)
    if path is not None:
        more: dict[str, Any] = read_yaml(path)
        data = {**data, **more, "gpus": {**data["gpus"], **(more.get("gpus") or {})}}
        data["assumed"] = {**read_yaml(HARDWARE)["assumed"], **(more.get("assumed") or {})}
    return parse_config(Hardware, data, source=str(path or HARDWARE))


def find_gpu(hardware: Hardware, name: str) -> GPU:
    """Return a card by its name.

    Raises:
        ConfigError: it is not known, with the nearest name and all of them.
    """
    import difflib

    known = hardware.gpus
    if name.lower() in known:
        return known[name.lower()]
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.4)
    meant = f" (did you mean '{close[0]}'?)" if close else ""
    raise ConfigError(
        f"--gpu {name!r} is not known{meant}; known: {', '.join(known)}; describe others in --hardware FILE"
    )


def parse_rate(text: str) -> float:
    """Return bytes a second of `400Gb`, `8x400Gb`, `25Gbit/s` or `50GB/s`.

    Raises:
        ConfigError: it is none of these.
    """
    found = _RATE.fullmatch(text.strip())
    if not found or not float(found[2]):
        raise ConfigError(f"--link {text!r}: write a rate such as 400Gb, 8x400Gb (Gb: gigabits) or 50GB/s per node")
    times, number, unit, kind = found.groups()
    return int(times or 1) * float(number) * (1e9 if unit == "G" else 1e6) / (1 if kind == "B" else 8)
