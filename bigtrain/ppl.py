"""Score how a snapshot's images change with its latents: `python -m bigtrain.ppl SNAPSHOT`; see `bigtrain ppl`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from bigtrain.core.errors import UserError
from bigtrain.core.logging import console, set_up_logging
from bigtrain.core.rng import Draws
from bigtrain.distributed.collectives import is_rank_zero
from bigtrain.distributed.init import join_ranks, leave_ranks, place_from_environment
from bigtrain.evaluation.generator_metrics import GENERATOR_METRICS, score_generator
from bigtrain.evaluation.lpips import build_lpips
from bigtrain.snapshot import load_snapshot


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bigtrain.ppl", description=__doc__)
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--metric", action="append", choices=list(GENERATOR_METRICS), required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    rank = place_from_environment(os.environ)[0]
    set_up_logging(rank=rank)
    try:
        ranks = join_ranks()
        distance = build_lpips(ranks.device, weights=options.weights)
        generator = load_snapshot(options.snapshot).generator.to(ranks.device)
        classes = max(generator.image.classes, 1)

        def labels(draws: Draws) -> Tensor:
            return draws.of("label").integers(classes, 1).squeeze(1)

        settings = {"samples": options.samples, "seed": options.seed, "batch": options.batch}
        found = score_generator(options.metric, generator, labels, distance, ranks, **settings)
        suffix = f"_{distance.short_name}" if distance.short_name else ""
        scores = {f"{name}{suffix}": value for name, value in found.items()}
        if is_rank_zero() and options.json:
            print(json.dumps({"scores": scores, "snapshot": str(options.snapshot), **settings}))
        elif is_rank_zero():
            console.print("\n".join(f"{name}  {value:.6g}" for name, value in scores.items()))
    except UserError as error:
        if rank == 0:
            print(f"bigtrain: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        leave_ranks()
    sys.exit(0)


if __name__ == "__main__":
    main()
