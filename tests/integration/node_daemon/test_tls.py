"""TLS between node and server: private authorities and client certificates."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chaos.harness.installation import SLOW_MACHINE_S
from scheduling.node_daemon import control_plane_client
from scheduling.node_daemon.config import make_config
from scheduling.node_daemon.control_plane_client import ControlPlaneClient
from scheduling.node_daemon.errors import InvalidArguments, RequestRefused, ServerUnavailable
from scheduling.node_daemon.tls import tls_context
from scheduling.wire.messages import Goodbye, Hello


class Files(NamedTuple):
    """An authority, and a certificate that it signed, with its key."""

    ca: Path
    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    found = Files(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    signer, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "an authority")])
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> bytes:
        names = [x509.DNSName("localhost")]
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(authority)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(signer, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    found.ca.write_bytes(certificate(authority, signer.public_key(), ca=True))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    found.certificate.write_bytes(certificate(name, key.public_key(), ca=False))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


@asynccontextmanager
async def proxy(files: Files, *, asks: bool = False, status: int = 204) -> AsyncIterator[str]:
    """Serve TLS as a proxy in front of the gateway does. Yield its address."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
    context.load_cert_chain(files.certificate, files.key)
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=status, text="" if status == 204 else "<html>too large</html>")

    app = web.Application()
    app.router.add_post("/api/agent/goodbye/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def ask(server: str, *, ca: str = "", certificate: str = "", key: str = "") -> None:
    """Send one request of a daemon with these options."""
    tls = tls_context(server, ca=ca, certificate=certificate, key=key)
    config = make_config(name="n", server=server, token="t", tls=tls, environment={})
    async with ControlPlaneClient(config) as client:
        await client.goodbye(Goodbye(incarnation="0" * 32, reason=""))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an answer as long as a slow machine takes to give it."""
    monkeypatch.setattr(control_plane_client, "GOODBYE_TIMEOUT_S", SLOW_MACHINE_S)


async def test_server_certificate_of_an_unknown_authority_is_refused(files: Files) -> None:
    async with proxy(files) as server:
        await ask(server, ca=str(files.ca))
        with pytest.raises(ServerUnavailable, match=r"certificate verify failed.*; --ca takes"):
            await ask(server)


async def test_a_proxy_that_asks_for_a_certificate_gets_the_one_of_the_node(files: Files) -> None:
    async with proxy(files, asks=True) as server:
        shown = {"certificate": str(files.certificate), "key": str(files.key)}
        await ask(server, ca=str(files.ca), **shown)
        with pytest.raises(ServerUnavailable):
            await ask(server, ca=str(files.ca))


async def test_a_request_that_a_proxy_refuses_as_too_large_is_not_repeated(files: Files) -> None:
    async with proxy(files, status=413) as server:
        with pytest.raises(RequestRefused, match="client_max_body_size 32m"):
            await ask(server, ca=str(files.ca))


async def test_answer_that_no_gateway_gives_is_reported_as_possibly_that_of_a_proxy(
    files: Files,
) -> None:
    async with proxy(files, status=404) as server:
        with pytest.raises(ServerUnavailable) as found:
            await ask(server, ca=str(files.ca))
    assert str(found.value) == (
        "the gateway answered goodbye/ with 404, and not as a gateway does: is it a proxy's answer?"
    )


async def test_error_behind_a_proxy_without_websockets_names_what_the_proxy_has_to_pass(
    files: Files,
) -> None:
    async with proxy(files) as server:
        config = make_config(
            name="n",
            server=server,
            token="t",
            tls=tls_context(server, ca=str(files.ca)),
            environment={},
        )
        async with ControlPlaneClient(config) as client:
            with pytest.raises(ServerUnavailable, match="the proxy has to pass websockets"):
                await anext(client.pushes(Hello(incarnation="0" * 32, have_version=0)))


def test_certificate_files_that_cannot_be_used_are_named(files: Files, tmp_path: Path) -> None:
    server, nothing = "https://localhost", tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"pass"),
        )
    )
    for given, sentence in (
        ({"ca": str(tmp_path / "none")}, "--ca .* cannot be read: No such file"),
        ({"ca": str(nothing)}, "--ca .* holds no certificate in PEM form"),
        ({"key": str(files.key)}, "--client-key needs --client-cert"),
        ({"certificate": str(files.certificate)}, "--client-cert .* cannot be used"),
        ({"certificate": str(files.certificate), "key": str(nothing)}, "cannot be used"),
        ({"certificate": str(files.certificate), "key": str(encrypted)}, "without a passphrase"),
    ):
        with pytest.raises(InvalidArguments, match=sentence):
            tls_context(server, **given)
    with pytest.raises(InvalidArguments, match="use an address that begins with https://"):
        tls_context("http://localhost", ca=str(files.ca))
