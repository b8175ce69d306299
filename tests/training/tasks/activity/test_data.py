"""The rule of the generated activities, what can be known of the next step, and F1 by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.tasks.activity.data import (
    AFFORDANCES,
    HUMAN_FEATURES,
    KINDS,
    OBJECT_FEATURES,
    REST,
    SUB_ACTIVITIES,
    USE,
    Activities,
    activity_scores,
    generate,
    macro_f1,
    most_probable_next,
)


@pytest.fixture(scope="module")
def many() -> Activities:
    return generate(400, 12, np.random.default_rng(0))


def share_after(found: Activities, now: str, then: str) -> float:
    labels = found.sub_activity
    follows = labels[:, 1:][labels[:, :-1] == SUB_ACTIVITIES.index(now)]
    return float((follows == SUB_ACTIVITIES.index(then)).mean())


def test_generation_is_repeatable_and_of_these_shapes(many: Activities) -> None:
    again = generate(400, 12, np.random.default_rng(0))

    assert many.human.shape == (400, 12, HUMAN_FEATURES)
    assert many.objects.shape == (400, 12, len(KINDS), OBJECT_FEATURES)
    np.testing.assert_array_equal(many.objects, again.objects)


def test_sequences_follow_the_rule(many: Activities) -> None:
    assert (many.sub_activity[:, 0] == SUB_ACTIVITIES.index("reach")).all()
    assert share_after(many, "drink", "place") == share_after(many, "pour", "place") == 1
    assert share_after(many, "move", "place") == pytest.approx(1 - USE, abs=0.04)
    assert share_after(many, "place", "rest") == pytest.approx(REST, abs=0.04)
    assert share_after(many, "rest", "reach") == 1
    pouring = many.sub_activity == SUB_ACTIVITIES.index("pour")
    into = (many.affordance == AFFORDANCES.index("pour-into")).any(axis=-1)
    np.testing.assert_array_equal(pouring, into)
    cups = np.broadcast_to((many.kind == KINDS.index("cup"))[:, None], many.affordance.shape)
    assert cups[many.affordance == AFFORDANCES.index("pour-into")].all()


def test_what_is_most_probable_next(many: Activities) -> None:
    activity, affordance = most_probable_next(many)
    sure = np.isin(many.sub_activity[:, :-1], [SUB_ACTIVITIES.index(name) for name in ("reach", "drink", "pour")])

    np.testing.assert_array_equal(activity[:, :-1][sure], many.sub_activity[:, 1:][sure])
    np.testing.assert_array_equal(affordance[:, :-1][sure], many.affordance[:, 1:][sure])
    right = (activity[:, :-1] == many.sub_activity[:, 1:]).mean()
    assert 0.8 < right < 0.95


def test_f1_by_hand() -> None:
    label = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 3, 0])

    # 0: 2 right of 3 and 3; 1: 1 right of 2 and 2; 2: none; 3 does not occur.
    assert macro_f1(predicted, label) == pytest.approx((4 / 6 + 2 / 4 + 0) / 3)


def test_the_last_step_has_no_next_one(many: Activities) -> None:
    now = many.sub_activity, many.affordance
    following = np.roll(now[0], -1, axis=1), np.roll(now[1], -1, axis=1)

    assert set(activity_scores(now, following, many).values()) == {1.0}
