"""Websocket routes."""

from __future__ import annotations

from django.urls import path

from scheduling.dashboard.consumer import BoardConsumer
from scheduling.gateway.push_socket import PushSocket

board_urlpatterns = [path("ws/board/", BoardConsumer.as_asgi())]
agent_urlpatterns = [path("ws/agent/", PushSocket.as_asgi())]
