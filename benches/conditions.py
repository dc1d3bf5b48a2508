"""Puts the conditions of a measurement around its rows: JSON lines on stdin, one JSON object on stdout."""

import datetime
import json
import os
import platform
import subprocess
import sys


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_gib():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def commit():
    answer = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


json.dump(
    {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gib": memory_gib(),
            "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
            "load_average_1m": os.getloadavg()[0],
        },
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "rows": [json.loads(line) for line in sys.stdin if line.strip()],
    },
    sys.stdout,
    indent=2,
)
print()
