"""The web process: the node protocol before Django, sockets by Channels, the rest by Django."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlparse

from django.conf import settings
from django.contrib.admin import autodiscover

from ginkgo_site.database import share_connections
from ginkgo_site.deadline import limit_statements
from ginkgo_site.django_start import set_up_django
from ginkgo_site.sessions import DatabaseUnusable, name_process

#: Limit for pages and the API. The gateway has its own, shorter one.
STATEMENT_LIMIT_S = 10.0

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "ginkgo_site.settings")
name_process("web")
limit_statements(STATEMENT_LIMIT_S)
share_connections(settings.DATABASES["default"])
set_up_django(set_prefix=False)
autodiscover()  # now, not at the first page, while the gateway serves nodes

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from ginkgo_site.web.lanes import LanedHandler  # noqa: E402
from scheduling import systemd, tracing  # noqa: E402
from scheduling.dead_mans_switch import DeadMansSwitch  # noqa: E402
from scheduling.gateway.app import gateway  # noqa: E402
from scheduling.gateway.background import close_gateway, open_gateway  # noqa: E402
from scheduling.routing import agent_urlpatterns, board_urlpatterns  # noqa: E402

# Typed loosely: Django and Channels have different types for a scope.
django_application: Any = LanedHandler()

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# A browser sends its cookies from any page, so its socket must come from our own; a daemon has no
# origin and proves itself with its token in the consumer.
board_sockets = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(board_urlpatterns)))
agent_sockets = URLRouter(agent_urlpatterns)

#: Close code before a socket is accepted, which the peer sees as 403.
NO_SUCH_SOCKET = 4404


async def board(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the socket of a page; refuse it if its Origin is no URL: the validator would raise."""
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    try:
        for origin in origins:
            _ = urlparse(origin.decode("latin-1")).port  # checked when it is read
    except ValueError:
        await no_such_socket(scope, receive, send)
        return
    await board_sockets(scope, receive, send)


async def no_such_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Close a websocket before it is accepted: the peer sees 403."""
    await receive()
    await send({"type": "websocket.close", "code": NO_SUCH_SOCKET})


SOCKETS: dict[str, Any] = {"/ws/board/": board, "/ws/agent/": agent_sockets}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request, a websocket or the lifespan on to the part that serves its protocol."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "websocket":
        await SOCKETS.get(scope["path"], no_such_socket)(scope, receive, send)
    elif scope["path"].startswith(("/api/agent/", "/node/")):
        await gateway(scope, receive, send)
    else:
        await django_application(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Open the gateway before the first request, and close it after the last.

    If it cannot be opened, log why; the server then ends.
    """
    switch = DeadMansSwitch()
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                tracing.start("ginkgo-web")
                await open_gateway()
                # Exclude what was imported from garbage collection: each full collection would
                # keep every node waiting for tens of milliseconds.
                gc.collect()
                gc.freeze()
                switch.start()
                alive = asyncio.create_task(systemd.tell_alive_once_listening())
            except DatabaseUnusable as error:
                logger.error("%s", error)
                await send({"type": "lifespan.startup.failed", "message": ""})  # logged above
                return
            except Exception as error:
                logger.exception("the gateway could not be opened")
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            systemd.tell(systemd.STOPPING)
            switch.end()
            await close_gateway()
            alive.cancel()
            await send({"type": "lifespan.shutdown.complete"})
            return
