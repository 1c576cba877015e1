"""What a run gave: the chain to look at, its measures, a hash of the outcome, and a directory of Parquet."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from attrs import field, frozen

from gridtokenx import __version__, codec
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.forks import Chain
from gridtokenx.forks.frames import Frames
from gridtokenx.forks.measures import frame_of, measures, savings
from gridtokenx.node.collector import ALLOCATIONS_OF_A_RUN, collecting_less
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.population import House
from gridtokenx.scenario.profiles import SHIPPED_PROFILES
from gridtokenx.scenario.schema import Scenario
from gridtokenx.scenario.trading import Tally
from gridtokenx.scenario.welfare import welfare_measures

if TYPE_CHECKING:
    from gridtokenx.pictures import Plots

HASH_VERSION = 1
ROWS_AT_ONCE = 1 << 15      # are turned into bytes and hashed while they are still in the cache
PROVENANCE = "provenance.json"
SCENARIO = "scenario.toml"
MEASURES = "measures.parquet"
HOUSES = "houses.parquet"
ORDERS = "orders.parquet"
REPORT = "report.html"
# What the hash is over: the outcome, but not the heights of the blocks that it came in.
_HASHED = {
    "trades": ["window", "number", "buyer", "seller", "buy_meter", "sell_meter", "buy_zone", "sell_zone",
               "price_mthb_kwh", "delivered_wh", "injected_wh", "value_uthb", "wheel_uthb", "fee_uthb", "vat_uthb"],
    "bills": ["window", "meter", "owner", "rule", "quantity_wh", "rate_uthb_kwh", "amount_uthb"],
    "accounts": ["account", "balance_uthb", "bids_uthb", "proceeds_uthb", "locked_uthb", "dues_uthb"],
}


@frozen(slots=False)
class Result:
    """A finished run. `windows` is its horizon; a context manager that closes the chain.

    `orders` are the last of every house and window: what it wanted to trade in all, and its limit price.
    """

    scenario: Scenario
    chain: Chain
    windows: range
    houses: tuple[House, ...]
    tally: Tally
    orders: pl.DataFrame
    _first_mined: int = 0
    _cache: dict[str, Any] = field(factory=dict, init=False, eq=False, repr=False)
    _frames: Frames = field(init=False, eq=False, repr=False)

    @_frames.default
    def _of_chain(self) -> Frames:
        return self.chain.frames

    def table(self, name: str) -> pl.DataFrame:
        """A table of `chain.frames`, read once."""
        if name not in self._cache:
            made = {"measures": measures, "savings": savings}.get(name)
            self._cache[name] = self._frames.table(name) if made is None else made(self.chain, self.table)
        frame: pl.DataFrame = self._cache[name]
        return frame

    @property
    def trades(self) -> pl.DataFrame:
        return self.table("trades")

    @property
    def bills(self) -> pl.DataFrame:
        return self.table("bills")

    @property
    def measures(self) -> pl.DataFrame:
        """Those of the chain, and the welfare of the run beside its optimum: docs/measures.md."""
        if "all measures" not in self._cache:
            more = frame_of(welfare_measures(self.chain, self.orders, self.trades))
            self._cache["all measures"] = self.table("measures").vstack(more)
        found: pl.DataFrame = self._cache["all measures"]
        return found

    @property
    def plot(self) -> Plots:
        """Pictures of the run: merit order, prices, energy, flows, bills, savings."""
        from gridtokenx.pictures import Plots
        return Plots(self.chain, self.table, self.orders, self.people().select("account", "group"), self.windows)

    def report(self, path: str | Path, other: Chain | None = None) -> Path:
        """Writes the run as one HTML file that stands alone; with `other`, also how its chain differs from that one."""
        from gridtokenx.pictures import report
        out = Path(path)
        out.write_text(report(self, other), "utf-8")
        return out

    def people(self) -> pl.DataFrame:
        """Who is who: house, group, account, meter, zone, tariff class, and what it has."""
        return pl.DataFrame(
            [(house.name, house.name.partition("/")[0], encode_address(house.address), house.meter, house.zone,
              house.tariff, house.injection_w if house.solar or house.battery else 0,
              0 if house.battery is None else house.battery.capacity_wh, house.car) for house in self.houses],
            schema={"house": pl.String, "group": pl.String, "account": pl.String, "meter": pl.Int64, "zone": pl.Int64,
                    "tariff": pl.Int64, "injection_w": pl.Int64, "battery_wh": pl.Int64, "car": pl.Boolean},
            orient="row")

    @property
    def hash(self) -> str:
        """SHA-256 over trades, bills and the houses' balances: equal for equal outcomes, on every machine."""
        if "hash" not in self._cache:
            digest = sha256(codec.encode(["gridtokenx scenario result", HASH_VERSION]))
            for name, columns in _HASHED.items():
                frame = self.table(name).select(columns)
                if name == "accounts":
                    frame = frame.filter(pl.col("account").is_in(self.people()["account"].to_list())).sort("account")
                digest.update(codec.encode([name, columns, frame.height]))
                for column in columns:
                    for part in frame[column].to_frame().iter_slices(ROWS_AT_ONCE):
                        digest.update(_bytes(part.to_series()))
            self._cache["hash"] = digest.hexdigest()
        found: str = self._cache["hash"]
        return found

    def provenance(self) -> dict[str, Any]:
        """Where the result comes from, and what gives it again."""
        origin = self.chain.provenance
        header = self.chain.head.header
        return {
            "scenario": self.scenario.name, "seed": self.scenario.seed, "result_hash": self.hash,
            "scenario_sha256": sha256(self.scenario.text.encode()).hexdigest(), "inputs": self._inputs(),
            "windows": [self.windows.start, self.windows.stop], "houses": len(self.houses),
            "chain": {"id": self.chain.chain_id.hex(), "height": self.chain.height,
                      "state_root": header.state_root.hex()},
            "parent": None if origin is None else {
                "id": origin.parent.hex(), "height": origin.height, "block_hash": origin.block_hash.hex(),
                "state_root": origin.state_root.hex()},
            "blocks": len(self.chain.blocks) - self._first_mined,
            "operations": dict(sorted(self.tally.done.items())), "failed": dict(sorted(self.tally.failed.items())),
            "versions": {"gridtokenx": __version__, "numpy": np.__version__, "polars": pl.__version__},
        }

    def _inputs(self) -> dict[str, str]:
        """SHA-256 of the profile files that are not shipped."""
        named = sorted(self.scenario.profiles - set(SHIPPED_PROFILES))
        return {name: sha256((self.scenario.base / Path(name).expanduser()).read_bytes()).hexdigest() for name in named}

    @collecting_less(ALLOCATIONS_OF_A_RUN)
    def write(self, directory: str | Path) -> Path:
        """Writes the scenario, its provenance, measures, houses and the tables that it asks for, into `directory`.

        The directory is made; ScenarioError when it holds a result already.
        """
        out = Path(directory)
        if (out / PROVENANCE).exists():
            raise ScenarioError(f"{out} holds a result already; choose another directory, or remove it")
        out.mkdir(parents=True, exist_ok=True)
        (out / SCENARIO).write_text(self.scenario.text, "utf-8")
        _write(self.measures, out / MEASURES)
        _write(self.people(), out / HOUSES)
        _write(self.orders, out / ORDERS)
        for name in self.scenario.tables:
            _write(self.table(name), out / f"{name}.parquet")
        # Last: where it is, the result is whole.
        (out / PROVENANCE).write_text(json.dumps(self.provenance(), indent=2, ensure_ascii=False) + "\n", "utf-8")
        return out

    def close(self) -> None:
        self.chain.close()

    def __enter__(self) -> Result:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def _write(frame: pl.DataFrame, path: Path) -> None:
    """A day's table is one or two groups of rows: no reader leaves any out by their statistics, and what higher levels
    of compression save, a twelfth, takes a quarter more time."""
    frame.write_parquet(path, compression_level=1, statistics=False)


def _bytes(column: pl.Series) -> bytes:
    """Integers as 8 bytes, little-endian; texts in UTF-8, each with a line feed."""
    if column.dtype == pl.String:
        return str(column.str.join("\n", ignore_nulls=False).item() + "\n").encode()
    return column.to_numpy().astype("<i8").tobytes()
