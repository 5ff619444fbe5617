"""Django's settings. What may differ between installations comes from `env.py`, and only there."""

from __future__ import annotations

import sys
from typing import Any

from django.urls import reverse_lazy

from ginkgo_site.database import django_database
from ginkgo_site.env import CHECKOUT, InvalidSetting, read_environment
from ginkgo_site.logs import logging_config
from ginkgo_site.secret_key import secret_key

try:
    GINKGO = read_environment()
except InvalidSetting as wrong:
    sys.exit(f"ginkgo: {wrong}")

BASE_DIR = CHECKOUT
DEBUG = False
SECRET_KEY = GINKGO.secret_key or secret_key(GINKGO.home)
ALLOWED_HOSTS = list(GINKGO.allowed_hosts)

INSTALLED_APPS = [
    "ginkgo_site.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_q",
    "axes",
    "portfolios",
    "scheduling",
    "ginkgo_site.apps.SiteConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "ginkgo_site.content_security.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "ginkgo_site.web.origin.OriginMiddleware",
    "axes.middleware.AxesMiddleware",
    "ginkgo_site.web.logins.BusyMiddleware",
]

AUTHENTICATION_BACKENDS = [
    "ginkgo_site.web.logins.ThrottleBackend",
    "ginkgo_site.web.logins.HashApartBackend",
]
AXES_HANDLER = "ginkgo_site.web.logins.Throttle"
AXES_LOCKOUT_CALLABLE = "ginkgo_site.web.logins.locked_out_response"
AXES_CLIENT_IP_CALLABLE = "ginkgo_site.web.client_address.client_address"
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_ENABLE_ADMIN = False  # its tables stay empty
AXES_VERBOSE = False

ROOT_URLCONF = "ginkgo_site.urls"
ASGI_APPLICATION = "ginkgo_site.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": django_database(GINKGO.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS: dict[str, dict[str, Any]]
if GINKGO.redis_url is None:
    CHANNEL_LAYERS = {"default": {"BACKEND": "scheduling.channel_layer.PostgresChannelLayer"}}
else:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [GINKGO.redis_url]},
        },
    }

# The broker delivers at least once: a task that exceeds `timeout` is killed before `retry` hands it
# to another worker. Missed runs are not repeated, since the next pass sees everything.
Q_CLUSTER = {
    "name": "ginkgo",
    "orm": "default",
    "workers": 2,
    "timeout": 25,
    "retry": 60,
    "max_attempts": 1,
    "catch_up": False,
    "poll": 1,
    "queue_limit": 10,
    "bulk": 1,
    # Successes are not stored: at each further one django-q2 reads all stored ones and unpickles
    # their arguments and results, so that a manipulated row would run code in its monitor.
    "save_limit": -1,
    "label": "Queue",
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "scheduling.api.authentication.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["scheduling.permissions.ViewersReadOperatorsAct"],
    "EXCEPTION_HANDLER": "scheduling.api.error_handlers.exception_handler",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "COERCE_DECIMAL_TO_STRING": True,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Ginkgo",
    "DESCRIPTION": "Live-trading portfolios on a fleet of execution nodes. Reasons are in the "
    "language of `Accept-Language`: English, or Chinese for `zh`; their codes and parameters are "
    "the same in both. The [desk](/) shows the same to people.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "TokenStateEnum": ["valid", "expired", "revoked"],
        "RollOutStateEnum": "scheduling.models.roll_out.RollOutState",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "scheduling.api.schema.complete_description",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = reverse_lazy("login")
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "locale"]
# A person chooses the language in the header of a page; else the browser's Accept-Language does.
LANGUAGE_COOKIE_NAME = "ginkgo-language"
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SECURE = GINKGO.https
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "ginkgo_site" / "static"]
# Served straight from the folders they live in: one process, no collecting step to forget.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# GINKGO_HTTPS says that a proxy in front speaks TLS and sets X-Forwarded-Proto.
SESSION_COOKIE_SECURE = GINKGO.https
CSRF_COOKIE_SECURE = GINKGO.https
SECURE_SSL_REDIRECT = GINKGO.https
SECURE_HSTS_SECONDS = 31_536_000 if GINKGO.https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = GINKGO.https
SECURE_HSTS_PRELOAD = GINKGO.https and GINKGO.hsts_preload
# A host that browsers ship as HTTPS only stays so for months: that is asked for, not a default.
SILENCED_SYSTEM_CHECKS = ["security.W021"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if GINKGO.https else None
CSRF_TRUSTED_ORIGINS = (
    [
        f"https://{host.replace('.', '*.', 1) if host.startswith('.') else host}"
        for host in ALLOWED_HOSTS
        if host != "*"
    ]
    if GINKGO.https
    else []
)
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576  #: larger bodies have no use in this API

LOGGING = logging_config(GINKGO.log_level)
