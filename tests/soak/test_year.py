"""A year of two portals, over HTTP: the function recovers from every event by itself.

A seed decides the order in which the events of the year strike the portals, both in parallel, while
users delete messages, the portals ping by themselves, the store fails, and the function is killed.
"""

import json
import os
import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from handler.bitrix24 import portal_problems as problems
from handler.urls import same_address
from tests.conftest import firestore_at
from tests.doubles.bitrix24 import Bitrix24
from tests.doubles.firestore import FirestoreDouble
from tests.doubles.function import Function
from tests.doubles.tcp_proxy import TcpProxy
from tests.soak.chaos import replay
from tests.soak.weather import STORE_DEADLINE_SECONDS, Weather
from tests.soak.year import ACTS, CONNECTORS, NO_FAULT, OTHER_HOST, PING, Plan, Year

SEED = int(os.environ.get("YEAR_SEED", "4"))
ROUNDS = int(os.environ.get("YEAR_ROUNDS", "1"))
STORM_SECONDS = float(os.environ.get("YEAR_STORM_SECONDS", "6"))
STORM_PER_SECOND = 10
LIMIT_SECONDS = 900 * ROUNDS  # on a busy machine

# The year causes these, and waits for them in the log.
PROVOKED = {problems.ADMINISTRATOR, problems.NO_TOKEN, problems.PLAN, problems.PERMISSION}


@pytest.fixture
def proxied() -> Iterator[tuple[FirestoreDouble, TcpProxy]]:
    """Run a store that may fail."""
    with FirestoreDouble() as double, TcpProxy(double.host) as proxy:
        yield double, proxy


def test_a_year_ends_well(
    tmp_path: Path,
    project: str,
    proxied: tuple[FirestoreDouble, TcpProxy],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each deletion recorded once, one binding each, no problem left, and all of it logged."""
    double, proxy = proxied
    started = time.monotonic()
    log = tmp_path / "log"
    store = firestore_at(double.host, project)
    chance = random.Random(SEED)
    with Bitrix24() as bitrix:
        settings = {
            "FIRESTORE_EMULATOR_HOST": proxy.host,
            "GOOGLE_CLOUD_PROJECT": project,
            "STORE_DEADLINE_SECONDS": str(STORE_DEADLINE_SECONDS),
            "ALLOWED_PORTALS": "p1.bitrix24.com,p2.bitrix24.ru",
            "CONNECTORS": CONNECTORS,
            "BITRIX24_OAUTH_SERVERS": bitrix.oauth_servers,
            "TOKEN_CACHE_SECONDS": "1",
            "THREADS": "32",
        }

        def replay_the_log() -> int:
            """Store the dead letters in the log so far; return how many records were missing."""
            whole = tmp_path / "whole-lines"  # the function may be writing another one
            text = log.read_text()
            whole.write_text(text[: text.rindex("\n") + 1])
            told = replay(whole, double.host, project)
            assert not told["problems"]
            return int(told["recorded"])

        with Function(log, **settings) as function, Weather(bitrix, function, proxy) as weather:
            years = [
                Year(
                    bitrix=bitrix,
                    function=function,
                    store=store,
                    weather=weather,
                    domain=domain,
                    chance=random.Random(chance.random()),
                    stranger=bitrix.add_portal("evil.bitrix24.com").install(),
                    extended=domain.endswith(".com"),
                    replay=replay_the_log,
                )
                for domain in ("p1.bitrix24.com", "p2.bitrix24.ru")
            ]
            with ThreadPoolExecutor() as pool:
                everything = plan(chance, weather.kinds)
                lived = [pool.submit(year.live, everything) for year in years]
                for one in lived:
                    one.result(LIMIT_SECONDS)
            bitrix.clear_faults()
            for year in years:
                year.until_it_is_well()
            replayed = replay_the_log()
        logged_problems: Counter[str] = Counter()
        for year in years:
            assert dict.fromkeys(year.deleted, 1) == year.recorded, year.happened
            assert year.document["bound_as"] == year.administrator
            assert year.document["domain"] == year.portal.domain
            assert year.document["client_endpoint"] == year.portal.client_endpoint
            ours = [one.handler for one in year.app.bindings if one.handler not in ("", OTHER_HOST)]
            assert all(same_address(one, ours[0]) for one in ours)
            logged_problems += count_problems(function.log, weather.killed, year.portal.member_id)
        assert logged_problems.keys() >= PROVOKED
        outcomes = Counter(str(line["outcome"]) for line in function.log_lines)
        assert "internal_error" not in outcomes
        hexadecimal = set(re.findall(r"[0-9a-f]{32,}", function.log))  # as all secrets are
        assert hexadecimal.isdisjoint(bitrix.secrets)
    with capsys.disabled():
        faults = [
            f"  {number} x {kind}, {where}" for (kind, where), number in weather.struck.items()
        ]
        struck = "\n".join(sorted(faults))
        sys.stdout.write(
            f"\nA year, seed {SEED}: {sum(len(year.deleted) for year in years)} deletions,"
            f" {replayed} of them by the last replay; {json.dumps(outcomes)};\n"
            f"{logged_problems.total()} problems; faults:\n{struck}\n"
            f"in {time.monotonic() - started:.0f} s.\n"
        )
    assert {kind for kind, _ in weather.struck} == set(weather.kinds)


def plan(chance: random.Random, faults: list[str]) -> Plan:
    """Return the events of the year in random order, each with the fault that accompanies it."""
    everything: Plan = deque()
    for _ in range(ROUNDS):
        acts = list(ACTS)
        chance.shuffle(acts)
        kinds = [*faults * 2, *[NO_FAULT] * len(acts)][: len(acts)]
        chance.shuffle(kinds)
        everything += zip(acts, kinds, strict=True)
    return everything


def count_problems(log: str, killed: Sequence[int], member_id: str) -> Counter[str]:
    """Count a portal's problems in the log, and check that each that begins ends.

    A line may be missing where the function was killed, or where the store did not answer an event
    that may have ended a problem.
    """
    begun: Counter[str] = Counter()
    present: str | None = None
    certain = True
    at = 0
    for text in log.splitlines(keepends=True):
        certain = certain and not any(at <= end < at + len(text) for end in killed)
        at += len(text)
        line = json.loads(text) if text.startswith("{") else {}
        if line.get("member_id") != member_id:
            continue
        if line["outcome"] == "portal_problem":
            begun[line["message"]] += line["message"] != present
            present, certain = line["message"], True
        elif line["outcome"] == "portal_well":
            assert line["message"] == f"Resolved: {present}" or not certain
            present, certain = None, True
        elif line["outcome"] == "store_unavailable" and line["event"] in (PING, "ONAPPINSTALL"):
            certain = False
    assert present is None or not certain
    return begun


@pytest.mark.parametrize("extended", [True, False])
def test_a_storm_is_drained_within_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, extended: bool
) -> None:
    """Pings come once a second, and each is answered by one drain at a time.

    Over any 30 s there are ten calls and one a second, and ten seconds after the last ping the
    queue is empty.
    """
    with Bitrix24() as bitrix:
        portal = bitrix.add_portal("storm.bitrix24.com", offline_extended=extended)
        settings = {
            "STORE": "local",
            "LOCAL_STORE_PATH": str(tmp_path / "store.sqlite3"),
            "ALLOWED_PORTALS": portal.domain,
            "BITRIX24_OAUTH_SERVERS": bitrix.oauth_servers,
            "THREADS": "32",
        }
        with Function(tmp_path / "log", **settings) as function:
            app = portal.install()
            (installed,) = app.save_form(f"{function.url}/")
            assert json.loads(installed.answer) == {"status": "installed", "subscribed": True}
            installing = len(bitrix.calls)
            calls_at: list[float] = []

            class Timed(list):  # type: ignore[type-arg] # of calls
                def append(self, call: object) -> None:
                    calls_at.append(time.monotonic())
                    super().append(call)

            bitrix.calls = Timed()
            deletions = portal.storm(int(STORM_SECONDS * STORM_PER_SECOND), STORM_PER_SECOND)
            end = time.monotonic() + 10
            while portal.queue(app) and time.monotonic() < end:
                time.sleep(0.1)
            left = len(portal.queue(app))
            pings = [one for one in function.log_lines if one.get("event") == "ONOFFLINEEVENT"]
            answers = Counter(str(one["outcome"]) for one in pings)
        assert left == 0 or any("queue" in str(one["message"]) for one in pings)
        for start in calls_at:
            within = [at for at in calls_at if start <= at < start + 30]
            assert len(within) <= 10 + (max(within) - start) + 1
        assert set(answers) <= {"recovered", "postponed"}
        assert installing
    with capsys.disabled():
        slowest = max(float(one["duration_ms"]) for one in pings) / 1000
        sys.stdout.write(
            f"\nA storm, {'with' if extended else 'without'} reservation:"
            f" {len(deletions)} deletions in {STORM_SECONDS:.0f} s, {len(calls_at)} calls,"
            f" {dict(answers)}, {left} rows left after 10 s, slowest ping {slowest:.1f} s.\n"
        )
