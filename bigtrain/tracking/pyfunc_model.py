"""The generator as an MLflow model: from a table of seeds to images. MLflow runs this file when it loads the model."""

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bigtrain.core.quantise import to_uint8
from bigtrain.snapshot import load_snapshot


class SnapshotModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Samples a snapshot; columns `seed` and, if wanted, `class`; parameter `truncation`."""

    def load_context(self, context: Any) -> None:
        """Load the snapshot that was logged with the model."""
        self.snapshot = load_snapshot(context.artifacts["snapshot"])

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> NDArray[np.uint8]:
        """Return one image a row: uint8, shape [N, H, W, C]."""
        labels = [int(label) for label in model_input["class"]] if "class" in model_input else None
        images = self.snapshot.sample(
            [int(seed) for seed in model_input["seed"]], labels, truncation=float((params or {}).get("truncation", 1.0))
        )
        return to_uint8(images).permute(0, 2, 3, 1).numpy()


mlflow.models.set_model(SnapshotModel())
