import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtobserver.policy import rules, templates
from rtobserver.policy.templates import Reference, TemplateFault, fill, look_up, parse, paths

SCOPE = {
    "event": {
        "item": {"id": "item_1", "content": [{"text": "hello"}, {"text": "{{ call.user }}"}]},
        "n": 3,
        "gone": None,
    },
    "call": {"call_id": "rtc_1", "age_seconds": 1.5, "labels": {"my-team": "a"}, "tampered": False},
    "match": {"text": "Größe"},
}


def test_a_text_is_divided_into_texts_and_references() -> None:
    assert parse("a {{ call.user }}{{match.text}} b") == ("a ", Reference("call.user"), Reference("match.text"), " b")
    assert parse("no templates }}") == ("no templates }}",)
    assert parse("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "{{ call.user",
        "{{ }}",
        "{{ call..user }}",
        "{{ call.user | upper }}",
        "{{ calls.user }}",
        "{{ config.upstream }}",
        "{{ call['a'] }}",
        "{{ {{ call.user }} }}",
        "{{ call.é }}",
        "{{ call." + "a" * 300 + " }}",
    ],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateFault):
        parse(text)


def test_a_string_that_is_only_a_template_takes_the_type_of_the_value() -> None:
    action = rules.Send(
        event={
            "type": "x",
            "n": "{{ event.n }}",
            "deep": [{"item": " {{ event.item.content.0 }}"}],
            "gone": "{{event.gone}}",
        }
    )
    filled = fill(action, SCOPE)
    assert isinstance(filled, rules.Send)
    assert filled.event == {"type": "x", "n": 3, "deep": [{"item": ' {"text":"hello"}'}], "gone": None}
    item = fill(rules.CreateItem(item={"content": ["{{ event.item.content.0 }}"]}), SCOPE)
    assert item == rules.CreateItem(item={"content": [{"text": "hello"}]})


def test_beside_other_text_and_in_texts_everything_is_text() -> None:
    assert fill(rules.Tag(tag="{{ event.n }}"), SCOPE) == rules.Tag(tag="3")
    assert fill(rules.Say(text="{{ call.age_seconds }} s, {{ call.tampered }}"), SCOPE) == rules.Say(
        text="1.5 s, false"
    )
    assert fill(rules.HangUp(goodbye="Bye {{ call.labels.my-team }}", after=2.0), SCOPE) == rules.HangUp(
        goodbye="Bye a", after=2.0
    )
    assert fill(rules.DeleteItem(item_id="{{ event.item.id }}"), SCOPE) == rules.DeleteItem(item_id="item_1")


def test_what_is_filled_in_is_never_read_as_a_template() -> None:
    assert fill(rules.Tag(tag="{{ event.item.content.1.text }}"), SCOPE) == rules.Tag(tag="{{ call.user }}")


def test_an_action_without_templates_is_given_back() -> None:
    for action in (
        rules.Say(text="hello }}"),
        rules.CancelResponse(),
        rules.HangUp(),
        rules.DeleteItem(item_id=None),
        rules.AnswerTool(url="https://a.example/{{ call.user }}"),
    ):
        assert fill(action, SCOPE) is action
        assert paths(action) == ()


@pytest.mark.parametrize(
    "path",
    [
        "event.itm",
        "event.item.content.2",
        "event.item.content.-1",
        "event.n.a",
        "call",
        "match.text.0",
        "event.item.id.length",
    ],
)
def test_a_path_to_nothing_is_a_fault_that_names_it(path: str) -> None:
    scope = {key: value for key, value in SCOPE.items() if key != "call"}
    with pytest.raises(TemplateFault, match=f"there is no {path}"):
        fill(rules.Tag(tag=f"a {{{{ {path} }}}}"), scope)


def test_null_can_be_a_value_but_not_a_text() -> None:
    assert look_up("event.gone", SCOPE) is None
    with pytest.raises(TemplateFault, match=r"event\.gone is null"):
        fill(rules.Tag(tag="{{ event.gone }}"), SCOPE)


def test_a_tag_stays_a_tag_whatever_is_filled_in() -> None:
    said = rules.Tag(tag="said {{ match.text }}")
    assert fill(said, {"match": {"text": "a\nb\x00c"}}) == rules.Tag(tag="said a b c")
    assert fill(said, {"match": {"text": "x" * 100}}) == rules.Tag(tag="said " + "x" * 59)
    with pytest.raises(TemplateFault, match="the tag is empty"):
        fill(rules.Tag(tag="{{ match.text }}"), {"match": {"text": " \n"}})


def test_half_a_character_does_not_get_into_a_text() -> None:
    assert fill(rules.Tag(tag="{{ match.text }}"), {"match": {"text": "a\ud800"}}) == rules.Tag(tag="a?")


def test_the_paths_of_an_action_are_given_once_each_wherever_they_stand() -> None:
    action = rules.Send(event={"a": "{{ call.user }} {{ event.n }}", "b": [{"c": "{{ call.user }}"}]})
    assert paths(action) == ("call.user", "event.n")


@given(st.text(alphabet="{} .abcevntl0", max_size=40))
def test_any_text_is_divided_without_loss_or_refused(text: str) -> None:
    try:
        parts = parse(text)
    except TemplateFault:
        return
    written = "".join(part if isinstance(part, str) else f"{{{{{part.path}}}}}" for part in parts)
    assert written.replace(" ", "") == text.replace(" ", "")
    assert all(templates.is_plain(part) for part in parts if isinstance(part, str))
