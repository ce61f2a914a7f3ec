"""`bigtrain train --nproc N --max-restarts M` with other ranks: `... N M RUN_DIR MODULE [ARGUMENT ...]`."""

import sys
from pathlib import Path

from bigtrain.core.logging import set_up_logging
from bigtrain.run.supervision import supervise
from launch.local import Launcher

if __name__ == "__main__":
    nproc, max_restarts, run_dir, module, *arguments = sys.argv[1:]
    set_up_logging()
    launcher = Launcher(module, arguments, nproc=int(nproc))
    sys.exit(supervise(Path(run_dir), launcher.run, lambda: launcher.asked, max_restarts=int(max_restarts)))
