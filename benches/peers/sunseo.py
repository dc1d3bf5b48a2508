"""Sunseo, with its own `bench` as the load."""

import json
import os
import time

from process import Child, Failed, free_ports, last_lines, run


class Sunseo:
    name = "Sunseo"

    def __init__(self, binaries, folder):
        self.binary = os.path.join(binaries, "sunseo")
        self.folder = folder
        self.child = None
        self.ports = None

    def fetch(self):
        self.version = run([self.binary, "--version"]).strip().removeprefix("sunseo ")

    def start(self, data="data"):
        self.ports = self.ports or free_ports(2)
        grpc, http = (f"127.0.0.1:{port}" for port in self.ports)
        log = os.path.join(self.folder, "sunseo.log")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUNSEO_")}
        self.data = os.path.join(self.folder, data)
        self.child = Child(self.name, [self.binary, "dev", "--data-dir", self.data, "--grpc", grpc, "--http", http], log, environment)
        return self

    def ready(self):
        self.child.wait_for_port(self.ports[0])

    def argv(self, *words):
        return [self.binary, "--server", f"127.0.0.1:{self.ports[0]}", *(str(word) for word in words)]

    def bench(self, *words, timeout=600):
        """The figures of one `sunseo bench`."""
        before = self.partitions()
        answer = json.loads(run(self.argv("bench", *words, "--json"), timeout, step=f"sunseo bench {words[0]}"))
        if "--topic" not in words:
            self.wait_deleted(lambda: not self.partitions() - before)
        return answer["figures"]

    def partitions(self):
        """Folders of partitions, those of deleted topics among them until their files are gone."""
        return {folder for root, folders, _ in os.walk(self.data) if os.path.basename(root) == "partitions" for folder in folders}

    def wait_deleted(self, is_gone, seconds=30):
        """Until the files of a deleted topic are gone, so that their removal is not in the next measurement."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not is_gone():
            time.sleep(0.1)

    def watch_ready(self, topic):
        """A probe that is there before the server is; `probe.process.communicate()` waits for its figures."""
        return Child("sunseo bench ready", self.argv("bench", "ready", "--topic", topic, "--json"), self.child.log, pipes=True)

    def answer(self, probe, timeout=600):
        out, _ = probe.process.communicate(timeout=timeout)
        failed = probe.process.returncode != 0
        probe.stop()
        if failed:
            raise Failed(f"sunseo bench ready: {last_lines(probe.log)}")
        return json.loads(out)["figures"]

    def create(self, topic, partitions, durability):
        run(self.argv("topic", "create", topic, "--partitions", partitions, "-c", f"durability={durability}"))

    def delete(self, topic):
        before = self.partitions()
        run(self.argv("topic", "delete", topic))
        self.wait_deleted(lambda: before - self.partitions())

    def stop(self):
        if self.child:
            self.child.stop()
