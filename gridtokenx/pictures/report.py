"""Reports that stand alone: one HTML file, its pictures and style inside, no script, nothing fetched.

The page forbids itself everything else (Content-Security-Policy), so that it looks the same anywhere and for ever.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from gridtokenx.pictures.canvas import Picture
from gridtokenx.pictures.difference import picture_of

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain
    from gridtokenx.forks.compare import Difference
    from gridtokenx.scenario import Result

MOST_ROWS = 40
_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c2329;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #d9dfe3}
p.lead{color:#55636e;margin:.2rem 0 1.4rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1.2rem;margin:0}dt{color:#55636e}dd{margin:0;
overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:.92rem}th,td{text-align:left;padding:.22rem .6rem;
border-bottom:1px solid #e8ecef}th{color:#55636e;font-weight:600}td.n,th.n{text-align:right;
font-variant-numeric:tabular-nums}td.f{color:#55636e}
figure{margin:1.6rem 0}figure h3{font-size:1rem;margin:0 0 .3rem}figure img{width:100%;height:auto}
figcaption{color:#55636e;font-size:.88rem}
@media print{body{margin:0}figure,tr{break-inside:avoid}}
"""
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{body}
</body>
</html>
"""


def report(subject: Result | Chain, other: Chain | None = None) -> str:
    """The report of a run, or of a chain as it stands; with `other`, also what is different from that."""
    from gridtokenx.forks.chain import Chain

    if isinstance(subject, Chain):
        chain, title = subject, "Chain" if subject.provenance is None else "Fork"
        lead = f"{chain.chain_id.hex()[:16]}… at {chain.now:%Y-%m-%d %H:%M}, block {chain.height:,}"
        facts, measures = _chain_facts(chain), chain.frames.measures()
    else:
        chain, scenario = subject.chain, subject.scenario
        title = scenario.name
        lead = (f"{len(subject.houses):,} houses, {len(subject.windows):,} windows, seed {scenario.seed}, "
                f"{scenario.mechanism} market")
        facts, measures = _run_facts(subject), subject.measures
    body = [_section("Measures", _measures(measures)), _section("Pictures", *map(_figure, subject.plot.all()))]
    if other is not None:
        body.append(_difference(chain.diff(other)))
    body.append(_section("Where it comes from", _facts(facts)))
    return _page(title, lead, body)


def difference_report(difference: Difference, title: str, lead: str) -> str:
    """What is different between two chains, as a page of its own."""
    return _page(title, lead, [_difference(difference)])


def _page(title: str, lead: str, body: Iterable[str]) -> str:
    return _PAGE.format(title=escape(title), lead=escape(lead), style=_STYLE, body="\n".join(body))


def _section(title: str, *parts: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def _figure(picture: Picture) -> str:
    source = b64encode(picture.svg()).decode()
    return (f'<figure id="{escape(picture.name)}"><h3>{escape(picture.title)}</h3>'
            f'<img alt="{escape(picture.title)}. {escape(picture.caption)}" src="data:image/svg+xml;base64,{source}">'
            f"<figcaption>{escape(picture.caption)}</figcaption></figure>")


def _measures(measures: pl.DataFrame) -> str:
    rows = [(name.replace("_", " "), value, unit, formula) for name, value, unit, formula in measures.rows()]
    return _table(["measure", "value", "unit", "formula"], rows)


def _difference(difference: Difference) -> str:
    if difference.same:
        return _section("Difference", "<p>There is none.</p>")
    parts = [_table(["measure", "unit", "this", "other", "change"], [
        (name.replace("_", " ").replace(".", ": "), *values) for name, *values in difference.measures.rows()])]
    parts.append(_figure(picture_of(difference)))
    for name in ("totals", "prices", "flows", "bills", "accounts"):
        frame: pl.DataFrame = getattr(difference, name)
        if name != "totals" and frame.height:
            frame = frame.sort(pl.col("change").abs(), maintain_order=True, descending=True)
        shown = frame.head(MOST_ROWS)
        more = f"<p>The {MOST_ROWS} largest of {frame.height:,} rows.</p>" if frame.height > MOST_ROWS else ""
        if frame.height:
            parts.append(f"<h3>{name}</h3>" + more + _table(shown.columns, shown.rows()))
    return _section("Difference", *parts)


def _facts(facts: Iterable[tuple[str, Any]]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(_text(value))}</dd>" for name, value in facts)
    return f"<dl>{''.join(rows)}</dl>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    listed = list(rows)
    numeric = [any(isinstance(row[at], int | float) for row in listed) for at in range(len(columns))]
    head = "".join(f"<th{' class=n' if number else ''}>{escape(name.replace('_', ' '))}</th>"
                   for name, number in zip(columns, numeric, strict=True))
    body = "".join("<tr>" + "".join(
        f"<td{' class=n' if number else ''}>{escape(_text(value))}</td>"
        for value, number in zip(row, numeric, strict=True)) + "</tr>" for row in listed)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 or value.is_integer() else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if hasattr(value, "strftime"):
        return str(value.strftime("%Y-%m-%d %H:%M"))
    return str(value)


def _chain_facts(chain: Chain) -> list[tuple[str, Any]]:
    origin = chain.provenance
    facts = [("chain", chain.chain_id.hex()), ("block", chain.height),
             ("state root", chain.head.header.state_root.hex())]
    if origin is not None:
        facts += [("forked from chain", origin.parent.hex()), ("after its block", origin.height),
                  ("with the hash", origin.block_hash.hex())]
    return facts


def _run_facts(result: Result) -> list[tuple[str, Any]]:
    found = result.provenance()
    counts = {name: ", ".join(f"{number:,} {what}" for what, number in found[name].items()) or "none"
              for name in ("operations", "failed")}
    return [("result hash", found["result_hash"]), ("seed", str(found["seed"])),
            ("SHA-256 of the scenario", found["scenario_sha256"]),
            *((f"SHA-256 of {name}", value) for name, value in found["inputs"].items()),
            *_chain_facts(result.chain), ("blocks of the run", found["blocks"]), *counts.items(),
            ("versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items()))]
