import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from bigtrain.evaluation.published import StatisticsError, load_published

RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.normal(size=(50, 6))
MU, SIGMA = SAMPLES.mean(0), np.cov(SAMPLES, rowvar=False)


def test_every_layout_gives_the_same_moments(tmp_path: Path) -> None:
    np.savez(tmp_path / "pytorch-fid.npz", mu=MU, sigma=SIGMA)
    np.savez_compressed(tmp_path / "clean-fid.npz", mu=MU, sigma=SIGMA)
    np.savez(tmp_path / "clean-kid.npz", feats=SAMPLES.astype(np.float32))
    spatial = {"mu_s": MU[:3].astype(np.float32), "sigma_s": SIGMA[:3, :3].astype(np.float32)}
    pictures = np.zeros((4, 8, 8, 3), np.uint8)
    half = {"mu": MU.astype(np.float32), "sigma": SIGMA.astype(np.float32)}
    np.savez(tmp_path / "guided-diffusion.npz", arr_0=pictures, **half, **spatial)
    for name in ("pytorch-fid", "clean-fid", "clean-kid", "guided-diffusion"):
        moments = load_published(tmp_path / f"{name}.npz").moments_for(6, "anything")
        torch.testing.assert_close(moments.mean, torch.from_numpy(MU), rtol=0, atol=1e-6)
        torch.testing.assert_close(moments.covariance, torch.from_numpy(SIGMA), rtol=0, atol=1e-6)
    both = load_published(tmp_path / "guided-diffusion.npz")
    assert both.spatial is not None
    assert (len(both.spatial.mean), both.images) == (3, (4, 8, 8, 3))


def test_pytorch_fid_has_the_same_distance(tmp_path: Path) -> None:
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    from bigtrain.evaluation.metrics.fid import frechet_distance

    np.savez(tmp_path / "theirs.npz", mu=MU + 0.3, sigma=SIGMA * 1.5)
    theirs = load_published(tmp_path / "theirs.npz").moments_for(6, "x")
    np.savez(tmp_path / "plain.npz", mu=MU, sigma=SIGMA)
    ours = load_published(tmp_path / "plain.npz").moments_for(6, "x")
    paths = [
        fid_score.compute_statistics_of_path(str(tmp_path / f"{n}.npz"), None, 1, 6, "cpu") for n in ("theirs", "plain")
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # theirs, of scipy
        expected = fid_score.calculate_frechet_distance(*paths[0], *paths[1])
    assert frechet_distance(theirs, ours) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": MU, "sigma": SIGMA[:4]}, "expected \\(F,\\), \\(F, F\\)"),
        ({"mu": MU, "sigma": SIGMA * np.nan}, "contains NaN"),
        ({"mu": MU, "sigma": np.triu(SIGMA)}, "not symmetric"),
        ({"mu": MU, "sigma": SIGMA - 3 * np.eye(6)}, "has an eigenvalue of -"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8)}, "images without statistics"),
        ({"m": MU}, "contains m; expected mu and sigma"),
        ({"mu": np.array([None, {}], dtype=object), "sigma": SIGMA}, "not a readable .npz"),
    ],
)
def test_what_is_no_statistics_is_told_in_one_line(arrays: dict, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(StatisticsError, match=message) as told:
        load_published(tmp_path / "wrong.npz")
    assert str(told.value).startswith(str(tmp_path / "wrong.npz"))
    assert "\n" not in str(told.value)


def test_a_torn_file_and_another_extractor_are_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "whole.npz", mu=MU, sigma=SIGMA)
    with pytest.raises(StatisticsError, match="statistics of 6 features, inception-v3-compat makes 2048"):
        load_published(tmp_path / "whole.npz").moments_for(2048, "inception-v3-compat")
    data = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(StatisticsError, match="not a readable"):
        load_published(tmp_path / "torn.npz")
    with pytest.raises(StatisticsError, match="no such file"):
        load_published(tmp_path / "absent.npz")
