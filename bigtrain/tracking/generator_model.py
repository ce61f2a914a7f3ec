"""The generator as an MLflow model: from a table of seeds or latents to images.

MLflow copies this file into the model and runs it where that is loaded. So it imports nothing of bigtrain: the networks
are exported programs beside it.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image


class GeneratorModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Columns `seed` or `z`; if wanted `class` (index) and `truncation`. Parameter `format`: `pixels` or `png`."""

    def load_context(self, context: Any) -> None:
        """Load the programs that were logged with the model."""
        folder = Path(context.artifacts["generator"])
        self.facts: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.latents = torch.export.load(folder / "latents.pt2").module()
        self.generator = torch.export.load(folder / "generator.pt2").module()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> NDArray[np.uint8] | list[str]:
        """Return one image a row: uint8, shape [N, H, W, C]; or PNG files as base64 texts.

        Raises:
            ValueError: neither seeds nor latents, both, or values that the generator does not know.
        """
        form = (params or {}).get("format", "pixels")
        if form not in ("pixels", "png"):
            raise ValueError(f"format {form!r}: use pixels or png")
        z, label = self._inputs(model_input)
        truncation = torch.ones(len(z))
        if "truncation" in model_input:
            truncation = torch.tensor(model_input["truncation"].to_numpy(np.float32, na_value=1.0))
        with torch.inference_mode():
            images = [
                self.generator(*(part[start : start + 32] for part in (z, label, truncation)))
                for start in range(0, len(z), 32)
            ]
        pixels = ((torch.cat(images).float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        array: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).numpy()
        return array if form == "pixels" else [_png(image) for image in array]

    def _inputs(self, table: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
        if ("seed" in table) == ("z" in table):
            raise ValueError("give either a column seed (integers) or a column z (lists of numbers)")
        if "seed" in table:
            z, label = self.latents(torch.tensor([int(seed) for seed in table["seed"]], dtype=torch.int64))
        else:
            z = torch.tensor(np.stack([np.asarray(row, dtype=np.float32) for row in table["z"]]))
            if z.shape[1] != self.facts["z_dim"]:
                raise ValueError(f"z has {z.shape[1]} numbers, this generator takes {self.facts['z_dim']}")
            label = torch.zeros(len(z), dtype=torch.int64)
        classes = self.facts["classes"]
        if classes and "z" in table and "class" not in table:
            raise ValueError("with z, give a column class too")
        if classes and "class" in table:
            label = torch.tensor([int(index) for index in table["class"]], dtype=torch.int64)
            if not bool(((label >= 0) & (label < classes)).all()):
                raise ValueError(f"class: must be 0 to {classes - 1}")
        return z, label


def _png(image: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


mlflow.models.set_model(GeneratorModel())
