"""NATS JetStream and Redis streams, with the load in go/."""

import json
import os
import shutil

from process import Child, Failed, free_ports, install, run

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "go")
NATS_MODULE, NATS_VERSION = "github.com/nats-io/nats-server/v2", "v2.15.2"

# Debian's package of the tools has the server too, under the name of its checker, and starts no service
REDIS_PACKAGE, REDIS_PROGRAMS = "redis-tools", ("redis-server", "redis-check-rdb")


class Loaded:
    """A server that the load in go/ can talk to."""

    def __init__(self, cache, folder):
        self.cache, self.folder = cache, folder
        self.child = self.port = None
        self.starts = 0
        self.bin = os.path.join(cache, "go-bin")
        self.load = os.path.join(self.bin, "peers-load")

    def fetch_load(self):
        os.makedirs(self.bin, exist_ok=True)
        run(["go", "build", "-o", self.load, "."], 900, cwd=HERE, step="go build (the load)")

    def go(self, mode, **words):
        words = [f"-{name.replace('_', '-')}={value}" for name, value in words.items()]
        argv = [self.load, "-mode", mode, "-peer", self.kind, "-address", f"127.0.0.1:{self.port}", *words]
        return json.loads(run(argv, step=f"{self.name}, {mode}"))

    def new_data(self):
        """A folder for one start: nothing is taken over from the last."""
        self.starts += 1
        self.data = os.path.join(self.folder, f"data-{self.starts}")
        os.makedirs(self.data)
        return self.data

    def stop(self):
        if self.child:
            self.child.stop()
            self.child = None
            shutil.rmtree(self.data, ignore_errors=True)


class Nats(Loaded):
    name, kind = "NATS JetStream", "nats"

    def fetch(self):
        self.version = NATS_VERSION.removeprefix("v")
        self.fetch_load()
        self.server = os.path.join(self.bin, f"nats-server-{NATS_VERSION}")
        if not os.path.exists(self.server):
            environment = {**os.environ, "GOBIN": self.bin}
            run(["go", "install", f"{NATS_MODULE}@{NATS_VERSION}"], 900, environment, step="go install nats-server")
            os.rename(os.path.join(self.bin, "nats-server"), self.server)

    def start(self, sync_always):
        (self.port,) = free_ports(1)
        data = self.new_data()
        config = os.path.join(self.folder, "nats.conf")
        sync = "sync_interval: always" if sync_always else ""
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'listen: "127.0.0.1:{self.port}"\njetstream {{\n store_dir: "{data}"\n {sync}\n}}\n')
        self.child = Child(self.name, [self.server, "-c", config], os.path.join(self.folder, "nats.log"))
        self.child.wait_for_port(self.port)
        return self


class Redis(Loaded):
    name, kind = "Redis streams", "redis"

    def fetch(self):
        self.fetch_load()
        found = [path for path in map(shutil.which, REDIS_PROGRAMS) if path]
        if not found:
            install(REDIS_PACKAGE)
            found = [path for path in map(shutil.which, REDIS_PROGRAMS) if path]
        if not found:
            raise Failed(f"the package {REDIS_PACKAGE} has no server here")
        self.server = found[0]
        self.version = None

    def start(self, fsync):
        (self.port,) = free_ports(1)
        data = self.new_data()
        words = ["--port", self.port, "--bind", "127.0.0.1", "--dir", data, "--save", "", "--appendonly", "yes", "--appendfsync", fsync]
        argv = ["redis-server", *(str(word) for word in words)]
        self.child = Child(self.name, argv, os.path.join(self.folder, "redis.log"), executable=self.server)
        self.child.wait_for_port(self.port)
        if self.version is None:
            with open(self.child.log, encoding="utf-8", errors="replace") as file:
                text = file.read()
            self.version = text.split("Redis version=", 1)[1].split(",")[0] if "Redis version=" in text else "unknown"
        return self
