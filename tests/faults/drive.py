"""`bigtrain train --max-restarts 2 --nproc 2` with a fault in its ranks: `... FAULT RUN_DIR CONFIG [KEY=VALUE ...]`."""

import sys
from pathlib import Path

from bigtrain.core.logging import set_up_logging
from bigtrain.supervision import supervise
from launch.local import Launcher

if __name__ == "__main__":
    fault, run_dir, *arguments = sys.argv[1:]
    set_up_logging()
    launcher = Launcher("tests.faults.sabotage", [fault, *arguments, f"run_dir={run_dir}"], nproc=2)
    sys.exit(supervise(Path(run_dir), launcher.run, lambda: launcher.asked, max_restarts=2))
