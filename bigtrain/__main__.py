"""`bigtrain`, and `python -m bigtrain`: a signal is answered before anything large is imported."""

from bigtrain.core.signals import NOTHING_BEGUN, end_on_signals


def main() -> None:
    """Run the command; see `bigtrain.cli`."""
    end_on_signals(NOTHING_BEGUN, at_once=True)
    from bigtrain import cli

    cli.main()


if __name__ == "__main__":
    main()
