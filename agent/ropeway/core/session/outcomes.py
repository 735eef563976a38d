"""What may come of a datagram that belongs to no session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Union

from ropeway.core.drops import Drop
from ropeway.core.session.session import Session


@dataclass(frozen=True)
class Answer:
    """A peer began a handshake; the answer goes where the initiation came from."""

    reply: bytes
    #: The peer's virtual address, proven by its key.
    host: str
    #: The new session, for the peer's list; None if this is an answer given again.
    session: Optional[Session]
    #: Whether the peer says that this host's own last initiation was stale there.
    says_stale: bool = False


@dataclass(frozen=True)
class Completed:
    """A peer answered; the session may be used at once, and should, so that the peer may too."""

    host: str
    session: Session


@dataclass(frozen=True)
class CookieReply:
    """Handshakes come too fast: the sender has to repeat its initiation with this cookie."""

    reply: bytes


@dataclass(frozen=True)
class CookieTaken:
    """A peer demands a cookie from initiations that come from the address this was sent to.

    It is good for :data:`ropeway.core.session.admission.COOKIE_S`;
    :func:`ropeway.core.session.messages.with_cookie` puts it in.
    """

    host: str
    cookie: bytes = field(repr=False)


@dataclass(frozen=True)
class Forgotten:
    """A peer no longer knows the session that is used; a handshake has to begin."""

    host: str


@dataclass(frozen=True)
class Stale:
    """A peer's genuine initiation that is not newer than all before; no session comes of it.

    The peer's clock was set back and its state lost, or the initiation was overtaken on its way, or
    somebody plays it back. What may be done is ``Handshakes.demand_cookie`` and, where it is
    ``proven``, ``Handshakes.call_back``.
    """

    host: str
    public_key: bytes
    #: Whether somebody receives what is sent to where it came from.
    proven: bool
    #: Whether it came before, over another link for instance.
    repeated: bool


@dataclass(frozen=True)
class Refused:
    """Nothing came of a datagram."""

    drop: Drop
    #: A sentence for the log that names the host concerned, rarely more than one a minute.
    note: Optional[str] = None


Outcome = Union[Answer, Completed, CookieReply, CookieTaken, Forgotten, Stale, Refused]
