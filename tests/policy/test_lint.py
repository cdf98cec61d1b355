from datetime import date

import pytest

from rtobserver.policy.lint import review
from rtobserver.realtime.cost import Prices
from tests.policy.written import compiled, loaded, policy

TWO = policy(id_="first", trigger='phrase = { speaker = "user", any = ["refund"] }')


@pytest.mark.parametrize(
    ("text", "remarks"),
    [
        (policy(), []),
        (policy(trigger='on = "response.doen"'), ["p: no event that is known here is of type response.doen"]),
        (policy(trigger='on = "response.audio.*"'), ["p: no event that is known here is of type response.audio.*"]),
        (policy(trigger='on = "session.update"'), ["p: session.update goes to upstream and never comes from it"]),
        (
            policy(trigger='count = { on = "eror", at_least = 2, within = "1m" }'),
            ["p: no event that is known here is of type eror"],
        ),
        (
            policy(trigger='absent = { on = "session.made", within = "1m" }'),
            ["p: no event that is known here is of type session.made"],
        ),
        (
            policy(trigger='on = ["session.created", "session.updated"]'),
            ["p: session.created never comes to the sideband of a call over WebRTC"],
        ),
        (
            policy(trigger='absent = { on = "session.c*", within = "1m" }'),
            ["p: session.created never comes to the sideband of a call over WebRTC"],
        ),
        (policy(trigger='on = "session.*"'), []),
        (
            policy("when = 'has(call.trun_count) || has(event.response.statuss)'", trigger='on = "response.done"'),
            [
                "p: its condition names call.trun_count, and no call has it",
                "p: its condition names event.response.statuss, and no event of type response.done has it",
            ],
        ),
        (policy("when = 'has(call.user) && has(event.response.id)'", trigger='on = "response.done"'), []),
        (
            policy("when = 'event.response.status == 1'", trigger='on = "response.done"'),
            ["p: its condition compares event.response.status, which is a text, with a number"],
        ),
        (
            policy(trigger='phrase = { speaker = "user", any = ["money back", "Money, back!"] }'),
            ['p: "Money, back!" is "money back" once more'],
        ),
        (
            policy(trigger='phrase = { speaker = "user", any = ["refunds now", "refund"] }'),
            ['p: "refunds now" is found as "refund" already'],
        ),
        (policy(trigger='phrase = { speaker = "user", any = ["refund", "refunds"], whole = true }'), []),
        (
            TWO + policy(trigger='phrase = { speaker = "user", any = ["a", "Refund."] }'),
            ['p: looks for "Refund." as first does'],
        ),
        (TWO + policy(trigger='phrase = { speaker = "assistant", any = ["refund"] }'), []),
        (
            policy('profiles = ["support"]', id_="q", trigger='phrase = { speaker = "user", any = ["refund"] }')
            + policy('profiles = ["default"]', trigger='phrase = { speaker = "user", any = ["refund"] }'),
            [],
        ),
        (policy('when = "1 > 2"'), ["p: its condition is never true, so it never matches"]),
        (policy("when = \"'event' != 'call'\""), ["p: its condition is always true"]),
        (policy('when = "call.turn_count > 1"'), []),
        (policy(trigger='after = "1h"'), ["p: after is never reached"]),
        (policy(trigger='absent = { on = "error", within = "2h" }'), ["p: absent is never reached"]),
        (policy('mode = "canary"\ncanary_percent = 100'), ["p: its canary is every call"]),
        (policy('limit = { cooldown = "1h" }'), ["p: its cooldown outlasts every call"]),
        (
            policy('limit = { cooldown = "1m", per_call = 1 }'),
            ["p: its cooldown has no effect: it acts once in a call"],
        ),
        (policy(do='{ hang_up = true }, { say = "Bye." }'), ["p: say comes after hang_up"]),
        (policy(do='{ hang_up = true }, { tag = "over" }'), []),
        (policy(trigger="tampered = true", do="{ hang_up = true }, { restore_session = true }"), []),
        (policy(do="{ cancel_response = true }, { cancel_response = true }"), ["p: does cancel_response 2 times"]),
        (policy(do="{ mute_model = true }"), ["p: mutes the model, and no policy unmutes it"]),
        (policy(do="{ mute_model = true }") + policy(id_="q", do="{ unmute_model = true }"), []),
        (
            policy(trigger='on = "response.done"', do='{ say = "Anything else?" }'),
            ["p: asks for a response at each response, without a limit"],
        ),
        (policy("limit.per_call = 1", trigger='on = "response.done"', do='{ say = "Anything else?" }'), []),
        (
            policy(do='{ update_session = { audio.output.voice = "marin" } }'),
            ["p: changes the voice, which upstream refuses after the first sound"],
        ),
        (
            policy(id_="q", trigger='tool = { name = "a" }', do='{ answer_tool = { url = "https://a.example" } }')
            + policy(trigger='tool = { name = "a" }', do='{ answer_tool = { url = "https://b.example" } }'),
            ["p: answers the same function calls as q"],
        ),
    ],
)
def test_what_will_probably_not_do_what_was_meant_is_pointed_out(text: str, remarks: list[str]) -> None:
    found = review(compiled(text))
    assert [str(each).splitlines()[0] for each in found] == remarks
    assert all(each.help for each in found)


def test_with_the_profiles_it_is_known_what_is_heard_and_for_how_long() -> None:
    late = policy('profiles = ["default"]', id_="late", trigger='after = "30m"')
    both = loaded(TWO + late)
    assert [str(each).splitlines()[0] for each in review(both.policies, both.config)] == [
        "first: nothing transcribes what the user says in profile default, support",
        "late: max_duration ends the calls of profile default before",
    ]


def test_with_prices_it_is_known_where_a_limit_of_cost_never_matches() -> None:
    both = loaded(policy(trigger="usage = { cost_usd = 1 }") + policy(id_="q", trigger="usage = { total_tokens = 9 }"))
    prices = Prices.parse('[[model]]\nname = "m"\nfrom = 2026-02-01\ntext = { in = 4 }\n')
    assert review(both.policies, both.config, prices, date(2026, 2, 1)) == []
    assert [str(each).splitlines()[0] for each in review(both.policies, both.config, prices, date(2026, 1, 1))] == [
        f'p: "m" of profile {profile} has no price, so what its calls cost is not known'
        for profile in ("default", "support")
    ]
    heard = 'session.audio.input.transcription.model = "deaf"'
    text = f'[[profile]]\nname = "heard"\nsession.model = "m"\n{heard}\n'
    one = loaded(policy('profiles = ["heard"]', trigger="usage = { cost_usd = 1 }") + text)
    (found,) = review(one.policies, one.config, prices, date(2026, 2, 1))
    assert str(found).startswith('p: "deaf" of profile heard has no price')
