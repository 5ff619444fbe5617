"""What `check --deploy` says, and that the gateway takes no plain HTTP where TLS is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings

from ginkgo_site.checks import check_hosts_and_proxies, missing_rights
from ginkgo_site.env import read_environment
from scheduling.gateway.http import RequestRejected, refuse_plain_http


def found(**environment: Any) -> set[str | None]:
    hosts = environment.pop("hosts", ("ginkgo.example.org",))
    ginkgo = replace(settings.GINKGO, **environment)
    with override_settings(GINKGO=ginkgo, ALLOWED_HOSTS=list(hosts)):
        return {message.id for message in check_hosts_and_proxies()}


def test_a_wildcard_host_plain_http_and_an_undeclared_proxy_are_found() -> None:
    sound = {"https": True, "trusted_proxies": ("10.0.0.1",)}
    assert found(**sound) == set()
    assert found(**sound, hosts=("*",)) == {"ginkgo.E010"}
    assert found(https=False) == {"ginkgo.E011"}
    assert found(https=True, trusted_proxies=()) == {"ginkgo.W012"}


def test_hsts_preload_is_off_unless_a_setting_asks_for_it() -> None:
    assert not read_environment({"GINKGO_HTTPS": "1"}).hsts_preload
    assert read_environment({"GINKGO_HSTS_PRELOAD": "1"}).hsts_preload
    assert settings.SECURE_HSTS_PRELOAD is False


@pytest.mark.parametrize(
    ("https", "peer", "headers", "passes"),
    [
        (False, "10.0.0.9", {}, True),
        (True, "10.0.0.9", {b"x-forwarded-proto": b"https"}, True),
        (True, "127.0.0.1", {}, True),  # a daemon of this machine
        (True, "127.0.0.1", {b"x-forwarded-for": b"10.0.0.9"}, False),  # a proxy without TLS
        (True, "10.0.0.9", {}, False),
        (True, "10.0.0.9", {b"x-forwarded-proto": b"http"}, False),
    ],
)
def test_the_gateway_takes_plain_http_of_this_machine_only(
    https: bool, peer: str, headers: dict[bytes, bytes], passes: bool
) -> None:
    with override_settings(GINKGO=replace(settings.GINKGO, https=https)):
        if passes:
            refuse_plain_http({"client": (peer, 1)}, headers)
        else:
            with pytest.raises(RequestRejected, match="X-Forwarded-Proto: https") as declined:
                refuse_plain_http({"client": (peer, 1)}, headers)
            assert declined.value.status == 403


@pytest.mark.django_db
def test_missing_database_right_is_reported_with_the_grant_statement_that_helps() -> None:
    with connection.cursor() as cursor:
        assert missing_rights(cursor) == []
        cursor.execute("CREATE ROLE poor")
        cursor.execute("SET LOCAL ROLE poor")
        (found,) = missing_rights(cursor)
        assert found.id == "ginkgo.E004"
        assert "The role poor may not create tables in schema public" in found.msg
        assert "GRANT USAGE, CREATE ON SCHEMA public TO poor;" in str(found.hint)
        cursor.execute("RESET ROLE")
        cursor.execute("GRANT USAGE, CREATE ON SCHEMA public TO poor")
        cursor.execute("SET LOCAL ROLE poor")
        (found,) = missing_rights(cursor)
        assert found.id == "ginkgo.E005"
        assert "belongs to the role postgres" in found.msg
        assert "GRANT postgres TO poor;" in str(found.hint)


@pytest.mark.django_db
def test_rights_in_a_schema_whose_name_needs_quotes_are_checked() -> None:
    with connection.cursor() as cursor:
        cursor.execute('CREATE ROLE poor; CREATE SCHEMA "My Schema"')
        cursor.execute('SET LOCAL search_path = "My Schema"')
        assert missing_rights(cursor) == []
        cursor.execute("CREATE TABLE scheduling_node ()")
        cursor.execute('GRANT USAGE, CREATE ON SCHEMA "My Schema" TO poor; SET LOCAL ROLE poor')
        (found,) = missing_rights(cursor)
        assert found.id == "ginkgo.E005"
        assert 'The table scheduling_node in schema "My Schema" belongs' in found.msg
