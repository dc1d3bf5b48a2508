"""Servers and tools as child processes: started, watched, and never left behind."""

import atexit
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG = 1
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
STOP_SECONDS = 20
running = []


class Failed(Exception):
    """A step that did not work, with its cause in words."""


def _dies_with_us():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count):
    """Ports that nobody has at the moment, below the range of outgoing connections."""
    held = []
    for port in range(20_000 + os.getpid() % 5_000, 32_000):
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.close()
            continue
        held.append(probe)
        if len(held) == count:
            break
    ports = [probe.getsockname()[1] for probe in held]
    for probe in held:
        probe.close()
    if len(ports) < count:
        raise Failed("no free port between 20000 and 32000")
    return ports


def last_lines(path, count=4):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return " | ".join(line.strip() for line in file.read().splitlines()[-count:])
    except OSError:
        return ""


def run(argv, timeout=600, env=None, cwd=None, step=None):
    """Runs a tool to its end; its stdout."""
    step = step or os.path.basename(argv[0])
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=cwd,
            check=False,
            stdin=subprocess.DEVNULL,
            preexec_fn=_dies_with_us,
        )
    except FileNotFoundError as error:
        raise Failed(f"{step}: {argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{step}: not done within {timeout} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise Failed(f"{step}: exit status {done.returncode}: {' | '.join(said)}")
    return done.stdout


def install(package):
    """By Debian's own client."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run([*as_root, "apt-get", "update", "-qq"], step="apt-get update")
    run([*as_root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", package], env=environment, step=f"apt-get install {package}")


def need(program, package):
    """The program, from Debian's package where it is not there yet."""
    if not shutil.which(program):
        install(package)
    if not shutil.which(program):
        raise Failed(f"{program} is not installed, and the package {package} does not bring it")


class Child:
    """A process that runs until it is stopped; ends with this one."""

    def __init__(self, name, argv, log, env=None, executable=None, pipes=False):
        self.name, self.log = name, log
        pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
        with open(log, "ab") as sink:
            try:
                self.process = subprocess.Popen(
                    argv,
                    executable=executable,
                    stdin=pipe,
                    stdout=subprocess.PIPE if pipes else sink,
                    stderr=sink,
                    env=env,
                    text=pipes,
                    bufsize=1 if pipes else -1,
                    preexec_fn=_dies_with_us,
                )
            except FileNotFoundError as error:
                raise Failed(f"{name}: {argv[0]} is not installed") from error
        running.append(self)

    @property
    def pid(self):
        return self.process.pid

    def is_alive(self):
        return self.process.poll() is None

    def wait_for_port(self, port, seconds=90):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.is_alive():
                raise Failed(f"{self.name} ended while it started: {last_lines(self.log)}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise Failed(f"{self.name} did not listen within {seconds} s: {last_lines(self.log)}")

    def cpu_seconds(self):
        """User and system time of the process with all its threads."""
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def rss_mb(self):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024 / 1e6

    def kill(self):
        """As a crash would: SIGKILL."""
        self.process.kill()
        self.process.wait()
        self._forget()

    def stop(self):
        if self.is_alive():
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self._forget()

    def _forget(self):
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                try:
                    pipe.close()
                except OSError:
                    pass
        if self in running:
            running.remove(self)


@atexit.register
def stop_all():
    for child in list(running):
        child.stop()


def ends_in_order():
    """Signals that end this process let it clean up."""

    def end(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


class Scratch:
    """A folder for the data of everybody, all on one disk; removed at the end."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="sunseo-peers-", dir=os.environ.get("SUNSEO_BENCH_DIR"))
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)

    def room(self, megabytes):
        """Refuses a step that would fill the disk."""
        free = shutil.disk_usage(self.path).free / 1e6
        if free < megabytes:
            raise Failed(f"{free / 1000:.1f} GB are free in {self.path}, {megabytes / 1000:.1f} GB are needed: SUNSEO_BENCH_DIR names another disk")

    def folder(self, name):
        path = os.path.join(self.path, name)
        os.makedirs(path, exist_ok=True)
        return path


class Syncs:
    """Counts the fdatasync and fsync calls of a process: by the kernel's tracepoints, or by strace, which slows it down."""

    EVENTS = ("fdatasync", "fsync")

    def __init__(self, child, folder):
        self.child = child
        self.out = os.path.join(folder, f"syncs-{time.monotonic_ns()}")
        self.how, self.counter = None, None

    def __enter__(self):
        events = ",".join(f"syscalls:sys_enter_{event}" for event in self.EVENTS)
        ways = [
            ("perf", ["perf", "stat", "-x,", "-o", self.out, "-e", events, "-p", str(self.child.pid)]),
            ("strace", ["strace", "-f", "-c", "-e", f"trace={','.join(self.EVENTS)}", "-o", self.out, "-p", str(self.child.pid)]),
        ]
        for how, argv in ways:
            if not shutil.which(argv[0]):
                continue
            self.counter = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_dies_with_us
            )
            time.sleep(0.5)
            if self.counter.poll() is None:
                self.how = how
                return self
        raise Failed("neither perf nor strace can count system calls here")

    def __exit__(self, *_):
        self.counter.send_signal(signal.SIGINT)
        self.counter.wait(STOP_SECONDS)

    def count(self):
        """After the block."""
        with open(self.out, encoding="utf-8") as file:
            text = file.read()
        os.remove(self.out)
        return count_of(text, self.how)


def count_of(text, how):
    """Calls in what perf stat -x, or strace -c wrote."""
    total = 0
    for line in text.splitlines():
        if how == "perf" and "sys_enter_" in line:
            total += int(line.split(",")[0])
        fields = line.split()
        if how == "strace" and fields and fields[-1] in Syncs.EVENTS:
            total += int(fields[3])
    return total
