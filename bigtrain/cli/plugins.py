"""What other packages bring, in the help of the commands that take it."""

from typing import Any

from typer.core import TyperCommand


class NamesPlugins(TyperCommand):
    """A command whose help names what installed packages add; it looks for them only when it is asked for help."""

    groups: tuple[str, ...] = ("networks", "terms", "tasks", "metrics", "extractors", "field_kinds")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: the two arguments are of classes that typer does not export."""
        from data_pipelines.plugins import plugin_names

        found = [
            f"{group.replace('_', ' ')}: {', '.join(f'{name} ({package})' for name, package in sorted(names.items()))}"
            for group in self.groups
            if (names := plugin_names(f"bigtrain.{group}"))
        ]
        if found:
            self.epilog = "From other packages: " + "; ".join(found)
        super().format_help(ctx, formatter)


class NamesScoringPlugins(NamesPlugins):
    """A command that scores, whose help names the metrics and extractors of other packages."""

    groups = ("metrics", "extractors")
