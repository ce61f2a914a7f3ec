import pytest
import torch
from typer.testing import CliRunner

from bigtrain.cli import app
from bigtrain.models import ImageSpec
from bigtrain.planning.parameter_table import parts
from tests.conftest import ROOT
from tests.unit.models.test_families import DISCRIMINATORS, GENERATORS


@pytest.mark.parametrize("config", [*GENERATORS, *DISCRIMINATORS])
def test_every_parameter_is_counted_once(config) -> None:
    with torch.device("meta"):
        network = config.build(ImageSpec(32, 3, 5))
    found = parts(network)
    assert sum(part.parameters for part in found) == sum(value.numel() for value in network.parameters())
    assert sum(part.buffers for part in found) == sum(value.numel() for value in network.buffers())
    assert len({part.name for part in found}) == len(found)


def test_the_command_prints_a_table_of_each_network() -> None:
    result = CliRunner().invoke(
        app, ["config", "show", str(ROOT / "configs" / "synthesis" / "biggan-fashion32.yaml"), "--params"]
    )
    assert result.exit_code == 0
    for words in ("G: biggan", "D: biggan", "blocks.0", "GeneratorBlock", "total"):
        assert words in result.stdout
