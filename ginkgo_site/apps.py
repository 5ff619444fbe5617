"""Register the system checks, and the admin without its pages."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core.checks import CheckMessage, Tags, register


class AdminConfig(SimpleAdminConfig):
    """Django's admin, whose pages are imported with the URLs.

    Importing them takes a quarter of the processor time that a process needs to start, and only a
    web process shows any.
    """

    def ready(self) -> None:
        register(check_dependencies, Tags.admin)
        register(check_admin_pages, Tags.admin)


def check_admin_pages(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Import the pages of the admin, and return what is wrong with them."""
    from django.contrib import admin

    admin.autodiscover()
    return list(check_admin_app(app_configs, **kwargs))


class SiteConfig(AppConfig):
    """The site itself as an app: it has no models, only checks."""

    name = "ginkgo_site"
    label = "ginkgo_site"
    verbose_name = "Ginkgo"

    def ready(self) -> None:
        from ginkgo_site import checks  # noqa: F401 - registers them
