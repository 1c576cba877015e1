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

class NegativeAmount(NamedTuple):
    record: int
    group: int
    identity: int
    amount: int

def check_sums(records: NDArray[Any], expected: NDArray[np.int64], *, limit: int = 16) -> list[SumViolation]: ...
def find_negative(records: NDArray[Any], *, limit: int = 16) -> list[NegativeAmount]: ...
