"""Small parts of the node daemon: clocks, lease, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduling.management.commands.run_node import Command
from scheduling.node_daemon import cli, errors
from scheduling.node_daemon.config import make_config
from scheduling.node_daemon.feed_time import FeedTime
from scheduling.node_daemon.lease_view import Lease

SECOND = 1_000_000
#: What a daemon cannot start without.
NEEDED: Any = {"name": "n", "server": "http://x", "token": "t"}


@pytest.mark.parametrize(
    ("samples", "at_s", "expected_us"),
    [
        ([(500, 100, 4000)], 100, 500 * SECOND - 2000),  # half of the round trip is added
        ([(500, 100, 0), (510, 110, 90_000)], 120, 520 * SECOND),  # the smallest round trip counts
        ([(500, 100, 0), (570, 110, 0)], 120, 580 * SECOND),  # the clock of the server was set
        ([(500, 100, 0), (0, 110, 0)], 100, 500 * SECOND),  # an answer without a time
    ],
)
def test_feed_time_follows_the_best_sample_of_the_server(
    samples: list[tuple[int, int, int]], at_s: int, expected_us: int
) -> None:
    """Samples are (server's time in s, sent at in s, round trip in µs)."""
    time = FeedTime()
    for server_s, sent_s, trip_us in samples:
        sent_us = sent_s * SECOND
        time.sample(server_us=server_s * SECOND, sent_us=sent_us, received_us=sent_us + trip_us)
    assert time.at(at_s * SECOND) == expected_us


def test_lease_starts_when_its_heartbeat_was_sent() -> None:
    lease = Lease()
    assert not lease.may_feed(100.0)
    lease.renew(sent_at_s=100.0, ttl_s=30.0)
    assert lease.may_feed(123.9)
    assert not lease.may_feed(124.0)  # 100 + 0.8 x 30


def test_late_answer_to_an_older_heartbeat_does_not_shorten_the_lease() -> None:
    lease = Lease()
    lease.renew(sent_at_s=110.0, ttl_s=30.0)
    lease.renew(sent_at_s=100.0, ttl_s=30.0)
    assert lease.may_feed(133.0)


def test_token_is_not_in_the_repr_of_settings() -> None:
    config = make_config(name="node-1", server="https://x.org/", token="s3cret-token")
    assert "s3cret-token" not in repr(config)
    assert config.socket_url == "wss://x.org/ws/agent/"


def test_token_may_come_from_the_environment() -> None:
    environment = {"GINKGO_NODE_TOKEN": "from-environment"}
    config = make_config(name="a", server="http://x", token="", environment=environment)
    assert config.token == "from-environment"
    with pytest.raises(errors.InvalidArguments, match="create_node_token a"):
        make_config(name="a", server="http://x", token="", environment={})


@pytest.mark.parametrize(
    "server", ["http://a..b", f"http://{'x' * 70}", "http://a:99999", "http://:80", "http://a/?b=1"]
)
def test_invalid_server_address_is_refused(server: str) -> None:
    with pytest.raises(errors.InvalidArguments, match=r"^--server is '"):
        make_config(name="n", server=server, token="t")


@pytest.mark.parametrize("server", ["http://[::1]:80", "https://bücher.example/prefix"])
def test_valid_server_address_is_accepted(server: str) -> None:
    assert make_config(name="n", server=f"{server}/", token="t").server == server


def test_both_entry_points_take_the_same_arguments() -> None:
    ours = Command().create_parser("manage.py", "run_node")
    given = ["--name=n", "--server=http://x", "--capacity=7", "--label=zone=a", "--json"]
    options = vars(ours.parse_args(given))
    assert (options["capacity"], options["label"], options["json"]) == (7, ["zone=a"], True)
    assert cli.TOKEN_VARIABLE == "GINKGO_NODE_TOKEN"


def test_cache_folder_is_below_the_home_or_the_configured_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GINKGO_HOME", "/srv/home")
    assert make_config(**NEEDED, environment={"GINKGO_NODE_CACHE": "/var/c"}).cache == Path(
        "/var/c/n"
    )
    assert make_config(**NEEDED, environment={}).cache == Path("/srv/home/nodes/n")
    with pytest.raises(errors.InvalidArguments, match="is 'c'; use an absolute path"):
        make_config(**NEEDED, environment={"GINKGO_NODE_CACHE": "c"})


@pytest.mark.parametrize("limit", ["0.5", "-1", "much", "1e9"])
def test_memory_limit_below_a_megabyte_or_no_number_is_refused(limit: str) -> None:
    wanted = f"GINKGO_CHILD_MEMORY_MB is '{limit}'; use a number of at least 1 and below 1e9"
    with pytest.raises(errors.InvalidArguments, match=wanted):
        make_config(**NEEDED, environment={"GINKGO_CHILD_MEMORY_MB": limit})


def test_a_relative_home_in_a_deleted_folder_is_refused_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("GINKGO_HOME", "relative")
    refusal = "^GINKGO_HOME is 'relative', relative to the current folder, which has been deleted"
    with pytest.raises(errors.InvalidArguments, match=refusal):
        make_config(**NEEDED, environment={})
    # Portfolio processes need the home, even where the cache is elsewhere.
    with pytest.raises(errors.InvalidArguments, match="or set GINKGO_HOME to an absolute path"):
        make_config(**NEEDED, environment={"GINKGO_NODE_CACHE": "/var/c"})
