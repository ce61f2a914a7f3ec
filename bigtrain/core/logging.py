"""What a person reads in the terminal: rank 0 speaks, the others are silent."""

import logging

from rich.console import Console
from rich.logging import RichHandler

log = logging.getLogger("bigtrain")
console = Console(highlight=False, soft_wrap=True)


def set_up_logging(*, rank: int = 0) -> None:
    """Send bigtrain's log to the terminal, from rank 0 only (warnings from all)."""
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    log.propagate = False
