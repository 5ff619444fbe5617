"""Strategies get the variables of a list, and no others."""

from __future__ import annotations

import pytest

from portfolios.runtime.environment import strategy_environment


@pytest.mark.parametrize(
    "name",
    [
        "PATH", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHASHSEED", "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS", "GINKGO_HOME", "GINKGO_STRATEGIES", "GINKGO_STRATEGY_READS",
        "GINKGO_FEED",
    ],
)  # fmt: skip
def test_environment_of_a_strategy_keeps_what_python_and_its_packages_need(name: str) -> None:
    assert strategy_environment({name: "x"}) == {name: "x"}


@pytest.mark.parametrize(
    "name",
    [
        "GINKGO_NODE_TOKEN", "GINKGO_SECRET_KEY", "GINKGO_ENCRYPTION_KEYS", "DATABASE_URL",
        "REDIS_URL", "PGPASSWORD", "PGPASSFILE", "AWS_SESSION", "BROKER_API_KEY", "UV_INDEX_URL",
        "SSH_AUTH_SOCK", "KUBECONFIG", "SENTRY_DSN", "path",
        "PATH_TO_KEY", "MY_PYTHONPATH", "HTTPS_PROXY", "GINKGO_STRATEGIES_KEY",
    ],
)  # fmt: skip
def test_variables_that_are_not_listed_are_not_passed_on(name: str) -> None:
    assert strategy_environment({name: "x"}) == {}


def test_setting_passes_further_variables_to_strategies_but_no_secret_of_ginkgo() -> None:
    names = "MODEL_FOLDER, GINKGO_NODE_TOKEN,DATABASE_URL,PGPASSWORD,GINKGO_ENCRYPTION_KEYS,"
    names += "GINKGO_ALERT_URL,GINKGO_NATS_URL"
    given = {name.strip(): "x" for name in names.split(",")}
    kept = strategy_environment({"GINKGO_STRATEGY_ENVIRONMENT": names, **given, "OTHER": "x"})
    assert kept == {"GINKGO_STRATEGY_ENVIRONMENT": names, "MODEL_FOLDER": "x"}
