"""Read a policy's actions as they are written. Pure.

Each function gives the action, or None after it has noted what is wrong. What templates may say is
`written_paths`'s to check; how a session or an item looks inside is upstream's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rtobserver.config import addresses
from rtobserver.config.sections import Secret
from rtobserver.config.shape import not_json
from rtobserver.config.values import Wrong, described, quoted
from rtobserver.policy import rules
from rtobserver.policy.findings import Findings, meant
from rtobserver.policy.rules import ACTION_NAMES, Action
from rtobserver.policy.templates import MAX_TAG, is_plain

NAMES = tuple(ACTION_NAMES.values())
MAX_ACTIONS = 20
"""Most actions of one policy."""
LONGEST_GOODBYE = 60.0
"""Seconds, as the API has it."""
LONGEST_TOOL = 60.0
"""Seconds that a tool's endpoint may take."""

CLIENT_EVENTS: Mapping[str, tuple[str, ...]] = {
    "session.update": ("session",),
    "input_audio_buffer.append": ("audio",),
    "input_audio_buffer.commit": (),
    "input_audio_buffer.clear": (),
    "output_audio_buffer.clear": (),
    "conversation.item.create": ("item",),
    "conversation.item.delete": ("item_id",),
    "conversation.item.retrieve": ("item_id",),
    "conversation.item.truncate": ("item_id", "content_index", "audio_end_ms"),
    "response.create": (),
    "response.cancel": (),
}
"""The client events that there are, and what each cannot do without (protocol, section 3.3)."""
_NEVER_SENT = "input_audio_buffer.append"
_ITEMS = (
    "message",
    "function_call",
    "function_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "item_reference",
)
_ITEM = 'as in { type = "message", role = "user", content = [] }'
_ROLES = ("system", "user", "assistant")
_ENDPOINT = '{ url = "https://tools.example.com/weather", timeout = "10s" }'


@dataclass(frozen=True, slots=True)
class Reader:
    """Read actions, knowing what the rest of the configuration has."""

    found: Findings
    webhooks: tuple[str, ...] | None
    """Their ids; None where they are not known."""
    secrets: Mapping[str, Secret]
    """By key path of the table that names each one."""

    def actions(self, value: Any, path: str) -> tuple[Action, ...] | None:
        """Read the list of a policy's actions."""
        elements = self.found.elements(value, path, "actions", '[{ tag = "refund" }]')
        if len(elements) > MAX_ACTIONS:
            self.found.wrong(path, f"holds more than {MAX_ACTIONS} actions", "write another policy for some of them")
        read = [self._action(each, at) for at, each in elements]
        kept = tuple(each for each in read if each is not None)
        return kept if kept and len(kept) == len(read) else None

    def drafts(self, value: Any, path: str) -> Iterator[tuple[Action, str]]:
        """Give the actions that templates can stand in, good or not, with where each is written."""
        for index, each in enumerate(value[:MAX_ACTIONS] if isinstance(value, list) else ()):
            for name, written in each.items() if isinstance(each, dict) else ():
                action = _draft(name, written)
                if action is not None:
                    yield action, f"{path}[{index}]"

    def _action(self, value: Any, path: str) -> Action | None:
        if not isinstance(value, dict):
            self.found.wrong(path, f"must be a table, not {described(value)}", 'as in { tag = "refund" }')
            return None
        if not value:
            self.found.wrong(path, "is empty", f"write one of {', '.join(NAMES)}")
        read: list[Action | None] = []
        for name, each in value.items():
            if name in _READERS:
                read.append(_READERS[name](self, each, f"{path}.{name}"))
            else:
                at = f"{path}.{name}" if name.isidentifier() else path
                remedy = meant(name, NAMES) or f"the actions are {', '.join(NAMES)}"
                self.found.wrong(at, f"is not an action: {quoted(name)}", remedy)
        if len(value) > 1:
            self.found.wrong(path, f"holds {len(value)} actions", "put each into braces of its own, in their order")
        return read[0] if len(read) == len(value) == 1 else None

    def send(self, value: Any, path: str) -> rules.Send | None:
        """Read a client event."""
        event = self._object(value, path, '{ type = "input_audio_buffer.clear" }')
        if event is None:
            return None
        type_ = None
        if "type" in event:
            choices = (each for each in CLIENT_EVENTS if each != _NEVER_SENT)
            type_ = self.found.choice(event["type"], f"{path}.type", choices)
        else:
            self.found.wrong(f"{path}.type", "is missing", "write the type of the client event")
        good = type_ is not None
        for key in CLIENT_EVENTS.get(type_ or "", ()):
            if key not in event:
                self.found.wrong(f"{path}.{key}", "is missing", f"{type_} cannot do without it")
                good = False
        if "event_id" in event:
            self.found.wrong(f"{path}.event_id", "is not yours to set", "each client event gets an id of ours")
            good = False
        if type_ == "session.update":
            good = self._session(event.get("session"), f"{path}.session") and good
        key = {"conversation.item.create": "item", "response.create": "response"}.get(type_ or "", "")
        if not isinstance(event.get(key, {}), dict):
            self.found.wrong(f"{path}.{key}", f"must be a table, not {described(event[key])}", "with braces around it")
            good = False
        if type_ == "conversation.item.create" and isinstance(event.get("item"), dict):
            good = self._item(event["item"], f"{path}.item") and good
        if type_ == "response.create" and isinstance(event.get("response"), dict) and "input" in event["response"]:
            good = self._input(event["response"]["input"], f"{path}.response.input") and good
        return rules.Send(event=event) if good else None

    def update_session(self, value: Any, path: str) -> rules.UpdateSession | None:
        """Read a part of a session."""
        session = self._object(value, path, '{ tool_choice = "none" }')
        if session is None or not self._session(session, path):
            return None
        if not session:
            self.found.wrong(path, "changes nothing", 'write it as in { tool_choice = "none" }')
            return None
        return rules.UpdateSession(session=session)

    def say(self, value: Any, path: str) -> rules.Say | None:
        """Read words to say."""
        text = self.found.text(value, path, "Let me check that.")
        return None if text is None else rules.Say(text=text)

    def create_item(self, value: Any, path: str) -> rules.CreateItem | None:
        """Read an item."""
        item = self._object(value, path, '{ type = "message", role = "system", content = [] }')
        return rules.CreateItem(item=item) if item is not None and self._item(item, path) else None

    def delete_item(self, value: Any, path: str) -> rules.DeleteItem | None:
        """Read which item goes."""
        if isinstance(value, str):
            item_id = self.found.text(value, path, "item_1")
            return None if item_id is None else rules.DeleteItem(item_id=item_id)
        if self.found.yes(value, path, "write true for the matched item, or an id in quotes"):
            return rules.DeleteItem(item_id=None)
        return None

    def answer_tool(self, value: Any, path: str) -> rules.AnswerTool | None:
        """Read the endpoint of a tool."""
        table = self.found.table(value, path, _ENDPOINT)
        if table is None:
            return None
        url = table.need("url", "write where the function call is answered")
        timeout, allow_http = table.take("timeout"), table.take("allow_http")
        has_secret = any(table.take(key) not in (None, "") for key in ("secret", "secret_env", "secret_file"))
        table.close()
        good = True
        if allow_http is not None and not isinstance(allow_http, bool):
            self.found.wrong(table.at("allow_http"), f"must be true or false, not {described(allow_http)}", "no quotes")
            allow_http, good = True, False
        if "url" in table:
            good = self._url(url, table.at("url"), allow_http=bool(allow_http)) and good
        seconds = 10.0 if timeout is None else self.found.duration(timeout, table.at("timeout"), most=LONGEST_TOOL)
        if not good or "url" not in table or seconds is None or (has_secret and path not in self.secrets):
            return None
        return rules.AnswerTool(url=url, timeout=seconds, secret=self.secrets.get(path), allow_http=bool(allow_http))

    def hang_up(self, value: Any, path: str) -> rules.HangUp | None:
        """Read how the call ends."""
        if not isinstance(value, dict):
            remedy = 'write true, or as in { goodbye = "Goodbye.", after = "5s" }'
            return rules.HangUp() if self.found.yes(value, path, remedy) else None
        table = self.found.table(value, path, '{ goodbye = "Goodbye." }')
        if table is None:
            return None
        goodbye, after = table.take("goodbye"), table.take("after")
        table.close()
        action, good = rules.HangUp(), True
        if "goodbye" in table:
            text = self.found.text(goodbye, table.at("goodbye"), "Goodbye.")
            action = replace(action, goodbye=text)
            good = text is not None
        elif "after" in table:
            self.found.wrong(table.at("after"), "has no effect without a goodbye", "it is how long that may take")
        if "after" in table:
            seconds = self.found.duration(after, table.at("after"), zero=True, most=LONGEST_GOODBYE)
            action = action if seconds is None else replace(action, after=seconds)
            good = good and seconds is not None
        return action if good else None

    def tag(self, value: Any, path: str) -> rules.Tag | None:
        """Read a tag."""
        text = self.found.text(value, path, "refund")
        if text is None:
            return None
        if not text.isprintable() or (is_plain(text) and len(text) > MAX_TAG):
            problem = f"is longer than {MAX_TAG} characters" if text.isprintable() else "holds control characters"
            self.found.wrong(path, problem, 'a tag is a word or two, as in "refund"')
            return None
        return rules.Tag(tag=text)

    def webhook(self, value: Any, path: str) -> rules.Webhook | None:
        """Read which webhook is notified."""
        id_ = self.found.text(value, path, "alerts")
        if id_ is None:
            return None
        if self.webhooks is not None and id_ not in self.webhooks:
            remedy = meant(id_, self.webhooks) or "write a [[webhook]] with this id"
            self.found.wrong(path, f"there is no webhook {quoted(id_)}", remedy)
            return None
        return rules.Webhook(id=id_)

    def _object(self, value: Any, path: str, example: str) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            self.found.wrong(path, f"must be a table, not {described(value)}", f"as in {example}")
            return None
        if self.found.json(value, path) is None:
            return None
        good = True
        for at, key in _template_keys(value, path):
            self.found.wrong(at, f"has a template in the name of a key: {quoted(key)}", "only values take templates")
            good = False
        return value if good else None

    def _session(self, value: Any, path: str) -> bool:
        if not isinstance(value, dict):
            self.found.wrong(path, f"must be a table, not {described(value)}", 'as in { tool_choice = "none" }')
            return False
        good = True
        if "model" in value:
            self.found.wrong(f"{path}.model", "cannot be changed in a session", "it belongs to the profile")
            good = False
        if value.get("type", "realtime") != "realtime":
            self.found.wrong(f"{path}.type", "cannot be changed in a session", 'leave it out, or write "realtime"')
            good = False
        if not isinstance(value.get("audio", {}), dict):
            self.found.wrong(
                f"{path}.audio", f"must be a table, not {described(value['audio'])}", "with input or output"
            )
            good = False
        return good

    def _input(self, value: Any, path: str) -> bool:
        if not isinstance(value, list):
            self.found.wrong(path, f"must be a list of items, not {described(value)}", "or leave it out")
            return False
        good = True
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            if not isinstance(item, dict):
                self.found.wrong(at, f"must be a table, not {described(item)}", _ITEM)
            good = isinstance(item, dict) and self._item(item, at) and good
        return good

    def _item(self, item: Mapping[str, Any], path: str) -> bool:
        good = True
        if "type" not in item:
            self.found.wrong(f"{path}.type", "is missing", 'write it as in "message"')
            good = False
        elif self.found.choice(item["type"], f"{path}.type", _ITEMS) is None:
            good = False
        if "role" in item:
            good = self.found.choice(item["role"], f"{path}.role", _ROLES) is not None and good
        if not good or item["type"] != "message":
            return good
        if "role" not in item:
            self.found.wrong(f"{path}.role", "is missing", 'write "system", "user" or "assistant"')
            good = False
        if not isinstance(item.get("content"), list):
            problem = f"must be a list, not {described(item['content'])}" if "content" in item else "is missing"
            self.found.wrong(f"{path}.content", problem, 'as in [{ type = "input_text", text = "..." }]')
            good = False
        return good

    def _url(self, value: Any, path: str, *, allow_http: bool) -> bool:
        url = self.found.text(value, path, "https://tools.example.com/weather")
        if url is None:
            return False
        if not is_plain(url):
            self.found.wrong(path, "takes no templates", "what differs between calls is in the request's body")
            return False
        try:
            addresses.outbound(url, allow_http=allow_http)
        except Wrong as wrong:
            self.found.caught(path, wrong)
            return False
        return True


def _draft(name: str, written: Any) -> Action | None:
    """Give an action of which templates can be read, whatever else is wrong with it."""
    if isinstance(written, dict) and next(not_json(written, name), None) is not None:
        return None
    match name, written:
        case "send", dict():
            return rules.Send(event=written)
        case "update_session", dict():
            return rules.UpdateSession(session=written)
        case "create_item", dict():
            return rules.CreateItem(item=written)
        case "say", str():
            return rules.Say(text=written)
        case "tag", str():
            return rules.Tag(tag=written)
        case "delete_item", str() | True:
            return rules.DeleteItem(item_id=written if isinstance(written, str) else None)
        case "answer_tool", dict():
            return rules.AnswerTool(url="")
        case "hang_up", {"goodbye": str() as goodbye}:
            return rules.HangUp(goodbye=goodbye)
    return None


def _template_keys(value: Any, path: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += [(path, key)] if not is_plain(key) else _template_keys(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += _template_keys(inner, f"{path}[{index}]")
    return found


_Read = Callable[[Reader, Any, str], Action | None]


def _flag(kind: Callable[[], Action]) -> _Read:
    def read(reader: Reader, value: Any, path: str) -> Action | None:
        return kind() if reader.found.yes(value, path, "write true, or leave the action out") else None

    return read


_READERS: Mapping[str, _Read] = {
    "send": Reader.send,
    "update_session": Reader.update_session,
    "restore_session": _flag(rules.RestoreSession),
    "cancel_response": _flag(rules.CancelResponse),
    "say": Reader.say,
    "create_item": Reader.create_item,
    "delete_item": Reader.delete_item,
    "answer_tool": Reader.answer_tool,
    "mute_model": _flag(rules.MuteModel),
    "unmute_model": _flag(rules.UnmuteModel),
    "pause_recording": _flag(rules.PauseRecording),
    "resume_recording": _flag(rules.ResumeRecording),
    "hang_up": Reader.hang_up,
    "tag": Reader.tag,
    "webhook": Reader.webhook,
}
