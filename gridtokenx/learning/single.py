"""A Gymnasium environment: one house learns, the others trade as the scenario says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gridtokenx.learning.episode import (
    ACTION_HIGH,
    ACTION_LOW,
    OBSERVATION_HIGH,
    OBSERVATION_LOW,
    Episode,
    Vector,
    scenario_of,
    seeded,
)
from gridtokenx.optional import NotInstalled
from gridtokenx.scenario import Scenario

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as error:
    raise NotInstalled(f"a learning environment needs gymnasium: pip install 'gridtokenx[study]' ({error})") from error


class MarketEnv(gymnasium.Env[Vector, Vector]):
    """The house called `house` decides once in every session of the scenario; an episode is its horizon.

    `reset(seed=...)` is the scenario's root seed; without one it is drawn anew for every episode.
    """

    metadata: dict[str, Any] = {"render_modes": []}     # noqa: RUF012 - as Gymnasium has it

    def __init__(self, scenario: Scenario | str | Path, house: str) -> None:
        self.scenario = scenario_of(scenario)
        self.house = house
        self.observation_space = spaces.Box(OBSERVATION_LOW, OBSERVATION_HIGH, dtype=np.float32)
        self.action_space = spaces.Box(np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32),
                                       dtype=np.float32)
        self.episode: Episode | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.close()
        root = int(self.np_random.integers(1 << 62)) if seed is None else seed
        self.episode = Episode(seeded(self.scenario, root), [self.house])
        return self.episode.observe(self.house), {"seed": root}

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """The reward is what was saved in the windows settled since, THB."""
        episode = self.episode
        if episode is None or episode.over:
            raise gymnasium.error.ResetNeeded("call reset first")
        reward = episode.decide({self.house: action})[self.house]
        return episode.observe(self.house), reward, episode.over, False, {}

    def close(self) -> None:
        if self.episode is not None:
            self.episode.close()
            self.episode = None
