"""Refusals of operations, and that these changed nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core import serializers

from portfolios.models import Portfolio, Revision
from scheduling.errors import Refused
from scheduling.models import Control, Event, Handoff, Node, Run


def everything() -> list[str]:
    """Return every row that a request could have changed."""
    models = (Portfolio, Revision, Run, Handoff, Node, Control, Event)
    return [serializers.serialize("json", m.objects.order_by("pk")) for m in models]


def refused(act: Callable[[], Any]) -> Refused:
    """Return the refusal of `act`, which changed nothing."""
    before = everything()
    with pytest.raises(Refused) as caught:
        act()
    assert everything() == before
    return caught.value
