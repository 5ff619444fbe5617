"""The admin's words for models, fields, help texts and choices, in the reader's language.

Models name their fields in English. Translated names in the models would take a migration that
repeats every field; names that are set here affect pages only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.filters import AllValuesFieldListFilter
from django.utils.translation import gettext_noop as _
from django.utils.translation import ngettext_lazy, override, pgettext_lazy

from scheduling.presentation.state_words import state_word


def translate_labels(models: Iterable[type[Any]]) -> None:
    """Show names, help texts and choices of these models in the language of each reader."""
    with override(None):  # the keys of LABELS are the untranslated texts
        for model in models:
            meta = model._meta
            meta.verbose_name = label(meta.verbose_name)
            meta.verbose_name_plural = label(meta.verbose_name_plural)
            for column in meta.fields:
                column.verbose_name = label(column.verbose_name)
                column.help_text = label(column.help_text)
                if column.choices:
                    column.choices = [(value, label(shown)) for value, shown in column.choices]


def label(text: Any) -> Any:
    """Return the translated text that LABELS has for a name or help text, else the text itself."""
    return LABELS.get(str(text), text)


def word_column(
    name: str, word: Callable[[str], Any] = state_word, *, stored: bool = True
) -> Callable[[Any], str]:
    """Return a column that shows the code in attribute `name` as a word in the reader's language.

    The list can be sorted by it if the attribute is `stored` as a column of the table.
    """

    @admin.display(description=label(name.replace("_", " ")), ordering=name if stored else None)
    def shown(row: Any) -> str:
        return str(word(getattr(row, name)))

    shown.__name__ = f"{name}_shown"
    return shown


def word_filter(word: Callable[[str], str]) -> type[AllValuesFieldListFilter]:
    """Return a filter by a column of codes, which offers each code as its word."""

    class ByWord(AllValuesFieldListFilter):
        def choices(self, changelist: Any) -> Any:
            codes = {str(code) for code in self.lookup_choices}
            for choice in super().choices(changelist):
                shown = choice["display"]
                # The entry for all rows is no code.
                yield {**choice, "display": word(shown) if shown in codes else shown}

    return ByWord


#: Texts of Django's own pages that Django does not translate to Chinese.
OF_DJANGO = (
    _("Model name"),
    _("Add link"),
    _("Change or view list link"),
    ngettext_lazy(
        "This password is too short. It must contain at least %d character.",
        "This password is too short. It must contain at least %d characters.",
    ),
)

#: Texts of the code that pages translate, in the context "label": a word such as `left`, the state
#: of a node, has other meanings elsewhere.
_TEXTS = (
    pgettext_lazy("label", "32-character task identifier."),
    pgettext_lazy("label", "A short text by which the strategy marks the order."),
    pgettext_lazy("label", "Activating"),
    pgettext_lazy("label", "Admin"),
    pgettext_lazy("label", "Alive"),
    pgettext_lazy("label", "An alert opens after so many seconds without a record; empty: never."),
    pgettext_lazy("label", "Api"),
    pgettext_lazy("label", "Arguments"),
    pgettext_lazy("label", "Attempt count"),
    pgettext_lazy("label", "Cluster"),
    pgettext_lazy("label", "Cluster key"),
    pgettext_lazy("label", "Command"),
    pgettext_lazy("label", "Cron"),
    pgettext_lazy("label", "Dashboard"),
    pgettext_lazy("label", "Days after which records are dropped, once not needed; empty: never."),
    pgettext_lazy("label", "Deadline of the step that the handoff is in."),
    pgettext_lazy("label", "Done"),
    pgettext_lazy("label", "Dotted import path to the callable, e.g. myapp.tasks.job."),
    pgettext_lazy("label", "Draining"),
    pgettext_lazy("label", "Edits by operators: label → new value; null: the label is removed."),
    pgettext_lazy("label", "Events a second; 0 pauses the feed."),
    pgettext_lazy("label", "Events in one lap; a replay starts again after the last."),
    pgettext_lazy("label", "Failed"),
    pgettext_lazy("label", "Failover"),
    pgettext_lazy("label", "False if the task raised an exception or timed out."),
    pgettext_lazy("label", "Feed name → sha256."),
    pgettext_lazy("label", "Full"),
    pgettext_lazy("label", "Function"),
    pgettext_lazy("label", "Good"),
    pgettext_lazy("label", "Group"),
    pgettext_lazy("label", "Halt"),
    pgettext_lazy("label", "Halted"),
    pgettext_lazy("label", "Hook"),
    pgettext_lazy("label", "How many times execution was attempted."),
    pgettext_lazy("label", "How often the node has registered. Only grows."),
    pgettext_lazy("label", "How often this task should be enqueued."),
    pgettext_lazy("label", "ID"),
    pgettext_lazy("label", "Id of the last task spawned from this schedule (read-only)."),
    pgettext_lazy("label", "Intended date kwarg"),
    pgettext_lazy("label", "Keyword arguments"),
    pgettext_lazy("label", "Labels a node must have."),
    pgettext_lazy("label", "Last seq of the previous owner; this one began at the next event."),
    pgettext_lazy("label", "Last seq that was committed in this tenure."),
    pgettext_lazy("label", "Last task id"),
    pgettext_lazy("label", "Left"),
    pgettext_lazy("label", "Lock until"),
    pgettext_lazy("label", "Lost"),
    pgettext_lazy("label", "Migrate"),
    pgettext_lazy(
        "label", "Minor version of the node's Python; empty: the daemon does not report it."
    ),
    pgettext_lazy("label", "Name of the cluster that executed this task."),
    pgettext_lazy("label", "Name of the target cluster"),
    pgettext_lazy("label", "New"),
    pgettext_lazy("label", "Operate"),
    pgettext_lazy("label", "Optional dotted path to a callback that receives the task result."),
    pgettext_lazy("label", "Optional group id to aggregate related tasks."),
    pgettext_lazy("label", "Optional human-readable name for lookup and display."),
    pgettext_lazy("label", "Optional label to identify this schedule in the admin."),
    pgettext_lazy("label", "Payload"),
    pgettext_lazy("label", "Pending"),
    pgettext_lazy("label", "Place"),
    pgettext_lazy("label", "Portfolios"),
    pgettext_lazy("label", "Portfolios of higher priority are placed first."),
    pgettext_lazy("label", "Preparing"),
    pgettext_lazy("label", "Quarantined"),
    pgettext_lazy("label", "Queue"),
    pgettext_lazy("label", "Read"),
    pgettext_lazy("label", "Recorded"),
    pgettext_lazy("label", "Rejected"),
    pgettext_lazy("label", "Release time of the event on which the order was decided."),
    pgettext_lazy("label", "Reload"),
    pgettext_lazy("label", "Replay"),
    pgettext_lazy("label", "Requested"),
    pgettext_lazy("label", "Result"),
    pgettext_lazy("label", "Rolled Back"),
    pgettext_lazy("label", "Running"),
    pgettext_lazy("label", "Scheduling"),
    pgettext_lazy("label", "Seq of the event at which the order was cancelled or expired."),
    pgettext_lazy("label", "Seq of the first event that the portfolio sees."),
    pgettext_lazy("label", "Since when the cause has been gone."),
    pgettext_lazy("label", "Started at"),
    pgettext_lazy("label", "Starting"),
    pgettext_lazy("label", "State Only"),
    pgettext_lazy("label", "Stop"),
    pgettext_lazy("label", "Stopped"),
    pgettext_lazy("label", "Stopped at"),
    pgettext_lazy("label", "Strategy name → version."),
    pgettext_lazy("label", "Superseded"),
    pgettext_lazy("label", "Symbols of the portfolio; empty: every symbol."),
    pgettext_lazy("label", "System"),
    pgettext_lazy("label", "Task"),
    pgettext_lazy("label", "Task id"),
    pgettext_lazy("label", "Tasks"),
    pgettext_lazy("label", "The artifact that the revision runs; null: a built-in strategy."),
    pgettext_lazy("label", "The drain ends when the node's daemon has left and registers again."),
    pgettext_lazy("label", "The highest sum of weights of the portfolios that run on the node."),
    pgettext_lazy("label", "The labels of the node's daemon, with the edits of operators."),
    pgettext_lazy("label", "The labels with which the node's daemon was started."),
    pgettext_lazy("label", "The node's daemon was asked to stop."),
    pgettext_lazy("label", "The price seen at the decision."),
    pgettext_lazy("label", "The strategy's parameters."),
    pgettext_lazy("label", "The transaction that last changed the row; set by a trigger."),
    pgettext_lazy("label", "Time of the last use; updated at most once a minute."),
    pgettext_lazy("label", "Times of the newest losses, in seconds since 1970."),
    pgettext_lazy("label", "Unproven"),
    pgettext_lazy("label", "What the alert is about, such as node:3, portfolio:12 or fleet."),
    pgettext_lazy("label", "What the token is for."),
    pgettext_lazy("label", "When the value was last set."),
    pgettext_lazy("label", "When the worker finished (success or failure)."),
    pgettext_lazy("label", "When the worker started executing the task."),
    pgettext_lazy("label", "When this schedule runs next (stored in UTC)."),
    pgettext_lazy("label", "Why the node was last lost."),
    pgettext_lazy("label", "`lost_reason` as {code, params}."),
    pgettext_lazy("label", "`reason` as {code, params}, if the planner gave it."),
    pgettext_lazy("label", "acknowledged at"),
    pgettext_lazy("label", "acknowledged by"),
    pgettext_lazy("label", "acknowledged note"),
    pgettext_lazy("label", "activated at"),
    pgettext_lazy("label", "actor"),
    pgettext_lazy("label", "address"),
    pgettext_lazy("label", "alert"),
    pgettext_lazy("label", "alerts"),
    pgettext_lazy("label", "api token"),
    pgettext_lazy("label", "api tokens"),
    pgettext_lazy("label", "archived at"),
    pgettext_lazy("label", "artifact"),
    pgettext_lazy("label", "at"),
    pgettext_lazy("label", "capacity"),
    pgettext_lazy("label", "catch up"),
    pgettext_lazy("label", "catchup ms"),
    pgettext_lazy("label", "cause"),
    pgettext_lazy("label", "changed in"),
    pgettext_lazy("label", "ciphertext"),
    pgettext_lazy("label", "closed at"),
    pgettext_lazy("label", "committed at"),
    pgettext_lazy("label", "config"),
    pgettext_lazy("label", "cordoned"),
    pgettext_lazy("label", "created at"),
    pgettext_lazy("label", "created by"),
    pgettext_lazy("label", "data"),
    pgettext_lazy("label", "deadline at"),
    pgettext_lazy("label", "decided at"),
    pgettext_lazy("label", "deleted"),
    pgettext_lazy("label", "desired state"),
    pgettext_lazy("label", "desired version"),
    pgettext_lazy("label", "drain actor"),
    pgettext_lazy("label", "drain reason"),
    pgettext_lazy("label", "drain until return"),
    pgettext_lazy("label", "draining"),
    pgettext_lazy("label", "e.g. module.tasks.function"),
    pgettext_lazy("label", "e.g. module.tasks.result_function"),
    pgettext_lazy("label", "ended at"),
    pgettext_lazy("label", "ended seq"),
    pgettext_lazy("label", "epoch"),
    pgettext_lazy("label", "epochs"),
    pgettext_lazy("label", "equity"),
    pgettext_lazy("label", "error"),
    pgettext_lazy("label", "event"),
    pgettext_lazy("label", "events"),
    pgettext_lazy("label", "expires at"),
    pgettext_lazy("label", "fee"),
    pgettext_lazy("label", "feed"),
    pgettext_lazy("label", "feed segment"),
    pgettext_lazy("label", "feed segments"),
    pgettext_lazy("label", "feeds"),
    pgettext_lazy("label", "fill"),
    pgettext_lazy("label", "fill seq"),
    pgettext_lazy("label", "fills"),
    pgettext_lazy("label", "finished at"),
    pgettext_lazy("label", "first commit at"),
    pgettext_lazy("label", "first seq"),
    pgettext_lazy("label", "from epoch"),
    pgettext_lazy("label", "from revision"),
    pgettext_lazy("label", "from seq"),
    pgettext_lazy("label", "from time"),
    pgettext_lazy("label", "gone at"),
    pgettext_lazy("label", "granted at"),
    pgettext_lazy("label", "gtc or ioc"),
    pgettext_lazy("label", "handoff"),
    pgettext_lazy("label", "handoffs"),
    pgettext_lazy("label", "host"),
    pgettext_lazy("label", "id"),
    pgettext_lazy("label", "incarnation"),
    pgettext_lazy("label", "index"),
    pgettext_lazy("label", "interface"),
    pgettext_lazy("label", "keep days"),
    pgettext_lazy("label", "key"),
    pgettext_lazy("label", "kind"),
    pgettext_lazy("label", "label edits"),
    pgettext_lazy("label", "labels"),
    pgettext_lazy("label", "lag"),
    pgettext_lazy("label", "last seq"),
    pgettext_lazy("label", "last used at"),
    pgettext_lazy("label", "last used by"),
    pgettext_lazy("label", "lease"),
    pgettext_lazy("label", "leaving"),
    pgettext_lazy("label", "length"),
    pgettext_lazy("label", "limit price"),
    pgettext_lazy("label", "limits"),
    pgettext_lazy("label", "load"),
    pgettext_lazy("label", "lock"),
    pgettext_lazy("label", "lost reason"),
    pgettext_lazy("label", "lost times"),
    pgettext_lazy("label", "lost why"),
    pgettext_lazy("label", "market, limit or stop"),
    pgettext_lazy("label", "marks"),
    pgettext_lazy("label", "name"),
    pgettext_lazy("label", "node"),
    pgettext_lazy("label", "node token"),
    pgettext_lazy("label", "node tokens"),
    pgettext_lazy("label", "nodes"),
    pgettext_lazy("label", "note"),
    pgettext_lazy("label", "number"),
    pgettext_lazy("label", "opened at"),
    pgettext_lazy("label", "order"),
    pgettext_lazy("label", "orders"),
    pgettext_lazy("label", "pause"),
    pgettext_lazy("label", "pause ms"),
    pgettext_lazy("label", "phase"),
    pgettext_lazy("label", "pid"),
    pgettext_lazy("label", "pinned"),
    pgettext_lazy("label", "portfolio"),
    pgettext_lazy("label", "portfolios"),
    pgettext_lazy("label", "prepared at"),
    pgettext_lazy("label", "price"),
    pgettext_lazy("label", "priority"),
    pgettext_lazy("label", "python"),
    pgettext_lazy("label", "quantity"),
    pgettext_lazy("label", "rate"),
    pgettext_lazy("label", "reason"),
    pgettext_lazy("label", "registered at"),
    pgettext_lazy("label", "registrations"),
    pgettext_lazy("label", "release answer"),
    pgettext_lazy("label", "release batch"),
    pgettext_lazy("label", "released at"),
    pgettext_lazy("label", "released seq"),
    pgettext_lazy("label", "reported labels"),
    pgettext_lazy("label", "requested at"),
    pgettext_lazy("label", "requested by"),
    pgettext_lazy("label", "revision"),
    pgettext_lazy("label", "revisions"),
    pgettext_lazy("label", "revoked at"),
    pgettext_lazy("label", "scope"),
    pgettext_lazy("label", "secret"),
    pgettext_lazy("label", "secrets"),
    pgettext_lazy("label", "see also"),
    pgettext_lazy("label", "selector"),
    pgettext_lazy("label", "seq"),
    pgettext_lazy("label", "set at"),
    pgettext_lazy("label", "set by"),
    pgettext_lazy("label", "sha256"),
    pgettext_lazy("label", "side"),
    pgettext_lazy("label", "silent after s"),
    pgettext_lazy("label", "source"),
    pgettext_lazy("label", "source incarnation"),
    pgettext_lazy("label", "source node"),
    pgettext_lazy("label", "spread group"),
    pgettext_lazy("label", "spread hard"),
    pgettext_lazy("label", "started at"),
    pgettext_lazy("label", "starting cash"),
    pgettext_lazy("label", "state"),
    pgettext_lazy("label", "status"),
    pgettext_lazy("label", "status reason"),
    pgettext_lazy("label", "status since"),
    pgettext_lazy("label", "stop price"),
    pgettext_lazy("label", "strategies"),
    pgettext_lazy("label", "strategy"),
    pgettext_lazy("label", "strategy version"),
    pgettext_lazy("label", "symbol"),
    pgettext_lazy("label", "symbols"),
    pgettext_lazy("label", "tag"),
    pgettext_lazy("label", "target"),
    pgettext_lazy("label", "target incarnation"),
    pgettext_lazy("label", "target node"),
    pgettext_lazy("label", "tenure"),
    pgettext_lazy("label", "tenures"),
    pgettext_lazy("label", "time in force"),
    pgettext_lazy("label", "times"),
    pgettext_lazy("label", "to epoch"),
    pgettext_lazy("label", "to revision"),
    pgettext_lazy("label", "to seq"),
    pgettext_lazy("label", "uid"),
    pgettext_lazy("label", "user"),
    pgettext_lazy("label", "version"),
    pgettext_lazy("label", "weight"),
    pgettext_lazy("label", "why"),
)
with override(None):
    #: Text in the code → text on pages.
    LABELS = {str(text): text for text in _TEXTS}
