"""Replicas learn from the store how often policies act in the calls of others."""

from __future__ import annotations

from rtobserver.clock import SystemClock
from rtobserver.observation.rates import Rates
from rtobserver.policy.active import DEMOTED, Active
from rtobserver.policy.rules import Limit, On, Policy, PolicySet, Tag
from rtobserver.store import places, tables
from rtobserver.store.database import Database
from tests.store import stored
from tests.store.test_decisions import row

SECOND = 1_000_000


def active(most: int) -> Active:
    rule = Policy(
        id="a", trigger=On(types=("x",)), actions=(Tag(tag="t"),), mode="enforce", limit=Limit(per_minute=most)
    )
    return Active(PolicySet(policies=(rule,), hash="0" * 16))


async def test_what_others_did_is_learnt_and_what_was_before_a_reload_is_not(
    place: places.Place, reads: Database
) -> None:
    clock, ours = SystemClock(), active(3)
    [standing] = ours.standings()
    rule, now = standing.policy, clock.now_us()
    loaded = [now - 100 * SECOND]
    rates = Rates(ours, reads, clock, lambda: loaded[0])
    ages = (61, 30, 20, 10)
    stored.insert(place, tables.decision, *[row(n, "a", received_at=now - age * SECOND) for n, age in enumerate(ages)])
    await rates.look()
    assert ours.rate(rule, now) == 3
    assert not ours.admit(rule, now)
    ours.replace(ours.policies)
    loaded[0] = clock.now_us()
    stored.insert(place, tables.decision, row(9, "a", received_at=loaded[0] + 1))
    await rates.look()
    assert ours.rate(rule, now + SECOND) == 1


async def test_a_demotion_of_another_is_taken_over_unless_it_was_before_a_reload(
    place: places.Place, reads: Database
) -> None:
    clock, ours = SystemClock(), active(60)
    loaded = [clock.now_us()]
    rates = Rates(ours, reads, clock, lambda: loaded[0])
    demoted = {"acted": False, "outcome": "observed", "mode": "observe", "detail": DEMOTED}
    stored.insert(place, tables.decision, row(1, "a", received_at=loaded[0] - 1, **demoted))
    await rates.look()
    assert [each.demoted_at for each in ours.standings()] == [None]
    stored.insert(place, tables.decision, row(2, "a", received_at=loaded[0] + 5, **demoted))
    await rates.look()
    assert [(each.demoted_at, each.mode) for each in ours.standings()] == [(loaded[0] + 5, "observe")]
    ours.replace(ours.policies)
    loaded[0] += 6
    await rates.look()
    assert [each.demoted_at for each in ours.standings()] == [None]
