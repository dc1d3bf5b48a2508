"""The conditions of a measurement. As a program: puts them around its rows, JSON lines on stdin, one JSON object on stdout."""

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


def conditions():
    return {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory_gib": memory_gib(),
            "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
            "load_average_1m": round(os.getloadavg()[0], 2),
        },
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
    }


if __name__ == "__main__":
    rows = [json.loads(line) for line in sys.stdin if line.strip()]
    json.dump({**conditions(), "rows": rows}, sys.stdout, indent=2)
    print()
