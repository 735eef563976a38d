"""The states of a connection, and the one table that changes them.

Rules, one value per end, sent in every frame (neither end is client or server; the classic
encapsulation says 1 where it means 2, which takes the other end as far):

1. State 0 says: I know that I can send.
2. State 1 says: I know that I can receive, and that the other end can send.
3. State 2 says: I know that the other end can receive; both ways work.
4. A frame with state r takes an end that is below 2 to min(2, r + 1).
5. An end at 2 stays there, unless the other end is seen to be at 0, for it started anew or no
   longer hears this one: it then knows only what that frame proves.
6. A connection that goes silent, or whose interface or address goes away, knows nothing.
"""

from __future__ import annotations

import enum
from typing import Mapping, Tuple


class State(enum.IntEnum):
    """What one end of a connection knows; the number is the one on the wire."""

    SENDING = 0
    HEARING = 1
    ESTABLISHED = 2


class Input(enum.IntEnum):
    """What can happen to a connection; the first three are the state in a received frame."""

    HEARD_SENDING = 0
    HEARD_HEARING = 1
    HEARD_ESTABLISHED = 2
    #: State 0 was heard, and nothing newer says otherwise: the other end started anew. The classic
    #: encapsulation cannot tell that from HEARD_FALLEN.
    HEARD_RESTART = 3
    #: The same from an end that has heard this one before: it no longer does.
    HEARD_FALLEN = 4
    #: Nothing was heard for as long as the tuning allows.
    SILENT = 5
    #: The interface or the address that the connection used is gone.
    GONE = 6


_S, _H, _E = State.SENDING, State.HEARING, State.ESTABLISHED

#: (own state, input) -> own state afterwards. Nothing else decides.
TRANSITIONS: Mapping[Tuple[State, Input], State] = {
    (_S, Input.HEARD_SENDING): _H,
    (_S, Input.HEARD_HEARING): _E,
    (_S, Input.HEARD_ESTABLISHED): _E,
    (_S, Input.HEARD_RESTART): _H,
    (_S, Input.HEARD_FALLEN): _H,
    (_S, Input.SILENT): _S,
    (_S, Input.GONE): _S,
    (_H, Input.HEARD_SENDING): _H,
    (_H, Input.HEARD_HEARING): _E,
    (_H, Input.HEARD_ESTABLISHED): _E,
    (_H, Input.HEARD_RESTART): _H,
    (_H, Input.HEARD_FALLEN): _H,
    (_H, Input.SILENT): _S,
    (_H, Input.GONE): _S,
    (_E, Input.HEARD_SENDING): _E,
    (_E, Input.HEARD_HEARING): _E,
    (_E, Input.HEARD_ESTABLISHED): _E,
    (_E, Input.HEARD_RESTART): _H,
    (_E, Input.HEARD_FALLEN): _H,
    (_E, Input.SILENT): _S,
    (_E, Input.GONE): _S,
}


def answers(own: State, received: int) -> bool:
    """Return whether a frame is answered at once with an empty one.

    ``own`` is the state before the frame was looked at. An end below 2 answers, and so does
    one at 2 to an end that is not there yet, which could otherwise wait for traffic.
    Two ends at 2 never answer each other, so answers come to an end.
    """
    return own < State.ESTABLISHED or received < State.ESTABLISHED
