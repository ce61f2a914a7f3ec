from pathlib import Path
from typing import get_args

import pytest

from bigtrain.models import DiscriminatorConfig, GeneratorConfig, TranslationDiscriminatorConfig, TranslatorConfig

PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "union", [GeneratorConfig, DiscriminatorConfig, TranslatorConfig, TranslationDiscriminatorConfig]
)
def test_every_family_is_in_the_table(union) -> None:
    kinds = {config.model_fields["kind"].default for config in get_args(get_args(union)[0])}
    assert {kind for kind in kinds if f"| `{kind}` |" not in PAGE} == set()
