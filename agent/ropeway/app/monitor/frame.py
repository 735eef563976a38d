"""What `ropeway top` shows of a status: the lines at the top that stay, and those that scroll."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any, Dict, Hashable, List, Mapping, Optional, Sequence, Tuple

from ropeway.app.monitor.history import History, class_key, connection_key, link_key
from ropeway.app.monitor.lines import (
    BLOCKS,
    Column,
    Curve,
    Line,
    Look,
    Piece,
    Row,
    Table,
    clean,
    cut_line,
    text_of,
)

WARNINGS_SHOWN = 3
ESTABLISHED = 2
HEARD = 1
UNKNOWN = "-"
_BETWEEN = "   "
BAR = 10
"""Characters of a bar."""
LOSS_WARNS, LOSS_BAD = 0.01, 0.1
QUEUE_WARNS_MS = 100.0
RTT_TOP_MS, RATE_TOP_KBIT = 1.0, 10.0
"""A curve that stays below is not stretched to its full height."""

_PATH = (
    Column("LINK", 0),
    Column("STATE", 4),
    Column("RTT ms", 1, right=True),
    Column("RTT", 5, curve=True),
    Column("LOSS %", 2, right=True),
    Column("QUEUE ms", 7, right=True),
    Column("OUT bit/s", 3, right=True),
    Column("OUT", 9, curve=True),
    Column("IN bit/s", 6, right=True),
    Column("CAPACITY", 8, right=True),
)
_STATE, _RTT, _LOSS, _QUEUE, _CAPACITY = 1, 2, 4, 5, 9
_CLASSES = (
    Column("CLASS", 0),
    Column("MODE", 1),
    Column("PACKETS/s", 2, right=True),
    Column("LINKS", 3),
)
_BUDGETS = (
    Column("BUDGET", 0),
    Column("USED", 2, right=True),
    Column("OF", 3, right=True),
    Column("%", 1, right=True),
    Column("", 6),
    Column("PER", 5),
    Column("UNTIL", 4),
)


@dataclasses.dataclass(frozen=True)
class Frame:
    """Lines for one moment."""

    head: List[Line]
    #: Each line with the titles of its columns, to be repeated where these have scrolled away.
    body: List[Tuple[Line, Optional[Line]]]

    def whole(self) -> List[Line]:
        """Return all lines."""
        return [*self.head, *(line for line, _ in self.body)]


def waiting(fault: str, width: int) -> Frame:
    """Return what is shown while no agent answers."""
    told = textwrap.wrap(clean(fault), max(1, width)) or [""]
    title = cut_line([Piece("ropeway: not running, waiting", Look.BAD)], width)
    return Frame([title, *([Piece(line)] for line in told)], [])


def of(status: Mapping[str, Any], history: History, width: int, blocks: str = BLOCKS) -> Frame:
    """Return what is shown of `status`, the newest in `history`, in lines of `width`."""
    paths = _paths(status, history)
    columns: Sequence[Column] = _PATH
    rows = [*paths.links, *(row for host in paths.hosts for row in host.rows)]
    if all(row.rest is not None or row.cells[_CAPACITY] == UNKNOWN for row in rows):
        columns = _PATH[:_CAPACITY]
        rows = [dataclasses.replace(row, cells=row.cells[:_CAPACITY]) for row in rows]
    table = Table(columns, rows, width, blocks)
    body: List[Tuple[Line, Optional[Line]]] = []

    def add(title: Line, lines: Sequence[Line]) -> None:
        if lines:
            body.extend([([], None), (title, None), *((line, title) for line in lines)])

    add(table.title(), [table.line(row) for row in rows[: len(paths.links)]])
    for names, found in ((_BUDGETS, _budgets(status)), (_CLASSES, _classes(status, history))):
        other = Table(names, found, width, blocks)
        add(other.title(), [other.line(row) for row in found])
    title = table.title("CONNECTION")
    at = len(paths.links)
    for host in paths.hosts:
        lines = [table.line(row) for row in rows[at : at + len(host.rows)]]
        at += len(host.rows)
        lines += [cut_line([Piece(text, Look.FAINT)], width) for text in host.others]
        add(title, [cut_line(host.line, width), *lines])
    return Frame(_head(status, width), _without_repeated(body, title))


def page(frame: Frame, offset: int, height: int, width: int) -> Tuple[List[Line], int]:
    """Return `height` lines at most of a frame, and the offset to which it could be scrolled."""
    room = max(1, height - len(frame.head) - 1)
    last = max(0, len(frame.body) - room)
    offset = min(max(0, offset), last)
    shown = frame.body[offset : offset + room]
    lines = [line for line, _ in shown]
    if offset and shown[0][1] is not None:
        # The titles stay above what they belong to.
        lines[0] = shown[0][1]
    keys = "q quit"
    if last:
        end = offset + len(shown)
        keys += f"   j k or arrows scroll   {offset + 1} to {end} of {len(frame.body)}"
    lines += [[]] * (room - len(lines))
    head = frame.head[: max(0, height - 2)]
    return [*head, *lines, cut_line([Piece(keys, Look.FAINT)], width)][:height], offset


def _without_repeated(
    body: List[Tuple[Line, Optional[Line]]], title: Line
) -> List[Tuple[Line, Optional[Line]]]:
    """Leave out the titles of all hosts but the first, and the empty lines before them."""
    at = [number for number, (line, _) in enumerate(body) if line is title]
    left_out = {number for first in at[1:] for number in (first - 1, first)}
    return [one for number, one in enumerate(body) if number not in left_out]


def _head(status: Mapping[str, Any], width: int) -> List[Line]:
    links, peers = status.get("links", []), status.get("peers", [])
    carrying = sum(bool(link.get("carries", True)) for link in links)
    expected = len(links) + len(status.get("missing_links", []))
    reached = sum(peer["best_state"] == ESTABLISHED for peer in peers)
    parts = [
        Piece("ropeway {}".format(status.get("address", "")), Look.STRONG),
        Piece(f"{carrying}/{expected} links", _share(carrying, expected)),
        Piece(f"{reached}/{len(peers)} hosts", _share(reached, len(peers))),
        Piece("up " + _duration(status.get("uptime_s", 0.0))),
        Piece("version {}".format(status.get("version", "?"))),
    ]
    line = parts[:1]
    for part in parts[1:]:
        if len(text_of(line)) + len(part.text) + len(_BETWEEN) <= width:
            line += [Piece(_BETWEEN), part]
    lines = [cut_line(line, width)]
    warnings = status.get("warnings", [])
    lines += [
        cut_line([Piece(f"! {sentence}", Look.WARNING)], width)
        for sentence in warnings[:WARNINGS_SHOWN]
    ]
    if len(warnings) > WARNINGS_SHOWN:
        more = f"! and {len(warnings) - WARNINGS_SHOWN} more, which ropeway status shows"
        lines.append(cut_line([Piece(more, Look.WARNING)], width))
    return lines


def _share(some: int, whole: int) -> Look:
    return Look.GOOD if some == whole else Look.WARNING if some else Look.BAD


@dataclasses.dataclass(frozen=True)
class _Host:
    line: Line
    rows: List[Row]
    #: What is said of connections that have no row.
    others: List[str]


@dataclasses.dataclass(frozen=True)
class _Paths:
    links: List[Row]
    hosts: List[_Host]


def _paths(status: Mapping[str, Any], history: History) -> _Paths:
    links, peers = status.get("links", []), status.get("peers", [])
    names = {link["index"]: link["name"] for link in links}
    over: Dict[int, List[Mapping[str, Any]]] = {}
    for peer in peers:
        for connection in peer["connections"]:
            over.setdefault(connection["link"], []).append(
                {**connection, "key": connection_key(peer["host"], connection)}
            )
    rows = [_link(link, over.get(link["index"], []), history) for link in links]
    rows += [
        Row([one["name"]], Look.BAD, rest="carries nothing: {}".format(one["fault"]))
        for one in status.get("missing_links", [])
    ]
    return _Paths(rows, [_host(peer, names, status, history) for peer in peers])


def _link(link: Mapping[str, Any], over: List[Mapping[str, Any]], history: History) -> Row:
    name = link["name"]
    if link.get("unusable"):
        return Row([name], Look.BAD, rest="cannot be used: {}".format(link["unusable"]))
    if not link.get("carries", True):
        fault = link.get("fault") or "it is down"
        return Row([name], Look.BAD, rest=f"carries nothing: {fault}")
    key = link_key(link)
    rates = [link.get("rate_kbit"), link.get("rate_in_kbit")]
    if rates[0] is None:
        rates = [
            _sum(history.rate_kbit(one["key"], one, measured, counted) for one in over)
            for measured, counted in (
                ("rate_kbit", "sent_bytes"),
                ("rate_in_kbit", "received_bytes"),
            )
        ]
    capacities = [(one.get("estimate") or {}).get("capacity_kbit") for one in over]
    known = [one for one in capacities if one is not None]
    capacity = link.get("capacity_kbit", max(known) if known else None)
    state = "metered" if link.get("metered") else "carries"
    return _measured(name, state, Look.GOOD, link, rates, capacity, key, history)


def _sum(rates: Any) -> Optional[float]:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _host(
    peer: Mapping[str, Any], names: Dict[int, str], status: Mapping[str, Any], history: History
) -> _Host:
    routed = [one for one in peer["connections"] if one.get("routed", True)]
    rows = [_connection(peer["host"], one, names, history) for one in routed]
    missing = len(peer["connections"]) - len(routed)
    others = []
    if missing:
        more = "more " if routed else ""
        others.append(f"  {missing} {more}without a route")
    if not peer["connections"]:
        others.append("  no address of it is known")
    return _Host(_host_line(peer, status, history), rows, others)


def _host_line(peer: Mapping[str, Any], status: Mapping[str, Any], history: History) -> Line:
    line = [Piece(clean(peer["host"]), Look.STRONG), Piece("  ")]
    router = status.get("router")
    links = peer.get("links") or {}
    reached, lacking = len(links.get("reached", ())), len(links.get("lacking", ()))
    if peer["best_state"] != ESTABLISHED and router and router != peer["host"]:
        line.append(Piece(f"not reached directly, by the router {router}", Look.FAINT))
    elif peer["best_state"] != ESTABLISHED:
        line.append(Piece("not reached", Look.BAD))
    elif lacking:
        some = f"reached over {reached} of {reached + lacking} links"
        line.append(Piece(some, Look.WARNING))
    else:
        line.append(Piece("reached", Look.GOOD))
    session = peer.get("session")
    words = []
    if session:
        words.append("session " + _duration(session["age_s"]))
    if peer.get("rescued"):
        per_s = history.per_s(peer["host"], "rescued")
        lately = f" ({per_s:.0f}/s)" if per_s else ""
        words.append("{} rescued{}".format(peer["rescued"], lately))
    if peer.get("handshake"):
        words.append(peer["handshake"])
    line += [Piece(", " + word) for word in words]
    return line


def _connection(
    host: str, connection: Mapping[str, Any], names: Dict[int, str], history: History
) -> Row:
    key = connection_key(host, connection)
    far = connection["remote"] or connection["address"]
    name = "  {} -> {}".format(names.get(connection["link"], connection["link"]), far)
    heard_s = connection.get("heard_s")
    if connection["state"] == HEARD:
        return Row([name], Look.WARNING, rest="one way: heard, but not known to be heard there")
    if connection["state"] != ESTABLISHED:
        since = "never heard" if heard_s is None else f"silent for {_duration(heard_s)}"
        return Row([name], Look.BAD, rest=since)
    rates = [
        history.rate_kbit(key, connection, "rate_kbit", "sent_bytes"),
        history.rate_kbit(key, connection, "rate_in_kbit", "received_bytes"),
    ]
    estimate = connection.get("estimate") or {}
    measured = {**estimate, "rtt_ms": connection.get("rtt_ms"), "loss": connection.get("loss")}
    state, look = ("carries", Look.GOOD) if connection["carries"] else ("spare", Look.FAINT)
    capacity = estimate.get("capacity_kbit")
    return _measured(name, state, look, measured, rates, capacity, key, history)


def _measured(
    name: str,
    state: str,
    look: Look,
    measured: Mapping[str, Any],
    rates: Sequence[Optional[float]],
    capacity: Optional[float],
    key: Hashable,
    history: History,
) -> Row:
    curves = history.curves(key)
    loss, queue_ms = measured.get("loss"), measured.get("queue_ms")
    looks = [(_STATE, look)]
    if loss is not None and loss >= LOSS_WARNS:
        looks.append((_LOSS, Look.BAD if loss >= LOSS_BAD else Look.WARNING))
    if queue_ms is not None and queue_ms >= QUEUE_WARNS_MS:
        looks.append((_QUEUE, Look.WARNING))
    cells = [
        name,
        state,
        _ms(measured.get("rtt_ms")),
        Curve(list(curves.rtts_ms), RTT_TOP_MS),
        UNKNOWN if loss is None else f"{100 * loss:.1f}",
        _ms(queue_ms),
        _rate(rates[0]),
        Curve(list(curves.rates_kbit), RATE_TOP_KBIT),
        _rate(rates[1]),
        _rate(capacity),
    ]
    return Row(cells, looks=looks)


def _mode(one: Mapping[str, Any]) -> str:
    return "{mode}, parity {parity}".format(**one) if one.get("parity") else str(one["mode"])


def _classes(status: Mapping[str, Any], history: History) -> List[Row]:
    modes = {one["name"]: _mode(one) for one in status.get("classes", [])}
    names = {link["index"]: link["name"] for link in status.get("links", [])}
    hosts: Dict[Optional[str], int] = {}
    carrying: Dict[Optional[str], Dict[int, int]] = {}
    rates: Dict[Optional[str], List[float]] = {}
    repaired: Dict[Optional[str], int] = {}
    for peer in status.get("peers", []):
        for one in peer.get("classes", ()):
            name = one["name"]
            hosts[name] = hosts.get(name, 0) + 1
            links = carrying.setdefault(name, {})
            for index in one["links"]:
                links[index] = links.get(index, 0) + 1
            repaired[name] = repaired.get(name, 0) + one.get("repaired", 0)
            per_s = history.per_s(class_key(peer["host"], name), "packets")
            if per_s is not None:
                rates.setdefault(name, []).append(per_s)
    rows = []
    for name in [*modes, *(other for other in hosts if other not in modes)]:
        shown = ", ".join(
            "{}{}".format(
                names.get(index, index),
                "" if count == hosts[name] else f" to {count} of {hosts[name]} hosts",
            )
            for index, count in sorted(carrying.get(name, {}).items())
        )
        made = f"; {repaired[name]} came by parity" if repaired.get(name) else ""
        cells = [
            "the rest" if name is None else name,
            modes.get(name, "redundant"),
            f"{sum(rates[name]):.0f}" if name in rates else UNKNOWN,
            (shown or "none") + made,
        ]
        rows.append(Row(cells, looks=() if shown else ((3, Look.WARNING),)))
    return rows


def _budgets(status: Mapping[str, Any]) -> List[Row]:
    rows = []
    for link in status.get("links", []):
        budget = link.get("budget")
        if not budget:
            continue
        used, size = budget["used_bytes"], budget["bytes"]
        share = used / size if size else 1.0
        full = min(BAR, int(share * BAR))
        resets_at = budget.get("resets_at")
        cells = [
            link["name"],
            _bytes(used),
            _bytes(size),
            f"{100 * share:.0f}",
            "[" + "#" * full + "." * (BAR - full) + "]",
            budget["per"],
            resets_at[:10] if resets_at else UNKNOWN,
        ]
        rows.append(Row(cells, Look.BAD if budget["used_up"] else Look.PLAIN))
    return rows


def _ms(value: Optional[float]) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if value < 100.0 else f"{value:.0f}"


def _rate(kbit: Optional[float]) -> str:
    """Return a rate in bit/s, with three digits or so."""
    if kbit is None:
        return UNKNOWN
    for unit in "kMGT":
        if kbit < 999.5 or unit == "T":
            break
        kbit /= 1000.0
    return f"{kbit:.1f}{unit}" if kbit < 99.95 else f"{kbit:.0f}{unit}"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    if seconds < 7200.0:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172800.0 else f"{seconds / 86400:.0f} days"
