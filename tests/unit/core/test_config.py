from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from bigtrain.core.config import Config, ConfigError, apply_overrides, dump_yaml, flatten, load_config


class Small(Config):
    kind: Literal["small"] = "small"
    width: int = 4


class Large(Config):
    kind: Literal["large"] = "large"
    depth: int = 2


class Run(Config):
    rate: float
    widths: tuple[int, ...] = (1, 2)
    network: Annotated[Small | Large, Field(discriminator="kind")] = Small()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("rate: 1e-3\nnetwork:\n  kind: large\n  depth: 3\n")
    return path


def test_reads_a_file_and_overrides_it(file: Path) -> None:
    run = load_config(Run, file, ["rate=2e-4", "network.depth=5", "widths=[3, 4]"])
    assert run == Run(rate=2e-4, widths=(3, 4), network=Large(depth=5))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("network.dept=3", "unknown key 'network.dept' (did you mean 'network.depth'?)"),
        ("rat=3", "unknown key 'rat' (did you mean 'rate'?)"),
        ("network.kind=larg", "unknown network.kind 'larg' (did you mean 'large'?)"),
        ("rate=fast", "'rate': input should be a valid number, got 'fast'"),
        ("network.depth='3'", "'network.depth': input should be a valid integer, got '3'"),
        ("rate.x=1", "'rate' is a value, it has no keys"),
        ("rate", "write it as dotted.key=value"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_key_and_what_would_be_right(
    file: Path, override: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Run, file, [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value) or "override" in str(caught.value)


def test_a_missing_file_names_its_neighbour(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file \(did you mean 'run.yaml'\?\)"):
        load_config(Run, file.with_name("rnu.yaml"))


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("rate: 1\nrate: 2\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(Run, path)


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        f"text: &text {'x' * 100_000}\nall: [{', '.join(['*text'] * 1000)}]\n",
        "rate: &rate [*rate]\n",
        "rate: " + "[" * 5_000,
    ],
    ids=["aliases of aliases", "a long text", "itself", "deep"],
)
def test_a_small_file_does_not_become_a_large_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bomb\.yaml.*(nested too deeply|undefined alias)"):
        load_config(Run, tmp_path / "bomb.yaml")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("widths: [1]\n")
    with pytest.raises(ConfigError, match="missing key 'rate'"):
        load_config(Run, path)


@given(rate=st.floats(allow_nan=False, allow_infinity=False), widths=st.lists(st.integers(0, 99)).map(tuple))
def test_what_is_dumped_loads_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, rate: float, widths: tuple[int, ...]
) -> None:
    run = Run(rate=rate, widths=widths, network=Large(depth=7))
    path = tmp_path_factory.mktemp("dump") / "run.yaml"
    path.write_text(dump_yaml(run))
    assert load_config(Run, path) == run


def test_overrides_leave_their_source_alone() -> None:
    source = {"a": {"b": 1}}
    assert apply_overrides(source, ["a.b=2", "c.d=3"]) == {"a": {"b": 2}, "c": {"d": 3}}
    assert source == {"a": {"b": 1}}


def test_flatten_joins_keys_with_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": [3]}) == {"a.b": 1, "a.c.d": 2, "e": [3]}
