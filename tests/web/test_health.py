from __future__ import annotations

from pathlib import Path

from tests.web.operator_stage import stage


async def test_health_says_what_is_wrong(tmp_path: Path) -> None:
    async with stage(tmp_path) as api:
        assert (await api.get("/livez", key="")).json["status"] == "ok"
        ready = await api.get("/readyz", key="")
        assert (ready.status, ready.json) == (200, {"status": "ok", "reasons": []})
        api.facts.degraded.append("database is away")
        ready = await api.get("/readyz", key="")
        assert (ready.status, ready.json) == (200, {"status": "degraded", "reasons": ["database is away"]})
        api.facts.broken.append("recorder is full")
        ready = await api.get("/readyz", key="")
        assert (ready.status, ready.json["status"]) == (503, "unavailable")
        assert ready.json["reasons"] == ["recorder is full", "database is away"]
        api.facts.draining = True
        ready = await api.get("/readyz", key="")
        assert (ready.status, ready.json["status"]) == (503, "draining")
        assert (await api.get("/livez", key="")).status == 200
