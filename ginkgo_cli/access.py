"""Find the address of the server and a token: in options, environment, or the file of `bin/up`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from ginkgo_cli.client import Failed

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Access:
    """The address of a server, a token of one of its users, and how its certificate is checked."""

    server: str
    token: str = field(repr=False)
    ca: str = ""  #: path of the certificates of its authority; "": those of the system


def find_access(
    *,
    server: str | None = None,
    token_file: str | None = None,
    ca: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Access:
    """Return the server, the token and `ca`: each from its option, else from the environment.

    If neither gives a server or a token, both come from the file that `bin/up` writes. Raise Failed
    with a sentence that says what is missing.
    """
    ca = ca or environment.get("GINKGO_CA", "")
    server = server or environment.get("GINKGO_SERVER", "")
    token_file = token_file or environment.get("GINKGO_TOKEN_FILE", "")
    token = _read(token_file).strip() if token_file else environment.get("GINKGO_TOKEN", "")
    if server and token:
        return _checked(Access(server.rstrip("/"), token, ca))
    if server or token:
        missing = "token (--token-file or GINKGO_TOKEN_FILE)" if server else "server (--server)"
        raise Failed(f"There is no {missing}; `ginkgo` needs the server's address and a token.")
    for path in _access_files(environment):
        if os.path.isfile(path):  # False also where this user may not look; Path.is_file may raise
            return _from_file(path, ca)
    raise Failed(
        "No server is known here. If `bin/up` runs on this machine, set GINKGO_HOME as it is set "
        "for `bin/up`. Otherwise set GINKGO_SERVER to the address of a server and "
        "GINKGO_TOKEN_FILE to a file with a token: `manage.py create_api_token USER` makes one."
    )


def _checked(access: Access) -> Access:
    """Return `access` with a lower-case scheme. Raise Failed if no request can be made with it."""
    try:
        parts = urlsplit(access.server)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is not a number, or a bracket is not closed
        usable = False
    if not usable or parts.query or parts.fragment or not access.server.isprintable():
        raise Failed(
            f"{access.server!r} is not the address of a server; give one such as "
            "https://ginkgo.example.org or http://127.0.0.1:8000."
        )
    # The message does not show the token, since it may be kept in a log.
    if not (access.token.isascii() and access.token.isprintable()) or " " in access.token:
        raise Failed(
            "The token holds a space, a line break or another character that no token holds. "
            "Give it as one line, as `manage.py create_api_token USER` prints it."
        )
    scheme, rest = access.server.split(":", 1)
    return replace(access, server=f"{scheme.lower()}:{rest}")


def _access_files(environment: Mapping[str, str]) -> list[Path]:
    """Return the files in which `bin/up` may have left address and token; the first one counts."""
    home = environment.get("GINKGO_HOME", "")
    first = [Path(home) / "access.json"] if home else []
    config = environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "/")) / ".config"
    return [*first, CHECKOUT / ".ginkgo" / "access.json", Path(config) / "ginkgo" / "access.json"]


def _from_file(path: Path, ca: str) -> Access:
    """Return the server and the token that `bin/up` wrote to the file, and `ca`. Raise Failed."""
    try:
        document = json.loads(_read(str(path)))
        found = Access(str(document["url"]).rstrip("/"), str(document["token"]), ca)
    except (ValueError, KeyError, TypeError):
        raise Failed(
            f"{path} holds no address and token as JSON (url, token); start `bin/up` again, "
            "which writes it."
        ) from None
    return _checked(found)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise Failed(f"{path} cannot be read: it is not a text file.") from None
