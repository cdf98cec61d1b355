"""Decisions before and after a change of policies are told apart."""

from __future__ import annotations

from dataclasses import replace

from rtobserver.policy.difference import Change, Decided, Place, Tallies, compare


def decided(policy: str, seq: int, **values: object) -> Decided:
    fields: dict[str, object] = {
        "policy": policy,
        "position": Place(1, seq),
        "trigger": "on",
        "mode": "observe",
        "acts": False,
        "would_act": True,
        "actions": ("tag",),
    }
    return Decided(**(fields | values))  # type: ignore[arg-type]


def test_new_vanished_and_changed_decisions_come_by_position() -> None:
    before = [decided("a", 12), decided("b", 2), decided("c", 3)]
    after = [decided("a", 12, actions=("tag", "say")), decided("b", 2), decided("a", 9)]
    assert compare(before, after) == [
        Change("vanished", before[2], None),
        Change("new", None, after[2]),
        Change("changed", before[0], after[0]),
    ]


def test_a_mode_by_itself_is_no_difference() -> None:
    before = decided("a", 1)
    assert compare([before], [replace(before, mode="enforce", acts=True)]) == []


def test_what_a_guard_left_out_is_no_difference_from_what_only_observes() -> None:
    acts = decided("a", 1, acts=True, mode="enforce", actions=("restore_session", "tag"))
    observes = decided("a", 1, actions=("restore_session", "tag", "hang_up"))
    assert compare([acts], [observes]) == []
    assert len(compare([acts], [replace(observes, acts=True)])) == 1
    assert len(compare([acts], [replace(observes, actions=("restore_session", "say", "hang_up"))])) == 1


def test_what_was_matched_and_a_fault_are_differences() -> None:
    before = decided("a", 1, match="refund")
    for after in (replace(before, match="refunds"), replace(before, would_act=False), replace(before, trigger="regex")):
        [change] = compare([before], [after])
        assert change.how == "changed"
        assert change.decision is after


def test_tallies_count_decisions_and_calls_per_policy() -> None:
    tallies = Tallies()
    before, after = [decided("a", 1), decided("b", 1)], [decided("a", 1), decided("a", 2), decided("a", 3)]
    tallies.add(before, after, compare(before, after))
    tallies.add(before[:1], before[:1], [])
    a, b, total = tallies.by_policy["a"], tallies.by_policy["b"], tallies.total
    assert (a.before, a.after, a.new, a.vanished, a.changed, a.calls) == (2, 4, 2, 0, 0, 1)
    assert (b.before, b.after, b.vanished, b.calls) == (1, 0, 1, 1)
    assert (total.before, total.after, total.new, total.vanished, total.calls) == (3, 4, 2, 1, 1)
