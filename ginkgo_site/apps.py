"""Register the system checks."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """The site itself as an app: it has no models, only checks."""

    name = "ginkgo_site"
    label = "ginkgo_site"
    verbose_name = "Ginkgo"

    def ready(self) -> None:
        """Register the system checks."""
        from ginkgo_site import checks  # noqa: F401
