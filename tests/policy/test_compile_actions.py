import pytest

from rtobserver.config.sections import Secret
from rtobserver.errors import ConfigError
from rtobserver.policy import rules
from tests.policy.written import action_of, compiled, policy, refused

ITEM = '{ type = "message", role = "system", content = [{ type = "input_text", text = "Be brief." }] }'


@pytest.mark.parametrize(
    ("written", "action"),
    [
        ('{ send = { type = "input_audio_buffer.clear" } }', rules.Send(event={"type": "input_audio_buffer.clear"})),
        (
            '{ send = { type = "response.create", response = { conversation = "none", metadata = { a = "b" } } } }',
            rules.Send(event={"type": "response.create", "response": {"conversation": "none", "metadata": {"a": "b"}}}),
        ),
        (
            '{ update_session = { type = "realtime", audio.input.turn_detection = { type = "semantic_vad" } } }',
            rules.UpdateSession(
                session={"type": "realtime", "audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}
            ),
        ),
        ("{ restore_session = true }", rules.RestoreSession()),
        ("{ cancel_response = true }", rules.CancelResponse()),
        ('{ say = "Turn {{ call.turn_count }}." }', rules.Say(text="Turn {{ call.turn_count }}.")),
        ("{ delete_item = true }", rules.DeleteItem(item_id=None)),
        ('{ delete_item = "item_1" }', rules.DeleteItem(item_id="item_1")),
        ("{ mute_model = true }", rules.MuteModel()),
        ("{ unmute_model = true }", rules.UnmuteModel()),
        ("{ pause_recording = true }", rules.PauseRecording()),
        ("{ resume_recording = true }", rules.ResumeRecording()),
        ("{ hang_up = true }", rules.HangUp()),
        ('{ hang_up = { goodbye = "Bye." } }', rules.HangUp(goodbye="Bye.")),
        ('{ hang_up = { goodbye = "Bye.", after = "8s" } }', rules.HangUp(goodbye="Bye.", after=8.0)),
        ('{ tag = "refund" }', rules.Tag(tag="refund")),
        ('{ webhook = "alerts" }', rules.Webhook(id="alerts")),
        (
            '{ answer_tool = { url = "https://tools.example.com/a" } }',
            rules.AnswerTool(url="https://tools.example.com/a"),
        ),
        (
            '{ answer_tool = { url = "http://10.0.0.7/a", timeout = "2s", allow_http = true, secret_env = "KEY" } }',
            rules.AnswerTool(url="http://10.0.0.7/a", timeout=2.0, allow_http=True, secret=Secret("k")),
        ),
        ('{ answer_tool = { url = "http://localhost:9/a" } }', rules.AnswerTool(url="http://localhost:9/a")),
        (
            f"{{ create_item = {ITEM} }}",
            rules.CreateItem(
                item={"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be brief."}]}
            ),
        ),
    ],
)
def test_an_action_is_read(written: str, action: rules.Action) -> None:
    assert action_of(written, 'tool = { name = "*" }', {"KEY": "k"}) == action


@pytest.mark.parametrize(
    ("written", "mistake"),
    [
        ("1", "policy[0].do[0]: must be a table, not a whole number"),
        ("{}", "policy[0].do[0]: is empty"),
        ("{ cancel_respones = true }", 'policy[0].do[0].cancel_respones: is not an action: "cancel_respones"'),
        ('{ cancel_response = true, tag = "a" }', "policy[0].do[0]: holds 2 actions"),
        ("{ cancel_response = false }", "policy[0].do[0].cancel_response: cannot be false"),
        ('{ mute_model = "yes" }', "policy[0].do[0].mute_model: must be true, not a text"),
        ('{ send = "response.create" }', "policy[0].do[0].send: must be a table, not a text"),
        ("{ send = {} }", "policy[0].do[0].send.type: is missing"),
        ('{ send = { type = "respons.create" } }', "policy[0].do[0].send.type: must be one of"),
        ('{ send = { type = "session.updated" } }', "policy[0].do[0].send.type: must be one of"),
        (
            '{ send = { type = "input_audio_buffer.append", audio = "AA==" } }',
            "policy[0].do[0].send.type: must be one of",
        ),
        ('{ send = { type = "conversation.item.delete" } }', "policy[0].do[0].send.item_id: is missing"),
        (
            '{ send = { type = "response.cancel", event_id = "a" } }',
            "policy[0].do[0].send.event_id: is not yours to set",
        ),
        (
            '{ send = { type = "session.update", session = { model = "b" } } }',
            "policy[0].do[0].send.session.model: cannot",
        ),
        ('{ send = { type = "response.create", n = 9223372036854775808 } }', "policy[0].do[0].send.n: has more digits"),
        ('{ send = { type = "response.create", at = 2026-01-01 } }', "policy[0].do[0].send.at: is a date or time"),
        ('{ send = { type = "response.create", "{{ a }}" = 1 } }', "policy[0].do[0].send: has a template in the name"),
        ("{ update_session = true }", "policy[0].do[0].update_session: must be a table, not true or false"),
        ("{ update_session = {} }", "policy[0].do[0].update_session: changes nothing"),
        (
            '{ update_session = { model = "b" } }',
            "policy[0].do[0].update_session.model: cannot be changed in a session",
        ),
        ('{ update_session = { type = "transcription" } }', "policy[0].do[0].update_session.type: cannot be changed"),
        ('{ update_session = { audio = "a" } }', "policy[0].do[0].update_session.audio: must be a table, not a text"),
        ("{ say = true }", "policy[0].do[0].say: must be a text in quotes, not true or false"),
        ('{ say = " " }', "policy[0].do[0].say: is empty"),
        ("{ delete_item = false }", "policy[0].do[0].delete_item: cannot be false"),
        ("{ create_item = { content = [] } }", "policy[0].do[0].create_item.type: is missing"),
        ('{ create_item = { type = "mesage" } }', "policy[0].do[0].create_item.type: must be one of"),
        ('{ create_item = { type = "message", content = [] } }', "policy[0].do[0].create_item.role: is missing"),
        ('{ create_item = { type = "message", role = "user" } }', "policy[0].do[0].create_item.content: is missing"),
        ('{ answer_tool = "https://a.example" }', "policy[0].do[0].answer_tool: must be a table, not a text"),
        ("{ answer_tool = {} }", "policy[0].do[0].answer_tool.url: is missing"),
        ('{ answer_tool = { url = "http://a.example" } }', "policy[0].do[0].answer_tool.url: is not https"),
        ('{ answer_tool = { url = "https://u:p@a.example" } }', "policy[0].do[0].answer_tool.url: holds a user name"),
        ('{ answer_tool = { url = "https://169.254.169.254/" } }', "policy[0].do[0].answer_tool.url: is a link-local"),
        (
            '{ answer_tool = { url = "https://a.example/{{ call.user }}" } }',
            "policy[0].do[0].answer_tool.url: takes no templates",
        ),
        (
            '{ answer_tool = { url = "https://a.example", timeout = "2m" } }',
            "policy[0].do[0].answer_tool.timeout: is longer",
        ),
        (
            '{ answer_tool = { url = "https://a.example", retries = 1 } }',
            "policy[0].do[0].answer_tool.retries: is not a",
        ),
        (
            '{ answer_tool = { url = "https://a.example", secret_env = "NOT_SET" } }',
            'policy[0].do[0].answer_tool.secret_env: the environment variable "NOT_SET" is not set',
        ),
        ("{ hang_up = false }", "policy[0].do[0].hang_up: cannot be false"),
        (
            "{ hang_up = { goodbye = 1 } }",
            "policy[0].do[0].hang_up.goodbye: must be a text in quotes, not a whole number",
        ),
        ('{ hang_up = { after = "5s" } }', "policy[0].do[0].hang_up.after: has no effect without a goodbye"),
        ('{ hang_up = { goodbye = "a", after = "2m" } }', "policy[0].do[0].hang_up.after: is longer than 60 s"),
        ('{ hang_up = { goodby = "a" } }', "policy[0].do[0].hang_up.goodby: is not a setting"),
        (f'{{ tag = "{"a" * 65}" }}', "policy[0].do[0].tag: is longer than 64 characters"),
        (r'{ tag = "a\nb" }', "policy[0].do[0].tag: holds control characters"),
        ('{ webhook = "alert" }', 'policy[0].do[0].webhook: there is no webhook "alert"'),
        ('{ webhook = "https://ops.example.com/hook" }', "policy[0].do[0].webhook: there is no webhook"),
    ],
)
def test_an_action_of_another_shape_is_refused_with_one_mistake(written: str, mistake: str) -> None:
    (found,) = refused(policy(trigger='tool = { name = "*" }', do=written))
    assert found.startswith(mistake)


def test_the_help_names_the_action_that_was_probably_meant() -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(policy(do="{ cancel_respones = true }"))
    assert caught.value.mistakes[0].help == "did you mean cancel_response?"


@pytest.mark.parametrize(
    "written",
    [
        '{ say = "You said {{ match.text }}." }',
        '{ hang_up = { goodbye = "{{ event.item.id }}" } }',
        '{ update_session = { instructions = "Speak of {{ match.text }}." } }',
        '{ update_session = { tools = [{ type = "function", name = "{{ event.item_id }}" }] } }',
        '{ update_session = { tools = "{{ event.session.tools }}" } }',
        '{ update_session = { prompt = { id = "p", variables = { a = "{{ match.text }}" } } } }',
        '{ send = { type = "session.update", session = { instructions = "{{ match.text }}" } } }',
        '{ send = { type = "session.update", session = "{{ event.session }}" } }',
        '{ send = { type = "response.create", response = { instructions = "{{ match.text }}" } } }',
        '{ send = { type = "response.create", response = { input = ["{{ event.item }}"] } } }',
        '{ send = { type = "response.create", response.input = [{ role = "system", a = ["{{ match.text }}"] }] } }',
        '{ send = { type = "conversation.item.create", item = "{{ event.item }}" } }',
        '{ create_item = { type = "message", role = "system", content = [{ text = "a {{ match.text }}" }] } }',
        '{ send = { type = "response.create", response = { input = [{ role = "{{ match.text }}" }] } } }',
        '{ send = { type = "response.create", response = "{{ event.response }}" } }',
        '{ send = { type = "response.create", response = { input = "{{ event.response.output }}" } } }',
        '{ send = { type = "response.create", response = { tools = [{ name = "{{ match.text }}" }] } } }',
        '{ send = { type = "response.create", response = { prompt = { id = "{{ match.text }}" } } } }',
        '{ create_item = { type = "message", role = "assistant", content = [{ text = "a {{ match.text }}" }] } }',
        '{ create_item = { type = "mcp_list_tools", tools = [{ description = "{{ match.text }}" }] } }',
        '{ update_session = { audio = "{{ event.session.audio }}" } }',
        '{ send = { type = "session.update", session = { audio = "{{ event.session.audio }}" } } }',
        '{ update_session = { audio.input = "{{ event.session.audio.input }}" } }',
        '{ update_session = { audio.input.transcription = "{{ event.session.audio.input.transcription }}" } }',
        '{ update_session = { audio.input.transcription = { model = "m", prompt = "{{ match.text }}" } } }',
        '{ update_session = { audio.input.transcription = { model = "m", keywords = ["{{ match.text }}"] } } }',
        '{ update_session = { input_audio_transcription = "{{ event.session.x }}" } }',
        *(
            f'{{ send = {{ type = "response.create", response.input = [{{ type = "message", role = "{role}", '
            'content = [{ type = "input_text", text = "{{ match.text }}" }] }] } }'
            for role in ("system", "assistant", "developer")
        ),
        *(
            f"{{ {action} }}"
            for path in ("call", "call.tags.0", "call.tags", "call.labels.name", "call.user")
            for action in (
                f'say = "Hello {{{{ {path} }}}}"',
                f'hang_up = {{ goodbye = "Bye {{{{ {path} }}}}" }}',
                f'update_session = {{ instructions = "{{{{ {path} }}}}" }}',
                f'create_item = {{ type = "message", role = "system", content = [{{ text = "{{{{ {path} }}}}" }}] }}',
            )
        ),
    ],
)
def test_what_others_said_never_gets_where_the_model_takes_it_for_instructions(written: str) -> None:
    for trigger in ('phrase = { speaker = "user", any = ["a"] }', 'on = "future.event"'):
        found = refused(policy(trigger=trigger, do=written))
        assert any("for your own instructions" in each or "must be a table" in each for each in found), found


def test_what_others_said_can_go_into_user_items_and_tags_and_metadata() -> None:
    phrase = 'phrase = { speaker = "user", any = ["a"] }'
    content = '[{ type = "input_text", text = "{{ match.text }}" }]'
    message = f'{{ type = "message", role = "user", content = {content} }}'
    for written in (
        '{ tag = "{{ match.text }}" }',
        f"{{ create_item = {message} }}",
        f"{{ create_item = {message} }}".replace("match.text", "call.user"),
        '{ send = { type = "response.create", response = { metadata = { topic = "{{ match.text }}" } } } }',
        '{ send = { type = "conversation.item.retrieve", item_id = "{{ event.item_id }}" } }',
        '{ say = "You are with {{ call.profile }}, call {{ call.call_id }}." }',
        '{ tag = "{{ call.user }} {{ call.labels.name }} {{ call.tags.0 }}" }',
        f'{{ send = {{ type = "response.create", response.input = [{message}] }} }}',
        '{ create_item = { type = "function_call_output", call_id = "call_1", output = "{{ match.text }}" } }',
        '{ update_session = { audio.input.transcription = { model = "m", language = "{{ event.item_id }}" } } }',
    ):
        assert action_of(written, phrase)


@pytest.mark.parametrize(
    ("written", "mistake"),
    [
        ('{ tag = "{{ match.text" }', "policy[0].do[0].tag: has {{ without }}"),
        (
            '{ say = "{{ user.name }}" }',
            "policy[0].do[0].say: holds a template of user, which is none of event, call, match",
        ),
        ('{ tag = "{{ call.user | upper }}" }', "policy[0].do[0].tag: holds a template that is no dotted path"),
        ('{ send = { type = "{{ call.user }}" } }', "policy[0].do[0].send.type: must be one of"),
    ],
)
def test_a_template_that_cannot_be_read_is_named_where_it_stands(written: str, mistake: str) -> None:
    (found,) = refused(policy(do=written))
    assert found.startswith(mistake)


def test_an_action_that_can_do_nothing_with_its_trigger_is_refused() -> None:
    endpoint = '{ answer_tool = { url = "https://a.example" } }'
    assert refused(policy(trigger='after = "1s"', do="{ delete_item = true }")) == [
        "policy[0].do[0].delete_item: deletes the matched item, and after matches none"
    ]
    assert refused(policy(trigger='phrase = { speaker = "user", any = ["a"] }', do=endpoint)) == [
        "policy[0].do[0].answer_tool: answers a function call, and phrase matches none"
    ]
    assert action_of(endpoint, 'unanswered_tool = "5s"')


def test_more_actions_than_anybody_needs_are_refused() -> None:
    (found,) = refused(policy(do=", ".join(['{ tag = "a" }'] * 21)))
    assert found == "policy[0].do: holds more than 20 actions"


def test_items_of_a_response_are_judged_as_items_of_the_conversation_are() -> None:
    def send(items: str) -> list[str]:
        return refused(policy(do=f'{{ send = {{ type = "response.create", response.input = {items} }} }}'))

    at = "policy[0].do[0].send.response.input"
    assert send("5") == [f"{at}: must be a list of items, not a whole number"]
    assert send('["a", { role = "user" }]') == [f"{at}[0]: must be a table, not a text", f"{at}[1].type: is missing"]
    (found,) = send('[{ type = "message", role = "developer", content = [] }]')
    assert found.startswith(f'{at}[0].role: must be one of "system", "user", "assistant"')


def test_items_and_responses_that_are_sent_are_tables() -> None:
    for type_, key in (("conversation.item.create", "item"), ("response.create", "response")):
        for value in ("5", '"{{ call.call_id }}"'):
            (found,) = refused(policy(do=f'{{ send = {{ type = "{type_}", {key} = {value} }} }}'))
            assert found.startswith(f"policy[0].do[0].send.{key}: must be a table, not a")
