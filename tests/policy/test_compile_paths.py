import pytest

from rtobserver.policy.written_paths import named
from tests.policy.written import compiled, policy, refused

SAYS = 'phrase = { speaker = "assistant", any = ["a"] }'
COMMITTED = 'on = "input_audio_buffer.committed"'


@pytest.mark.parametrize(
    ("trigger", "path", "mistake"),
    [
        (COMMITTED, "event.itm_id", "names event.itm_id, and no event of type input_audio_buffer.committed has it"),
        ('on = ["error", "response.done"]', "event.eror.code", "names event.eror.code, and no event of type error or"),
        (SAYS, "event.dleta", "names event.dleta, and no event of this trigger has it"),
        ('tool = { name = "*" }', "event.item.argument", "names event.item.argument, and no event of this trigger"),
        ("usage = { cost_usd = 1 }", "event.respons.id", "names event.respons.id, and no event of this trigger"),
        ('on = "response.*"', "event.respones.id", "names event.respones.id, and no event of type response.* has it"),
        ('after = "1s"', "event.type", "names event.type, and this trigger has no event"),
        (SAYS, "call.turncount", "names call.turncount, and no call has it"),
        (SAYS, "call.usage.total", "names call.usage.total, and no call has it"),
        (SAYS, "call.outcome", "names call.outcome, and no call has it"),
        (SAYS, "match.txt", "names match.txt, and no match has it"),
        (COMMITTED, "match.text", "names match.text, and a match of on has none"),
        (SAYS, "match.keys", "names match.keys, and a match of phrase has none"),
        ('after = "1s"', "match.item_id", "names match.item_id, and a match of after has none"),
    ],
)
def test_a_path_that_nothing_can_have_is_refused_in_templates_and_conditions(
    trigger: str, path: str, mistake: str
) -> None:
    (in_tag,) = refused(policy(trigger=trigger, do=f'{{ tag = "a {{{{ {path} }}}}" }}'))
    assert in_tag.startswith(f"policy[0].do[0].tag: {mistake}")
    (in_when,) = refused(policy(f"when = '{path} == \"x\"'", trigger=trigger))
    assert in_when.startswith(f"policy[0].when: {mistake}")


@pytest.mark.parametrize(
    ("trigger", "path"),
    [
        (COMMITTED, "event.item_id"),
        (COMMITTED, "event.previous_item_id"),
        ('on = ["error", "response.done"]', "event.response.usage.output_token_details.audio_tokens"),
        ('on = "response.done"', "event.response.metadata.topic"),
        ('on = "response.done"', "event.response.output.3.content.0.transcript"),
        ('on = "response.done"', "event.response.status_details.error.code"),
        ('on = "session.updated"', "event.session.audio.input.turn_detection.threshold"),
        ('on = "session.updated"', "event.session.tools.0.parameters.properties.city.type"),
        ('on = "future.event"', "event.anything.at.all"),
        ('on = ["error", "future.event"]', "event.anything"),
        ('on = "*"', "event.anything"),
        (SAYS, "event.delta"),
        (SAYS, "event.response_id"),
        (SAYS, "match.text"),
        ('tool = { name = "*" }', "match.arguments"),
        ("tampered = true", "match.keys.0"),
        (SAYS, "call.labels.team"),
        (SAYS, "call.tags.0"),
        (SAYS, "call.cost_usd"),
        ('after = "1s"', "call.age_seconds"),
        ('after = "1s"', "call.completeness"),
        ('unanswered_tool = "1s"', "match.name"),
        ('unanswered_tool = "1s"', "match.arguments"),
    ],
)
def test_a_path_that_something_may_have_is_accepted(trigger: str, path: str) -> None:
    assert compiled(policy(trigger=trigger, do=f'{{ tag = "{{{{ {path} }}}}" }}')).policies


@pytest.mark.parametrize(
    ("trigger", "when"),
    [
        (COMMITTED, "event.item_id.startsWith('item_') && call.turn_count > 1"),
        ('on = "response.done"', "event.response.status == 'failed' && event.response.output.size() == 0"),
        ('on = "response.done"', "has(event.response.future) && event.response.future.field == 1"),
        ('on = "conversation.item.added"', "event.item.content.exists(part, part.type == 'input_text')"),
        ('on = "*"', "event.anything == 1"),
        ('on = "rate_limits.updated"', "event.rate_limits[0].remaining < 100.0"),
        (SAYS, "match.text.matches('^a') || 'event.nothing' == match.text"),
        ('after = "1s"', "call.labels['team'] == 'a' && !('vip' in call.tags)"),
        ('after = "1s"', "has(call.user) && call.cost_usd > 0.5"),
        ('after = "1s"', "!has(call.completeness) || call.completeness == 'complete'"),
        ('unanswered_tool = "1s"', "match.name == 'get_weather' && match.arguments.contains('Oslo')"),
        ('on = "response.done"', "event.response.metadata"),
        ('on = "response.done"', "event.response.metadata.vip == 5"),
        ('on = "future.event"', "event.flag"),
        ('on = "*"', "event.response.status"),
        ('on = "session.updated"', "event.session.max_output_tokens == 4096"),
        ('after = "1s"', "call.tampered"),
        ('after = "1s"', "call.age_seconds == 1"),
        ('after = "1s"', "call.turn_count == '5'.size() || 0 == call.tags.size() || 'a' == call.user + 'b'"),
        ('after = "1s"', "call.turn_count == -1 || 1.5 == call.age_seconds || 1 > 0 == call.tampered"),
        ('after = "1s"', "call.labels.a == 'b' || 'a' == call.user || call.labels.c == 5"),
        ("tampered = true", "match.keys == ['tools'] || match.keys[0] == 'tools'"),
    ],
)
def test_a_condition_that_may_be_true_is_accepted(trigger: str, when: str) -> None:
    assert compiled(policy(f'when = "{when}"', trigger=trigger)).policies


def test_a_condition_that_compares_what_cannot_be_compared_is_refused_with_the_reason() -> None:
    (found,) = refused(
        policy("when = \"event.audio_start_ms.startsWith('a')\"", trigger='on = "input_audio_buffer.speech_started"')
    )
    assert found.startswith("policy[0].when: can never be evaluated: ")


@pytest.mark.parametrize(
    ("trigger", "when"),
    [
        ('on = "response.done"', "event.response.status"),
        ('on = "response.done"', "event.response.status // a comment"),
        ('on = ["response.done", "response.created"]', "event.response"),
        ('after = "1s"', "call.turn_count"),
        ('on = "*"', "call.turn_count"),
        ('after = "1s"', "call.tampered ? call.turn_count : call.entry_count"),
        (SAYS, "match.text"),
    ],
)
def test_a_condition_that_is_never_true_or_false_is_refused(trigger: str, when: str) -> None:
    assert refused(policy(f'when = "{when}"', trigger=trigger)) == ["policy[0].when: is never true or false"]


@pytest.mark.parametrize(
    ("when", "mistake"),
    [
        ("call.turn_count == 'many'", "compares call.turn_count, which is a number, with a text"),
        ("'many' != call.turn_count || call.tampered", "compares call.turn_count, which is a number, with a text"),
        ("call.tampered == 1", "compares call.tampered, which is true or false, with a number"),
        ("call.tags == 'vip'", "compares call.tags, which is a list, with a text"),
        ("call.usage.input.text == true", "compares call.usage.input.text, which is a number, with true or false"),
        ("!(call.age_seconds > 5.0 && call.user == 7)", "compares call.user, which is a text, with a number"),
        ("match.text == 5", "compares match.text, which is a text, with a number"),
    ],
)
def test_a_comparison_that_never_holds_is_refused(when: str, mistake: str) -> None:
    assert refused(policy(f'when = "{when}"', trigger=SAYS)) == [f"policy[0].when: {mistake}"]


def test_each_path_of_a_condition_is_found_but_not_those_in_texts_or_behind_has() -> None:
    source = """
        event.a.b[0].c['d-e'] == "event.x" && call.f.size() > 1 // event.comment
        && has(event.g.h) && event.g.h.i == 1 && match.text.startsWith('it''s event.y') && event == call
    """
    assert list(named(source)) == [("event", "a", "b", "0", "c", "d-e"), ("call", "f"), ("match", "text")]
