"""What several commands take."""

from typing import Annotated, TypeVar

import typer

from bigtrain.core.config import ConfigError

ChoiceT = TypeVar("ChoiceT", bound=str)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, see configs/.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Dotted overrides, such as ema.half_life_kimg=20.")
]


def one_of(option: str, value: str, choices: tuple[ChoiceT, ...]) -> ChoiceT:
    """Return an option's value if it is one of the choices.

    Raises:
        ConfigError: it is not; the message names them.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise ConfigError(f"{option} {value!r}: use {' or '.join(choices)}")
