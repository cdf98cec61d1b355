"""Commands for operators, on a PostgreSQL server."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from rtobserver import cli
from rtobserver.store import schema, tables
from rtobserver.store.places import Server
from tests.store.stored import START, call, entry, insert, lent, ref, select
from tests.store.test_search import line
from tests.support import postgres
from tests.test_cli import CONFIG, Run

pytestmark = pytest.mark.usefixtures("own_logs")

DAY_US = 86_400_000_000


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run a command with a configuration that names a server; gives exit code, stdout and stderr."""

    def run_it(server: Server, *words: str) -> tuple[int, str, str]:
        path = tmp_path / "config.toml"
        path.write_text(f'{CONFIG}\n[public]\ntoken_key = "{"A" * 43}"\n[store]\nurl = "{server.url}"\n')
        monkeypatch.setattr(sys, "argv", ["rtobserver", *words, "--config", str(path)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        heard = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, heard.out, heard.err

    yield run_it
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with lent("postgresql", tmp_path) as place:
        assert isinstance(place, Server)
        yield place


def test_an_empty_database_is_migrated_once(run: Run) -> None:
    empty = Server(postgres.shared().create())
    code, out, err = run(empty, "keys", "list")
    assert (code, out) == (3, ""), err
    code, out, err = run(empty, "migrate")
    assert code == 0, err
    assert out.endswith(f"went from nothing to {schema.head()}\n")
    code, out, err = run(empty, "migrate")
    assert out.endswith(f"is at {schema.head()}\n"), err
    postgres.shared().drop(empty.url)


def test_keys_are_made_listed_and_revoked(run: Run, server: Server) -> None:
    code, key, err = run(server, "keys", "create", "--name", "laptop", "--scope", "control")
    assert code == 0, err
    key_id = key.split("_")[1]
    assert f'"key_id": "{key_id}"' in run(server, "keys", "list", "--json")[1]
    assert run(server, "keys", "revoke", key_id)[0] == 0
    assert run(server, "keys", "revoke", key_id)[0] == 1


def test_what_is_due_is_purged(run: Run, server: Server) -> None:
    began = START - 4000 * DAY_US
    insert(server, tables.call, call("rtc_old", started_at=began, status="ended"))
    insert(server, tables.entry, entry("rtc_old", 1, day=ref("rtc_old", began).day))
    code, out, err = run(server, "purge", "--dry-run")
    assert code == 0, err
    assert out.startswith("1 calls would lose what was said: 1 entries")
    assert run(server, "purge")[0] == 0, err
    assert select(server, sa.select(tables.call.c.call_id)) == []
    assert select(server, sa.select(tables.entry.c.seq)) == []


def test_derived_rows_are_made_again(run: Run, server: Server) -> None:
    content = [{"type": "input_text", "text": "hello"}]
    added = {"id": "item_1", "type": "message", "role": "user", "status": "completed", "content": content}
    frame = json.dumps({"type": "conversation.item.added", "item": added}).encode()
    insert(server, tables.call, call("rtc_1", status="ended"), call("rtc_live"))
    insert(server, tables.entry, entry("rtc_1", 1, frame, type="conversation.item.added"), entry("rtc_live", 1))
    insert(server, tables.item, line("rtc_1", "item_gone", "never said"))
    code, out, err = run(server, "rebuild")
    assert code == 0, err
    assert out.splitlines() == ["1 calls rebuilt", "left alone, it goes on: rtc_live"]
    assert select(server, sa.select(tables.item.c.item_id, tables.item.c.text)) == [("item_1", "hello")]
    assert select(server, sa.select(tables.call.c.entry_count).where(tables.call.c.call_id == "rtc_1")) == [(1,)]


def test_policies_are_replayed_over_what_a_server_holds(run: Run, server: Server) -> None:
    insert(server, tables.call, call("rtc_1", status="ended"))
    insert(server, tables.entry, entry("rtc_1", 1, b'{"type":"error"}', type="error"))
    code, out, err = run(server, "policies", "replay", "--since", "2026-01-01")
    assert code == 0, err
    assert "1 call, " in out
