"""PROTOCOL.md and the man page say what the code does."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ropeway.app.engine import continuity, starts
from ropeway.app.store import state
from ropeway.core import node as secure_node
from ropeway.core import tuning
from ropeway.core.data import reorder
from ropeway.core.drops import Drop
from ropeway.core.frame.control import (
    CLOCK_MS,
    CLOCK_TICKS,
    CONTROL_SIZE,
    HOLD_MAX_MS,
    MAX_ANNOUNCED,
    MEASURED_SIZE,
    TAKES_LABELS,
    Control,
    encode_control,
)
from ropeway.core.frame.data import (
    COOKIE,
    DATA,
    INITIATION,
    LABELLED,
    LABELLED_LANE,
    LABELLED_LANE_PARTIAL,
    LABELLED_PARTIAL,
    LANE,
    LANE_PARTIAL,
    LANES,
    OVERHEAD,
    PACKET_TYPES,
    PARTIAL,
    RESET,
    RESPONSE,
)
from ropeway.core.frame.label import COUNT_END, LABEL_SIZE, PIECES_MAX
from ropeway.core.frame.outer import IPV4_MTU_MIN, IPV6_MTU_MIN, outer_size
from ropeway.core.peers import control_frames, handshake_datagrams, settling
from ropeway.core.session import (
    admission,
    aead,
    clones,
    handshakes,
    identities,
    initiations,
    messages,
    replay,
    resets,
    session,
)
from ropeway.core.settings import SecureSettings
from ropeway.core.strand import path_mtu
from ropeway.core.strand.state import TRANSITIONS, Input, State
from tests.unit.core import secure_vectors

TEXT = (Path(__file__).parents[3] / "agent" / "PROTOCOL.md").read_text()
FLAT = " ".join(TEXT.split())
SECURE = FLAT[FLAT.index("## `secure`") :]
MAN = (Path(__file__).parents[3] / "agent" / "man" / "ropeway.8").read_text()


def test_the_table_of_transitions_is_the_one_in_the_code():
    rows = re.findall(r"^\| `(\w+)` \| (\d) \| (\d) \| (\d) \|$", TEXT, re.MULTILINE)
    assert {name for name, *_ in rows} == set(Input.__members__)
    for name, *states in rows:
        assert [TRANSITIONS[own, Input[name]] for own in State] == [int(s) for s in states]


def test_the_limits_and_timers_are_those_in_the_code():
    for text in (
        f"no higher state was heard for {tuning.RESTART_S * 1000:.0f} ms",
        f"then every {tuning.GREETING_MAX_S:.0f} s, spread by"
        f" {tuning.GREETING_JITTER * 100:.0f} %.",
        f"at most every {tuning.ANSWER_PAUSE_S * 1000:.0f} ms",
        f"after {tuning.KEEPALIVE_S} s of its own silence",
        f"has heard nothing for {tuning.SILENCE_S:.0f} s",
        f"At most {tuning.MAX_COPIES} carry;",
        f"two generations of {tuning.LATE_COPY_S:.0f} s",
        f"silent for {tuning.ADDRESS_HOLD_S:.0f} s",
        f"At most {tuning.LEARN_PER_S:.0f} unknown",
        f"at most {tuning.MAX_LEARNT_REMOTES} kept, {tuning.MAX_REMOTES_PER_PEER} of one host",
        f"forgotten after {tuning.FORGET_UNPROVEN_S:.0f} s,",
        f"others after {tuning.FORGET_S:.0f} s of silence",
        f"limited to {tuning.GREETINGS_PER_S:.0f} a second",
    ):
        assert text in FLAT, text


def seconds(value: float) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def test_the_diagram_of_states_is_the_table():
    drawn = set(re.findall(r"^    s(\d) --> s(\d): ", TEXT, re.MULTILINE))
    changes = {(own, new) for (own, _), new in TRANSITIONS.items() if own != new}
    assert drawn == {(str(int(own)), str(int(new))) for own, new in changes}


@pytest.mark.parametrize(
    "text",
    [
        # Sizes.
        f"| {INITIATION} | initiation of a handshake | {messages.INITIATION_SIZE} |",
        f"| {RESPONSE} | response | {messages.RESPONSE_SIZE} |",
        f"| {COOKIE} | cookie | {messages.COOKIE_SIZE} |",
        f"| {DATA} | data: a packet | {OVERHEAD} and the packet |",
        f"connection | {OVERHEAD + CONTROL_SIZE}, or more as a probe, with an"
        f" announcement or a measurement |",
        f"| {RESET} | reset | {resets.RESET_SIZE} |",
        f"| {PARTIAL} | data: a packet whose TCP or UDP checksum is partial |"
        f" {OVERHEAD} and the packet |",
        f"| {LANE} to {LANE_PARTIAL - 1} | data: a packet of lane 0 to {LANES - 1} |",
        f"| {LANE_PARTIAL} to {LABELLED_LANE - 1} | data: a packet of lane 0 to {LANES - 1} whose"
        f" checksum is partial | {OVERHEAD} and the packet |",
        f"| {LABELLED} | data: a label and a packet | {OVERHEAD + LABEL_SIZE} and the packet |",
        f"| {LABELLED_PARTIAL} | data: a label and a packet whose checksum is partial |"
        f" {OVERHEAD + LABEL_SIZE} and the packet |",
        f"| {LABELLED_LANE} to {LABELLED_LANE_PARTIAL - 1} | data: a label and a packet of lane 0"
        f" to {LANES - 1} | {OVERHEAD + LABEL_SIZE} and the packet |",
        f"| {LABELLED_LANE_PARTIAL} to {max(PACKET_TYPES)} | data: a label and a packet of lane 0"
        f" to {LANES - 1} whose checksum is partial | {OVERHEAD + LABEL_SIZE} and the packet |",
        {2: "through two of them at once"}.get(tuning.ROUTERS_AT_ONCE, "ROUTERS_AT_ONCE"),
        f"for at most {tuning.MAX_ORIGINS} origins and {tuning.MAX_STARTS} starts of each",
        f"numbers the pieces, {PIECES_MAX} at most",
        f"Of one start at most {tuning.MAX_IN_PIECES} packets lack pieces",
        f"nothing was said within {tuning.FEATURES_SAID_S:g} s of its session",
        f"anew after 2^{COUNT_END.bit_length() - 1} packets",
        "8 labels" if TAKES_LABELS == 8 else "TAKES_LABELS",
        f"packets of one host take more than {tuning.LANE_BYTES >> 20} MiB, or those of all hosts"
        f" more than {tuning.LANES_BYTES >> 20} MiB, with {reorder.PACKET_SIZE} bytes for each",
        f"milliseconds, for the lanes from 0 on; more than {HOLD_MAX_MS} means {HOLD_MAX_MS}",
        f"A pause between frames counts as {tuning.LANE_PAUSE_S * 1000:g} ms at most here",
        f"It is {tuning.HOLD_UNSAID_S * 1000:g} ms for a lane that is not named",
        f"Of more than {LANES} lanes the first {LANES} count",
        f"at the same time, less than {session.SIMULTANEOUS_S:g} s apart, it counts for",
        f"A kernel that can takes up to {tuning.MAX_RUN} frames of one size",
        f"adds {OVERHEAD} bytes to its packet; with the outer headers that is"
        f" {outer_size('192.0.2.1') + OVERHEAD} bytes over IPv4 and"
        f" {outer_size('2001:db8::1') + OVERHEAD} over IPv6",
        f"| {CONTROL_SIZE} | 1 | announced |",
        f"| | {MEASURED_SIZE} | measured |",
        f"| 0 | 1 | length | of what follows, {MEASURED_SIZE - 1};",
        f"everybody's, {tuning.ANSWERS_PER_S:.0f} a second are answered",
        f"in units of {CLOCK_MS} ms, modulo 2^{CLOCK_TICKS.bit_length() - 1}",
        f"that of the last {tuning.RTT_MIN_S:g} to {2 * tuning.RTT_MIN_S:g} s",
        f"the lowest of the last {tuning.TRANSIT_MIN_S:g} to {2 * tuning.TRANSIT_MIN_S:g} s",
        f"above the lowest one, and {tuning.QUEUE_SLACK_MS:g} ms more",
        f"asks for an answer every {tuning.QUICK_PROBE_S:g} s",
        f"up to every {tuning.BEST_PROBE_S:g} s on the one that carries a class of traffic alone",
        f"are at least {1000 * tuning.QUICK_ANSWER_PAUSE_S:g} ms apart",
        f"Of more than {MAX_ANNOUNCED} endpoints the first {MAX_ANNOUNCED} count",
        f"beyond {MAX_ANNOUNCED} none is announced",
        f"greetings have come to pauses of {seconds(tuning.PROBE_S).replace('500 ms', '0.5 s')}",
        f"a control frame of {OVERHEAD + CONTROL_SIZE} bytes with a challenge",
        f"at most {tuning.QUESTIONS_PER_S:g} a second, {tuning.QUESTIONS_BURST} at once",
        f"the pauses double from {tuning.QUESTION_MIN_S} s to {tuning.QUESTION_MAX_S:g} s",
        f"At most {tuning.ANNOUNCEMENTS_PER_S:g} announcements of a host a second are looked at,"
        f" {tuning.ANNOUNCEMENTS_BURST} at once",
        f"prologue `{messages.PROLOGUE.decode()}`",
        aead.CIPHER_NAME,
        # Handshakes.
        f"again, for {initiations.ANSWER_S:g} s, {initiations.ANSWER_BURST:g} times at once and"
        f" then {initiations.ANSWER_RATE:g} times a second",
        f"The budget ({admission.HANDSHAKE_RATE:g} handshakes a second,"
        f" {admission.HANDSHAKE_BURST:g} at once)",
        f"again after {tuning.INITIATE_MIN_S} s and then in pauses that grow by"
        f" {tuning.INITIATE_GROWTH} to {tuning.INITIATE_MAX_S:g} s, spread by"
        f" {tuning.GREETING_JITTER * 100:.0f} %. After {handshakes.RETRANSMIT_S:g} s it is a new"
        f" one. A response is taken for {initiations.PENDING_S:g} s",
        f"While there is something to send no pause is longer than {tuning.INITIATE_ASKED_S:g} s",
        f"at most {tuning.HELD_PACKETS} of them for at most {tuning.HELD_S:g} s",
        f"a secret that changes every {admission.COOKIE_S:g} s",
        f"gets {admission.SOURCE_RATE:g} handshakes a second, {admission.SOURCE_BURST:g} at once",
        f"together {admission.NETWORK_RATE:g}, and {admission.NETWORK_BURST:g} at once",
        f"lately, {admission.MAX_SOURCES} at most, have a budget of their own,"
        f" {admission.KNOWN_RATE:g} a second and {admission.KNOWN_BURST:g} at once",
        # Stale handshakes.
        f"If it was heard within {seconds(tuning.STALE_HEARD_S)}, nothing happens",
        f"again and again for {seconds(clones.CLONE_S)} from where",
        f"each of the {tuning.STALE_ASKED} connections heard last. It has"
        f" {seconds(tuning.STALE_ANSWER_S)} to answer",
        f"Each host has {tuning.STALE_STRAND_PER_S:g} of these answers a second,"
        f" {tuning.STALE_STRAND_BURST} at once",
        f"have {tuning.STALE_PER_S:g} a second, {tuning.STALE_BURST} at once",
        f"a wall clock that is ahead of it, by {seconds(starts.FOLLOW_MIN_S)}, then",
        # Sessions.
        f"nothing has come under it for {session.LINGER_S:g} s",
        f"at most {session.MAX_SESSIONS} sessions with a peer",
        f"or after 2^{session.ROLLOVER_FRAMES.bit_length() - 1} frames",
        f"the responder does {session.RESPONDER_GRACE_S:g} s later",
        f"within {session.OVERDUE_S:g} s after that is due",
        f"`rollover_s` old ({SecureSettings.rollover_s:g} s;",
        f"on any connection for {tuning.PEER_SILENCE_S} s",
        f"A bitmap of {replay.REPLAY_BITS} counters a session: {replay.REPLAY_BITS / 50_000:.1f} s",
        f"What is {replay.REPLAY_REACH} or more below the highest",
        f"each skips 2^{session.ROLLOVER_FRAMES.bit_length() - 1} and a random number below"
        f" 2^{session.SKIP_COUNTERS.bit_length() - 1} once more",
        f"those of the last {state.RESET_KEYS_MAX} starts are kept",
        f"the wall clock jumps by {continuity.STEP_S:g} s or more against `CLOCK_BOOTTIME`",
        f"after {resets.MAX_GIVEN} of a peer none is",
        f"limited to {resets.RESET_RATE:g} a second, one per index each"
        f" {seconds(resets.RESET_PAUSE_S)}",
        # Connections.
        f"at most {tuning.LEARN_STRAND_PER_S:.0f} a second of one host, and"
        f" {tuning.LEARN_STRAND_BURST} at once",
        f"At most {tuning.MAX_REMOTES_PER_PEER} of a host are kept, or {tuning.MAX_LEARNT_OF_HOST}"
        f" while those of all hosts together are fewer than {tuning.MAX_LEARNT_REMOTES}",
        f"were silent for {tuning.FORGET_S:g} s are forgotten",
        f"at most every {seconds(tuning.CHALLENGE_PAUSE_S)}, and the endpoint in use gets one",
        f"has two round trips and {seconds(tuning.STAY_S)} more"
        f" ({seconds(tuning.STAY_MAX_S)} at most)",
        f"the only connection of a host none above {tuning.IDLE_ALONE_S:g} s",
        f"within {tuning.ACTIVE_S:g} s after the last packet either way",
        f"a control frame each {tuning.PROBE_S} s and counts as silent after"
        f" {tuning.SILENCE_S:g} s",
        f"more than {tuning.MAX_COPIES} connections, those beyond probe, also their path MTU, up"
        f" to {tuning.PROBE_SPREAD:.0%} sooner".replace("%", " %"),
        f"after {tuning.GREETING_MIN_S} s and in doubling pauses to {tuning.PROBE_S} s",
        f"given at most every {seconds(tuning.ANSWER_PAUSE_S)}",
        f"the other end waits {tuning.SILENT_PAUSES} of them",
        f"begins with {tuning.IDLE_START_S:g} s and lengthens by {tuning.IDLE_GROWTH}, up to"
        f" {tuning.IDLE_MAX_S:g} s",
        f"speaks after {tuning.IDLE_ANSWER_SHARE} of the pause",
        f"goes back one step ({tuning.IDLE_MIN_S:g} s at least)",
        {3600.0: "tries no longer one for an hour"}.get(tuning.IDLE_RETRY_S, "IDLE_RETRY_S"),
        f"the pause is {tuning.IDLE_MUTUAL_S:g} s",
        f"are greeted every {tuning.IDLE_START_S:g} s",
        f"with 1/{1 / tuning.RTT_SHARE:g}",
        # Path MTU.
        f"tried {path_mtu.TRIES} times unheard does not pass",
        f"for {path_mtu.TIMEOUT_RTTS:g} round trips, {seconds(path_mtu.TIMEOUT_MIN_S)} at least and"
        f" {seconds(path_mtu.TIMEOUT_MAX_S)} at most",
        f"data uses {path_mtu.BASE_MTU}, and if that is not heard either, {IPV4_MTU_MIN}"
        f" (over IPv6 {IPV6_MTU_MIN} stays)",
        f"It ends within {path_mtu.RESOLUTION} bytes, or within {path_mtu.LIKELY_RESOLUTION} above",
        f"is tried {path_mtu.CONFIRM_TRIES} times more, {path_mtu.CONFIRM_TRIES_LOSSY} if",
        f"data goes back to {path_mtu.BASE_MTU} at once",
        f"a probability of 1 in {1 / path_mtu.VERIFY_CHANCE:_.0f}".replace("_", " "),
        f"tried {path_mtu.RAISE_SOON_S:g} s after a search, then every {path_mtu.RAISE_S:g} s,"
        f" without data every {path_mtu.RAISE_IDLE_S:g} s",
    ],
)
def test_the_limits_of_secure_are_those_in_the_code(text: str):
    assert text in SECURE


def test_the_search_of_the_path_mtu_is_as_quick_as_said():
    assert (path_mtu.VERIFY_S, path_mtu.VERIFY_IDLE_S) == (1.0, 180.0)
    assert {1492, 1480, 1472, 1460, 1420, 1400} <= set(path_mtu.LIKELY)


@pytest.mark.parametrize(
    ("bit", "flag", "said"),
    [
        (2, "answer", "answer wanted"),
        (3, "calls", "the sender calls: it knows where the receiver is"),
        (4, "challenge", "challenge"),
        (5, "takes_partial", "the sender takes frames of type 7"),
        (6, "shuts_out", "the receiver is shut out"),
    ],
)
def test_the_flags_of_a_control_frame_are_those_in_the_code(bit, flag, said):
    control = Control(state=0, src_index=1, dst_index=0, way=1, **{flag: True})
    assert encode_control(control)[0] == 1 << bit
    assert f"bit {bit} {said}" in SECURE


def test_the_body_of_a_control_frame_is_laid_out_as_said():
    rows = re.findall(
        r"^\| (\d+) \| (\d+) \| (flags|way|pause|src_index|dst_index|mark|echo|held|probe"
        r"|probe_heard|observed address|observed port|received) \|",
        TEXT[TEXT.index("The body of a control frame") : TEXT.index("### Measurements")],
        re.MULTILINE,
    )
    end = 0
    for offset, size, _ in rows:
        assert int(offset) == end
        end += int(size)
    assert end == CONTROL_SIZE
    # One field after another with a value of its own, all others zero.
    plain = Control(state=0, src_index=1, dst_index=0, way=1)
    base = encode_control(plain)
    for name, change in {
        "flags": {
            "state": 2,
            "answer": True,
            "calls": True,
            "challenge": True,
            "takes_partial": True,
            "shuts_out": True,
        },
        "way": {"way": 0xFE},
        "pause": {"pause_s": 600.0},
        "src_index": {"src_index": 0xFEFEFEFE},
        "dst_index": {"dst_index": 0xFEFEFEFE},
        "mark": {"mark": 0xFEFEFEFE},
        "echo": {"echo": 0xFEFEFEFE},
        "held": {"held_ms": 0xFEFEFEFE},
        "probe": {"probe": 0xFEFE},
        "probe_heard": {"probe_heard": 0xFEFE},
        "observed address": {"observed": ("254.254.254.254", 1)},
        "observed port": {"observed": ("0.0.0.0", 0xFEFE)},
        "received": {"received": 0xFEFEFEFE},
    }.items():
        body = encode_control(replace(plain, **change))
        changed = {n for n in range(CONTROL_SIZE) if body[n] != base[n]}
        ((offset, size),) = [(int(o), int(s)) for o, s, row in rows if row == name]
        covered = set(range(offset, offset + size))
        assert changed & covered
        # An address comes with a port, and a port with an address.
        assert changed <= covered | (set(range(28, 46)) if "observed" in name else set())


@pytest.mark.parametrize("member", Drop)
def test_every_reason_of_secure_is_explained(member: Drop):
    modules = (
        *(handshakes, identities, session, secure_node),
        *(control_frames, handshake_datagrams, settling),
    )
    source = "".join(inspect.getsource(module) for module in modules)
    if f"Drop.{member.name}" in source:
        inner = {Drop.NOT_IPV4, Drop.MALFORMED_INNER, Drop.FOREIGN_SOURCE, Drop.UNREACHABLE}
        assert member in inner or f"| `{member.value}` |" in SECURE, member


def test_the_man_page_explains_every_reason_and_no_other():
    section = MAN[MAN.index("\n.SH WHAT IS DROPPED") + 1 :]
    section = section[: section.index("\n.SH ")]
    heads = re.findall(r"^\.TP\n\.BR? (.*)$", section, re.MULTILINE)
    said = sorted(word for head in heads for word in re.findall(r"[a-z_0-9]+", head))
    assert said == sorted(member.value for member in Drop)


def test_the_vectors_are_what_the_code_makes():
    assert f"```\n{secure_vectors.text()}\n```" in TEXT
