"""The shapes of plans: of dry runs, and of a pass that was run. Beside `documents.py`."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

_Anything = serializers.Serializer[Any]


class ReasonDocument(_Anything):
    """Why, as data, and the sentence made of it."""

    code = serializers.CharField()
    params = serializers.DictField()
    reason = serializers.CharField()


class _PlannedDocument(ReasonDocument):
    portfolio = serializers.CharField()
    priority = serializers.IntegerField()
    weight = serializers.FloatField()


class PlacementDocument(_PlannedDocument):
    """The balancer would start it there."""

    target_node = serializers.CharField()


class MoveDocument(_PlannedDocument):
    """The balancer would move it there."""

    source_node = serializers.CharField(allow_null=True)
    target_node = serializers.CharField()
    cause = serializers.CharField()


class PendingDocument(_PlannedDocument):
    """It cannot have what it should have."""


class HelpDocument(ReasonDocument):
    """What would help, tried: so many would then have no place."""

    no_place = serializers.IntegerField()


class AddedNodeDocument(_Anything):
    """A node that is only imagined."""

    node = serializers.CharField()
    capacity = serializers.FloatField()
    labels = serializers.DictField(child=serializers.CharField())


class WithoutOwnerDocument(_Anything):
    """For how long at most those that are failed over have no owner."""

    portfolios = serializers.IntegerField()
    by_silence_s = serializers.FloatField(help_text="Host gone, network cut, frozen.")
    by_kill_s = serializers.FloatField(help_text="Only the process of the node died.")


class WordsDocument(_Anything):
    """A piece of the verdict. `tone` is `warn` where it should be looked at."""

    text = serializers.CharField(trim_whitespace=False)
    tone = serializers.CharField(allow_blank=True)


class VerdictDocument(_Anything):
    """What a plan comes to."""

    sentence = serializers.CharField()
    words = WordsDocument(many=True)
    notes = serializers.ListField(child=serializers.CharField())
    place = serializers.IntegerField()
    move = serializers.IntegerField()
    no_place = serializers.IntegerField(help_text="Because of what is asked.")
    wait = serializers.IntegerField(help_text="Have a place, or may have one, and wait for it.")
    stay = serializers.IntegerField(help_text="Should leave and run on where they are.")
    pending_already = serializers.IntegerField(help_text="As things are; counted nowhere above.")
    suspects_counted = serializers.ListField(child=serializers.CharField())
    storm = serializers.BooleanField(help_text="Failover would be held for one lease first.")
    without_owner = WithoutOwnerDocument(allow_null=True)


class LoadDocument(_Anything):
    """The load of one node before and after the plan, handoffs under way included."""

    node = serializers.CharField()
    status = serializers.CharField()
    cordoned = serializers.BooleanField()
    draining = serializers.BooleanField()
    capacity = serializers.FloatField()
    before = serializers.FloatField()
    after = serializers.FloatField()


class PlanDocument(_Anything):
    """What the balancer would do now. Nothing was changed."""

    taken_at = serializers.DateTimeField()
    frozen = serializers.BooleanField()
    lose = serializers.ListField(child=serializers.CharField())
    drain = serializers.ListField(child=serializers.CharField())
    add = AddedNodeDocument(many=True)
    scope = serializers.ChoiceField(
        ["next_pass", "whole_way"],
        help_text="What the next pass begins, or all until nothing is left to do.",
    )
    verdict = VerdictDocument()
    place = PlacementDocument(many=True)
    move = MoveDocument(many=True)
    pending = PendingDocument(many=True)
    stuck = PendingDocument(many=True)
    help = HelpDocument(many=True)
    load = LoadDocument(many=True)


class RejectedDocument(_Anything):
    """A change of the plan that was refused when it was carried out."""

    portfolio = serializers.CharField()
    reason = serializers.CharField()


class RebalancedDocument(_Anything):
    """What a pass did: the handoffs it began, and what it could not do."""

    requested = serializers.ListField(child=serializers.IntegerField())
    rejected = RejectedDocument(many=True)
    pending = PendingDocument(many=True)
    stuck = PendingDocument(many=True)
