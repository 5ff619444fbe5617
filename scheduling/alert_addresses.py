"""Addresses of services that alerts are sent to, as apprise writes them."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus, urlsplit

from portfolios.sentences import sentence as _
from portfolios.text import escape_unprintable

#: What apprise offers without touching this machine. Its other schemes show a desktop message,
#: write to syslog, or run programs.
SCHEMES = frozenset(
    (
        "json", "jsons", "form", "forms", "xml", "xmls", "mailto", "mailtos", "slack",
        "discord", "tgram", "msteams", "workflows", "gchat", "matrix", "matrixs",
        "mmost", "mmosts", "rocket", "rockets", "zulip", "ntfy", "ntfys", "gotify",
        "gotifys", "pover", "pagerduty", "opsgenie", "pagertree", "signl4",
        "splunk", "victorops", "signal", "signals", "wecombot", "feishu", "lark",
        "dingtalk", "bark", "barks", "serverchan", "pushbullet", "pushsafer",
        "webexteams", "twilio", "sns", "ses", "mailgun", "sendgrid",
    )
)  # fmt: skip
#: Parameters that name a file of this machine, which apprise would read and send.
FILE_PARAMETERS = frozenset(("template", "pgppub", "pgpprv", "keyfile"))
NO_FILES = frozenset(("sendgrid",))  #: schemes whose `template` is an id, not a file


def address_error(address: str) -> str:
    """Return why an alert address cannot be used, without quoting its secrets; "" if it can."""
    scheme = urlsplit(address.strip()).scheme.lower()
    if scheme in ("http", "https"):
        return _(
            "{scheme}:// is not the address of a service: for a webhook write {other}:// instead",
            scheme=scheme,
            other="jsons" if scheme == "https" else "json",
        )
    if scheme not in SCHEMES:
        known = "json, jsons, mailto, mailtos, slack, discord, tgram, msteams, matrix, ntfy …"
        return _(
            "the scheme {scheme!r} is not one of {known}",
            scheme=escape_unprintable(scheme[:20]),
            known=known,
        )
    parameters = re.split("[?&;]", address)[1:]
    names = {unquote_plus(text.partition("=")[0]).strip().lower() for text in parameters}
    if scheme not in NO_FILES and (files := FILE_PARAMETERS & names):
        return _(
            "the parameter {name} would read a file of this machine: leave it out", name=min(files)
        )
    return ""
