import gzip
import math
import struct
import zlib

import numpy as np


def load_idx(path):
    """Reads a compressed IDX file of unsigned bytes, the format of MNIST.

    Args:
        path: Path of a `.gz` file.

    Returns:
        NumPy array of dtype `uint8`.

    Raises:
        ValueError: If the file is none of that kind, or not complete.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    # Three kinds of damage: no gzip, cut short, bits flipped.
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"`{path}` is damaged, or no gzip file: {error}"
        ) from error
    # Two zero bytes, 8 for unsigned bytes, and the number of axes.
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"`{path}` is no IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = struct.unpack(f">{content[3]}I", content[4:start].ljust(start - 4))
    if len(content) != start + math.prod(shape):
        raise ValueError(
            f"`{path}` is not complete: its header says {shape}, and "
            f"{len(content)} bytes were read"
        )
    return np.frombuffer(content, "uint8", offset=start).reshape(shape).copy()
