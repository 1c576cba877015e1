"""A node's configuration: one TOML file, environment overrides, checked whole before anything starts.

Every key below may be set in the file under its section or by an environment variable named
`GRIDTOKENX_<SECTION>__<KEY>` (for example `GRIDTOKENX_NETWORK__LISTEN`; lists are separated by commas). The
environment wins. Paths are relative to the file that names them; in an override, to the working directory.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import field, frozen

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import KeyFileModeError, load_key
from gridtokenx.errors import GridTokenXError

ENVIRONMENT_PREFIX = "GRIDTOKENX_"
LISTEN_EXAMPLE = "/ip4/0.0.0.0/tcp/9400"
PEER_EXAMPLE = "/ip4/203.0.113.7/tcp/9400/p2p/12D3KooW..."
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("pretty", "json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_LISTEN = re.compile(r"/(ip4|ip6)/([0-9A-Fa-f.:]+)/tcp/(\d{1,5})")
_PEER = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d{1,5})/p2p/([1-9A-HJ-NP-Za-km-z]{40,64})")


class ConfigError(GridTokenXError):
    """A configuration that cannot be used; the message names the key, what was found and what is allowed."""


Parser = Callable[[str, Any, Path], Any]


def _fail(key: str, found: object, allowed: str) -> ConfigError:
    return ConfigError(f"{key} = {found!r}: {allowed}")


def _text(allowed: str, pattern: re.Pattern[str]) -> Parser:
    def parse(key: str, value: Any, base: Path) -> str:
        del base
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _fail(key, value, allowed)
        return value
    return parse


def _choice(*choices: str) -> Parser:
    def parse(key: str, value: Any, base: Path) -> str:
        del base
        if value not in choices:
            raise _fail(key, value, f"allowed are {', '.join(choices)}")
        return str(value)
    return parse


def _path(key: str, value: Any, base: Path) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise _fail(key, value, "a path is wanted")
    return (base / Path(value).expanduser()).resolve()


def _optional_path(key: str, value: Any, base: Path) -> Path | None:
    return None if value == "" else _path(key, value, base)


def _integer(low: int, high: int, unit: str) -> Parser:
    def parse(key: str, value: Any, base: Path) -> int:
        del base
        if isinstance(value, str) and re.fullmatch(r"[0-9][0-9_]{0,18}", value):
            value = int(value)                      # from the environment
        if type(value) is not int or not low <= value <= high:
            raise _fail(key, value, f"a whole number of {unit} from {low} to {high} is wanted")
        return value
    return parse


def _boolean(key: str, value: Any, base: Path) -> bool:
    del base
    if value in ("true", "false"):                  # from the environment
        return bool(value == "true")
    if not isinstance(value, bool):
        raise _fail(key, value, "allowed are true and false")
    return value


def _addresses(pattern: re.Pattern[str], example: str, *, least: int = 0) -> Parser:
    def parse(key: str, value: Any, base: Path) -> tuple[str, ...]:
        del base
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list) or len(value) < least:
            raise _fail(key, value, f"a list of at least {least} addresses such as {example} is wanted")
        for item in value:
            match = pattern.fullmatch(item) if isinstance(item, str) else None
            if match is None or int(match.group(3)) > 65_535:
                raise _fail(key, item, f"an address such as {example} is wanted")
        if len(set(value)) < len(value):
            raise _fail(key, value, "each address may be named once")
        return tuple(value)
    return parse


def _http_listen(key: str, value: Any, base: Path) -> str:
    del base
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if value == "":
        return ""
    try:
        ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]"))
    except ValueError:
        port = ""
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise _fail(key, value, 'an IP address and port such as 127.0.0.1:9480 is wanted, or "" for none')
    return str(value)


def _origin(text: str) -> bool:
    return text == "*" or re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", text) is not None


def _ip_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _list_of(good: Callable[[str], bool]) -> Parser:
    example = "https://example.org" if good is _origin else "127.0.0.1/32"

    def parse(key: str, value: Any, base: Path) -> tuple[str, ...]:
        del base
        if isinstance(value, str):                  # from the environment
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list) or any(not isinstance(item, str) or not good(item) for item in value):
            raise _fail(key, value, f"a list of entries such as {example} is wanted")
        return tuple(value)
    return parse


def _by(parser: Parser) -> dict[str, Parser]:
    """Field metadata: how the key's value is read."""
    return {"parser": parser}


@frozen(kw_only=True)
class NodeSection:
    """Who this node is and where it keeps things."""

    name: str = field(metadata=_by(_text("1 to 32 letters, digits, '.', '_' or '-' are wanted", _NAME)))
    data_dir: Path = field(metadata=_by(_path))
    key_file: Path = field(metadata=_by(_path))
    """The Ed25519 key that is the peer's identity; an authority's key makes the node a validator."""
    passphrase_file: Path | None = field(metadata=_by(_optional_path), default=None)
    """Holds the passphrase of an encrypted key file; "" when the key file is not encrypted."""
    genesis: Path = field(metadata=_by(_path))


@frozen(kw_only=True)
class NetworkSection:
    """Sockets and peers."""

    listen: tuple[str, ...] = field(metadata=_by(_addresses(_LISTEN, LISTEN_EXAMPLE, least=1)))
    announce: tuple[str, ...] = field(metadata=_by(_addresses(_LISTEN, LISTEN_EXAMPLE)), default=())
    """Addresses told to others where they differ from `listen` (behind NAT); empty: those of `listen`."""
    bootstrap: tuple[str, ...] = field(metadata=_by(_addresses(_PEER, PEER_EXAMPLE)), default=())
    max_peers: int = field(metadata=_by(_integer(1, 1024, "peers")), default=64)
    max_connections_per_address: int = field(metadata=_by(_integer(1, 1024, "connections")), default=16)
    mdns: bool = field(metadata=_by(_boolean), default=False)
    peer_exchange: bool = field(metadata=_by(_boolean), default=True)
    private_key_file: Path | None = field(metadata=_by(_optional_path), default=None)
    """32 bytes in hex shared by all peers of a private network; "" on an open one."""


@frozen(kw_only=True)
class LogSection:
    """Structured logs on standard error, or in `file`."""

    level: str = field(metadata=_by(_choice(*LOG_LEVELS)), default="info")
    format: str = field(metadata=_by(_choice(*LOG_FORMATS)), default="pretty")
    file: Path | None = field(metadata=_by(_optional_path), default=None)


@frozen(kw_only=True)
class RpcSection:
    """Limits of the rpc protocol, per node unless the name says otherwise."""

    max_sessions: int = field(metadata=_by(_integer(0, 4096, "sessions")), default=64)
    max_sessions_per_peer: int = field(metadata=_by(_integer(1, 1024, "sessions")), default=8)
    max_requests_per_s: int = field(metadata=_by(_integer(1, 1_000_000, "requests")), default=2000)
    """Of one session."""
    max_request_bytes: int = field(metadata=_by(_integer(1024, 16 << 20, "bytes")), default=1 << 20)
    max_subscriptions_per_session: int = field(metadata=_by(_integer(1, 64, "subscriptions")), default=8)
    max_queued_pushes: int = field(metadata=_by(_integer(1, 65_536, "pushes")), default=1024)
    wait_timeout_ms_max: int = field(metadata=_by(_integer(100, 600_000, "milliseconds")), default=60_000)


@frozen(kw_only=True)
class HttpSection:
    """The HTTP interface, off unless `listen` is set; a client is an IPv4 address or an IPv6 /64."""

    listen: str = field(metadata=_by(_http_listen), default="")
    max_connections: int = field(metadata=_by(_integer(1, 65_536, "connections")), default=512)
    max_connections_per_client: int = field(metadata=_by(_integer(1, 65_536, "connections")), default=64)
    max_requests_per_s: int = field(metadata=_by(_integer(1, 1_000_000, "requests")), default=100)
    """Of one client, twice as many at once."""
    max_body_bytes: int = field(metadata=_by(_integer(1024, 16 << 20, "bytes")), default=262_144)
    request_timeout_ms: int = field(metadata=_by(_integer(100, 600_000, "milliseconds")), default=15_000)
    max_subscriptions: int = field(metadata=_by(_integer(1, 1024, "subscriptions")), default=32)
    """Of one WebSocket."""
    max_queued_messages: int = field(metadata=_by(_integer(16, 1 << 20, "messages")), default=2048)
    """Of one WebSocket: a client that lets more wait is dropped."""
    cors_origins: tuple[str, ...] = field(metadata=_by(_list_of(_origin)), default=())
    """Origins whose pages may read; "*" is all."""
    trusted_proxies: tuple[str, ...] = field(metadata=_by(_list_of(_ip_network)), default=())
    """Networks whose X-Forwarded-For is believed."""


@frozen(kw_only=True)
class PoolSection:
    """Limits of the pool of pending transactions."""

    max_transactions: int = field(metadata=_by(_integer(64, 10_000_000, "transactions")), default=16_384)
    max_bytes: int = field(metadata=_by(_integer(1 << 20, 1 << 34, "bytes")), default=64 << 20)
    """Of memory, for which a transaction counts four times its length and 1 KiB."""
    max_transactions_per_account: int = field(metadata=_by(_integer(1, 100_000, "transactions")), default=256)


@frozen(kw_only=True)
class StoreSection:
    """Log and database."""

    map_size_mib: int = field(metadata=_by(_integer(64, 1 << 24, "MiB")), default=65_536)
    """Address space of the LMDB map, not disk use; alarms start at four fifths of it."""
    checkpoint_blocks: int = field(metadata=_by(_integer(1, 64, "blocks")), default=64)
    """Finalized blocks between two synced checkpoints of the state: more spare work, fewer spare memory."""
    checkpoint_interval_ms: int = field(metadata=_by(_integer(100, 600_000, "milliseconds")), default=5_000)
    """A checkpoint is also made when one is due for this long, so that quiet chains keep a short log."""
    history_blocks: int = field(metadata=_by(_integer(0, 1 << 40, "blocks")), default=0)
    """How many blocks back past states stay readable; 0 keeps all."""
    snapshot_blocks: int = field(metadata=_by(_integer(0, 1 << 40, "blocks")), default=20_000)
    """A snapshot for new nodes is made every so many blocks, and the two newest are kept; 0 makes none."""
    snapshot_when_behind: int = field(metadata=_by(_integer(0, 1 << 40, "blocks")), default=5_000)
    """A new node that is so many blocks behind its peers begins with a snapshot of theirs; 0: it replays all."""


@frozen(kw_only=True)
class NodeConfig:
    """The checked configuration of one node; see each section."""

    node: NodeSection
    network: NetworkSection
    log: LogSection
    rpc: RpcSection
    http: HttpSection
    pool: PoolSection
    store: StoreSection
    source: Path
    """The file it came from."""


SECTIONS: dict[str, type[Any]] = {
    "node": NodeSection, "network": NetworkSection, "log": LogSection, "rpc": RpcSection, "http": HttpSection,
    "pool": PoolSection, "store": StoreSection,
}
Section = TypeVar("Section")


def _unknown(what: str, name: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(name, allowed, 1)
    hint = f"; perhaps {near[0]!r} is meant" if near else ""
    return f"unknown {what} {name!r}{hint}; allowed are {', '.join(allowed)}"


def _overrides(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Section -> key -> text of every `GRIDTOKENX_<SECTION>__<KEY>`; names without `__` are not ours."""
    found: dict[str, dict[str, str]] = {}
    for variable, value in sorted(environment.items()):
        section, separator, key = variable.removeprefix(ENVIRONMENT_PREFIX).partition("__")
        if not variable.startswith(ENVIRONMENT_PREFIX) or not separator:
            continue
        section, key = section.lower(), key.lower()
        if section not in SECTIONS:
            raise ConfigError(f"environment variable {variable}: {_unknown('section', section, list(SECTIONS))}")
        names = [attribute.name for attribute in attrs.fields(SECTIONS[section])]
        if key not in names:
            raise ConfigError(f"environment variable {variable}: {_unknown('key', key, names)}")
        found.setdefault(section, {})[key] = value
    return found


def _section(kind: type[Section], name: str, table: Any, overrides: Mapping[str, str], base: Path) -> Section:
    if not isinstance(table, dict):
        raise ConfigError(f"[{name}] must be a table of keys, not {table!r}")
    fields = attrs.fields(kind)  # type: ignore[arg-type]
    names = [attribute.name for attribute in fields]
    for key in table:
        if key not in names:
            raise ConfigError(_unknown(f"key in [{name}]", key, names))
    values: dict[str, Any] = {}
    for attribute in fields:
        parser: Parser = attribute.metadata["parser"]
        if attribute.name in overrides:
            label = f"{ENVIRONMENT_PREFIX}{name}__{attribute.name}".upper()
            values[attribute.name] = parser(label, overrides[attribute.name], Path.cwd())
        elif attribute.name in table:
            values[attribute.name] = parser(f"[{name}] {attribute.name}", table[attribute.name], base)
        elif attribute.default is attrs.NOTHING:
            raise ConfigError(f"[{name}] {attribute.name} is missing and has no default")
    return kind(**values)


def parse_config(tables: Mapping[str, Any], source: Path, environment: Mapping[str, str]) -> NodeConfig:
    """Checks the tables of a parsed file. Raises ConfigError."""
    for name in tables:
        if name not in SECTIONS:
            raise ConfigError(_unknown("section", name, list(SECTIONS)))
    overrides = _overrides(environment)
    sections = {name: _section(kind, name, tables.get(name, {}), overrides.get(name, {}), source.parent)
                for name, kind in SECTIONS.items()}
    return NodeConfig(source=source, **sections)


def load_config(path: Path | str, environment: Mapping[str, str] | None = None) -> NodeConfig:
    """Reads the TOML file `path` with the overrides of `environment` (default: the process's).

    Raises ConfigError, naming the file and the key, for anything that cannot be used.
    """
    source = Path(path).resolve()
    try:
        tables = tomllib.loads(source.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {source}: {error.strerror}; "
                          "`gridtokenx init` makes one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error
    try:
        return parse_config(tables, source, os.environ if environment is None else environment)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _private_text(path: Path, what: str) -> str:
    """The text of a file that only its owner may read. Raises ConfigError, or KeyFileModeError if others may."""
    try:
        mode, text = path.stat().st_mode & 0o777, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {what} {path}: {error}") from error
    if mode & 0o077:
        raise KeyFileModeError(f"others may read or write {path} (mode {mode:04o}); run: chmod 600 {path}")
    return text


def read_passphrase_file(path: Path) -> str:
    """The first line of `path`. Raises ConfigError if it cannot be read or is empty, KeyFileModeError if others may."""
    lines = _private_text(path, "the passphrase file").splitlines()
    if not lines or not lines[0]:
        raise ConfigError(f"the passphrase file {path} is empty; its first line is the passphrase")
    return lines[0]


def load_node_key(config: NodeConfig) -> PrivateKey:
    """The node's own key. Raises KeystoreError or ConfigError, saying what to do."""
    passphrase_file = config.node.passphrase_file
    return load_key(config.node.key_file, None if passphrase_file is None else read_passphrase_file(passphrase_file))


def read_network_key(path: Path) -> str:
    """The key of a private network, in hexadecimal. Raises as `read_passphrase_file`."""
    text = _private_text(path, "the private network's key").strip()
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise ConfigError(f"{path} must hold 64 hexadecimal digits, a private network's key of 32 bytes")
    return text


def load_network_key(config: NodeConfig) -> str | None:
    """The key of the private network that the node belongs to; None on an open one. Raises as `read_network_key`."""
    path = config.network.private_key_file
    return None if path is None else read_network_key(path)
