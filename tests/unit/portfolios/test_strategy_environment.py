"""Strategies get the variables of a list, and no others."""

from __future__ import annotations

from portfolios.runtime.environment import strategy_environment

#: What Python and its packages need.
KEPT = (
    "PATH", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHASHSEED", "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "GINKGO_HOME", "GINKGO_STRATEGIES", "GINKGO_STRATEGY_READS",
    "GINKGO_FEED",
)  # fmt: skip
OTHERS = (
    "GINKGO_NODE_TOKEN", "GINKGO_SECRET_KEY", "GINKGO_ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL",
    "PGPASSWORD", "PGPASSFILE", "AWS_SESSION", "BROKER_API_KEY", "UV_INDEX_URL", "SSH_AUTH_SOCK",
    "KUBECONFIG", "SENTRY_DSN", "path", "PATH_TO_KEY", "MY_PYTHONPATH", "HTTPS_PROXY",
    "GINKGO_STRATEGIES_KEY",
)  # fmt: skip


def test_strategy_gets_the_listed_variables_and_no_others() -> None:
    kept = dict.fromkeys(KEPT, "x")
    assert strategy_environment(kept | dict.fromkeys(OTHERS, "x")) == kept


def test_setting_passes_further_variables_to_strategies_but_no_secret_of_ginkgo() -> None:
    names = "MODEL_FOLDER, GINKGO_NODE_TOKEN,DATABASE_URL,PGPASSWORD,GINKGO_ENCRYPTION_KEYS,"
    names += "GINKGO_ALERT_URL,GINKGO_NATS_URL"
    given = {name.strip(): "x" for name in names.split(",")}
    kept = strategy_environment({"GINKGO_STRATEGY_ENVIRONMENT": names, **given, "OTHER": "x"})
    assert kept == {"GINKGO_STRATEGY_ENVIRONMENT": names, "MODEL_FOLDER": "x"}
