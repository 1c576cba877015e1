"""A PettingZoo environment: several houses learn at the same time, each decides once in every session."""

from __future__ import annotations

from collections.abc import Sequence
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
from gridtokenx.scenario import Scenario, ScenarioError

try:
    from gymnasium import spaces
    from pettingzoo import ParallelEnv
except ImportError as error:
    raise NotInstalled(f"a learning environment needs pettingzoo: pip install 'gridtokenx[study]' ({error})") from error

Infos = dict[str, dict[str, Any]]


class ParallelMarket(ParallelEnv[str, Vector, Vector]):     # type: ignore[misc]
    """The houses of the groups called `groups` (all, when it is left out) learn; the others do as the scenario says."""

    metadata: dict[str, Any] = {"name": "gridtokenx_market_v0", "render_modes": []}     # noqa: RUF012 - its form

    def __init__(self, scenario: Scenario | str | Path, groups: Sequence[str] = ()) -> None:
        self.scenario = scenario_of(scenario)
        known = [group.name for group in self.scenario.groups]
        for name in groups:
            if name not in known:
                raise ScenarioError(f"the scenario has no group {name}; it has {', '.join(known)}")
        self.possible_agents = [f"{group.name}/{number}" for group in self.scenario.groups
                                if not groups or group.name in groups for number in range(group.count)]
        self.agents: list[str] = []
        self.observation_spaces = {name: spaces.Box(OBSERVATION_LOW, OBSERVATION_HIGH, dtype=np.float32)
                                   for name in self.possible_agents}
        self.action_spaces = {name: spaces.Box(np.array(ACTION_LOW, np.float32), np.array(ACTION_HIGH, np.float32),
                                               dtype=np.float32) for name in self.possible_agents}
        self.episode: Episode | None = None
        self._chance = np.random.default_rng()

    def observation_space(self, agent: str) -> spaces.Space[Vector]:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Vector]:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Vector], Infos]:
        """`seed` is the scenario's root seed; without one it is drawn anew for every episode."""
        del options
        self.close()
        if seed is not None:
            self._chance = np.random.default_rng(seed)
        root = int(self._chance.integers(1 << 62)) if seed is None else seed
        self.episode = Episode(seeded(self.scenario, root), self.possible_agents)
        self.agents = list(self.possible_agents)
        return self._seen(), {name: {"seed": root} for name in self.agents}

    def step(self, actions: dict[str, Vector]) -> tuple[
            dict[str, Vector], dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """The rewards are what was saved in the windows settled since, THB."""
        episode = self.episode
        if episode is None or not self.agents:
            return {}, {}, {}, {}, {}
        rewards = episode.decide(actions)
        names, seen = list(self.agents), self._seen()
        if episode.over:
            self.agents = []
        return (seen, {name: rewards[name] for name in names}, dict.fromkeys(names, episode.over),
                dict.fromkeys(names, False), {name: {} for name in names})

    def close(self) -> None:
        if self.episode is not None:
            self.episode.close()
            self.episode = None

    def _seen(self) -> dict[str, Vector]:
        assert self.episode is not None
        return {name: self.episode.observe(name) for name in self.agents}
