from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Columns = list[NDArray[np.int64]]

def settlements(rows: Iterable[tuple[bytes, bytes]]) -> tuple[Columns, Columns, list[bytes]]: ...
def trades(rows: Iterable[tuple[bytes, bytes]]) -> tuple[Columns, list[tuple[int, ...]]]: ...
