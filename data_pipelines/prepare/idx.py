"""The idx format of the MNIST family (LeCun et al. 1998)."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipelines.errors import DataError


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of unsigned bytes, of any number of dimensions.

    Raises:
        DataError: missing, not gzip, not idx, or shorter than its header says.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})") from None
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise DataError(f"{path}: not an idx file of unsigned bytes")
    dimensions = data[3]
    shape = struct.unpack_from(f">{dimensions}I", data, 4)
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions)
    if values.size != int(np.prod(shape)):
        raise DataError(f"{path}: {values.size} values, its header says {'x'.join(map(str, shape))}")
    return values.reshape(shape)
