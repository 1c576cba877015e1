"""Genesis: file, canonical bytes, chain id, initial state; every mistake in the file named."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from ledger_support import EGAT, ISSUER, genesis, key, parameters

from gridtokenx.codec import CodecError
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.grid import thailand
from gridtokenx.ledger import queries, spaces
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.genesis import GenesisError, decode_genesis, dump_genesis, load_genesis, parse_genesis
from gridtokenx.ledger.genesis_state import ANY_PROFILE
from gridtokenx.ledger.parameters import REGISTRY, ParameterError, check, read_parameters
from gridtokenx.ledger.records import Corridor, Profile

FULL = evolve(genesis(), corridors=(Corridor(0, 1, 10**9, 2 * 10**9, 17_000, 50_000, EGAT.public),),
              profiles=(ANY_PROFILE, Profile("sun from the north", 2, 1)),
              holidays=(20_574, 20_580), name='with "quotes" and \\ and \n')


def test_file_and_bytes_read_back(tmp_path: Path) -> None:
    path = tmp_path / "genesis.toml"
    path.write_text(dump_genesis(FULL), "utf-8")
    assert load_genesis(path) == FULL
    assert decode_genesis(FULL.canonical()) == FULL
    assert load_genesis(path).chain_id == FULL.chain_id
    assert evolve(FULL, salt="2").chain_id != FULL.chain_id
    assert FULL.header().chain_id == FULL.chain_id


def test_initial_state() -> None:
    view = FULL.view()
    assert dict(view.scan(b"")) == FULL.initial_state()
    assert view.header == FULL.header()
    assert read_parameters(view) == parameters()
    assert audit_totals(view).genesis_uthb == sum(balance for _, balance in FULL.accounts)
    assert queries.roles(view)["issuers"] == [ISSUER.public]
    assert [zone["name"] for zone in queries.zones(view)] == ["North", "South"]
    assert view.get(spaces.corridor(0)) == FULL.corridors[0].encode()


@pytest.mark.parametrize("find, replace, message", [
    ('name = "test"', "", "name is missing"),
    ('salt = "1"', "salt = 5", "salt is 5; text"),
    ("rate = 100", "rate = 0", "clock.rate is 0; an integer from 1 to 100000"),
    ("rate = 100", "rate = 100\nspeed = 1", "clock.speed is unknown here; allowed are start, rate"),
    ("[clock]", "[clock2]", "clock is missing"),
    ("max_block_bytes = 262144", "max_block_bytes = 1", "max_block_bytes is 1; an integer from 65536 to 1048576"),
    ("fee_ppm = 5000", "fee = 7", "no parameter 'fee'; there are"),
    ("vat_ppm = 70000", "vat_ppm = 0.07", "vat_ppm is 0.07; an integer"),
    ("loss_ppm = 30000", "loss_ppm = 250001", "zones[0].loss_ppm is 250001; an integer from 0 to 250000"),
    ('name = "South"', 'name = "North"', "zones.name must not repeat"),
    ('to = "South"', 'to = "Mars"', "corridors[0].to is 'Mars'; a zone is one of North, South"),
    ('to = "South"', 'to = "North"', "corridors[0] must join two different zones"),
    ('sources = ["solar"]', 'sources = ["sun"]', "profiles[0].sources is ['sun']; a list of mixed, solar, wind"),
    ('zones = ["North"]', "zones = []", "profiles[0].zones is []; a list of North, South is allowed"),
    ('name = "sun from the north"', 'name = "any"', "profiles.name must not repeat"),
    ("loss_ppm = 17000\nwheeling_uthb_kwh = 50000", "loss_ppm = 17000\nwheeling_uthb_kwh = 1000000000",
     "[[corridors]]: the path (0,) from zone 0 to 1 wheels at 1000200000"),
    ("reference_tariff = 0", "reference_tariff = 9", "there are tariff classes 0 to 4"),
    (encode_address(EGAT.public), "gtx1qqqq", "authorities[0].key: address"),
    ("holidays = [2026-05-01", "holidays = [5, 2026-05-01", "holidays must be a list"),
    ("start = 1778464800000", "start = 2026-05-11T09:00:00", "clock.start is"),
    ("[roles]", "[roles]\nking = 1", "roles.king is unknown here"),
    ("time_ms =", "time_ms = [", "not TOML"),
])
def test_mistakes_are_named(find: str, replace: str, message: str) -> None:
    text = dump_genesis(evolve(FULL, name="test", holidays=(20_574,)))
    assert find in text
    with pytest.raises(GenesisError) as wrong:
        parse_genesis(text.replace(find, replace, 1))
    assert message in str(wrong.value)


def test_times_may_be_written_for_people() -> None:
    text = dump_genesis(FULL).replace("start = 1778464800000", "start = 2026-05-11T09:00:00+07:00")
    assert parse_genesis(text).market_start_ms == 1_778_464_800_000


def test_missing_file_and_foreign_bytes(tmp_path: Path) -> None:
    with pytest.raises(GenesisError, match="cannot be read"):
        load_genesis(tmp_path / "nothing.toml")
    for raw in (b"\x80", FULL.canonical() + b"\x00", b"\x8f" + b"\x01" * 15):
        with pytest.raises((GenesisError, CodecError)):
            decode_genesis(raw)


def test_parameters_have_bounds_and_help() -> None:
    for entry in REGISTRY:
        assert entry.low <= entry.default <= entry.high
        assert entry.unit
        assert entry.help
        assert check(entry.name, entry.high) == entry.high
        with pytest.raises(ParameterError, match=entry.name):
            check(entry.name, entry.high + 1)
    assert len({entry.number for entry in REGISTRY}) == len(REGISTRY)


def test_thai_defaults() -> None:
    names = [zone.name for zone in thailand.ZONES]
    assert len(names) == 7
    assert {end for line in thailand.CORRIDORS for end in (line.first, line.second)} == set(names)
    assert len(thailand.CORRIDORS) == 7                         # one loop: seven lines join seven zones
    assert key("a").public != key("b").public
