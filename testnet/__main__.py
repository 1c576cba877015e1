"""`scripts/testnet.sh`: options of a testnet run, and its exit code."""

from __future__ import annotations

from pathlib import Path

import click

from testnet.households import load_households
from testnet.launcher import Launcher, Planned
from testnet.layout import AUTHORITIES, FOLDER, HTTP_OFFSET, OBSERVER, PORT_BASE, Run
from testnet.report import carry_out


class Moment(click.ParamType[tuple[str, float]]):
    """`pea@20`: an authority and seconds after trading began."""

    name = "AUTHORITY@SECONDS"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        peer, separator, seconds = str(value).lower().partition("@")
        if peer not in AUTHORITIES:
            self.fail(f"{value}: no authority {peer!r}; there are {', '.join(AUTHORITIES)}", param, ctx)
        if not separator or not seconds.replace(".", "", 1).isdigit():
            self.fail(f"{value}: when? Give seconds, such as {peer}@20", param, ctx)
        return peer, float(seconds)


def _plan(kills: tuple[tuple[str, float], ...], restarts: tuple[tuple[str, float], ...],
          observer_at: float | None, for_s: float | None) -> list[Planned]:
    """The faults in order of time. Raises UsageError for a plan that cannot be carried out."""
    plan = [Planned(at, "kill", peer) for peer, at in kills] + [Planned(at, "restart", peer) for peer, at in restarts]
    if observer_at is not None:
        plan.append(Planned(observer_at, "observer", OBSERVER))
    plan.sort(key=lambda planned: planned.at_s)
    down: set[str] = set()
    for planned in plan:
        if for_s is not None and planned.at_s >= for_s:
            raise click.UsageError(f"{planned.act} {planned.peer} at {planned.at_s:g} s: the run ends at {for_s:g} s")
        if planned.act == "kill":
            if planned.peer in down:
                raise click.UsageError(f"{planned.peer} is killed twice without a --restart in between")
            down.add(planned.peer)
        elif planned.act == "restart":
            if planned.peer not in down:
                raise click.UsageError(f"--restart {planned.peer}@{planned.at_s:g} without a --kill before it")
            down.remove(planned.peer)
    return plan


def _thief(theft: str | None, households: int) -> int | None:
    """The household meant by --theft. Raises UsageError for one that is not there."""
    if theft is None:
        return None
    if theft == "any":
        return max((one for one in load_households(households) if not one.pv_w),
                   key=lambda one: int(one.load_wh.sum())).index
    if not theft.isdigit() or int(theft) >= households:
        raise click.UsageError(f"--theft {theft}: a household is a number from 0 to {households - 1}")
    return int(theft)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--for", "for_s", type=click.FloatRange(5), metavar="SECONDS",
              help="Stop after so long, from the moment that households trade.  [default: until Ctrl-C]")
@click.option("--check", is_flag=True, help="At the end, check what must hold; exit 1 and name what does not.")
@click.option("--fresh/--keep", default=True, show_default=True, help="Start a new chain, or go on with the last one.")
@click.option("--households", type=click.IntRange(2, 200), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of forecasts and limit prices.")
@click.option("--theft", "theft", is_flag=False, flag_value="any", metavar="[HOUSEHOLD]",
              help="A household's meter shows a tenth of what it draws, its secret charger included.  [without a "
                   "number: the greatest consumer without PV]")
@click.option("--kill", "kills", type=Moment(), multiple=True, help="SIGKILL an authority, for example pea@20.")
@click.option("--restart", "restarts", type=Moment(), multiple=True, help="Start a killed authority again.")
@click.option("--observer-at", type=click.FloatRange(0), metavar="SECONDS",
              help="Start a sixth peer, which syncs from genesis.")
@click.option("--http/--no-http", default=True, show_default=True,
              help=f"EGAT's node serves HTTP and the explorer, {HTTP_OFFSET} ports above --port-base.")
@click.option("--port-base", type=click.IntRange(1024, 65_000), default=PORT_BASE, show_default=True,
              help="The authorities listen on this port of 127.0.0.1 and the next ones.")
@click.option("--run-dir", type=click.Path(file_okay=False, path_type=Path), default=FOLDER / "run",
              help="Keys, logs and data.  [default: testnet/run]")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON object at the end and nothing else.")
def main(for_s: float | None, check: bool, fresh: bool, households: int, seed: int, theft: str | None,
         kills: tuple[tuple[str, float], ...], restarts: tuple[tuple[str, float], ...],
         observer_at: float | None, http: bool, port_base: int, run_dir: Path, json_output: bool) -> None:
    """Run five authorities and a trading program for 200 households on this machine, and show what they do."""
    plan = _plan(kills, restarts, observer_at, for_s)
    thief = _thief(theft, households)

    def launcher() -> Launcher:
        layout = Run(run_dir.resolve(), port_base, http)
        layout.prepare(fresh=fresh)
        return Launcher(layout, households, seed, for_s, plan, quiet=json_output, thief=thief)
    carry_out("testnet", launcher, check=check, json_output=json_output)


if __name__ == "__main__":
    main()
