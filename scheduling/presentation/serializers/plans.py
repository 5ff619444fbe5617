"""Documents of plans: of dry runs, and of passes that were run."""

from __future__ import annotations

from rest_framework import serializers

from scheduling.presentation.serializers.fields import Document


class ReasonDocument(Document):
    """A reason as data, and its sentence."""

    code = serializers.CharField()
    params = serializers.DictField()
    reason = serializers.CharField()


class _PlannedDocument(ReasonDocument):
    portfolio = serializers.CharField()
    priority = serializers.IntegerField()
    weight = serializers.FloatField()


class PlacementDocument(_PlannedDocument):
    """A portfolio that the balancer would start on the target."""

    target_node = serializers.CharField()


class MoveDocument(_PlannedDocument):
    """A portfolio that the balancer would move. `cause`: failover, drain, pin or rebalance."""

    source_node = serializers.CharField(allow_null=True)
    target_node = serializers.CharField()
    cause = serializers.CharField()


class PendingDocument(_PlannedDocument):
    """A portfolio that cannot be placed or moved as it should."""


class HelpDocument(ReasonDocument):
    """A remedy that was tried: `no_place` portfolios would then have no place."""

    no_place = serializers.IntegerField()


class AddedNodeDocument(Document):
    """A hypothetical node."""

    node = serializers.CharField()
    capacity = serializers.FloatField()
    labels = serializers.DictField(child=serializers.CharField())


class WithoutOwnerDocument(Document):
    """The longest time for which portfolios that fail over have no owner."""

    portfolios = serializers.IntegerField()
    by_silence_s = serializers.FloatField(
        help_text="Longest time without an owner if the node's host or network fails, or it hangs."
    )
    by_kill_s = serializers.FloatField(
        help_text="Longest time without an owner if only the node's daemon exits."
    )


class WordsDocument(Document):
    """A part of the summary. `tone` is `warn` for what needs attention."""

    text = serializers.CharField(trim_whitespace=False)
    tone = serializers.CharField(allow_blank=True)


class VerdictDocument(Document):
    """The summary of a plan."""

    sentence = serializers.CharField()
    words = WordsDocument(many=True)
    notes = serializers.ListField(child=serializers.CharField())
    place = serializers.IntegerField()
    move = serializers.IntegerField()
    no_place = serializers.IntegerField(
        help_text="Number of portfolios that would have no place because of the scenario."
    )
    wait = serializers.IntegerField(help_text="Number of portfolios that would wait for a place.")
    stay = serializers.IntegerField(
        help_text="Number of portfolios that should move, but would stay where they run."
    )
    pending_already = serializers.IntegerField(
        help_text="Number of portfolios pending even without the scenario; not counted elsewhere."
    )
    suspects_counted = serializers.ListField(child=serializers.CharField())
    storm = serializers.BooleanField(
        help_text="Whether the losses are a storm, so that failover is first held for one lease."
    )
    without_owner = WithoutOwnerDocument(allow_null=True)


class LoadDocument(Document):
    """The load of one node before and after the plan, handoffs under way included."""

    node = serializers.CharField()
    status = serializers.CharField()
    cordoned = serializers.BooleanField()
    draining = serializers.BooleanField()
    capacity = serializers.FloatField()
    before = serializers.FloatField()
    after = serializers.FloatField()


class PlanDocument(Document):
    """The plan of the balancer. Nothing was changed.

    `pending`: portfolios without an owner and without a place. `stuck`: they should leave their
    nodes, and run on there.
    """

    taken_at = serializers.DateTimeField()
    frozen = serializers.BooleanField()
    lose = serializers.ListField(child=serializers.CharField())
    drain = serializers.ListField(child=serializers.CharField())
    add = AddedNodeDocument(many=True)
    scope = serializers.ChoiceField(
        ["next_pass", "whole_way"],
        help_text="How far the plan goes: only the next pass, or all until nothing is left to do.",
    )
    verdict = VerdictDocument()
    place = PlacementDocument(many=True)
    move = MoveDocument(many=True)
    pending = PendingDocument(many=True)
    stuck = PendingDocument(many=True)
    help = HelpDocument(many=True)
    load = LoadDocument(many=True)


class LeavingDocument(MoveDocument):
    """A portfolio of the drained node. `unpinned`: its pin to the node ends."""

    unpinned = serializers.BooleanField()


class RoomDocument(Document):
    """Moves on other nodes that make room; then only `stay` portfolios stay on the drained one."""

    moves = MoveDocument(many=True)
    stay = serializers.IntegerField()
    sentence = serializers.CharField()


class OneLossDocument(Document):
    """The loss of a node: portfolios that it runs, and those that would have no place or wait."""

    runs = serializers.IntegerField()
    no_place = serializers.IntegerField()
    wait = serializers.IntegerField()


class LossChangeDocument(Document):
    """The loss of a node before and after the drain."""

    node = serializers.CharField()
    before = OneLossDocument()
    after = OneLossDocument()
    is_worse = serializers.BooleanField()


class DrainPlanDocument(Document):
    """What a drain would do in the end. Nothing was changed."""

    node = serializers.CharField()
    taken_at = serializers.DateTimeField()
    sentence = serializers.CharField()
    leave = LeavingDocument(many=True)
    stay = PendingDocument(many=True)
    others = serializers.ListField(
        child=serializers.DictField(),
        help_text="Other portfolios that would be placed or moved in later passes.",
    )
    pins = serializers.ListField(child=serializers.CharField())
    room = RoomDocument(allow_null=True)
    help = HelpDocument(many=True)
    losses = LossChangeDocument(many=True)
    losses_sentence = serializers.CharField()
    unforecast = serializers.IntegerField(
        help_text="Number of nodes whose loss was not forecast, since there are too many nodes."
    )


class RejectedDocument(Document):
    """A change of the plan that was refused when the pass began it."""

    portfolio = serializers.CharField()
    reason = serializers.CharField()


class RebalancedDocument(Document):
    """What a pass did. `requested`: ids of its handoffs; `pending`, `stuck`: as in PlanDocument."""

    requested = serializers.ListField(child=serializers.IntegerField())
    rejected = RejectedDocument(many=True)
    pending = PendingDocument(many=True)
    stuck = PendingDocument(many=True)
