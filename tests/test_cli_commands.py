"""The command line without a network: help, keys, init, formats, and what mistakes are told."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gridtokenx.cli import COMMANDS, cli, output
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import load_key
from gridtokenx.json_form import plain
from gridtokenx.node.config import load_config, load_node_key
from gridtokenx.units import UnitError
from testnet.layout import FOLDER

SEED = "11" * 32


def run(*arguments: str | Path, stdin: str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin, env=environment)


def good(*arguments: str | Path, stdin: str | None = None, **environment: str) -> str:
    result = run(*arguments, stdin=stdin, **environment)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Key files are refused where others may write."""
    tmp_path.chmod(0o700)
    return tmp_path


# ---------------------------------------------------------------- help


def test_help_lists_every_command_and_loads_no_network() -> None:
    script = ("import sys\nfrom click.testing import CliRunner\nfrom gridtokenx.cli import cli\n"
              "print(CliRunner().invoke(cli, ['--help']).output)\n"
              "heavy = {'libp2p', 'trio', 'numpy', 'lmdb', 'nacl'} & set(sys.modules)\nassert not heavy, heavy\n")
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for name, (_, text) in COMMANDS.items():
        assert name in shown
        assert text in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    assert "Usage:" in good(name, "--help")


def test_an_unknown_command_is_named() -> None:
    result = run("statsu")
    assert result.exit_code == 2
    assert "statsu" in result.output


# ---------------------------------------------------------------- keys


def test_a_new_key_is_private_and_can_be_read_back(folder: Path) -> None:
    path = folder / "alice.key"
    shown = json.loads(good("keys", "new", path, "--unencrypted", "--json"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = load_key(path, None)
    assert shown["address"] == encode_address(key.public)
    assert shown["public_key"] == key.public.hex()
    assert shown["encrypted"] is False
    again = json.loads(good("keys", "show", path, "--json"))
    assert again == shown
    assert key.seed.hex() not in good("keys", "show", path)


def test_an_existing_key_is_never_overwritten(folder: Path) -> None:
    path = folder / "alice.key"
    good("keys", "new", path, "--unencrypted")
    before = path.read_bytes()
    result = run("keys", "new", path, "--unencrypted")
    assert result.exit_code == 1
    assert "exists already" in result.output
    assert path.read_bytes() == before


def test_import_takes_a_seed_from_standard_input(folder: Path) -> None:
    path = folder / "imported.key"
    shown = good("keys", "import", path, "--unencrypted", stdin=SEED + "\n")
    assert encode_address(PrivateKey(bytes.fromhex(SEED)).public) in shown
    assert load_key(path, None).seed.hex() == SEED
    result = run("keys", "import", folder / "other.key", "--unencrypted", stdin="not a seed\n")
    assert result.exit_code == 2
    assert "64 hexadecimal digits" in result.output


def test_a_passphrase_is_asked_for_only_on_a_terminal(folder: Path) -> None:
    result = run("keys", "new", folder / "alice.key")
    assert result.exit_code == 2
    assert "--passphrase-file" in result.output
    result = run("keys", "new", folder / "alice.key", "--unencrypted", "--passphrase-file", __file__)
    assert "exclude each other" in result.output


# ---------------------------------------------------------------- init


def init(folder: Path, *options: str) -> Result:
    return run("init", folder, "--genesis", FOLDER / "genesis.toml", *options)


def test_init_makes_a_folder_that_start_accepts(folder: Path) -> None:
    home = folder / "node"
    result = init(home, "--unencrypted", "--name", "cm-1", "--listen", "/ip4/127.0.0.1/tcp/9555")
    assert result.exit_code == 0, result.output
    assert "observer" in result.output
    config = load_config(home / "gridtokenx.toml", {})
    assert config.node.name == "cm-1"
    assert config.network.listen == ("/ip4/127.0.0.1/tcp/9555",)
    assert load_node_key(config).public
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert "fine" in good("start", "--config", home / "gridtokenx.toml", "--check")


def test_init_with_an_encrypted_key_needs_a_private_passphrase_file(folder: Path) -> None:
    passphrase = folder / "passphrase"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o644)
    result = init(folder / "node", "--passphrase-file", str(passphrase))
    assert result.exit_code == 1
    assert "chmod 600" in result.output
    passphrase.chmod(0o600)
    assert init(folder / "node", "--passphrase-file", str(passphrase)).exit_code == 0
    assert load_node_key(load_config(folder / "node" / "gridtokenx.toml", {})).public


def test_init_names_the_authority_whose_key_it_is_given(folder: Path) -> None:
    from testnet.keys import testnet_key

    good("keys", "import", folder / "pea.key", "--unencrypted", stdin=testnet_key("pea").seed.hex())
    result = init(folder / "node", "--key", str(folder / "pea.key"))
    assert result.exit_code == 0, result.output
    assert "validator (PEA)" in result.output
    assert stat.S_IMODE((folder / "node" / "node.key").stat().st_mode) == 0o600


@pytest.mark.parametrize(("options", "words"), [
    ((), "--passphrase-file"),
    (("--unencrypted", "--listen", "localhost:9400"), "/ip4/0.0.0.0/tcp/9400"),
    (("--unencrypted", "--name", 'a "b"'), "letters"),
    (("--unencrypted", "--bootstrap", "/ip4/10.0.0.1/tcp/9400"), "/p2p/"),
])
def test_init_refuses_what_start_would_refuse_and_leaves_nothing(
    folder: Path, options: tuple[str, ...], words: str,
) -> None:
    result = init(folder / "node", *options)
    assert result.exit_code != 0
    assert words in result.output
    assert not (folder / "node").exists()


def test_init_overwrites_nothing(folder: Path) -> None:
    assert init(folder / "node", "--unencrypted").exit_code == 0
    result = init(folder / "node", "--unencrypted")
    assert result.exit_code == 1
    assert "exists already" in result.output


# ---------------------------------------------------------------- which node, which key


def test_without_a_node_it_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GRIDTOKENX_NODE", "GRIDTOKENX_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    result = run("status")
    assert result.exit_code == 1
    for word in ("--node", "GRIDTOKENX_NODE", "gridtokenx init"):
        assert word in result.output


def test_a_node_that_is_not_there_is_named_with_the_reason() -> None:
    address = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    result = run("status", "--node", address)
    assert result.exit_code == 1
    assert "no node answers" in result.output
    assert "/tcp/9" in result.output
    result = run("status", "--node", "127.0.0.1:9401")
    assert result.exit_code == 1
    assert "/ip4/127.0.0.1/tcp/" in result.output


@pytest.mark.parametrize(("arguments", "words"), [
    (("account", "gtx1nonsense"), "address"),
    (("transaction", "abc"), "64 hexadecimal digits"),
    (("trade", "list", "--zone", "South"), "--zone goes with --window"),
    (("transfer", "gtx1x6kq78mjt4xe6yygek5fnd9fl5dqjx4r30e5hvknuvlzlkwwmw5s0gzmqq", "0", "--key", "k"), "more than 0"),
    (("transfer", "gtx1x6kq78mjt4xe6yygek5fnd9fl5dqjx4r30e5hvknuvlzlkwwmw5s0gzmqq", "1.0000001", "--key", "k"),
     "at most 6"),
    (("order", "place", "buy", "1", "4.205", "--key", "k"), "tick"),
    (("order", "place", "buy", "1.0001", "4.2", "--key", "k"), "at most 3"),
    (("order", "place", "buy", "1", "--key", "k"), "--market"),
    (("order", "place", "buy", "1", "4.2", "--market", "--key", "k"), "--market"),
    (("order", "place", "buy", "1", "4.2", "--ioc", "--fok", "--key", "k"), "exclude each other"),
    (("order", "place", "buy", "1", "4.2", "--ioc", "--post-only", "--key", "k"), "--post-only goes with neither"),
    (("order", "place", "buy", "1", "4.2", "--fok", "--iceberg", "0.1", "--key", "k"), "--iceberg"),
    (("order", "place", "sell", "1", "4.2", "--filter", "renewable", "--key", "k"), "buyer's"),
    (("order", "place", "buy", "1", "4.2", "--good-till", "09:30", "--key", "k"), "quarter hour"),
    (("order", "amend", "5", "--key", "k"), "--quantity"),
    (("order", "requote", "--key", "k"), "--cancel"),
    (("grid", "halt", "2025-04-21T10:00", "--last", "2025-04-21T09:00", "--key", "k"), "1 to 96"),
    (("bilateral", "show", "pyproject.toml"), "no offer"),
    (("order", "place", "swap", "1", "4.2", "--key", "k"), "buy"),
    (("order", "place", "buy", "1", "4.2"), "--key"),
])
def test_mistakes_are_told_before_any_node_is_asked(arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments, GRIDTOKENX_NODE="/ip4/127.0.0.1/tcp/9/p2p/none", GRIDTOKENX_KEY="")
    assert result.exit_code != 0
    assert words in result.output


# ---------------------------------------------------------------- formats


def test_amounts_carry_their_unit_and_lose_nothing() -> None:
    assert output.thb(1_234_567_890_123) == "1,234,567.890123 THB"
    assert output.thb(-5) == "-0.000005 THB"
    assert output.thb(2_500_000) == "2.50 THB"
    assert output.kwh(1500) == "1.5 kWh"
    assert output.price(4500) == "4.50 THB/kWh"
    assert output.duration_ms(61_500) == "1 min 1 s"


def test_windows_are_read_and_shown_in_bangkok_time() -> None:
    number = output.parse_window("2025-04-21T09:30")
    assert number == 1_745_202_600 // 900
    assert output.parse_window(str(number)) == number
    assert output.window(number) == "2025-04-21 09:30-09:45"
    for wrong in ("2025-04-21T09:40", "09:30", "2025-02-30T09:30", "soon"):
        with pytest.raises(UnitError):
            output.parse_window(wrong)


def test_json_shows_addresses_as_addresses_and_hashes_as_hex() -> None:
    public = PrivateKey(bytes.fromhex(SEED)).public
    shown = plain({"owner": public, "hash": bytes(32), "issuers": [public], "list": [[1, b"\xff"]]})
    assert shown == {"owner": encode_address(public), "hash": "00" * 32, "issuers": [encode_address(public)],
                     "list": [[1, "ff"]]}


def test_what_an_order_can_be_refused_with_has_a_hint() -> None:
    from gridtokenx.cli.session import HINTS
    from gridtokenx.ledger.receipts import Code

    asked = {code.name for code in Code if 70 <= code < 100} - {"OUT_OF_RANGE"}
    assert asked - set(HINTS) == set()
    assert set(HINTS) - {code.name for code in Code} == set()
