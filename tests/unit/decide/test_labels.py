"""Labels of a node: the daemon's, with the edits of operators."""

from scheduling.decide.labels import label_edits, labels_text


def test_label_edits_contain_only_differences_from_the_daemon() -> None:
    reported = {"zone": "a", "gpu": "yes"}
    assert label_edits(reported, {"zone": "b", "gpu": "yes", "disk": "ssd"}) == {
        "zone": "b",
        "disk": "ssd",
    }
    assert label_edits(reported, {"zone": "a"}) == {"gpu": None}
    assert label_edits(reported, reported) == {}


def test_labels_are_shown_as_they_are_typed() -> None:
    assert labels_text({"zone": "a", "gpu": "yes"}) == "gpu=yes zone=a"
    assert labels_text({}) == ""
