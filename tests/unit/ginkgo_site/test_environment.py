"""Settings from the environment: defaults, and the error of each wrong value with its remedy."""

from __future__ import annotations

import runpy
import stat
from pathlib import Path

import pytest

from ginkgo_site.env import CHECKOUT, InvalidSetting, read_environment
from ginkgo_site.secret_key import secret_key
from tests.support.patches import raising
from tests.support.python_process import run_python


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    env = read_environment({})
    assert env.home == CHECKOUT / ".ginkgo"
    assert env.database_is_embedded
    assert env.redis_url is None
    assert env.allowed_hosts == ("localhost", "127.0.0.1", "[::1]")
    assert (env.heartbeat_interval_s, env.lease_ttl_s, env.socket_grace_s) == (10, 30, 3)
    assert (env.balance_interval_s, env.drain_deadline_s, env.stale_order_age_s) == (30, 5, 5)
    assert (env.stall_s, env.storm_fraction, env.feed_rate) == (30, 0.5, 100)
    assert (env.child_memory_mb, env.strategy_guard) == (1024, True)


def test_an_empty_value_counts_as_not_set() -> None:
    assert read_environment({"DATABASE_URL": "", "GINKGO_STALL_S": " "}).stall_s == 30


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("DATABASE_URL", "mysql://u@h/d", "postgresql://USER:PASSWORD@HOST:5432/NAME"),
        ("DATABASE_URL", "nonsense", "unset it to use the embedded server"),
        ("DATABASE_URL", "postgresql://u@h:5432/", "names no database"),
        ("DATABASE_URL", "postgresql://u@h/d?sslmod=x", "cannot be read"),
        ("DATABASE_URL", "postgresql://u@h:x/d", "has a port that is not a number"),
        ("DATABASE_URL", "postgresql://u@h,h2:99999/d", "from 1 to 65535"),
        ("REDIS_URL", "localhost:6379", "redis://HOST:6379/0"),
        ("REDIS_URL", "redis://h:x/0", "redis://HOST:6379/0"),
        ("GINKGO_NATS_URL", "nats://h:99999", "nats://USER:PASSWORD@HOST:4222"),
        ("GINKGO_HEARTBEAT_INTERVAL_S", "ten", "a number such as 10"),
        ("GINKGO_HEARTBEAT_INTERVAL_S", "0", "between 0.1 and 86400"),
        ("GINKGO_LEASE_TTL_S", "nan", "the default is 30"),
        ("GINKGO_LEASE_TTL_S", "12", "at least 20"),
        ("GINKGO_SOCKET_GRACE_S", "31", "GINKGO_LEASE_TTL_S at most"),
        ("GINKGO_BALANCE_INTERVAL_S", "2.5", "whole seconds"),
        ("GINKGO_DRAIN_DEADLINE_S", "31", "between 0.1 and 30"),
        ("GINKGO_STALE_ORDER_AGE_S", "-1", "the default is 5"),
        ("GINKGO_STALL_S", "1h", "a time in seconds"),
        ("GINKGO_STORM_FRACTION", "1.5", "between 0.01 and 1"),
        ("GINKGO_FEED_RATE", "inf", "the default is 100"),
        ("GINKGO_FEED_RATE", "fast", "events per second"),
        ("GINKGO_FEED_RATE", "٣", "events per second"),
        ("GINKGO_CHILD_MEMORY_MB", "much", "a size in MB"),
        ("GINKGO_STRATEGY_GUARD", "perhaps", "use 1 or 0"),
        ("GINKGO_SECRET_KEY", "short", "at least 32 random characters"),
        ("GINKGO_SECRET_KEY", "a" * 50, "too easy to guess"),
        ("GINKGO_ALLOWED_HOSTS", "http://a.example", "without scheme or port"),
        ("GINKGO_HTTPS", "maybe", "use 1 or 0"),
        ("GINKGO_TRUSTED_PROXIES", "10.0.0.0/8,proxy.local", "has 'proxy.local', which is neither"),
        ("GINKGO_LOG_LEVEL", "loud", "use info, debug, warning or error"),
        ("GINKGO_HOME", "/dev/null", "name a folder"),
        ("GINKGO_HOME", "x" * 300, "which cannot be checked (File name too long)"),
        ("GINKGO_HOME", "~no-such-user/ginkgo", "give an absolute path"),
        ("GINKGO_NATS_URL", "http://h", "nats://USER:PASSWORD@HOST:4222"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(name: str, value: str, remedy: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_environment({name: value})
    assert name in str(caught.value)
    assert remedy in str(caught.value)


@pytest.fixture
def in_a_deleted_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()


@pytest.mark.usefixtures("in_a_deleted_folder")
def test_absolute_paths_and_the_default_home_need_no_working_directory(tmp_path: Path) -> None:
    assert read_environment({}).home == CHECKOUT / ".ginkgo"
    assert read_environment({"GINKGO_HOME": str(tmp_path)}).home == tmp_path


@pytest.mark.usefixtures("in_a_deleted_folder")
@pytest.mark.parametrize("name", ["GINKGO_HOME", "GINKGO_ARCHIVE", "GINKGO_ENCRYPTION_KEYS_FILE"])
def test_a_relative_path_in_a_deleted_folder_is_named_with_its_remedy(name: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_environment({name: "relative"})
    assert str(caught.value) == (
        f"{name} is 'relative', relative to the current folder, which has been deleted: "
        "change to a folder that exists, or give an absolute path."
    )


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql://u:p@h,h2:1,[::1]:6543/d?sslmode=require"),
        ("DATABASE_URL", "postgresql:///d?host=/run/postgresql"),
        ("REDIS_URL", "rediss://:p%40ss@h:6379/0"),
        ("REDIS_URL", "unix:///run/redis.sock"),
        ("GINKGO_NATS_URL", "nats://u:p@h"),
        ("GINKGO_NATS_URL", "tls://h:4222"),
    ],
)
def test_valid_address_of_database_redis_or_nats_is_accepted(name: str, url: str) -> None:
    env = read_environment({name: url})
    assert url in (env.database_url, env.redis_url, env.nats_url)


def test_value_that_begins_with_a_dollar_sign_is_taken_as_it_is() -> None:
    key = r"$a9x8d7f6g5h4j3k2l1q0w9e8r7\$t6y5u4i3o2"
    env = read_environment({"GINKGO_SECRET_KEY": key, "GINKGO_ALERT_URL": "$HOME", "HOME": "/root"})
    assert (env.secret_key, env.alert_url) == (key, "$HOME")


def test_file_without_an_address_of_nats_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nats"
    file.write_text("secret@host")
    with pytest.raises(InvalidSetting) as caught:
        read_environment({"GINKGO_NATS_URL_FILE": str(file)})
    assert str(caught.value).startswith(f"The text of {str(file)!r} (GINKGO_NATS_URL_FILE) is not")


def test_a_password_in_a_wrong_address_is_not_shown() -> None:
    with pytest.raises(InvalidSetting) as caught:
        read_environment({"DATABASE_URL": "mysql://u:hunter2@h/d"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidSetting) as caught:
        read_environment({"DATABASE_URL": "postgresql://u:hunter2/x@h/d"})
    assert "hunter2" not in str(caught.value)


def test_a_wrong_value_stops_django_with_one_line(tmp_path: Path) -> None:
    done = run_python("manage.py", "check", GINKGO_HOME=str(tmp_path), GINKGO_STALL_S="soon")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "GINKGO_STALL_S is 'soon'" in done.stderr


def test_database_that_is_away_ends_a_command_of_django_with_one_line(tmp_path: Path) -> None:
    url = "postgresql://u@127.0.0.1:1/d"
    done = run_python("manage.py", "migrate", GINKGO_HOME=str(tmp_path), DATABASE_URL=url)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("The database does not answer: connection failed: ")


def test_interrupt_while_a_command_is_loaded_ends_it_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["manage.py", "feed", "list"])
    monkeypatch.setattr("ginkgo_site.sessions.name_process", lambda _: None)
    monkeypatch.setattr("ginkgo_site.django_start.set_up_django", raising(KeyboardInterrupt))
    with pytest.raises((SystemExit, KeyboardInterrupt), match=r"^Interrupted\.$"):
        runpy.run_path(str(CHECKOUT / "manage.py"), run_name="__main__")


def test_generated_secret_key_is_kept_in_a_private_file(tmp_path: Path) -> None:
    first = secret_key(tmp_path)
    assert secret_key(tmp_path) == first
    assert len(first) >= 50
    assert stat.S_IMODE((tmp_path / "secrets" / "secret_key").stat().st_mode) == 0o600
