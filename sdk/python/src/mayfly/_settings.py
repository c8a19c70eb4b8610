"""Where the node is and who we are to it: found as the command line finds it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional
from urllib.parse import urlsplit

from .errors import InvalidArgument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Address:
    """A parsed URL: a host and port, or the path of a socket file."""

    host: str = ""
    port: int = 0
    tls: bool = False
    socket: str = ""

    @staticmethod
    def parse(url: str) -> Address:
        if url.startswith("unix:/"):
            return Address(host="localhost", socket=url[len("unix:") :])
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise InvalidArgument(
                f"'{url}': a node's URL is http[s]://HOST[:PORT] or unix:PATH, an absolute path"
            )
        tls = parts.scheme == "https"
        return Address(parts.hostname, port or (443 if tls else 80), tls)

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.tls else 80
        return host if self.socket or self.port == usual else f"{host}:{self.port}"


@dataclass(frozen=True)
class Settings:
    url: str = DEFAULT_URL
    key: str = ""
    ca: str = ""
    client_cert: str = ""
    client_key: str = ""

    @property
    def address(self) -> Address:
        return Address.parse(self.url)

    def __repr__(self) -> str:  # a notebook shows what is evaluated: never the key
        return f"Settings(url={self.url!r}, key={'…' if self.key else ''!r})"


def find_settings(
    url: Optional[str] = None,
    key: Optional[str] = None,
    ca: Optional[str] = None,
    client_cert: Optional[str] = None,
    client_key: Optional[str] = None,
    environment: Optional[Mapping[str, str]] = None,
) -> Settings:
    """What is given, then MAYFLY_URL, MAYFLY_KEY, MAYFLY_CA, MAYFLY_CLIENT_CERT and MAYFLY_CLIENT_KEY, then for the URL
    `server.listen` of the node's configuration file, then the default."""
    known = os.environ if environment is None else environment

    def choose(given: Optional[str], variable: str) -> str:
        return known.get(variable, "") if given is None else given

    settings = Settings(
        url=choose(url, "MAYFLY_URL") or _configured_url(known) or DEFAULT_URL,
        key=choose(key, "MAYFLY_KEY").strip(),
        ca=choose(ca, "MAYFLY_CA"),
        client_cert=choose(client_cert, "MAYFLY_CLIENT_CERT"),
        client_key=choose(client_key, "MAYFLY_CLIENT_KEY"),
    )
    if not re.fullmatch(r"[!-~]*", settings.key):
        raise InvalidArgument("the key holds characters that no key has; it is one line of text")
    Address.parse(settings.url)
    return settings


def read_toml(path: Path) -> Dict[str, Any]:
    try:
        table: Dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return table
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: {error}") from None
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}") from error


def _configured_url(environment: Mapping[str, str]) -> str:
    for path in _config_files(environment):
        if path.exists():
            server = read_toml(path).get("server", {})
            listen = server.get("listen", "")
            if not listen or listen.startswith("unix:"):
                return str(listen)
            return f"{'https' if server.get('tls_certificate') else 'http'}://{listen}"
    return ""


def _config_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    if named := environment.get("MAYFLY_CONFIG", ""):
        return (Path(named),)
    home = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return (Path(home, "mayfly/mayfly.toml"), Path("/etc/mayfly/mayfly.toml"))
