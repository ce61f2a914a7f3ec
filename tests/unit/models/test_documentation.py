from pathlib import Path

import pytest

from bigtrain.models import DISCRIMINATORS, GENERATORS, PATCH_DISCRIMINATORS, TRANSLATORS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("union", [GENERATORS, DISCRIMINATORS, TRANSLATORS, PATCH_DISCRIMINATORS])
def test_every_family_is_in_the_table(union) -> None:
    assert {kind for kind in union if f"| `{kind}` |" not in PAGE} == set()
