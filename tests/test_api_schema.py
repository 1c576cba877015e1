"""The description of the interface against a real node: made-up requests, good and bad, get what it says and no 5xx.

`scripts/api_schema.sh` is the long form.
"""

from __future__ import annotations

from pathlib import Path

import schemathesis
import trio
from api_support import api_node, trade_a_little
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig

EXAMPLES = 2
CONFIG = Path(__file__).parent / "schemathesis.toml"
OPERATIONS = 33


def explore(url: str) -> int:
    """Tries every operation; returns how many there are."""
    schema = schemathesis.openapi.from_url(url, config=SchemathesisConfig.from_path(CONFIG), wait_for_schema=30)
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        count += 1
        for mode in GenerationMode:
            @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
                      suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Case) -> None:
                case.call_and_validate(timeout=60)

            try:
                check()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE      # without parameters there is nothing to get wrong
    return count


async def test_made_up_requests_get_what_the_description_says(tmp_path: Path) -> None:
    async with api_node(tmp_path / "egat") as node:
        await trade_a_little(node)
        assert await trio.to_thread.run_sync(explore, f"{node.http.base_url}/api/v1/openapi.json") == OPERATIONS
