"""The language of the pages: their texts for scripts. The choice is Django's `set_language`."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.i18n import JavaScriptCatalog


class ScriptTexts(JavaScriptCatalog):
    """Django's catalogue of the texts of scripts, without those of other apps."""

    packages = ["ginkgo_site"]

    def get_paths(self, packages: Iterable[str]) -> list[str]:
        """Return where the translations of this project are."""
        return [str(path) for path in settings.LOCALE_PATHS]


@require_safe
@cache_control(public=True, max_age=60)
def script_texts(request: HttpRequest, language: str) -> HttpResponseBase:
    """Return the texts of scripts in a language. No login: they tell nothing of the fleet."""
    if language not in dict(settings.LANGUAGES):
        raise Http404
    with translation.override(language):
        return ScriptTexts.as_view()(request)
