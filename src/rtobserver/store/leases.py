"""Share calls among replicas: one row per incarnation of a process that beats, one per call that goes on.

A replica that stops beating is fenced first, once and for good, and only then are its calls claimed,
by `owner = the fenced one`: the filter is on the row that changes, so that no two claim the same call
(reliability.md 4.6). The database's clock decides, never a machine's, and it is read while the
statement runs, since a transaction's own time may be seconds old after a wait for a lock. A lease
that has run out may be renewed as long as nobody has fenced its owner: until then nobody can have
claimed anything. Leases and replicas stand apart from calls' rows: no statement touches both.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from rtobserver.errors import StoreUnavailable
from rtobserver.store.identity import CallRef
from rtobserver.store.line import Line
from rtobserver.store.unfinished import Mark

WAKE = "rtobserver_leases"
"""Channel on which replicas wake each other when leases change hands."""
ORDERS = "rtobserver_orders"
"""Channel on which they are woken when an order was given."""

log = structlog.get_logger()


def _timed(statement: str) -> str:
    """Write out NOW: the database's clock as it is when the statement runs, in microseconds."""
    return statement.replace("NOW", "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")


_ENTER = _timed("""
INSERT INTO replica (replica_id, started_at, beat_at, number, boot, version, journal, lease_until)
SELECT $1, $2, $2, coalesce(max(number), 0) + 1, $6, $3, $4, NOW + $5 FROM replica
    ON CONFLICT (replica_id) DO UPDATE SET lease_until = excluded.lease_until WHERE replica.fenced_at IS NULL
RETURNING 1""")
_BEAT = _timed("""
UPDATE replica SET lease_until = NOW + $2 WHERE replica_id = $1 AND fenced_at IS NULL RETURNING 1""")
_OTHERS = _timed("""
SELECT replica_id, NOW AS now_us, lease_until, fenced_at IS NOT NULL AS is_fenced,
       draining_at IS NOT NULL AS is_draining, (SELECT count(*) FROM lease WHERE owner = replica_id) AS calls
  FROM replica
 WHERE replica_id <> $1 AND lease_until IS NOT NULL
   AND (fenced_at IS NULL OR EXISTS (SELECT 1 FROM lease WHERE owner = replica_id))
 ORDER BY started_at, replica_id""")
_FENCE = _timed("""
UPDATE replica SET fenced_at = NOW
 WHERE replica_id = $1 AND fenced_at IS NULL AND lease_until < NOW RETURNING 1""")
_FENCE_EARLIER = _timed("""
UPDATE replica SET fenced_at = NOW
 WHERE journal = $2 AND replica_id <> $1 AND fenced_at IS NULL RETURNING replica_id""")
_RESIGN = _timed("""
UPDATE replica SET fenced_at = NOW, stopped_at = coalesce(stopped_at, $2)
 WHERE replica_id = $1 AND fenced_at IS NULL""")
_DRAIN = _timed("UPDATE replica SET draining_at = NOW WHERE replica_id = $1")
# the inner part skips what others are claiming; the outer one looks again at the row as it is when it is locked
_CLAIM = _timed("""
WITH free AS MATERIALIZED (
     SELECT call_key FROM lease WHERE owner = $2 AND ($4 OR phase = 'offered')
        AND EXISTS (SELECT 1 FROM replica WHERE replica_id = $1 AND fenced_at IS NULL)
      ORDER BY call_key LIMIT $3 FOR UPDATE SKIP LOCKED)
UPDATE lease SET previous = owner, owner = $1, epoch = epoch + 1, claimed_at = NOW, attached_at = NULL,
       phase = CASE WHEN $4 THEN 'held' ELSE 'taken' END
  FROM free WHERE lease.call_key = free.call_key AND lease.owner = $2
RETURNING lease.call_key, call_id, day, epoch, previous, registration""")
# what somebody owns who was fenced is the next one's to claim, and who never entered can never be fenced
_HOLD = _timed("""
WITH me AS MATERIALIZED (SELECT replica_id FROM replica WHERE replica_id = $1 AND fenced_at IS NULL),
     held AS (
     INSERT INTO lease (call_key, call_id, day, owner, epoch, claimed_at, phase, registration)
     SELECT call_key, call_id, day, replica_id, epoch, NOW, 'held', registration
       FROM me, unnest($2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::text[])
            AS new (call_key, call_id, day, epoch, registration)
         ON CONFLICT (call_key) DO NOTHING RETURNING call_key)
SELECT ARRAY(SELECT call_key FROM held) AS held FROM me""")
_ADOPT = _timed("""
INSERT INTO lease (call_key, call_id, day, owner, epoch, claimed_at, phase, registration)
SELECT call_key, call_id, day, replica_id, epoch + 1, NOW, 'held', registration
  FROM replica, unnest($2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::text[])
       AS new (call_key, call_id, day, epoch, registration)
 WHERE replica_id = $1 AND fenced_at IS NULL
    ON CONFLICT (call_key) DO NOTHING
RETURNING call_key, call_id, day, epoch, NULL AS previous, registration""")
_AGAIN = _timed("""
UPDATE lease SET epoch = epoch + 1, claimed_at = NOW, phase = 'held' WHERE owner = $1 AND call_key = $2
RETURNING call_key, call_id, day, epoch, NULL AS previous, registration""")
_OWN = "SELECT call_key, call_id, day, epoch FROM lease WHERE owner = $1"
_HOLDERS = "SELECT call_key, owner FROM lease WHERE call_key = ANY($1::bigint[])"
_RELEASE = "DELETE FROM lease WHERE owner = $1 AND call_key = ANY($2::bigint[])"
_OFFER = """
WITH given AS (UPDATE lease SET phase = 'offered'
                WHERE owner = $1 AND phase = 'held' AND call_key = ANY($2::bigint[]) RETURNING 1)
SELECT count(*) AS calls, pg_notify($3, '') FROM given"""
_PHASE = """
WITH given AS (UPDATE lease SET phase = $3, attached_at = coalesce($4, attached_at)
                WHERE owner = $1 AND call_key = $2 RETURNING 1)
SELECT count(*) AS calls, pg_notify($5, '') FROM given"""
_TAKEN = """
SELECT call_key, phase FROM lease WHERE previous = $1 AND call_key = ANY($2::bigint[]) AND owner <> $1"""
_LEFT = """
WITH given AS (UPDATE lease SET phase = 'left' WHERE previous = $1 AND call_key = ANY($2::bigint[])
                  AND phase = 'attached' RETURNING 1)
SELECT count(*) AS calls, pg_notify($3, '') FROM given"""
_LEFT_ALL = """
WITH given AS (UPDATE lease SET phase = 'left' WHERE previous = $1 AND phase = 'attached' RETURNING 1)
SELECT count(*) AS calls, pg_notify($2, '') FROM given"""
_PHASES = "SELECT call_key, phase FROM lease WHERE owner = $1 AND call_key = ANY($2::bigint[])"


class Fenced(StoreUnavailable):
    """This incarnation was fenced, or has not entered: it can own nothing now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """Be another incarnation: one that goes on, or one that has left calls behind."""

    replica_id: str
    left: float
    """Seconds for which its lease still lasts; negative when it has run out."""
    is_fenced: bool
    is_draining: bool
    calls: int
    """Calls that it owns."""
    told_at: float
    """When this was told, in seconds by the database's clock."""

    @property
    def is_dead(self) -> bool:
        """Say whether its lease has run out."""
        return self.is_fenced or self.left < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Be a call that this replica has just come to own."""

    ref: CallRef
    """With the epoch that begins."""
    owner: str
    """The incarnation that owns it now."""
    previous: str | None
    """The incarnation that it was taken from: its mark says up to when it is recorded. None where nobody knows that."""
    registration: Mapping[str, Any]
    """The call's row as it was first written; the row itself may still lie in another replica's journal."""


class Leases:
    """Be one incarnation's part of the leases: `me` is its id, `ttl` the life of its own lease in seconds.

    Everything raises StoreUnavailable where the database cannot be asked now.
    """

    def __init__(self, line: Line, me: str, ttl: float, *, beats: Line) -> None:
        self._line, self._beats = line, beats
        self.me = me
        self._ttl_us = int(ttl * 1e6)

    # --- replicas -------------------------------------------------------------------------------

    async def enter(self, mark: Mark, *, version: str, journal: str) -> None:
        """Begin this incarnation, which has heard nothing before its mark; it holds its lease from now on.

        Those that enter at the same time may have the same number. Whoever has not heard what came of it enters again.

        Raises:
            Fenced: this incarnation has entered before, and was fenced since.

        """
        entered = await self._line.rows(_ENTER, self.me, mark.at, version, journal, self._ttl_us, mark.boot)
        if not entered:
            raise Fenced("this incarnation was fenced")

    async def beat(self) -> bool:
        """Renew the lease; False where this incarnation was fenced, which is for good."""
        return bool(await self._beats.rows(_BEAT, self.me, self._ttl_us))

    async def others(self) -> list[Other]:
        """List the other incarnations that go on, or that own calls; oldest first."""
        return [
            Other(
                replica_id=row["replica_id"],
                left=(row["lease_until"] - row["now_us"]) / 1e6,
                is_fenced=row["is_fenced"],
                is_draining=row["is_draining"],
                calls=row["calls"],
                told_at=row["now_us"] / 1e6,
            )
            for row in await self._line.rows(_OTHERS, self.me)
        ]

    async def fence(self, dead: str) -> bool:
        """Fence an incarnation whose lease has run out; False where it has not, or somebody else was faster."""
        return bool(await self._line.rows(_FENCE, dead))

    async def fence_earlier(self, journal: str) -> list[str]:
        """Fence the earlier incarnations of this journal, whose processes are gone; gives them."""
        return [row["replica_id"] for row in await self._line.rows(_FENCE_EARLIER, self.me, journal)]

    async def drain(self) -> None:
        """Say that this incarnation is stopping."""
        await self._line.rows(_DRAIN, self.me)

    async def resign(self, at: int) -> None:
        """Fence this incarnation itself: what it still owns may be claimed at once."""
        await self._line.rows(_RESIGN, self.me, at)

    # --- calls ----------------------------------------------------------------------------------

    async def claim(self, owner: str, limit: int, *, offered: bool = False) -> list[Claim]:
        """Claim calls of a fenced incarnation, or those that a stopping one offers."""
        return [self._claim(row) for row in await self._line.rows(_CLAIM, self.me, owner, limit, not offered)]

    async def claim_again(self, call: CallRef) -> Claim | None:
        """Begin a new epoch of an own call; None where it is not owned any more."""
        rows = await self._line.rows(_AGAIN, self.me, call.key)
        return self._claim(rows[0]) if rows else None

    async def hold(self, calls: Sequence[tuple[CallRef, Mapping[str, Any]]]) -> list[CallRef]:
        """Own calls, each with its registration; gives those that had an owner, of which nothing is changed.

        Raises:
            Fenced: nothing was changed.

        """
        rows = await self._line.rows(_HOLD, self.me, *_columns(calls))
        if not rows:
            raise Fenced("this incarnation owns nothing: it was fenced, or has not entered")
        held = set(rows[0]["held"])
        return [ref for ref, _ in calls if ref.key not in held]

    async def adopt(self, calls: Sequence[tuple[CallRef, Mapping[str, Any]]]) -> list[Claim]:
        """Own calls that have no owner, with the epoch behind the one that is known; gives those that had none.

        Nothing is changed by an incarnation that was fenced or has not entered.
        """
        return [self._claim(row) for row in await self._line.rows(_ADOPT, self.me, *_columns(calls))]

    async def own(self) -> list[CallRef]:
        """List the calls that this incarnation owns."""
        found = []
        for row in await self._line.rows(_OWN, self.me):
            ref = CallRef(row["call_id"], row["day"], row["call_key"])
            ref.epoch = row["epoch"]
            found.append(ref)
        return found

    async def holders(self, keys: Collection[int]) -> dict[int, str]:
        """Tell who owns these calls, as far as anybody does."""
        return {row["call_key"]: row["owner"] for row in await self._line.rows(_HOLDERS, list(keys))}

    async def release(self, keys: Collection[int]) -> None:
        """Own these calls no longer: they are over."""
        await self._line.rows(_RELEASE, self.me, list(keys))

    # --- handing over ---------------------------------------------------------------------------

    async def offer(self, keys: Collection[int]) -> None:
        """Offer own calls to whoever takes them, and wake the others."""
        await self._line.rows(_OFFER, self.me, list(keys), WAKE)

    async def taken(self, keys: Collection[int]) -> dict[int, str]:
        """Tell which of the calls that were offered have another owner, and how far that one is.

        `taken`: it attaches. `attached`: it waits for us to leave. `held`: it needs nothing of us.
        """
        return {row["call_key"]: row["phase"] for row in await self._line.rows(_TAKEN, self.me, list(keys))}

    async def attached(self, call: CallRef, at: int) -> None:
        """Say that a call that was offered to us is heard here too, from a time on."""
        await self._line.rows(_PHASE, self.me, call.key, "attached", at, WAKE)

    async def keep(self, call: CallRef) -> None:
        """Say that a call that was offered to us is ours, and needs nothing more of who had it."""
        await self._line.rows(_PHASE, self.me, call.key, "held", None, WAKE)

    async def leave(self, keys: Collection[int]) -> None:
        """Say that calls which others have taken are not heard here any more, and that all of them is stored."""
        await self._line.rows(_LEFT, self.me, list(keys), WAKE)

    async def leave_all(self) -> None:
        """Say the same of every call that somebody hears by now who took it from here."""
        await self._line.rows(_LEFT_ALL, self.me, WAKE)

    async def phases(self, keys: Collection[int]) -> dict[int, str]:
        """Tell how far the hand-over of these calls, which are ours now, has come."""
        return {row["call_key"]: row["phase"] for row in await self._line.rows(_PHASES, self.me, list(keys))}

    def _claim(self, row: Mapping[str, Any]) -> Claim:
        ref = CallRef(row["call_id"], row["day"], row["call_key"])
        ref.epoch = row["epoch"]
        registration = json.loads(row["registration"])
        return Claim(ref=ref, owner=self.me, previous=row["previous"], registration=registration)


def _columns(calls: Sequence[tuple[CallRef, Mapping[str, Any]]]) -> list[list[Any]]:
    return [
        [ref.key for ref, _ in calls],
        [ref.call_id for ref, _ in calls],
        [ref.day for ref, _ in calls],
        [ref.epoch for ref, _ in calls],
        [json.dumps(dict(registration)) for _, registration in calls],
    ]
