"""Apache Kafka from Maven Central: one KRaft node, its own perf tools, and the driver in kafka/ for what they do not have."""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
import uuid

from process import Child, Failed, free_ports, last_lines, need, run

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "kafka")

CREATE_TRIES = 5

# what kafka-server-start.sh and kafka-run-class.sh of the distribution set
SERVER_HEAP = ["-Xmx1G", "-Xms1G"]
TOOL_HEAP = ["-Xmx512M"]
JVM = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
]

# the distribution's config/server.properties, for one node with its data where we want it; deleted files leave the disk at once
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={data}
num.partitions=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.segment.delete.delay.ms=1000
"""

LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.target = SYSTEM_ERR
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class Kafka:
    name = "Apache Kafka"

    def __init__(self, cache, folder):
        self.cache, self.folder = cache, folder
        self.child = self.driver = self.ports = None

    def fetch(self):
        """Kafka and what it needs as jars, by Maven; the driver by javac. Nothing is done twice."""
        for program, package in (("javac", "default-jdk-headless"), ("mvn", "maven")):
            need(program, package)
        with open(os.path.join(HERE, "pom.xml"), encoding="utf-8") as file:
            pom = file.read()
        self.version = re.search(r"<kafka.version>(.*)</kafka.version>", pom).group(1)
        home = os.path.join(self.cache, f"kafka-{self.version}")
        libs, classes = os.path.join(home, "libs"), os.path.join(home, "classes")
        stamp = os.path.join(home, "pom.xml")
        if not (os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == pom):
            shutil.rmtree(home, ignore_errors=True)
            os.makedirs(home)
            copy = ["dependency:copy-dependencies", f"-DoutputDirectory={libs}", "-DincludeScope=runtime"]
            run(["mvn", "-q", "-B", "-f", os.path.join(HERE, "pom.xml"), *copy], 1200, step="mvn (Kafka's jars)")
            shutil.copy(os.path.join(HERE, "pom.xml"), stamp)
        sources = os.path.join(HERE, "src/main/java/sunseo/peers")
        sources = [os.path.join(sources, name) for name in sorted(os.listdir(sources))]
        shutil.rmtree(classes, ignore_errors=True)
        run(["javac", "--release", "17", "-cp", f"{libs}/*", "-d", classes, *sources], step="javac (Kafka's driver)")
        self.logging = os.path.join(home, "log4j2.properties")
        with open(self.logging, "w", encoding="utf-8") as file:
            file.write(LOGGING)
        self.classpath = f"{classes}:{libs}/*"
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
        self.java = said.splitlines()[0] if said else "java"

    def java_argv(self, heap, main, *words):
        options = [*heap, *JVM, f"-Dlog4j2.configurationFile={self.logging}"]
        return ["java", *options, "-cp", self.classpath, main, *(str(word) for word in words)]

    def start(self):
        first = self.ports is None
        self.ports = self.ports or free_ports(2)
        data = os.path.join(self.folder, "kafka-data")
        config = os.path.join(self.folder, "server.properties")
        if first:
            with open(config, "w", encoding="utf-8") as file:
                file.write(PROPERTIES.format(broker=self.ports[0], controller=self.ports[1], data=data))
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # an id that begins with a dash would be taken for an option
            cluster = "A" + cluster[1:]
            form = self.java_argv(TOOL_HEAP, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config, "--standalone")
            run(form, 120, step="kafka-storage format")
        log = os.path.join(self.folder, "kafka.log")
        self.child = Child(self.name, self.java_argv(SERVER_HEAP, "kafka.Kafka", config), log)
        return self

    def ready(self):
        self.child.wait_for_port(self.ports[0])

    @property
    def address(self):
        return f"127.0.0.1:{self.ports[0]}"

    def send(self, command, **words):
        """Gives the driver a command; `receive` has its answer."""
        if self.driver is None or not self.driver.is_alive():
            log = os.path.join(self.folder, "kafka-driver.log")
            self.driver = Child("Kafka's driver", self.java_argv(SERVER_HEAP[:1], "sunseo.peers.Main"), log, pipes=True)
        words = {"bootstrap.servers": self.address, **words}
        words = [f"{name.replace('_', '-')}={value}" for name, value in words.items()]
        self.driver.process.stdin.write(" ".join([command, *words]) + "\n")
        self.driver.process.stdin.flush()

    def receive(self, command, timeout=600):
        out = self.driver.process.stdout
        readable, _, _ = select.select([out], [], [], timeout)
        line = out.readline() if readable else ""
        if not line:
            self.driver.kill()
            cause = last_lines(self.driver.log) if readable else f"no answer within {timeout} s"
            raise Failed(f"Kafka's driver, {command}: {cause}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"Kafka's driver, {command}: {answer['error']}")
        return answer

    def drive(self, command, timeout=600, **words):
        self.send(command, **words)
        return self.receive(command, timeout)

    def create(self, topic, partitions=16, **config):
        """A broker that has just started may end the first connections: tried again, and found there is as good as made."""
        for left in reversed(range(CREATE_TRIES)):
            try:
                self.drive("create", topic=topic, partitions=partitions, **config)
                return
            except Failed as error:
                if "TopicExists" in str(error):
                    return
                if left == 0:
                    raise
                time.sleep(1)

    def producer_perf(self, topic, records, warm_up_records, record_bytes, properties):
        """kafka-producer-perf-test; records a second after its warm-up."""
        words = ["--bootstrap-server", self.address, "--topic", topic, "--num-records", records, "--record-size", record_bytes]
        words += ["--throughput", "-1", "--warmup-records", warm_up_records]
        words += ["--command-property", "acks=all", *(f"{name}={value}" for name, value in properties.items())]
        out = run(self.java_argv(TOOL_HEAP, "org.apache.kafka.tools.ProducerPerformance", *words), step="kafka-producer-perf-test")
        return perf_rate(out)

    def consumer_perf(self, topic, records):
        """kafka-consumer-perf-test; records a second of its fetching, without the time of joining."""
        words = ["--bootstrap-server", self.address, "--topic", topic, "--num-records", records, "--timeout", "30000"]
        out = run(self.java_argv(TOOL_HEAP, "org.apache.kafka.tools.ConsumerPerformance", *words), step="kafka-consumer-perf-test")
        return consumer_perf_rate(out, records)

    def wait_deleted(self, seconds=10):
        """Until the files of deleted topics are gone, so that their removal is not in the next measurement."""
        data = os.path.join(self.folder, "kafka-data")
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(name.endswith("-delete") for name in os.listdir(data)):
            time.sleep(0.1)

    def stop(self):
        for child in (self.driver, self.child):
            if child:
                child.stop()


def perf_rate(out):
    """Records a second from the last summary of kafka-producer-perf-test: that after its warm-up."""
    found = re.findall(r"records sent, ([\d.]+) records/sec .* 99.9th", out)
    if not found:
        raise Failed(f"kafka-producer-perf-test said: {out.strip()[-200:]}")
    return float(found[-1])


def consumer_perf_rate(out, records):
    """Records a second of fetching, from the table of kafka-consumer-perf-test; it must have read them all."""
    lines = [[field.strip() for field in line.split(",")] for line in out.splitlines() if line.count(",") >= 7]
    if len(lines) < 2:
        raise Failed(f"kafka-consumer-perf-test said: {out.strip()[-200:]}")
    table = dict(zip(lines[0], lines[-1]))
    if int(table["data.consumed.in.nMsg"]) < records:
        raise Failed(f"kafka-consumer-perf-test read {table['data.consumed.in.nMsg']} of {records} records")
    return float(table["fetch.nMsg.sec"])
