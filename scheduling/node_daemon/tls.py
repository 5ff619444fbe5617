"""TLS to the control plane: certificate authorities that the node trusts, and its certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

from scheduling.node_daemon.errors import InvalidArguments


def tls_context(
    server: str, *, ca: str = "", certificate: str = "", key: str = ""
) -> ssl.SSLContext | None:
    """Return the settings of TLS, or None for the default: the system's certificate authorities.

    Raise InvalidArguments if a file cannot be used or the options do not fit together.
    """
    if not (ca or certificate or key):
        return None
    if not server.startswith("https://"):
        raise InvalidArguments(
            f"--ca, --client-cert and --client-key are for TLS, but --server is {server!r}; "
            "use an address that begins with https://."
        )
    if key and not certificate:
        raise InvalidArguments("--client-key needs --client-cert, the certificate of this key.")
    for option, path in (("--ca", ca), ("--client-cert", certificate), ("--client-key", key)):
        _check_readable(option, path)
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError:
        raise InvalidArguments(f"--ca {ca!r} holds no certificate in PEM form.") from None
    if certificate:
        try:
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key or None, password=lambda: "")
        except ssl.SSLError as error:
            raise InvalidArguments(
                f"--client-cert {certificate!r} and its key cannot be used: "
                f"{error.reason or 'they are not in PEM form'}; both have to be in PEM form, "
                "and the key without a passphrase."
            ) from None
    return context


def _check_readable(option: str, path: str) -> None:
    if not path:
        return
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise InvalidArguments(f"{option} {path!r} cannot be read: {error.strerror}.") from None
