from __future__ import annotations

from slimcam.deploy.common.renamed_options import new_name, with_new_names

RENAMED = {"track.patience": "track.buffer_seconds", "far": "false_accept_rate", "fit": "schedule"}


def test_an_option_under_its_former_name_sets_the_present_one_with_a_notice() -> None:
    given = ["source=0", "track.patience=2", "--cfg=job", "+far=0.1", "~far", "fit.x={a: 1}"]
    words, notices = with_new_names(given, RENAMED)
    assert words == [
        *("source=0", "track.buffer_seconds=2", "--cfg=job", "+false_accept_rate=0.1", "~false_accept_rate"),
        "schedule.x={a: 1}",
    ]
    assert len(notices) == 4
    assert notices[0].startswith("track.patience is called track.buffer_seconds now; ")


def test_other_names_and_values_stay() -> None:
    words = ["farther=1", "source=far=1", "name=track.patience=1", "-m", "track.patience_of=2"]
    assert with_new_names(words, RENAMED) == (words, [])
    assert new_name("track", RENAMED) is None
