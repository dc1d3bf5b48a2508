"""The broker beside Kafka, NATS JetStream and Redis streams: every row of the comparison.

Each load runs on one server at a time while the others are idle. Both sides of a row get the same batches, linger, buffer and number
of clients. For Kafka the better of its own perf tool and of the driver counts (the driver's code stays compiled between runs).
"""

import json
import os
import time

from comparison import best, of, say
from kafka import Kafka
from others import Nats, Redis
from process import Failed, Syncs, run
from sunseo import Sunseo

KIB = 1024
SMALL = 100
KEY = 8
BATCH = 256 << 10
SMALL_BATCH = 16 << 10
LINGER = 5
CLIENTS = 2
RATE_MB = 20

# what the loads of one round leave on the disk until their topics are deleted
SPARE_MB = 6000

FSYNC, UNSYNCED = "fsync", "page cache"

SETTINGS = [
    f"Produce and consume: {CLIENTS} producers, {CLIENTS} consumers, batches of {BATCH >> 10} KiB, linger {LINGER} ms, producer buffer of 64 MiB, "
    "requests up to 8 MiB, acks=all, no compression, on both sides. The row with each side's defaults says what they are.",
    "Kafka: default JVM settings of its start script (1 GiB heap, G1), the distribution's server.properties; the better of its own perf tool "
    "(kafka-producer-perf-test, kafka-consumer-perf-test) and of a driver that stays warm counts. Keyed, many-partition and open-loop loads: driver only, "
    "its own tools cannot make them.",
    f"End to end: open loop at {RATE_MB} MB/s of 1 KiB records, one producer, one consumer, no linger; a latency counts from the time at which a "
    "fixed schedule says the record is sent, on both sides.",
    "Memory: all in use, on both sides. Before each measurement the page cache is filled with a file, because a virtual machine gives free memory back to "
    "its host and its first use afterwards costs several times as much. Who writes takes the place of clean pages and pays for that.",
    "Page cache: acknowledged before it is on disk. Fsync: acknowledged after fdatasync. Kafka flush.messages=1: its fsync.",
    "CPU: user and system time of the server process alone, from /proc. RSS: the same process; idle is before any load.",
    "Small synced producers: 16 connections with one 1 KiB record in flight each; fdatasync and fsync calls of the server counted by the kernel.",
    "NATS: go client, asynchronous publishes, one stream; Redis: XADD, one stream, one command a record, pipelined.",
    "Restart: kill -9, then the time from exec until every partition has taken a record and given one, seen by a probe that waits "
    "beforehand. Between two kills more is written to all partitions. Both unsynced, as in the first row.",
]

# the order of the parts in the tables
SHOWN = ("produce", "keyed", "consume", "e2e", "cost", "small", "partitions", "restart")


class Broker:
    def __init__(self, comparison, scratch, cache, binaries, times):
        self.c, self.times, self.binaries, self.scratch = comparison, times, binaries, scratch
        self.sunseo = Sunseo(binaries, scratch.folder("sunseo"))
        self.kafka = Kafka(cache, scratch.folder("kafka"))
        self.nats = Nats(cache, scratch.folder("nats"))
        self.redis = Redis(cache, scratch.folder("redis"))
        self.topics = 0

    # --- the servers

    def measure(self, parts):
        self.scratch.room(SPARE_MB)
        self.sunseo.fetch()
        for peer in (self.kafka, self.nats, self.redis):
            say(f"fetching {peer.name}")
            # fetch answers nothing: its success must not look like a failure
            peer.here = self.c.attempt(peer.name, lambda peer=peer: peer.fetch() or True) is True
        if self.kafka.here:
            self.c.result["settings"].append(f"Kafka {self.kafka.version} on {self.kafka.java}.")
        try:
            for name, part in self.parts().items():
                if not parts or name in parts:
                    say(f"== {name}")
                    self.c.order = SHOWN.index(name)
                    self.c.attempt(name, part)
        finally:
            for server in (self.sunseo, self.kafka, self.nats, self.redis):
                server.stop()

    def parts(self):
        return {
            "cost": self.cost,
            "produce": self.produce,
            "keyed": self.keyed,
            "consume": self.consume,
            "e2e": self.e2e,
            "small": self.small,
            "partitions": self.partitions,
            "restart": self.restart,
        }

    def both(self, kafka=True):
        """Sunseo and Kafka run."""
        if self.sunseo.child is None or not self.sunseo.child.is_alive():
            self.sunseo.start().ready()
        if kafka and self.kafka.here and (self.kafka.child is None or not self.kafka.child.is_alive()):
            self.kafka.start().ready()
            self.kafka_up()

    def kafka_up(self):
        """Until it takes topics, and its code is compiled: the first seconds of a JVM are not what is compared."""
        self.kafka.create(topic="warm-up", partitions=16)
        for words in ({"record_bytes": KIB, "key_bytes": 0}, {"record_bytes": SMALL}):
            self.kafka.drive("produce", topic="warm-up", **words, **self.kafka_load(), warm_up=0, duration=self.times["kafka_warm_up"])
        self.kafka.drive("consume", topic="warm-up", once=1, consumers=CLIENTS)
        self.kafka.drive("delete", topic="warm-up")

    # --- one measurement each

    def topic(self):
        self.topics += 1
        return f"bench-{self.topics}"

    def load_times(self):
        return ["--warm-up", self.times["warm_up"], "--duration", self.times["seconds"]]

    def sunseo_load(self, durability, batch=BATCH, linger=LINGER):
        return ["--durability", durability, "--batch-bytes", batch, "--linger-ms", linger]

    def kafka_load(self, batch=BATCH, linger=LINGER, clients=CLIENTS):
        return {
            "producers": clients,
            "acks": "all",
            "batch.size": batch,
            "linger.ms": linger,
            "buffer.memory": 64 << 20,
            "max.request.size": 8 << 20,
        }

    def sunseo_produce(self, durability, record_bytes=KIB, key_bytes=0, partitions=16, clients=CLIENTS, extra=(), **load):
        """Makes a topic, measures, and deletes it."""

        def measure():
            words = ["--record-bytes", record_bytes, "--key-bytes", key_bytes, "--partitions", partitions, "--producers", clients]
            load_words = self.sunseo_load(durability, **load) if load != {"defaults": True} else ["--durability", durability]
            return self.sunseo.bench("produce", *words, *load_words, *self.load_times(), *extra)

        return measure

    def on_kafka_topic(self, measure, partitions=16, **config):
        """Around a measurement: a topic that is there only for it."""

        def around():
            topic = self.topic()
            self.kafka.create(topic=topic, partitions=partitions, **config)
            try:
                return measure(topic)
            finally:
                self.kafka.drive("delete", topic=topic)
                self.kafka.wait_deleted()

        return around

    def kafka_produce(self, record_bytes=KIB, key_bytes=0, partitions=16, load=None, extra=None, **config):
        words = {"record_bytes": record_bytes, "key_bytes": key_bytes, "warm_up": self.times["warm_up"], "duration": self.times["seconds"]}
        words |= load or self.kafka_load()
        words |= extra or {}
        return self.on_kafka_topic(lambda topic: self.kafka.drive("produce", topic=topic, **words), partitions, **config)

    def kafka_perf(self, rate):
        """Its own tool: as many records as take the time that the others have."""
        load = {name: value for name, value in self.kafka_load().items() if "." in name}

        def measure(topic):
            warm_up, records = (int(rate() * self.times[name]) for name in ("warm_up", "seconds"))
            rate_found = self.kafka.producer_perf(topic, max(2, records + warm_up), max(1, warm_up), KIB, load)
            return {"throughput_records_per_s": rate_found, "throughput_mb_per_s": rate_found * KIB / 1e6}

        return self.on_kafka_topic(measure)

    def bench(self, part, *words):
        """A micro bench of this repository, on the same disk."""
        environment = {**os.environ, "SUNSEO_BENCH_DIR": self.scratch.path}
        argv = [os.path.join(self.binaries, "sunseo-benches"), part, "--json", *(str(word) for word in words)]
        return json.loads(run(argv, env=environment, step=f"sunseo-benches {part}"))

    def disk(self):
        return self.bench("disk", "--seconds", self.times["seconds"])

    def kafka_rows(self):
        return {"name": self.kafka.name, "version": getattr(self.kafka, "version", "")}

    # --- the rows

    def produce(self):
        self.both()
        variants = {
            "Sunseo unsynced": self.sunseo_produce("replicated"),
            "Sunseo fsync": self.sunseo_produce("fsync"),
            "disk": self.disk,
            "limit": lambda: self.bench("limit", "--seconds", self.times["seconds"], "--megabytes", 4000),
            "Sunseo defaults": self.sunseo_produce("replicated", defaults=True),
            "Sunseo defaults, fsync": self.sunseo_produce("fsync", defaults=True),
        }
        if self.kafka.here:
            seen = {"rate": 20_000.0}

            def driver():
                figures = self.kafka_produce()()
                seen["rate"] = figures["throughput_records_per_s"]
                return figures

            variants["Kafka driver"] = driver
            variants["Kafka perf tool"] = self.kafka_perf(lambda: seen["rate"])
            variants["Kafka flush.messages=1"] = self.kafka_produce(flush_messages=1)
            defaults = {"producers": CLIENTS, "acks": "all"}
            variants["Kafka defaults"] = self.kafka_produce(load=defaults)
            variants["Kafka defaults, flush.messages=1"] = self.kafka_produce(load=defaults, flush_messages=1)
        variants |= self.others("produce", clients=CLIENTS, in_flight=1000)
        found = self.c.in_turn("produce 1 KiB", variants)
        mb = {name: of(rounds, "throughput_mb_per_s") for name, rounds in found.items()}
        if self.kafka.here:
            kafka = best(mb["Kafka driver"], mb["Kafka perf tool"])
            self.c.row("produce 1 KiB, 16 partitions", "MB/s", mb["Sunseo unsynced"], kafka, bar=">= 2.5", durability=UNSYNCED, **self.kafka_rows())
            self.c.row("produce 1 KiB, 16 partitions", "MB/s", mb["Sunseo fsync"], kafka, bar=">= 1.5", durability=(FSYNC, UNSYNCED), **self.kafka_rows())
            self.c.row(
                "produce 1 KiB, 16 partitions, flush.messages=1",
                "MB/s",
                mb["Sunseo fsync"],
                mb["Kafka flush.messages=1"],
                bar=">= 20",
                durability=FSYNC,
                **self.kafka_rows(),
            )
            defaults = "produce 1 KiB, defaults (batches 256 / 16 KiB, linger 5 / 5 ms)"
            self.c.row(defaults, "MB/s", mb["Sunseo defaults"], mb["Kafka defaults"], durability=UNSYNCED, **self.kafka_rows())
            synced = mb["Sunseo defaults, fsync"], mb["Kafka defaults, flush.messages=1"]
            self.c.row(defaults + ", flush.messages=1", "MB/s", *synced, durability=FSYNC, **self.kafka_rows())
        disk, limit = {"name": "the disk", "version": ""}, {"name": "the limit", "version": ""}
        self.c.row("produce 1 KiB beside 4 MiB appends with fdatasync", "MB/s", mb["Sunseo fsync"], mb["disk"], bar=">= 0.8", durability=FSYNC, **disk)
        self.c.row("produce 1 KiB beside TCP + CRC + append", "MB/s", mb["Sunseo unsynced"], mb["limit"], bar=">= 0.5", durability=UNSYNCED, **limit)
        self.rows_of_others("produce 1 KiB", mb, "Sunseo unsynced", UNSYNCED)

    def others(self, mode, **words):
        """The load on the other two, each started for it with its usual durability."""
        variants = {}
        for peer, start in ((self.nats, {"sync_always": False}), (self.redis, {"fsync": "everysec"})):
            if peer.here:
                variants[peer.name] = self.on_other(peer, start, mode, words)
        return variants

    def on_other(self, peer, start, mode, words):
        def measure():
            peer.start(**start)
            try:
                peer.go("setup")
                return peer.go(mode, record_bytes=KIB, warm_up=self.times["warm_up"], duration=self.times["seconds"], **words)
            finally:
                peer.stop()

        return measure

    def rows_of_others(self, work, figures, ours, durability, unit="MB/s"):
        usual = {self.nats: "page cache, fsync every 2 min", self.redis: "page cache, fsync every 1 s"}
        for peer, theirs in usual.items():
            if peer.here and peer.name in figures:
                self.c.row(work, unit, figures[ours], figures[peer.name], durability=(durability, theirs), name=peer.name, version=peer.version)

    def keyed(self):
        self.both()
        variants = {
            "Sunseo unsynced": self.sunseo_produce("replicated", SMALL, KEY),
            "Sunseo fsync": self.sunseo_produce("fsync", SMALL, KEY),
        }
        if self.kafka.here:
            variants["Kafka"] = self.kafka_produce(SMALL, KEY)
        found = self.c.in_turn("produce 100 B keyed", variants)
        rate = {name: of(rounds, "throughput_records_per_s") for name, rounds in found.items()}
        if self.kafka.here:
            work = "produce 100 B, keyed, 16 partitions"
            self.c.row(work, "records/s", rate["Sunseo unsynced"], rate["Kafka"], bar=">= 3", durability=UNSYNCED, **self.kafka_rows())
            self.c.row(work, "records/s", rate["Sunseo fsync"], rate["Kafka"], bar=">= 2", durability=(FSYNC, UNSYNCED), **self.kafka_rows())

    def consume(self):
        self.both()
        megabytes = self.times["consume_mb"]
        topic = self.topic()
        words = ["--topic", topic, "--record-bytes", KIB, "--key-bytes", 0, "--partitions", 16]
        self.sunseo.bench("produce", *words, "--megabytes", megabytes, *self.sunseo_load("replicated"))
        variants = {"Sunseo": lambda: self.sunseo.bench("consume", *words, "--consumers", CLIENTS, *self.load_times())}
        if self.kafka.here:
            filled = self.fill_kafka(topic, megabytes)
            times = {"warm_up": self.times["warm_up"], "duration": self.times["seconds"]}
            variants["Kafka driver"] = lambda: self.kafka.drive("consume", topic=topic, record_bytes=KIB, key_bytes=0, consumers=CLIENTS, **times)

            def tool():
                rate = self.kafka.consumer_perf(topic, int(filled))
                return {"throughput_records_per_s": rate, "throughput_mb_per_s": rate * KIB / 1e6}

            variants["Kafka perf tool"] = tool
        variants |= self.consuming_others(megabytes // 2)
        found = self.c.in_turn("consume 1 KiB", variants)
        mb = {name: of(rounds, "throughput_mb_per_s") for name, rounds in found.items()}
        if self.kafka.here:
            kafka = best(mb["Kafka driver"], mb["Kafka perf tool"])
            self.c.row("consume 1 KiB from the page cache", "MB/s", mb["Sunseo"], kafka, bar=">= 2.5", durability=UNSYNCED, **self.kafka_rows())
            self.kafka.drive("delete", topic=topic)
        self.rows_of_others("consume 1 KiB", mb, "Sunseo", UNSYNCED)
        self.sunseo.delete(topic)
        for peer in (self.nats, self.redis):
            peer.stop()

    def fill_kafka(self, topic, megabytes, partitions=16):
        self.kafka.create(topic=topic, partitions=partitions)
        words = {"record_bytes": KIB, "key_bytes": 0, **self.kafka_load()}
        return self.kafka.drive("produce", timeout=1200, topic=topic, megabytes=megabytes, **words)["records_in_all"]

    def consuming_others(self, megabytes):
        variants = {}
        for peer, start in ((self.nats, {"sync_always": False}), (self.redis, {"fsync": "everysec"})):
            if not peer.here:
                continue

            def fill(peer=peer, start=start):
                peer.start(**start)
                peer.go("setup")
                return peer.go("produce", record_bytes=KIB, megabytes=megabytes, in_flight=1000)

            if self.c.attempt(f"consume 1 KiB: {peer.name}", fill):
                variants[peer.name] = lambda peer=peer: peer.go("consume", record_bytes=KIB)
        return variants

    def e2e(self):
        self.both()
        rate = RATE_MB * 1_000_000 // KIB
        seconds = self.times["e2e_seconds"]

        def sunseo(durability, linger):
            words = ["--record-bytes", KIB, "--key-bytes", 0, "--partitions", 16, "--producers", 1, "--rate", rate]
            words += ["--warm-up", self.times["warm_up"], "--duration", seconds, *self.sunseo_load(durability, linger=linger)]
            return lambda: self.sunseo.bench("e2e", *words)

        def kafka(linger):
            words = {"record_bytes": KIB, "key_bytes": 0, "rate": rate, "warm_up": self.times["warm_up"], "duration": seconds}
            words |= self.kafka_load(linger=linger, clients=1)
            return self.on_kafka_topic(lambda topic: self.kafka.drive("e2e", topic=topic, **words))

        variants = {
            "Sunseo unsynced": sunseo("replicated", 0),
            "Sunseo fsync": sunseo("fsync", 0),
            "fdatasync": lambda: self.bench("disk", "--seconds", 1),
            "Sunseo unsynced, linger 5 ms": sunseo("replicated", LINGER),
        }
        if self.kafka.here:
            variants |= {"Kafka": kafka(0), "Kafka, linger 5 ms": kafka(LINGER)}
        found = self.c.in_turn("end to end", variants)
        if not self.kafka.here:
            return
        p99 = {name: of(rounds, "latency_p99_ms") for name, rounds in found.items()}
        work = f"end to end p99 at {RATE_MB} MB/s"
        self.c.row(work, "ms", p99["Sunseo unsynced"], p99["Kafka"], bar="<= 0.333", durability=UNSYNCED, **self.kafka_rows())
        syncs = of(found["fdatasync"], "fdatasync_p99_ms")
        allowed = [None if a is None or b is None else a + 2 * b for a, b in zip(p99["Kafka"], syncs)]
        more = {"note": "beside Kafka's p99 + two fdatasyncs at their p99"}
        name = {"name": "Apache Kafka + 2 fdatasyncs", "version": self.kafka.version}
        self.c.row(work, "ms", p99["Sunseo fsync"], allowed, bar="<= 1", durability=(FSYNC, UNSYNCED), **name, **more)
        five = ", linger 5 ms"
        self.c.row(work + five, "ms", p99["Sunseo unsynced" + five], p99["Kafka" + five], durability=UNSYNCED, **self.kafka_rows())
        p50 = {name: of(rounds, "latency_p50_ms") for name, rounds in found.items()}
        self.c.row(work.replace("p99", "p50"), "ms", p50["Sunseo unsynced"], p50["Kafka"], durability=UNSYNCED, **self.kafka_rows())

    def cost(self):
        """CPU and memory, of servers that were just started."""
        self.sunseo.start().ready()
        self.sunseo.create("idle", 16, "replicated")
        if self.kafka.here:
            self.kafka.start().ready()
            self.kafka.create(topic="idle", partitions=16)
        time.sleep(self.times["settle"])
        idle = {"Sunseo": self.sunseo.child.rss_mb(), "Kafka": self.kafka.child.rss_mb() if self.kafka.here else None}
        megabytes = self.times["cost_mb"]

        def metered(server, load):
            before, syscpu = server.child.cpu_seconds(), time.monotonic()
            load()
            return {
                "cpu_s_per_gb": (server.child.cpu_seconds() - before) / (megabytes / 1000),
                "rss_mb": server.child.rss_mb(),
                "took_s": time.monotonic() - syscpu,
            }

        def sunseo():
            topic = self.topic()
            words = ["--topic", topic, "--record-bytes", KIB, "--key-bytes", 0, "--partitions", 16]

            def load():
                self.sunseo.bench("produce", *words, "--producers", CLIENTS, "--megabytes", megabytes, *self.sunseo_load("replicated"))
                self.sunseo.bench("consume", *words, "--consumers", CLIENTS, "--once")

            figures = metered(self.sunseo, load)
            self.sunseo.delete(topic)
            return figures

        def kafka():
            topic = self.topic()

            def load():
                self.fill_kafka(topic, megabytes)
                self.kafka.drive("consume", topic=topic, record_bytes=KIB, key_bytes=0, consumers=CLIENTS, once=1)

            figures = metered(self.kafka, load)
            self.kafka.drive("delete", topic=topic)
            self.kafka.wait_deleted()
            return figures

        variants = {"Sunseo": sunseo} | ({"Kafka": kafka} if self.kafka.here else {})
        found = self.c.in_turn("CPU and memory", variants)
        time.sleep(self.times["settle"])
        if not self.kafka.here:
            return
        cpu = {name: of(rounds, "cpu_s_per_gb") for name, rounds in found.items()}
        rss = {name: of(rounds, "rss_mb") for name, rounds in found.items()}
        settled = [self.sunseo.child.rss_mb()], [self.kafka.child.rss_mb()]
        more = {"durability": UNSYNCED, **self.kafka_rows()}
        work = "server CPU for 1 GB produced and consumed, 1 KiB"
        self.c.row(work, "s/GB", cpu["Sunseo"], cpu["Kafka"], bar="<= 0.333", **more)
        self.c.row("server RSS after each load", "MB", rss["Sunseo"], rss["Kafka"], bar="<= 0.2", **more)
        self.c.row("server RSS, settled after the loads", "MB", *settled, bar="<= 0.2", **more)
        self.c.row("server RSS, idle before any load", "MB", [idle["Sunseo"]], [idle["Kafka"]], bar="<= 0.2", **more)

    def small(self):
        self.both()
        clients = 16
        extra = ["--in-flight", 1]

        def counted(server, load):
            """Records and syncs of a whole run, warm-up and end included."""

            def measure():
                counter = Syncs(server().child, self.scratch.path)
                with counter:
                    figures = load()
                syncs = counter.count()
                if syncs == 0:
                    raise Failed("no fdatasync or fsync was seen")
                return {"appends_per_sync": figures["records_in_all"] / syncs, **figures, "syncs": syncs}

            return measure

        def other(peer, start):
            def load():
                peer.go("setup")
                return peer.go("produce", record_bytes=KIB, clients=clients, warm_up=self.times["warm_up"], duration=self.times["seconds"])

            def measure():
                peer.start(**start)
                try:
                    return counted(lambda: peer, load)()
                finally:
                    peer.stop()

            return measure

        sunseo = self.sunseo_produce("fsync", clients=clients, extra=extra, linger=0)
        variants = {"Sunseo": counted(lambda: self.sunseo, sunseo)}
        if self.redis.here:
            variants["Redis"] = other(self.redis, {"fsync": "always"})
        if self.nats.here:
            variants["NATS"] = other(self.nats, {"sync_always": True})
        if self.kafka.here:
            load = self.kafka_load(linger=0, clients=clients)
            kafka = self.kafka_produce(load=load, extra={"in_flight": 1}, flush_messages=1)
            variants["Kafka"] = counted(lambda: self.kafka, kafka)
        found = self.c.in_turn("16 small synced producers", variants)
        work = "16 synced producers, one 1 KiB in flight each"
        per_sync = {name: of(rounds, "appends_per_sync") for name, rounds in found.items()}
        rate = {name: of(rounds, "throughput_records_per_s") for name, rounds in found.items()}
        ones = [1.0] * len(per_sync["Sunseo"])
        self.c.row(work + ": appends a sync", "appends", per_sync["Sunseo"], ones, bar=">= 12", durability=FSYNC, name="one a record")
        peers = (("Redis", self.redis, ">= 6", "appendfsync always"), ("NATS", self.nats, ">= 6", "sync_interval always"))
        for name, peer, bar, durability in (*peers, ("Kafka", self.kafka, None, "flush.messages=1")):
            if name in variants:
                said = {"durability": (FSYNC, f"fsync ({durability})"), "name": peer.name, "version": peer.version}
                self.c.row(work + ": appends a sync", "appends", per_sync["Sunseo"], per_sync[name], bar=bar, **said)
                self.c.row(work + ": rate", "records/s", rate["Sunseo"], rate[name], **said)

    def partitions(self):
        self.both()
        many = self.times["many"]
        variants = {
            "Sunseo, 16": self.sunseo_produce("replicated", SMALL, KEY, 16, batch=SMALL_BATCH),
            f"Sunseo, {many}": self.sunseo_produce("replicated", SMALL, KEY, many, batch=SMALL_BATCH),
        }
        if self.kafka.here:
            load = self.kafka_load(batch=SMALL_BATCH)
            variants["Kafka, 16"] = self.kafka_produce(SMALL, KEY, 16, load=load)
            variants[f"Kafka, {many}"] = self.kafka_produce(SMALL, KEY, many, load=load)
        found = self.c.in_turn("many partitions", variants)
        rate = {name: of(rounds, "throughput_records_per_s") for name, rounds in found.items()}
        work = f"produce 100 B, keyed, batches of 16 KiB: {many:,} partitions"
        version = {"version": self.sunseo.version, "durability": UNSYNCED}
        self.c.row(f"{work} / 16", "records/s", rate[f"Sunseo, {many}"], rate["Sunseo, 16"], bar=">= 0.6", name="Sunseo with 16", **version)
        if self.kafka.here:
            self.c.row(work, "records/s", rate[f"Sunseo, {many}"], rate[f"Kafka, {many}"], durability=UNSYNCED, **self.kafka_rows())

    def restart(self):
        """kill -9 with much data in many partitions; both are started for it."""
        for server in (self.sunseo, self.kafka):
            server.stop()
        many, megabytes = self.times["many"], self.times["restart_mb"]
        # both have all of it, with what is written between the kills
        self.scratch.room(2 * 1.2 * megabytes + SPARE_MB)
        self.sunseo, kafka = Sunseo(self.binaries, self.scratch.folder("sunseo-restart")), self.kafka
        self.sunseo.fetch()
        self.sunseo.start().ready()
        topic = "restart"
        words = ["--topic", topic, "--partitions", many, "--record-bytes", KIB, "--key-bytes", KEY, "--producers", CLIENTS]
        load = [*words, *self.sunseo_load("replicated", batch=SMALL_BATCH)]
        say(f"filling Sunseo with {megabytes} MB in {many} partitions")
        self.sunseo.bench("produce", *load, "--megabytes", megabytes, timeout=1200)
        here = kafka.here and self.c.attempt("restart: Kafka", self.fill_restart, topic, many, megabytes)

        def sunseo():
            self.sunseo.bench("produce", *load, "--megabytes", self.times["restart_more_mb"], timeout=600)
            self.sunseo.child.kill()
            probe = self.sunseo.watch_ready(topic)
            time.sleep(0.2)
            begun = time.time()
            self.sunseo.start()
            return {"ready_s": self.sunseo.answer(probe)["ready_unix_ms"] / 1e3 - begun}

        def other():
            more = self.kafka_load(batch=SMALL_BATCH) | {"record_bytes": KIB}
            kafka.drive("produce", topic=topic, megabytes=self.times["restart_more_mb"], **more)
            kafka.child.kill()
            kafka.send("ready", topic=topic, partitions=many)
            time.sleep(0.2)
            begun = time.time()
            kafka.start()
            return {"ready_s": kafka.receive("ready")["ready_unix_ms"] / 1e3 - begun}

        variants = {"Sunseo": sunseo} | ({"Kafka": other} if here else {})
        found = self.c.in_turn("restart after kill -9", variants, rounds=min(self.c.rounds, 3))
        if here:
            ready = {name: of(rounds, "ready_s") for name, rounds in found.items()}
            work = f"restart after kill -9, {megabytes / 1000:g} GB in {many:,} partitions, to the last partition in use"
            self.c.row(work, "s", ready["Sunseo"], ready["Kafka"], bar="<= 0.2", durability=UNSYNCED, **self.kafka_rows())

    def fill_restart(self, topic, many, megabytes):
        self.kafka.start().ready()
        say(f"filling Kafka with {megabytes} MB in {many} partitions")
        self.kafka.create(topic=topic, partitions=many)
        load = self.kafka_load(batch=SMALL_BATCH) | {"record_bytes": KIB}
        return self.kafka.drive("produce", timeout=1200, topic=topic, megabytes=megabytes, **load)
