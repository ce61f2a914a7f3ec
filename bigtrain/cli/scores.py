"""Commands that compare sets of images."""

import typer

app = typer.Typer()
