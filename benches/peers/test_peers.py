"""What is written about a comparison, and how the output of tools is read. Needs no server and no network."""

import json
import os
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import kafka
import memory
import process
import report


def result(rows, missing=()):
    machine = {"processor": "P", "cores": 2, "memory_gib": 8.0, "system": "S", "load_average_1m": 0.1}
    return {
        "title": "Title",
        "machine": machine,
        "date": "2026-01-01",
        "commit": "abc",
        "rounds": 3,
        "rows": rows,
        "missing": list(missing),
        "settings": ["the same batches"],
    }


def faster(**more):
    settings = {"bar": ">= 2.5", "durability": ("fsync", "page cache"), "name": "Kafka", "version": "4", **more}
    return report.row("produce", "MB/s", [300, 100, 200], [50, 100, 40], **settings)


class Rows(unittest.TestCase):
    def test_a_row_compares_medians_and_keeps_the_range_of_the_rounds(self):
        row = faster()
        self.assertEqual((row["ours"], row["peer"], row["ratio"]), (200, 50, 4))
        self.assertEqual((row["ratio_min"], row["ratio_max"]), (1, 6))
        self.assertEqual((row["durability"], row["peer_durability"]), ("fsync", "page cache"))
        self.assertIs(row["met"], True)

    def test_a_row_says_all_that_the_contract_names(self):
        wanted = "work ours peer peer_name peer_version unit durability ratio ratio_min ratio_max bar met".split()
        self.assertEqual([name for name in wanted if name not in faster()], [])

    def test_the_bar_has_a_direction(self):
        self.assertIs(faster(bar=">= 4.1")["met"], False)
        self.assertIs(faster(bar="<= 4.1")["met"], True)
        self.assertIs(faster(bar=None)["met"], None)

    def test_a_round_that_failed_on_either_side_counts_for_neither(self):
        row = report.row("w", "s", [1, None, 3, 4], [1, 2, None, 2], durability="fsync")
        self.assertEqual((row["rounds"], row["ratio_min"], row["ratio_max"]), (2, 1, 2))
        self.assertIsNone(report.row("w", "s", [None], [1]))
        self.assertIsNone(report.row("w", "s", [], []))


class Memory(unittest.TestCase):
    def test_the_page_cache_says_what_of_a_file_it_has(self):
        with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(__file__))) as folder, open(os.path.join(folder, "file"), "wb+") as file:
            if memory.file_system(folder) in memory.IN_MEMORY:
                self.skipTest("this folder lies in memory")
            file.write(bytes(memory.STEP))
            file.flush()
            os.fsync(file.fileno())
            self.assertTrue(memory.is_cached(file.fileno(), 0))
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self.assertFalse(memory.is_cached(file.fileno(), 0))

    def test_the_kernel_says_what_is_asked(self):
        self.assertGreater(memory.meminfo_mb("MemTotal"), memory.meminfo_mb("MemFree"))
        self.assertEqual(memory.file_system("/proc/self"), "proc")
        with self.assertRaises(process.Failed):
            memory.meminfo_mb("Nothing")


class Files(unittest.TestCase):
    def test_all_files_are_written_and_the_readme_gets_the_newest_table(self):
        with tempfile.TemporaryDirectory() as folder:
            readme = os.path.join(folder, "README.md")
            begin, end = report.BEGIN.format(work="broker"), report.END.format(work="broker")
            with open(readme, "w", encoding="utf-8") as file:
                file.write(f"before\n{begin}\nan old table\n{end}\nafter\n")
            missing = [{"peer": "Redis", "why": "no <server>"}]
            for _ in range(2):
                report.write(result([faster()], missing), "broker", folder, readme)
            with open(os.path.join(folder, "broker.json"), encoding="utf-8") as file:
                self.assertEqual(json.load(file)["rows"], [faster()])
            xml.etree.ElementTree.parse(os.path.join(folder, "broker.svg"))
            with open(readme, encoding="utf-8") as file:
                page = file.read()
            self.assertNotIn("old", page)
            self.assertEqual(page.count("| produce | 200 | fsync | Kafka 4 | page cache | 50 |"), 1)
            self.assertIn("Missing: Redis (no <server>)", page)
            self.assertTrue(page.startswith("before\n") and page.endswith("\nafter\n"))
            self.assertEqual([name for name in os.listdir(folder) if name.endswith(".tmp")], [])

    def test_a_page_without_markers_stays(self):
        self.assertEqual(report.replaced("page", "broker", "table"), "page")

    def test_a_result_without_rows_can_be_written(self):
        xml.etree.ElementTree.fromstring(report.picture(result([])))
        self.assertIn("## Missing", report.markdown(result([], [{"peer": "Kafka", "why": "gone"}]), "p.svg"))


class Tools(unittest.TestCase):
    def test_the_rate_is_that_after_the_warm_up(self):
        out = (
            "300 records sent, 70.1 records/sec (0.01 MB/sec), 1.0 ms avg latency, 5.0 ms max latency.\n"
            "900 records sent, 80.2 records/sec (0.09 MB/sec), 1.00 ms avg latency, 5 ms 50th, 6 ms 95th, 7 ms 99th, 8 ms 99.9th.\n"
            "600 steady state records sent, 90.5 records/sec (0.1 MB/sec), 5 ms 50th, 6 ms 95th, 7 ms 99th, 8 ms 99.9th.\n"
        )
        self.assertEqual(kafka.perf_rate(out), 90.5)
        with self.assertRaises(process.Failed):
            kafka.perf_rate("an exception")

    def test_the_rate_of_reading_is_that_of_fetching(self):
        head = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec"
        out = head + "\na, b, 1.0, 2.0, 3, 4.0, 5, 6, 7.0, 8.0\n"
        self.assertEqual(kafka.consumer_perf_rate(out, 3), 8.0)
        with self.assertRaises(process.Failed):
            kafka.consumer_perf_rate(out, 4)

    def test_system_calls_are_counted_in_both_formats(self):
        perf = "# started\n\n120,,syscalls:sys_enter_fdatasync,1,100.00,,\n3,,syscalls:sys_enter_fsync,1,100.00,,\n"
        self.assertEqual(process.count_of(perf, "perf"), 123)
        strace = "% time     seconds  usecs/call     calls    errors syscall\n 90.00    0.1       10      120         0 fdatasync\n 10.00    0.1       10        3           fsync\n100.00    0.2       10      123           total\n"
        self.assertEqual(process.count_of(strace, "strace"), 123)

    def test_a_step_that_would_fill_the_disk_is_refused(self):
        scratch = process.Scratch()
        scratch.room(0.001)
        with self.assertRaisesRegex(process.Failed, "GB are needed"):
            scratch.room(1e12)


if __name__ == "__main__":
    unittest.main()
