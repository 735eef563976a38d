"""The exporter beside a running agent, as the distribution's Prometheus and Chromium see it."""

from __future__ import annotations

import json
import shutil
import socketserver
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any, Iterator

import pytest

from tests.lab.process import run
from tests.system.bed import browser
from tests.system.bed.agents import ROOT, Process
from tests.system.bed.stage import Pair, Stage
from tests.system.bed.topology import Host, until
from tests.system.bed.traffic import ping
from tests.unit.app.monitor import recorded

MONITORING = ROOT / "agent" / "monitoring"
RULE_TESTS = Path(__file__).with_name("ropeway.rules.test.yml")
LOSS_PERCENT = 30
LISTEN = "127.0.0.1:9851"
PROMETHEUS = "127.0.0.1:9090"
INSTALL = "run `.config/install-prerequisites monitor`"
PHONE, DESKTOP = (360, 740), (1280, 900)
CONFIGURATION = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{MONITORING}/ropeway.rules.yml]
scrape_configs:
  - job_name: ropeway
    static_configs: [{{targets: ["{LISTEN}"]}}]
"""
GET = """
import sys, urllib.error, urllib.request
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    print(direct.open(sys.argv[1], timeout=10).read().decode())
except urllib.error.HTTPError as refused:
    print(refused.code, refused.read().decode())
except OSError as error:
    print(error)
"""
RUN = "import sys; from ropeway.app.monitor.cli import main; sys.exit(main())"


def need(program: str | None, name: str) -> None:
    if program is None:
        pytest.skip(f"NOT TESTED: {name} is not installed; {INSTALL}")


def get(host: Host, url: str) -> str:
    return host.run(sys.executable, "-c", GET, url)


class Watched:
    """Two hosts, one of them with a lossy link, a missing one, and an exporter."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        pair = Pair(stage, lans=3)
        self.agent, _ = pair.start()
        self.host = pair.a
        pair.a.ports["net1"].drop(LOSS_PERCENT)
        pair.a.ports["net2"].unplug()
        self.verdict = ping(pair.a, pair.b_address, count=500, interval_s=0.004)
        self.exporter = stage.process(Process(self.host, stage.directory, "exporter"))
        self.exporter.launch(
            sys.executable, "-c", RUN, "--control", str(self.agent.control_path)
        )  # fmt: skip
        until(lambda: "listening on" in self.exporter.log(), 20.0, "the exporter listens")

    def metrics(self) -> str:
        return get(self.host, f"http://{LISTEN}/metrics")


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    stage = Stage()
    try:
        yield Watched(stage)
    finally:
        stage.show_logs()
        stage.close()


def test_the_exporter_serves_what_the_agent_says(watched: Watched) -> None:
    lines = watched.metrics().splitlines()
    assert "ropeway_up 1.0" in lines
    assert 'ropeway_peer_state{peer="10.0.0.2"} 2.0' in lines
    assert 'ropeway_link_carries{link="eth2"} 0.0' in lines
    assert f'ropeway_peer_delivered_packets_total{{peer="10.0.0.2"}} {500.0}' in lines


def test_a_foreign_host_header_gets_nothing(watched: Watched) -> None:
    curl = "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9851)"
    curl += "; c.request('GET', '/metrics', headers={'Host': 'evil.example.net'})"
    curl += "; print(c.getresponse().status)"
    assert watched.host.run(sys.executable, "-c", curl) == "421\n"


def test_scrapes_without_end_reach_the_agent_once_a_second(watched: Watched) -> None:
    many = "import sys, time, urllib.request as u; end = time.monotonic() + 3; n = 0\n"
    many += "while time.monotonic() < end: u.urlopen(sys.argv[1]).read(); n += 1\nprint(n)"
    used_s = watched.agent.cpu_s()
    scrapes = int(watched.host.run(sys.executable, "-c", many, f"http://{LISTEN}/metrics"))
    used_s = watched.agent.cpu_s() - used_s
    print(f"{scrapes} scrapes in 3 s, and the agent used {used_s:.2f} s")
    assert scrapes > 30
    assert used_s < 0.5


def test_an_exporter_uses_little_memory(watched: Watched) -> None:
    assert watched.exporter.rss_kib() < 64 * 1024


def test_the_rules_are_those_that_promtool_accepts(tmp_path: Path) -> None:
    need(shutil.which("promtool"), "promtool")
    rules = MONITORING / "ropeway.rules.yml"
    run(["promtool", "check", "rules", str(rules)])
    # Paths in a test of rules are relative to it.
    for file in (rules, RULE_TESTS):
        shutil.copy(file, tmp_path)
    print(run(["promtool", "test", "rules", str(tmp_path / RULE_TESTS.name)]).stdout)


def test_the_exposition_is_as_prometheus_wants_it(watched: Watched) -> None:
    need(shutil.which("promtool"), "promtool")
    run(["promtool", "check", "metrics"], text_in=watched.metrics())


class Prometheus(Process):
    """The distribution's Prometheus, which scrapes the exporter and evaluates the rules."""

    def start(self, directory: Path) -> None:
        configuration = directory / "prometheus.yml"
        configuration.write_text(CONFIGURATION)
        self.launch(
            "prometheus", f"--config.file={configuration}", f"--web.listen-address={PROMETHEUS}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
        )  # fmt: skip

    def ask(self, path: str, **query: str) -> Any:
        """Return what its interface answers; None if it does not."""
        url = f"http://{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            return json.loads(get(self.host, url))["data"]
        except ValueError:
            return None

    def values(self, query: str) -> list[float]:
        found = self.ask("query", query=query)
        return [float(one["value"][1]) for one in found["result"]] if found else []


def test_prometheus_scrapes_it_and_its_alerts_fire(watched: Watched) -> None:
    need(shutil.which("prometheus"), "Prometheus")
    prometheus = Prometheus(watched.host, watched.stage.directory, "prometheus")
    watched.stage.process(prometheus)
    prometheus.start(watched.stage.directory)
    until(lambda: prometheus.values("ropeway_up") == [1.0], 30.0, "a scrape")
    assert prometheus.values('up{job="ropeway"}') == [1.0]
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert prometheus.values('ropeway_loss_ratio{link="eth1"}')[0] > 0.1

    def rules() -> list[dict[str, Any]]:
        groups = (prometheus.ask("rules") or {"groups": []})["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def states() -> dict[str, str]:
        return {rule["name"]: rule["state"] for rule in rules()}

    def evaluated() -> bool:
        return bool(rules()) and all(rule["health"] == "ok" for rule in rules())

    until(evaluated, 20.0, "every rule is evaluated")
    # The link has been unplugged for seconds; minutes make it an alert.
    until(
        lambda: states()["RopewayLinkCarriesNothing"] == "pending",
        20.0,
        lambda: f"an alert is pending: {states()}",
    )
    assert states()["RopewayAgentDown"] == states()["RopewayHostUnreachable"] == "inactive"
    prometheus.terminate()


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_browser_shows_hosts_and_links(
    watched: Watched, size: tuple[int, int], dark: bool, tmp_path: Path
) -> None:
    need(browser.program(), "Chromium")
    with browser.Browser(watched.host, tmp_path) as page:
        page.screen(*size, dark=dark)
        page.open(f"http://{LISTEN}/")
        page.wait("Number(document.body?.dataset.polls) >= 2")
        text = page.evaluate("document.body.innerText")
        for sentence in ("10.0.0.1", "10.0.0.2", "eth0", "carries nothing", "2 of 3 links",
                         "1 of 3 links without traffic (eth2)", "Round trip", "Loss"):  # fmt: skip
            assert sentence in text, text
        assert page.evaluate("document.querySelectorAll('#links .card').length") == 3
        # A curve for each link that is measured, of at least two samples.
        drawn = "[...document.querySelectorAll('.plot g path')].map((p) => p.getAttribute('d'))"
        curves = [path for path in page.evaluate(drawn) if "L" in path]
        assert len(curves) >= 6, curves
        width = page.evaluate("document.documentElement.scrollWidth")
        page.screenshot(tmp_path / "page.png")
        print(f"look at {tmp_path / 'page.png'}")
        assert width <= size[0]
        assert page.complaints == []


def test_a_page_that_stays_open_says_that_the_agent_has_gone(stage: Stage, tmp_path: Path) -> None:
    need(browser.program(), "Chromium")
    watched = Watched(stage)
    with browser.Browser(watched.host, tmp_path) as page:
        page.open(f"http://{LISTEN}/")
        page.wait("document.body?.innerText.includes('1 of 3 links')")
        watched.agent.terminate()
        page.wait("document.querySelector('#verdict').innerText.includes('no agent answers')")
        assert "ropeway_up 0.0" in watched.metrics()
        watched.exporter.terminate()
        page.wait("document.querySelector('#verdict').innerText.includes('exporter does not')")


class Answering(socketserver.StreamRequestHandler):
    """Answers as an agent whose every name is hostile."""

    def handle(self) -> None:
        self.rfile.readline()
        reply = {"ok": True, "result": recorded.hostile()}
        self.wfile.write(json.dumps(reply).encode() + b"\n")


def test_hostile_names_are_shown_and_do_nothing(stage: Stage, tmp_path: Path) -> None:
    need(browser.program(), "Chromium")
    host = stage.topology("net0").host("vm0")
    path = stage.directory / "hostile.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), Answering) as agent:
        threading.Thread(target=agent.serve_forever, daemon=True).start()
        exporter = stage.process(Process(host, stage.directory, "exporter"))
        exporter.launch(sys.executable, "-c", RUN, "--control", str(path))
        until(lambda: "listening on" in exporter.log(), 20.0, "the exporter listens")
        with browser.Browser(host, tmp_path) as page:
            page.screen(*PHONE)
            page.open(f"http://{LISTEN}/")
            page.wait("Number(document.body?.dataset.polls) >= 2")
            assert "<img src=x onerror=" in page.evaluate("document.body.innerText")
            assert page.evaluate("document.images.length") == 0
            assert page.evaluate("document.scripts.length") == 1
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
            assert page.complaints == []
        agent.shutdown()
