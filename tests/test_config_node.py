"""Node configuration: what is read, what the environment changes, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridtokenx.crypto.keystore import KeyFileModeError
from gridtokenx.node.config import ConfigError, NodeConfig, load_config, load_network_key

GOOD = """
[node]
name = "egat"
data_dir = "data/egat"
key_file = "keys/egat.key"
genesis = "genesis.toml"

[network]
listen = ["/ip4/127.0.0.1/tcp/9401"]
bootstrap = ["/ip4/127.0.0.1/tcp/9402/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"]
"""


def load(tmp_path: Path, text: str, **environment: str) -> NodeConfig:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return load_config(path, environment)


def test_reads_values_and_resolves_paths_beside_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.node.name == "egat"
    assert config.node.data_dir == tmp_path / "data" / "egat"
    assert config.node.passphrase_file is None
    assert config.network.listen == ("/ip4/127.0.0.1/tcp/9401",)
    assert config.network.max_peers == 64
    assert config.log.level == "info"
    assert config.source == tmp_path / "node.toml"


def test_environment_wins_over_the_file_and_other_variables_are_left_alone(tmp_path: Path) -> None:
    config = load(
        tmp_path, GOOD + "max_peers = 8\n", GRIDTOKENX_NETWORK__MAX_PEERS="12", GRIDTOKENX_NETWORK__MDNS="true",
        GRIDTOKENX_NETWORK__LISTEN="/ip4/127.0.0.1/tcp/1, /ip6/::1/tcp/2", GRIDTOKENX_LOG__LEVEL="debug",
        GRIDTOKENX_NODE="/ip4/127.0.0.1/tcp/1", PATH="/bin")
    assert config.network.max_peers == 12
    assert config.network.mdns is True
    assert config.network.listen == ("/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/2")
    assert config.log.level == "debug"


@pytest.mark.parametrize(("change", "words"), [
    (("[network]", "[netwrok]"), ["'netwrok'", "'network' is meant", "node, network, log"]),
    (('name = "egat"', 'nmae = "egat"'), ["[node]", "'nmae'", "'name' is meant", "data_dir"]),
    (('name = "egat"', ""), ["[node] name", "missing"]),
    (('name = "egat"', "name = 7"), ["[node] name", "7", "letters"]),
    (('"data/egat"', '""'), ["[node] data_dir", "''", "path"]),
    (("/ip4/127.0.0.1/tcp/9401", "127.0.0.1:9401"), ["[network] listen", "127.0.0.1:9401", "/ip4/0.0.0.0/tcp/9400"]),
    (("/tcp/9401", "/tcp/99401"), ["[network] listen", "99401"]),
    (('["/ip4/127.0.0.1/tcp/9401"]', "[]"), ["[network] listen", "at least 1"]),
    (("/p2p/12D3", "/p2p/0"), ["[network] bootstrap", "/p2p/12D3KooW..."]),
    (("[network]", "[network]\nmdns = 1"), ["[network] mdns", "1", "true and false"]),
    (("[network]", "[network]\nmax_peers = 0"), ["[network] max_peers", "0", "from 1 to 1024"]),
    (("[network]", "[network]\nmax_peers = true"), ["[network] max_peers", "True"]),
    (("[network]", '[log]\nlevel = "loud"\n[network]'), ["[log] level", "'loud'", "debug, info, warning, error"]),
    (("[network]", "log = 3\n[network]"), ["[node]", "'log'"]),
    (("[node]", "log = 3\n[node]"), ["[log]", "table", "3"]),
    (("[node]", "[node"), ["not TOML"]),
])
def test_each_mistake_names_the_key_the_value_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], words: list[str],
) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(*change))
    message = str(caught.value)
    assert str(tmp_path / "node.toml") in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(("name", "value", "words"), [
    ("GRIDTOKENX_NETWORK__LISTN", "x", ["GRIDTOKENX_NETWORK__LISTN", "'listn'", "'listen' is meant"]),
    ("GRIDTOKENX_NETWROK__LISTEN", "x", ["GRIDTOKENX_NETWROK__LISTEN", "'network' is meant"]),
    ("GRIDTOKENX_NETWORK__MAX_PEERS", "many", ["GRIDTOKENX_NETWORK__MAX_PEERS", "'many'", "from 1 to 1024"]),
    ("GRIDTOKENX_NETWORK__MDNS", "yes", ["GRIDTOKENX_NETWORK__MDNS", "'yes'", "true and false"]),
])
def test_mistakes_in_the_environment_name_the_variable(
    tmp_path: Path, name: str, value: str, words: list[str],
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD, **{name: value})
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gridtokenx init"):
        load_config(tmp_path / "absent.toml", {})


def test_the_key_of_a_private_network_is_checked_and_kept_private(tmp_path: Path) -> None:
    assert load_network_key(load(tmp_path, GOOD)) is None
    config = load(tmp_path, GOOD + 'private_key_file = "network.key"\n')
    path = tmp_path / "network.key"
    with pytest.raises(ConfigError, match=r"cannot read the private network's key"):
        load_network_key(config)
    path.write_text("ab" * 32 + "\n")
    path.chmod(0o640)
    with pytest.raises(KeyFileModeError, match="chmod 600"):
        load_network_key(config)
    path.chmod(0o600)
    assert load_network_key(config) == "ab" * 32
    path.write_text("ab" * 31)
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        load_network_key(config)
