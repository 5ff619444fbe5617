"""URL configuration. `asgi.py` serves the node protocol and the websockets before this."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import views as auth_views
from django.urls import include, path

admin.autodiscover()

urlpatterns = [
    path("login/", auth_views.LoginView.as_view(), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("api/", include("scheduling.api.urls")),
    path("", include("scheduling.dashboard.urls")),
]

handler400 = "scheduling.api.error_handlers.handle_400"
handler403 = "scheduling.api.error_handlers.handle_403"
handler404 = "scheduling.api.error_handlers.handle_404"
handler500 = "scheduling.api.error_handlers.handle_500"
