"""The lines of the API's guide run as they stand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from portfolios.models import Portfolio
from scheduling.models import Event
from scheduling.operations.tokens import issue_api_token
from scheduling.permissions import Role
from tests.support.api_client import make_user
from tests.support.documented_commands import run_lines, sh_blocks
from tests.support.factories import make_node, make_portfolio

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_line_of_the_guide_runs(live_server: Any, tmp_path: Path) -> None:
    make_node("node-1")
    make_portfolio("ibm-sma")
    token = issue_api_token(make_user("olive", Role.OPERATOR), actor="cast")
    access = {"GINKGO_SERVER": live_server.url, "GINKGO_TOKEN": token}
    blocks = sh_blocks("docs/api.md")
    assert len(blocks) == 5
    run_lines("".join(blocks), {"PATH": os.environ["PATH"], **access}, tmp_path)
    assert Event.objects.filter(kind="frozen").count() == 1
    assert Portfolio.objects.get().priority == 5
