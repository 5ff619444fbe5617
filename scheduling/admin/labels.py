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
from django.utils.translation import override, pgettext_lazy

from scheduling.presentation.state_words import state_word


def translate_labels(models: Iterable[type[Any]]) -> None:
    """Show names, help texts and choices of these models in the language of each reader."""
    with override(None):
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

    @admin.display(description=label(name), ordering=name if stored else None)
    def shown(row: Any) -> str:
        return str(word(getattr(row, name)))

    shown.__name__ = f"{name}_shown"
    return shown


def word_filter(word: Callable[[str], str]) -> type[AllValuesFieldListFilter]:
    """Return a filter by the codes of a column, which offers each code as the word for readers."""

    class ByWord(AllValuesFieldListFilter):
        def choices(self, changelist: Any) -> Any:
            codes = {str(code) for code in self.lookup_choices}
            for choice in super().choices(changelist):
                shown = choice["display"]
                yield {**choice, "display": word(shown) if shown in codes else shown}

    return ByWord


#: Texts of Django's own pages that Django does not translate to Chinese.
OF_DJANGO = (_("Model name"), _("Add link"), _("Change or view list link"))

#: Text in the code → text on pages. They are translated in the context "label", since a word such
#: as `left`, the state of a node, has other meanings elsewhere.
LABELS = {
    "32-character task identifier.": pgettext_lazy("label", "32-character task identifier."),
    "A short text by which the strategy marks the order.": pgettext_lazy(
        "label", "A short text by which the strategy marks the order."
    ),
    "Activating": pgettext_lazy("label", "Activating"),
    "Admin": pgettext_lazy("label", "Admin"),
    "Alive": pgettext_lazy("label", "Alive"),
    "An alert opens after so many seconds without a record; empty: never.": pgettext_lazy(
        "label", "An alert opens after so many seconds without a record; empty: never."
    ),
    "Api": pgettext_lazy("label", "Api"),
    "Arguments": pgettext_lazy("label", "Arguments"),
    "Attempt count": pgettext_lazy("label", "Attempt count"),
    "Cluster": pgettext_lazy("label", "Cluster"),
    "Cluster key": pgettext_lazy("label", "Cluster key"),
    "Command": pgettext_lazy("label", "Command"),
    "Cron": pgettext_lazy("label", "Cron"),
    "Dashboard": pgettext_lazy("label", "Dashboard"),
    "Days after which records are dropped, once not needed; empty: never.": pgettext_lazy(
        "label", "Days after which records are dropped, once not needed; empty: never."
    ),
    "Deadline of the step that the handoff is in.": pgettext_lazy(
        "label", "Deadline of the step that the handoff is in."
    ),
    "Done": pgettext_lazy("label", "Done"),
    "Dotted import path to the callable, e.g. myapp.tasks.job.": pgettext_lazy(
        "label", "Dotted import path to the callable, e.g. myapp.tasks.job."
    ),
    "Draining": pgettext_lazy("label", "Draining"),
    "Edits by operators: label → new value; null: the label is removed.": pgettext_lazy(
        "label", "Edits by operators: label → new value; null: the label is removed."
    ),
    "Events a second; 0 pauses the feed.": pgettext_lazy(
        "label", "Events a second; 0 pauses the feed."
    ),
    "Events in one lap; a replay starts again after the last.": pgettext_lazy(
        "label", "Events in one lap; a replay starts again after the last."
    ),
    "Failed": pgettext_lazy("label", "Failed"),
    "Failover": pgettext_lazy("label", "Failover"),
    "False if the task raised an exception or timed out.": pgettext_lazy(
        "label", "False if the task raised an exception or timed out."
    ),
    "Feed name → sha256.": pgettext_lazy("label", "Feed name → sha256."),
    "Full": pgettext_lazy("label", "Full"),
    "Function": pgettext_lazy("label", "Function"),
    "Good": pgettext_lazy("label", "Good"),
    "Group": pgettext_lazy("label", "Group"),
    "Halt": pgettext_lazy("label", "Halt"),
    "Halted": pgettext_lazy("label", "Halted"),
    "Hook": pgettext_lazy("label", "Hook"),
    "How many times execution was attempted.": pgettext_lazy(
        "label", "How many times execution was attempted."
    ),
    "How often the node has registered. Only grows.": pgettext_lazy(
        "label", "How often the node has registered. Only grows."
    ),
    "How often this task should be enqueued.": pgettext_lazy(
        "label", "How often this task should be enqueued."
    ),
    "ID": pgettext_lazy("label", "ID"),
    "Id of the last task spawned from this schedule (read-only).": pgettext_lazy(
        "label", "Id of the last task spawned from this schedule (read-only)."
    ),
    "Intended date kwarg": pgettext_lazy("label", "Intended date kwarg"),
    "Keyword arguments": pgettext_lazy("label", "Keyword arguments"),
    "Labels a node must have.": pgettext_lazy("label", "Labels a node must have."),
    "Last seq of the previous owner; this one began at the next event.": pgettext_lazy(
        "label", "Last seq of the previous owner; this one began at the next event."
    ),
    "Last seq that was committed in this tenure.": pgettext_lazy(
        "label", "Last seq that was committed in this tenure."
    ),
    "Last task id": pgettext_lazy("label", "Last task id"),
    "Left": pgettext_lazy("label", "Left"),
    "Lock until": pgettext_lazy("label", "Lock until"),
    "Lost": pgettext_lazy("label", "Lost"),
    "Migrate": pgettext_lazy("label", "Migrate"),
    "Minor version of the node's Python; empty: the daemon does not report it.": pgettext_lazy(
        "label", "Minor version of the node's Python; empty: the daemon does not report it."
    ),
    "Name of the cluster that executed this task.": pgettext_lazy(
        "label", "Name of the cluster that executed this task."
    ),
    "Name of the target cluster": pgettext_lazy("label", "Name of the target cluster"),
    "New": pgettext_lazy("label", "New"),
    "Operate": pgettext_lazy("label", "Operate"),
    "Optional dotted path to a callback that receives the task result.": pgettext_lazy(
        "label", "Optional dotted path to a callback that receives the task result."
    ),
    "Optional group id to aggregate related tasks.": pgettext_lazy(
        "label", "Optional group id to aggregate related tasks."
    ),
    "Optional human-readable name for lookup and display.": pgettext_lazy(
        "label", "Optional human-readable name for lookup and display."
    ),
    "Optional label to identify this schedule in the admin.": pgettext_lazy(
        "label", "Optional label to identify this schedule in the admin."
    ),
    "Payload": pgettext_lazy("label", "Payload"),
    "Pending": pgettext_lazy("label", "Pending"),
    "Place": pgettext_lazy("label", "Place"),
    "Portfolios": pgettext_lazy("label", "Portfolios"),
    "Portfolios of higher priority are placed first.": pgettext_lazy(
        "label", "Portfolios of higher priority are placed first."
    ),
    "Preparing": pgettext_lazy("label", "Preparing"),
    "Quarantined": pgettext_lazy("label", "Quarantined"),
    "Queue": pgettext_lazy("label", "Queue"),
    "Read": pgettext_lazy("label", "Read"),
    "Recorded": pgettext_lazy("label", "Recorded"),
    "Rejected": pgettext_lazy("label", "Rejected"),
    "Release time of the event on which the order was decided.": pgettext_lazy(
        "label", "Release time of the event on which the order was decided."
    ),
    "Reload": pgettext_lazy("label", "Reload"),
    "Replay": pgettext_lazy("label", "Replay"),
    "Requested": pgettext_lazy("label", "Requested"),
    "Result": pgettext_lazy("label", "Result"),
    "Rolled Back": pgettext_lazy("label", "Rolled Back"),
    "Running": pgettext_lazy("label", "Running"),
    "Scheduling": pgettext_lazy("label", "Scheduling"),
    "Seq of the event at which the order was cancelled or expired.": pgettext_lazy(
        "label", "Seq of the event at which the order was cancelled or expired."
    ),
    "Seq of the first event that the portfolio sees.": pgettext_lazy(
        "label", "Seq of the first event that the portfolio sees."
    ),
    "Since when the cause has been gone.": pgettext_lazy(
        "label", "Since when the cause has been gone."
    ),
    "Started at": pgettext_lazy("label", "Started at"),
    "Starting": pgettext_lazy("label", "Starting"),
    "State Only": pgettext_lazy("label", "State Only"),
    "Stop": pgettext_lazy("label", "Stop"),
    "Stopped": pgettext_lazy("label", "Stopped"),
    "Stopped at": pgettext_lazy("label", "Stopped at"),
    "Strategy name → version.": pgettext_lazy("label", "Strategy name → version."),
    "Superseded": pgettext_lazy("label", "Superseded"),
    "Symbols of the portfolio; empty: every symbol.": pgettext_lazy(
        "label", "Symbols of the portfolio; empty: every symbol."
    ),
    "System": pgettext_lazy("label", "System"),
    "Task": pgettext_lazy("label", "Task"),
    "Task id": pgettext_lazy("label", "Task id"),
    "Tasks": pgettext_lazy("label", "Tasks"),
    "The artifact that the revision runs; null: a built-in strategy.": pgettext_lazy(
        "label", "The artifact that the revision runs; null: a built-in strategy."
    ),
    "The drain ends when the node's daemon has left and registers again.": pgettext_lazy(
        "label", "The drain ends when the node's daemon has left and registers again."
    ),
    "The highest sum of weights of the portfolios that run on the node.": pgettext_lazy(
        "label", "The highest sum of weights of the portfolios that run on the node."
    ),
    "The labels of the node's daemon, with the edits of operators.": pgettext_lazy(
        "label", "The labels of the node's daemon, with the edits of operators."
    ),
    "The labels with which the node's daemon was started.": pgettext_lazy(
        "label", "The labels with which the node's daemon was started."
    ),
    "The node's daemon was asked to stop.": pgettext_lazy(
        "label", "The node's daemon was asked to stop."
    ),
    "The price seen at the decision.": pgettext_lazy("label", "The price seen at the decision."),
    "The strategy's parameters.": pgettext_lazy("label", "The strategy's parameters."),
    "The transaction that last changed the row; set by a trigger.": pgettext_lazy(
        "label", "The transaction that last changed the row; set by a trigger."
    ),
    "Time of the last use; updated at most once a minute.": pgettext_lazy(
        "label", "Time of the last use; updated at most once a minute."
    ),
    "Times of the newest losses, in seconds since 1970.": pgettext_lazy(
        "label", "Times of the newest losses, in seconds since 1970."
    ),
    "Unproven": pgettext_lazy("label", "Unproven"),
    "What the alert is about, such as node:3, portfolio:12 or fleet.": pgettext_lazy(
        "label", "What the alert is about, such as node:3, portfolio:12 or fleet."
    ),
    "What the token is for.": pgettext_lazy("label", "What the token is for."),
    "When the value was last set.": pgettext_lazy("label", "When the value was last set."),
    "When the worker finished (success or failure).": pgettext_lazy(
        "label", "When the worker finished (success or failure)."
    ),
    "When the worker started executing the task.": pgettext_lazy(
        "label", "When the worker started executing the task."
    ),
    "When this schedule runs next (stored in UTC).": pgettext_lazy(
        "label", "When this schedule runs next (stored in UTC)."
    ),
    "Why the node was last lost.": pgettext_lazy("label", "Why the node was last lost."),
    "`lost_reason` as {code, params}.": pgettext_lazy("label", "`lost_reason` as {code, params}."),
    "`reason` as {code, params}, if the planner gave it.": pgettext_lazy(
        "label", "`reason` as {code, params}, if the planner gave it."
    ),
    "acknowledged at": pgettext_lazy("label", "acknowledged at"),
    "acknowledged by": pgettext_lazy("label", "acknowledged by"),
    "acknowledged note": pgettext_lazy("label", "acknowledged note"),
    "activated at": pgettext_lazy("label", "activated at"),
    "actor": pgettext_lazy("label", "actor"),
    "address": pgettext_lazy("label", "address"),
    "alert": pgettext_lazy("label", "alert"),
    "alerts": pgettext_lazy("label", "alerts"),
    "api token": pgettext_lazy("label", "api token"),
    "api tokens": pgettext_lazy("label", "api tokens"),
    "archived at": pgettext_lazy("label", "archived at"),
    "artifact": pgettext_lazy("label", "artifact"),
    "at": pgettext_lazy("label", "at"),
    "capacity": pgettext_lazy("label", "capacity"),
    "catch up": pgettext_lazy("label", "catch up"),
    "catchup ms": pgettext_lazy("label", "catchup ms"),
    "cause": pgettext_lazy("label", "cause"),
    "changed in": pgettext_lazy("label", "changed in"),
    "ciphertext": pgettext_lazy("label", "ciphertext"),
    "closed at": pgettext_lazy("label", "closed at"),
    "committed at": pgettext_lazy("label", "committed at"),
    "config": pgettext_lazy("label", "config"),
    "cordoned": pgettext_lazy("label", "cordoned"),
    "created at": pgettext_lazy("label", "created at"),
    "created by": pgettext_lazy("label", "created by"),
    "data": pgettext_lazy("label", "data"),
    "deadline at": pgettext_lazy("label", "deadline at"),
    "decided at": pgettext_lazy("label", "decided at"),
    "deleted": pgettext_lazy("label", "deleted"),
    "desired state": pgettext_lazy("label", "desired state"),
    "desired version": pgettext_lazy("label", "desired version"),
    "drain actor": pgettext_lazy("label", "drain actor"),
    "drain reason": pgettext_lazy("label", "drain reason"),
    "drain until return": pgettext_lazy("label", "drain until return"),
    "draining": pgettext_lazy("label", "draining"),
    "e.g. module.tasks.function": pgettext_lazy("label", "e.g. module.tasks.function"),
    "e.g. module.tasks.result_function": pgettext_lazy(
        "label", "e.g. module.tasks.result_function"
    ),
    "ended at": pgettext_lazy("label", "ended at"),
    "ended seq": pgettext_lazy("label", "ended seq"),
    "epoch": pgettext_lazy("label", "epoch"),
    "epochs": pgettext_lazy("label", "epochs"),
    "equity": pgettext_lazy("label", "equity"),
    "error": pgettext_lazy("label", "error"),
    "event": pgettext_lazy("label", "event"),
    "events": pgettext_lazy("label", "events"),
    "expires at": pgettext_lazy("label", "expires at"),
    "fee": pgettext_lazy("label", "fee"),
    "feed": pgettext_lazy("label", "feed"),
    "feed segment": pgettext_lazy("label", "feed segment"),
    "feed segments": pgettext_lazy("label", "feed segments"),
    "feeds": pgettext_lazy("label", "feeds"),
    "fill": pgettext_lazy("label", "fill"),
    "fill seq": pgettext_lazy("label", "fill seq"),
    "fills": pgettext_lazy("label", "fills"),
    "finished at": pgettext_lazy("label", "finished at"),
    "first commit at": pgettext_lazy("label", "first commit at"),
    "first seq": pgettext_lazy("label", "first seq"),
    "from epoch": pgettext_lazy("label", "from epoch"),
    "from revision": pgettext_lazy("label", "from revision"),
    "from seq": pgettext_lazy("label", "from seq"),
    "from time": pgettext_lazy("label", "from time"),
    "gone at": pgettext_lazy("label", "gone at"),
    "granted at": pgettext_lazy("label", "granted at"),
    "gtc or ioc": pgettext_lazy("label", "gtc or ioc"),
    "handoff": pgettext_lazy("label", "handoff"),
    "handoffs": pgettext_lazy("label", "handoffs"),
    "host": pgettext_lazy("label", "host"),
    "id": pgettext_lazy("label", "id"),
    "incarnation": pgettext_lazy("label", "incarnation"),
    "index": pgettext_lazy("label", "index"),
    "interface": pgettext_lazy("label", "interface"),
    "keep days": pgettext_lazy("label", "keep days"),
    "key": pgettext_lazy("label", "key"),
    "kind": pgettext_lazy("label", "kind"),
    "label edits": pgettext_lazy("label", "label edits"),
    "labels": pgettext_lazy("label", "labels"),
    "lag": pgettext_lazy("label", "lag"),
    "last seq": pgettext_lazy("label", "last seq"),
    "last used at": pgettext_lazy("label", "last used at"),
    "last used by": pgettext_lazy("label", "last used by"),
    "lease": pgettext_lazy("label", "lease"),
    "leaving": pgettext_lazy("label", "leaving"),
    "length": pgettext_lazy("label", "length"),
    "limit price": pgettext_lazy("label", "limit price"),
    "limits": pgettext_lazy("label", "limits"),
    "load": pgettext_lazy("label", "load"),
    "lock": pgettext_lazy("label", "lock"),
    "lost reason": pgettext_lazy("label", "lost reason"),
    "lost times": pgettext_lazy("label", "lost times"),
    "lost why": pgettext_lazy("label", "lost why"),
    "market, limit or stop": pgettext_lazy("label", "market, limit or stop"),
    "marks": pgettext_lazy("label", "marks"),
    "name": pgettext_lazy("label", "name"),
    "node": pgettext_lazy("label", "node"),
    "node token": pgettext_lazy("label", "node token"),
    "node tokens": pgettext_lazy("label", "node tokens"),
    "nodes": pgettext_lazy("label", "nodes"),
    "note": pgettext_lazy("label", "note"),
    "number": pgettext_lazy("label", "number"),
    "opened at": pgettext_lazy("label", "opened at"),
    "order": pgettext_lazy("label", "order"),
    "orders": pgettext_lazy("label", "orders"),
    "pause": pgettext_lazy("label", "pause"),
    "pause ms": pgettext_lazy("label", "pause ms"),
    "phase": pgettext_lazy("label", "phase"),
    "pid": pgettext_lazy("label", "pid"),
    "pinned": pgettext_lazy("label", "pinned"),
    "portfolio": pgettext_lazy("label", "portfolio"),
    "portfolios": pgettext_lazy("label", "portfolios"),
    "prepared at": pgettext_lazy("label", "prepared at"),
    "price": pgettext_lazy("label", "price"),
    "priority": pgettext_lazy("label", "priority"),
    "python": pgettext_lazy("label", "python"),
    "quantity": pgettext_lazy("label", "quantity"),
    "rate": pgettext_lazy("label", "rate"),
    "reason": pgettext_lazy("label", "reason"),
    "registered at": pgettext_lazy("label", "registered at"),
    "registrations": pgettext_lazy("label", "registrations"),
    "release answer": pgettext_lazy("label", "release answer"),
    "release batch": pgettext_lazy("label", "release batch"),
    "released at": pgettext_lazy("label", "released at"),
    "released seq": pgettext_lazy("label", "released seq"),
    "reported labels": pgettext_lazy("label", "reported labels"),
    "requested at": pgettext_lazy("label", "requested at"),
    "requested by": pgettext_lazy("label", "requested by"),
    "revision": pgettext_lazy("label", "revision"),
    "revisions": pgettext_lazy("label", "revisions"),
    "revoked at": pgettext_lazy("label", "revoked at"),
    "scope": pgettext_lazy("label", "scope"),
    "secret": pgettext_lazy("label", "secret"),
    "secrets": pgettext_lazy("label", "secrets"),
    "see also": pgettext_lazy("label", "see also"),
    "selector": pgettext_lazy("label", "selector"),
    "seq": pgettext_lazy("label", "seq"),
    "set at": pgettext_lazy("label", "set at"),
    "set by": pgettext_lazy("label", "set by"),
    "sha256": pgettext_lazy("label", "sha256"),
    "side": pgettext_lazy("label", "side"),
    "silent after s": pgettext_lazy("label", "silent after s"),
    "source": pgettext_lazy("label", "source"),
    "source incarnation": pgettext_lazy("label", "source incarnation"),
    "source node": pgettext_lazy("label", "source node"),
    "spread group": pgettext_lazy("label", "spread group"),
    "spread hard": pgettext_lazy("label", "spread hard"),
    "started at": pgettext_lazy("label", "started at"),
    "starting cash": pgettext_lazy("label", "starting cash"),
    "state": pgettext_lazy("label", "state"),
    "status": pgettext_lazy("label", "status"),
    "status reason": pgettext_lazy("label", "status reason"),
    "status since": pgettext_lazy("label", "status since"),
    "stop price": pgettext_lazy("label", "stop price"),
    "strategies": pgettext_lazy("label", "strategies"),
    "strategy": pgettext_lazy("label", "strategy"),
    "strategy version": pgettext_lazy("label", "strategy version"),
    "symbol": pgettext_lazy("label", "symbol"),
    "symbols": pgettext_lazy("label", "symbols"),
    "tag": pgettext_lazy("label", "tag"),
    "target": pgettext_lazy("label", "target"),
    "target incarnation": pgettext_lazy("label", "target incarnation"),
    "target node": pgettext_lazy("label", "target node"),
    "tenure": pgettext_lazy("label", "tenure"),
    "tenures": pgettext_lazy("label", "tenures"),
    "time in force": pgettext_lazy("label", "time in force"),
    "times": pgettext_lazy("label", "times"),
    "to epoch": pgettext_lazy("label", "to epoch"),
    "to revision": pgettext_lazy("label", "to revision"),
    "to seq": pgettext_lazy("label", "to seq"),
    "uid": pgettext_lazy("label", "uid"),
    "user": pgettext_lazy("label", "user"),
    "version": pgettext_lazy("label", "version"),
    "weight": pgettext_lazy("label", "weight"),
    "why": pgettext_lazy("label", "why"),
}
