"""One comparison: rounds in turn, rows, what is missing, and results that are written after every row."""

import os
import sys
import time

import report
from conditions import conditions
from process import Failed

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


# figures of a measurement that are said while it runs
SHOWN = ("throughput_mb_per_s", "throughput_records_per_s", "latency_p50_ms", "latency_p99_ms", "appends_per_sync")
SHOWN += ("cpu_s_per_gb", "rss_mb", "ready_s", "fdatasync_p99_ms")


def say(words):
    print(f"peers: {words}", file=sys.stderr, flush=True)


class Comparison:
    def __init__(self, work, title, rounds, settings, official):
        self.work, self.rounds, self.official = work, rounds, official
        self.result = {"title": title, **conditions(), "rounds": rounds, "rows": [], "missing": [], "settings": settings}
        self.begun, self.placed, self.order = time.monotonic(), [], 0
        # what keeps the memory in use, if anything does
        self.ballast = None

    def missing(self, peer, why):
        """Nothing is left out without a word."""
        say(f"{peer}: {why}")
        entry = {"peer": peer, "why": str(why)}
        if entry not in self.result["missing"]:
            self.result["missing"].append(entry)
        self.write()

    def attempt(self, name, step, *words):
        """Runs a step; a failure is noted under this name and gives None."""
        try:
            return step(*words)
        except Failed as error:
            self.missing(name, error)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            # a tool that answers in another way than expected must not end the run
            self.missing(name, f"{type(error).__name__}: {error}")
        return None

    def in_turn(self, what, variants, rounds=None):
        """A B A B: the figures of every variant, a list with one entry a round, None where it failed.

        A variant that failed twice is not tried again.
        """
        found = {name: [] for name in variants}
        failures = dict.fromkeys(variants, 0)
        rounds = rounds or self.rounds
        for number in range(rounds):
            for name, measure in variants.items():
                if failures[name] >= 2:
                    found[name].append(None)
                    continue
                # what others left unwritten must not be written at this one's cost
                os.sync()
                if self.ballast:
                    self.attempt("memory in use", self.ballast.fill)
                answer = self.attempt(f"{what}: {name}", measure)
                failures[name] += answer is None
                found[name].append(answer)
                shown = "failed" if answer is None else ", ".join(f"{key} {report.figure(answer[key])}" for key in SHOWN if key in answer)
                say(f"{time.monotonic() - self.begun:5.0f} s  {what}, round {number + 1} of {rounds}, {name}: {shown}")
        return found

    def row(self, work, unit, ours, peer, **more):
        row = report.row(work, unit, ours, peer, **more)
        if row is None:
            self.missing(f"{more.get('name', '')} {more.get('version', '')}".strip(), f"{work}: no round with figures of both")
            return
        # parts run in the order that suits the servers, and are shown in the order that was asked for
        self.placed.append((self.order, len(self.placed), row))
        self.result["rows"] = [row for _, _, row in sorted(self.placed, key=lambda placed: placed[:2])]
        self.write()

    def write(self):
        # a short run is for trying the tools: it must not replace the figures that are shown
        folder = "benches/results" if self.official else os.environ.get("SUNSEO_PEERS_OUT", "target/peers")
        readme = os.path.join(ROOT, "README.md") if self.official else None
        report.write(self.result, self.work, os.path.join(ROOT, folder), readme)


def of(rounds, name):
    """One figure of every round."""
    return [None if figures is None else figures.get(name) for figures in rounds]


def best(*measured):
    """The rounds of the variant with the higher median: the more favourable of several ways to measure a peer."""

    def median(values):
        known = sorted(value for value in values if value is not None)
        return known[len(known) // 2] if known else -1

    return max(measured, key=median)
