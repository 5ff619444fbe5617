"""Which socket leads where."""

from __future__ import annotations

from django.urls import path

from scheduling.sockets.agent import AgentSocket
from scheduling.sockets.board import BoardConsumer

board_urlpatterns = [path("ws/board/", BoardConsumer.as_asgi())]
agent_urlpatterns = [path("ws/agent/", AgentSocket.as_asgi())]
