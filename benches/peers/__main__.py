"""`make peers`: compares with others, in one run. WORK names what, PARTS some rows of it, ROUNDS how often, QUICK=1 tries the tools."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from broker import SETTINGS, Broker
from comparison import Comparison, say
from memory import Ballast
from process import Failed, Scratch, ends_in_order

FULL = {
    "warm_up": 1,
    "seconds": 4,
    "e2e_seconds": 6,
    "kafka_warm_up": 4,
    "consume_mb": 1000,
    "cost_mb": 1000,
    "settle": 10,
    "many": 1000,
    "restart_mb": 10_000,
    "restart_more_mb": 200,
}
QUICK = {
    "warm_up": 0,
    "seconds": 1,
    "e2e_seconds": 1,
    "kafka_warm_up": 1,
    "consume_mb": 50,
    "cost_mb": 50,
    "settle": 1,
    "many": 50,
    "restart_mb": 100,
    "restart_more_mb": 10,
}


def main():
    ends_in_order()
    quick = os.environ.get("QUICK", "") not in ("", "0")
    work = os.environ.get("WORK") or "broker"
    if work != "broker":
        print(f"error: WORK is {work}: only broker is compared so far", file=sys.stderr)
        return 2
    rounds = int(os.environ.get("ROUNDS") or (1 if quick else 5))
    parts = os.environ.get("PARTS", "").split()
    cache = os.path.join(os.environ["SUNSEO_CACHE"], "peers")
    os.makedirs(cache, exist_ok=True)
    official = not quick and not parts
    comparison = Comparison(work, "Sunseo's log beside others", rounds, list(SETTINGS), official)
    unknown = set(parts) - set(Broker.parts(Broker.__new__(Broker)))
    if unknown:
        print(f"error: PARTS: there is no {' '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    try:
        scratch = Scratch()
        if not quick:
            comparison.ballast = comparison.attempt("memory in use", Ballast, scratch)
        broker = Broker(comparison, scratch, cache, os.environ["SUNSEO_BINARIES"], QUICK if quick else FULL)
        broker.measure(parts)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    comparison.write()
    for entry in comparison.result["missing"]:
        say(f"missing: {entry['peer']}: {entry['why']}")
    short = [row["work"] for row in comparison.result["rows"] if row["met"] is False]
    say(f"{len(comparison.result['rows'])} rows, {len(short)} short of what is asked, {len(comparison.result['missing'])} missing")
    return 0


sys.exit(main())
