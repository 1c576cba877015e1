from collections.abc import Iterable, Mapping

Rows = list[tuple[bytes, bytes]]

def gather(blocks: Iterable[Mapping[bytes, bytes | None]]) -> dict[bytes, list[int | bytes | None]]: ...
def advance(
    touched: list[bytes], gathered: dict[bytes, list[int | bytes | None]], before: dict[bytes, bytes],
    suffixes: list[bytes | None], absent: bytes, present: bytes,
) -> tuple[Rows, Rows, list[bytes], list[list[bytes]]]: ...
def pack(items: Iterable[bytes]) -> bytes: ...
