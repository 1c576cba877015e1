from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridtokenx.errors import GridTokenXError

RECORD: Final[np.dtype[np.void]]

class ConservationError(GridTokenXError): ...

class SumViolation(NamedTuple):
    group: int
    expected: int
    actual: int
    array: int | None
    record: int | None
    identity: int | None

class LimitViolation(NamedTuple):
    group: int
    least: int
    most: int
    actual: int
    array: int | None
    record: int | None
    identity: int | None

class NegativeAmount(NamedTuple):
    record: int
    group: int
    identity: int
    amount: int

def check_sums(
    records: NDArray[Any] | Sequence[NDArray[Any]], expected: NDArray[np.int64], *, limit: int = 16
) -> list[SumViolation]: ...
def check_limits(
    records: NDArray[Any] | Sequence[NDArray[Any]],
    least: NDArray[np.int64],
    most: NDArray[np.int64],
    *,
    limit: int = 16,
) -> list[LimitViolation]: ...
def find_negative(records: NDArray[Any], *, limit: int = 16) -> list[NegativeAmount]: ...
