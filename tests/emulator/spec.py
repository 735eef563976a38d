"""What a link is like, as one line of text: ``trace=drive-a-starlink,from_s=100,loss=0.01``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple

from tests.emulator import trace
from tests.emulator.link import GilbertElliott, LinkModel

NUMBERS = (
    "delay_ms",
    "jitter_ms",
    "loss",
    "reorder",
    "reorder_ms",
    "rate_kbit",
    "queue_ms",
    "queue_bytes",
)

#: The last of several rates lasts for so long, in seconds.
LAST_S = 1e5

HELP = """\
A link is KEY=VALUE,... with the keys trace (a name), from_s (where in the trace to begin),
rtt_ms or delay_ms (one way), jitter_ms, loss (0..1), burst (mean length of bursts of losses in
packets, or in steps of burst_ms each), reorder (0..1), reorder_ms, rate_kbit or rates (FROM:KBIT
with FROM in s, joined by plus: 0:8000+10:500), queue_ms or queue_bytes, black_hole (FROM-TO in s,
more with a plus: 5-7+20-21). OUT | BACK has another one for the way back."""


class SpecWrong(ValueError):
    """The text describes no link, or no wire can be made of it; a sentence."""


@dataclass(frozen=True)
class LinkSpec:
    """One direction of a link, of which any number of models can be made."""

    #: What it is called in tables.
    name: str
    #: Arguments of LinkModel.
    options: Dict[str, Any]

    def model(self, seed: int) -> LinkModel:
        """Return a fresh model. Raises SpecWrong where the values do not go together."""
        try:
            return LinkModel(seed, **self.options)
        except ValueError as error:
            raise SpecWrong(f"{self.name}: {error}") from error


#: Both directions of a link: out, and back.
BothWays = Tuple[LinkSpec, LinkSpec]


def constant(name: str = "link", **options: Any) -> BothWays:
    """Return a link that has these arguments of LinkModel in both directions."""
    spec = LinkSpec(name, options)
    return (spec, spec)


def parse(text: str) -> BothWays:
    """Return both directions of the link that a text describes. Raises SpecWrong."""
    out, _, back = text.partition("|")
    forward = _one_way(out.strip())
    return (forward, _one_way(back.strip()) if back else forward)


def _one_way(text: str) -> LinkSpec:
    given: Dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, equals, value = part.strip().partition("=")
        if not equals or key in given:
            raise SpecWrong(f"{part.strip()!r} is no KEY=VALUE, or its key came before.")
        given[key] = value
    name = given.get("trace", text or "plain")
    try:
        options = _options(given)
    except (ValueError, trace.TraceAbsent, trace.TraceBroken) as error:
        raise SpecWrong(f"{text!r}: {error}") from error
    if given:
        raise SpecWrong(f"{text!r}: there is no key {', '.join(given)}. {HELP}")
    spec = LinkSpec(name, options)
    spec.model(0)  # so that values that do not go together are known now
    return spec


def _options(given: Dict[str, str]) -> Dict[str, Any]:
    """Take what is known out of ``given``, and return it as arguments of LinkModel."""
    options: Dict[str, Any] = {}
    from_s = float(given.pop("from_s", 0))
    if "trace" in given:
        played = trace.load(given.pop("trace"))
        options["trace"] = played.cut(from_s, played.length_s - from_s) if from_s else played
    elif from_s:
        raise ValueError("from_s needs a trace")
    if "rates" in given:
        if "trace" in options:
            raise ValueError("rates and a trace are two of the same: give one of them")
        rates = [step.partition(":") for step in given.pop("rates").split("+")]
        steps = [(float(at), float(rate)) for at, _, rate in rates]
        options["trace"] = trace.steps(steps, steps[-1][0] + LAST_S)
    if "rtt_ms" in given:
        if "delay_ms" in given:
            raise ValueError("rtt_ms and delay_ms say the same: give one of them")
        options["delay_ms"] = float(given.pop("rtt_ms")) / 2
    for key in NUMBERS:
        if key in given:
            options[key] = float(given.pop(key))
    if "burst" in given:
        burst, step_ms = float(given.pop("burst")), given.pop("burst_ms", None)
        options["loss"] = GilbertElliott.of(
            options.get("loss", 0.0), burst, float(step_ms) if step_ms else None
        )
    if "black_hole" in given:
        windows = [window.partition("-") for window in given.pop("black_hole").split("+")]
        options["black_holes"] = [(float(start), float(end)) for start, _, end in windows]
    return options
