"""Several database connections in one thread, of which exactly one goes on at a time: whom the scheduler names.

Each actor is a greenlet with a Django connection of its own. It hands over before every statement, before COMMIT and
after it, so the scheduler may let others go on between any two statements, kill it there, or break its connection. A
statement that waits for a row that another actor has locked waits in PostgreSQL, and its actor counts as blocked until
PostgreSQL answers; nothing here guesses by the wall clock whether it waits: `pg_blocking_pids` says so.

What happens depends on the scheduler's choices alone. (But for one case: of two actors that lock each other out,
PostgreSQL chooses the victim. The product takes its locks in one order, so that is rare.)
"""

import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

import psycopg
from django.db import InterfaceError, OperationalError, connections
from django.db.backends.postgresql.base import DatabaseWrapper
from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]
from psycopg import IsolationLevel
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready, Wait

from lib.pg_errors import is_not_now

ANSWER_MS = 1
"""A statement that takes longer is looked at: it may wait for a lock."""


class KilledError(BaseException):
    """The process ends here, as with kill -9: nothing below may catch this, and no statement goes out any more."""


class State(Enum):
    """Whether an actor may go on (`ready`), waits for a lock in PostgreSQL (`blocked`), or is over (`done`)."""

    READY = "ready"
    BLOCKED = "blocked"
    DONE = "done"


class Session(psycopg.Connection[Any]):
    """A connection to PostgreSQL that an actor uses and that outlives it: to open one takes longer than a batch.

    `is_broken`: as far as its actor can see, the connection is gone.
    """

    user: "Actor | None" = None
    is_broken = False
    unfinished: Any = None

    def cursor(self, *args: Any, **options: Any) -> Any:
        """Return a cursor. Raises what psycopg raises if the connection is gone: Django may not ask it otherwise."""
        if self.is_broken:
            raise psycopg.OperationalError("the connection is closed")
        return super().cursor(*args, **options)

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:  # noqa: ARG002
        """Let PostgreSQL work; if it waits for a lock, let the others go on."""
        if self.is_broken:
            raise psycopg.OperationalError("the connection is lost")
        if self.user is None:
            return super().wait(gen)
        try:
            wanted = next(gen)
            patience = ANSWER_MS
            while True:
                ready = self.is_ready(wanted, patience)
                patience *= 2  # Whoever is not locked out will get an answer, however busy the machine is.
                if ready:
                    wanted = gen.send(ready)
                elif self.user.stage.is_locked_out(self):
                    self.unfinished = gen
                    self.user.block()
                    if self.is_broken:
                        raise psycopg.OperationalError("the connection was lost while the statement waited")
                    self.unfinished = None
        except StopIteration as end:
            return end.value

    def finish(self, gen: Any, wanted: Wait | None = None) -> Any:
        """See a statement to its end, whoever it was that began it."""
        try:
            if wanted is None:
                wanted = next(gen)
            while True:
                ready = self.is_ready(wanted, 100)
                if ready:
                    wanted = gen.send(ready)
        except StopIteration as end:
            return end.value

    def is_ready(self, wanted: Wait, milliseconds: int) -> Ready:
        """Return for what the socket is ready, of what is wanted."""
        poll = select.poll()
        poll.register(self.pgconn.socket, (wanted & Wait.R and select.POLLIN) | (wanted & Wait.W and select.POLLOUT))
        found = poll.poll(milliseconds)
        if not found:
            return Ready(0)
        events = found[0][1]
        readable = Ready.R if events & (select.POLLIN | select.POLLHUP | select.POLLERR) else Ready(0)
        return Ready(readable | (Ready.W if events & select.POLLOUT else Ready(0)))

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction is open, failed or not."""
        return self.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def commit(self) -> None:
        """Commit, with a pause before and after."""
        if self.user is None or not self.is_in_transaction:
            super().commit()
            return
        actor = self.user
        actor.hand_over("COMMIT")
        super().commit()
        actor.stage.ended(actor, is_committed=True)
        actor.hand_over("committed")
        if self.is_broken:
            raise psycopg.OperationalError("the connection was lost before the answer to COMMIT came")

    def rollback(self) -> None:
        """Roll back at once: whoever gives up decides nothing more."""
        super().rollback()
        if self.user is not None:
            self.user.stage.ended(self.user, is_committed=False)

    def close(self) -> None:
        """Keep the session for the next actor."""
        if not self.is_broken and self.user is not None:
            self.user.stage.put_back(self)

    @property
    def closed(self) -> bool:
        """Whether it is of no use to its actor any more."""
        return self.is_broken or super().closed


class ActorConnection(DatabaseWrapper):
    """Django's connection of an actor, on one of the sessions of the stage."""

    def __init__(self, settings: dict[str, Any], actor: "Actor") -> None:
        super().__init__(settings)
        self.actor = actor
        self.execute_wrappers.append(self._before_statement)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Session:
        """Return a session that is free."""
        self.isolation_level = IsolationLevel.READ_COMMITTED
        session = self.actor.stage.take_out(conn_params)
        session.user = self.actor
        self.actor.session = session
        return session

    def _before_statement(self, execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        self.actor.hand_over(sql)
        result = execute(sql, params, many, context)
        if sql.startswith("ROLLBACK TO SAVEPOINT"):
            self.actor.stage.has_freed_locks()
        return result


class Actor:
    """A piece of work of one process, from its first statement to its end. `name` says whose and which.

    `pending` is what the work wants recorded if the transaction commits.
    """

    def __init__(self, stage: "Stage", name: str, work: Callable[[], object]) -> None:
        self.stage = stage
        self.name = name
        self.state = State.READY
        self.at = "start"
        self.session: Session | None = None
        self.pending: object = None
        self.error: BaseException | None = None
        self.is_killed = False
        self.has_lost_connection = False
        self._work = work
        self._connection = ActorConnection(stage.settings, self)
        self._hub = getcurrent()
        self._greenlet = greenlet(self._run)

    def _run(self) -> None:
        try:
            self._work()
        except KilledError:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the scheduler, whatever it is
            self.error = error
        finally:
            with suppress(Exception):
                self._connection.close()
            self.state = State.DONE

    # --- in the actor

    def hand_over(self, where: str) -> None:
        """Let the scheduler choose who goes on. Whoever is killed never gets beyond this."""
        if self.is_killed:
            raise KilledError
        self.at = where
        self._hub.switch()

    def block(self) -> None:
        """Wait until the scheduler has seen that PostgreSQL answers."""
        self.state = State.BLOCKED
        self._hub.switch()

    # --- in the scheduler

    def go_on(self) -> None:
        """Let it go on to its next pause."""
        self._switch(self._greenlet.switch)

    def kill(self, *, is_noticed: bool) -> None:
        """End it as kill -9 does. Its transaction ends with it, or later (`Stage.notice`) if nobody notices yet."""
        self.is_killed = True
        self._lose_session()
        if self._greenlet:  # It has begun, and is not over.
            self._switch(lambda: self._greenlet.throw(KilledError()))
        self.state = State.DONE
        if is_noticed:
            self.stage.notice()

    def lose_connection(self) -> None:
        """Have its connection break; what was not committed is rolled back."""
        self.has_lost_connection = True
        self._lose_session()
        self.stage.notice()
        self.go_on()

    def _lose_session(self) -> None:
        if self.session is not None:
            self.session.is_broken = True
            self.stage.lost.append(self.session)
            self.session = None

    def _switch(self, switch: Callable[[], Any]) -> None:
        own = connections["default"]
        connections["default"] = self._connection
        try:
            switch()
        finally:
            connections["default"] = own


class Stage:
    """The sessions of all actors, those that are free, and those whose actor is dead and that PostgreSQL still has."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.lost: list[Session] = []
        self.committed: Callable[[Actor], None] = lambda _: None
        self._sessions: dict[int, Session] = {}
        self._free: list[Session] = []
        self._rolled_back: list[Session] = []
        self._locks_were_freed = False
        self._observer: psycopg.Connection[Any] | None = None

    def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            session.pgconn.finish()
        if self._observer is not None:
            self._observer.close()

    # --- sessions

    def take_out(self, parameters: dict[str, Any]) -> Session:
        """Return a free session."""
        for session in [session for session in self._rolled_back if session.user and session.user.state is State.DONE]:
            self._rolled_back.remove(session)
            session.user, session.is_broken = None, False
            self._free.append(session)
        if self._free:
            return self._free.pop()
        session = Session.connect(**{**parameters, "prepare_threshold": 3})
        session.autocommit = True
        # A session that comes to wait for one that waits for it is told so at once, and by PostgreSQL.
        session.execute("SET synchronous_commit = off; SET deadlock_timeout = '1ms'; SET jit = off")
        self._sessions[session.info.backend_pid] = session
        return session

    def put_back(self, session: Session) -> None:
        """Take a session that is not needed any more."""
        if session.is_in_transaction:
            session.rollback()
        if session.user is not None:
            session.user.session = None
        session.user = None
        self._free.append(session)

    def ended(self, actor: Actor, *, is_committed: bool) -> None:
        """Note that a transaction ended, and with it its locks."""
        self._locks_were_freed = True
        if is_committed:
            self.committed(actor)
        actor.pending = None

    def has_freed_locks(self) -> None:
        """Note that an actor may not be locked out any more."""
        self._locks_were_freed = True

    def notice(self) -> None:
        """Have PostgreSQL notice that the clients of lost sessions are gone: it rolls back what they had open."""
        for session in self.lost:
            if session.unfinished is not None:
                self._observe("SELECT pg_cancel_backend(%s)", session.info.backend_pid)
                self._finish(session)
            session.finish(session._rollback_gen())
            self._rolled_back.append(session)
            self._locks_were_freed = True
        self.lost = []

    def _finish(self, session: Session) -> None:
        """See a statement of a lost session to its end, whatever that is."""
        unfinished, session.unfinished = session.unfinished, None
        with suppress(psycopg.Error):
            session.finish(unfinished, Wait.R)

    # --- locks

    def is_locked_out(self, session: Session) -> bool:
        """Tell whether another session keeps this one from going on, and PostgreSQL will not refuse it for a deadlock.

        Of a circle it refuses the session that closes it, since that is the last one to look whether there is one.
        """
        pid = session.info.backend_pid
        before = self._blockers(pid)
        if not before:
            return False
        seen: set[int] = set()
        while before:
            seen |= before
            before = set().union(*(self._blockers(one) for one in before)) - seen
        return pid not in seen

    def _blockers(self, pid: int) -> set[int]:
        """Return the sessions of actors that this one waits for."""
        row = self._observe("SELECT pg_blocking_pids(%s)", pid)
        return {one for one in row[0] if one in self._sessions}

    def see_who_is_free(self, blocked: Sequence[Actor]) -> None:
        """After transactions ended: find out which actors PostgreSQL answers now, those lost included."""
        if not self._locks_were_freed:
            return
        self._locks_were_freed = False
        for session in [session for session in self.lost if session.unfinished is not None]:
            while not session.is_ready(Wait.R, ANSWER_MS):
                if self.is_locked_out(session):
                    break
            else:
                self._finish(session)
                self._locks_were_freed = True
        for actor in blocked:
            assert actor.session is not None, "who is blocked has a session"
            while not actor.session.is_ready(Wait.R, ANSWER_MS):
                if self.is_locked_out(actor.session):
                    break
            else:
                actor.state = State.READY

    def _observe(self, statement: str, pid: int) -> Any:
        if self._observer is None:
            parameters = connections["default"].get_connection_params()
            names = ("dbname", "user", "password", "host", "port")
            self._observer = psycopg.connect(
                **{name: parameters[name] for name in names if name in parameters},
                autocommit=True,
                prepare_threshold=0,
            )
        return self._observer.execute(statement, [pid]).fetchone()


def is_of_connection(error: BaseException) -> bool:
    """Tell whether an error may be that of a connection that broke; the product can only ask whoever has it (D36)."""
    has_state = getattr(error.__cause__, "sqlstate", None) is not None
    return is_not_now(error) or (isinstance(error, (OperationalError, InterfaceError)) and not has_state)
