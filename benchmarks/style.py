"""How near stylised pictures come to what AdaIN asks for, on photographs and satellite pictures that no run has seen.

    .venv/bin/python benchmarks/style.py SNAPSHOT... [--picture PNG]

The arguments are snapshots of `configs/stylisation/adain-photos64.yaml`. The contents are the photographs of the split
`test`, the styles satellite pictures of the split `test`, both prepared here at 64 pixels. Each photograph gets one
style. The losses are those of the training (`bigtrain/tasks/terms/style.py`), without weights: `content` is the
distance of the encoder's activations from those that AdaIN asks for, `style` that of their means and deviations from
those of the style. They are compared with a decoder that has random weights, and with the photograph and the style
picture in the place of the output.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import bigtrain as bt
from bigtrain.generate.snapshot import networks_in
from bigtrain.models.adain import statistics
from data_pipelines.prepare import open_source
from data_pipelines.prepare.run import PrepareOptions, prepare
from data_pipelines.read import ShardDataset

_SHOWN = 8


def pictures(name: str, field: str, folder: Path) -> Tensor:
    """Return the pictures of a named set's split `test`, in [-1, 1]."""
    prepare(open_source(name, split="test"), folder / name, PrepareOptions(resolution=(64, 64)))
    dataset = ShardDataset(folder / name)
    found = dataset.read(list(dataset.locations()), [field])[field]
    return torch.from_numpy(found).float() / 127.5 - 1


class Losses:
    """The losses of pictures that are given for contents and styles.

    Args:
        network: whose encoder compares them.
        content: pictures whose content is asked for.
        style: pictures whose style is asked for, one each.
    """

    def __init__(self, network: Any, content: Tensor, style: Tensor) -> None:
        self._network = network
        of_content, self._style = network.encode(content), network.encode(style)
        self._wanted = network.combine(of_content, self._style)

    def of(self, made: Tensor) -> str:
        """Return both losses of pictures in words."""
        found = self._network.encode(made)
        content = F.mse_loss(found[-1], self._wanted)
        gaps = [
            F.mse_loss(ours, theirs)
            for one, other in zip(found, self._style, strict=True)
            for ours, theirs in zip(statistics(one), statistics(other), strict=True)
        ]
        return f"content {content:.1f}, style {torch.stack(gaps).sum():.2f}"


@torch.inference_mode()
def main() -> None:
    """Print the losses of all snapshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("snapshots", nargs="+", type=Path, metavar="SNAPSHOT")
    parser.add_argument("--picture", type=Path, help="PNG to write: contents, styles, outputs of the last snapshot.")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        content, places = pictures("photos", "image", Path(folder)), pictures("earth", "target", Path(folder))
    style = places[torch.arange(len(content)) * 7 % len(places)]
    torch.manual_seed(0)
    with torch.inference_mode(False):
        untrained: Any = networks_in(given.snapshots[-1])["G"].build_on(torch.device("cpu")).eval()
    losses = Losses(untrained, content, style)
    print(f"{len(content)} photographs")
    print("random decoder:", losses.of(untrained(content, style)))
    print("the photograph itself:", losses.of(content))
    print("the style picture itself:", losses.of(style))
    for place in given.snapshots:
        made = bt.load(place).snapshot.networks["G"](content, style).clamp(-1, 1)
        print(f"{place}: {losses.of(made)}", flush=True)
    if given.picture:
        step = max(1, len(content) // _SHOWN)
        rows = [torch.cat(list(part[::step][:_SHOWN]), 2) for part in (content, style, made)]
        picture = ((torch.cat(rows, 1) + 1) * 127.5).round().byte()
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(given.picture)


if __name__ == "__main__":
    main()
