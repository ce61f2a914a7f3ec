"""An exact set that a process of its own makes of a stream's tars while the stream trains."""

import subprocess
import sys
from pathlib import Path

from data_pipelines.faults import log
from data_pipelines.manifest import FILE_NAME, IMAGE
from data_pipelines.tar_set import TarPlan

_STOPPED = 3
"""Exit code of a preparation that was asked to stop."""


class Indexing:
    """Runs `bigtrain data prepare` of a stream's tars, with the least priority; it goes on where it was ended.

    Its output is in a `.log` beside the set.

    Args:
        plan: names the tars, which lie elsewhere, and the set.
    """

    def __init__(self, plan: TarPlan) -> None:
        assert plan.index is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._dest = dest = Path(plan.index).expanduser().absolute()
        if (dest / FILE_NAME).is_file():
            log.warning("%s: is complete; data.kind=shards data.path=%s trains from it, exactly", dest, dest)
            return
        dest.parent.mkdir(parents=True, exist_ok=True)
        channels, height, width = plan.specs[IMAGE].shape
        command = [
            "nice",
            "-n",
            "19",
            sys.executable,
            "-m",
            "bigtrain",
            "data",
            "prepare",
            *plan.urls,
            str(dest),
            "--workers=1",
        ]
        command += [f"--resolution={height}x{width}", f"--channels={channels}", f"--crop={plan.fit}", "--codec=png"]
        command += ["--upscale"] * plan.upscale
        with dest.with_name(f"{dest.name}.log").open("ab") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        log.warning("%s: an exact dataset is being made in the background (%s.log)", dest, dest)

    def close(self) -> None:
        """End it, unless it has ended; and say so if it has failed."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        if self._process.wait() not in (0, _STOPPED):
            log.warning("%s: could not be made; %s.log says why", self._dest, self._dest)
