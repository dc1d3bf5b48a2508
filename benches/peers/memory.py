"""Keeps the machine's memory in use, as it is on a server that has run for long.

A virtual machine gives memory that nobody uses back to its host. What is taken for the first time after that costs several times as much
as memory in use, whoever takes it, so that a figure would say more about what ran before than about what is measured. A file as large as
the memory is read into the page cache before each measurement: what is written then takes the place of clean pages.
"""

import ctypes
import mmap
import os

from process import Failed

STEP = 32 << 20
# written at once
BLOCK = bytes(4 << 20)
# less than this that is free is in use
FREE_MB = 700
# what the file may take of the room on the disk
ROOM_SHARE = 0.5
IN_MEMORY = ("tmpfs", "ramfs")


def meminfo_mb(name):
    with open("/proc/meminfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    raise Failed(f"/proc/meminfo does not say {name}")


def file_system(path):
    """The kind of the file system that a path lies in."""
    with open("/proc/mounts", encoding="utf-8") as file:
        mounts = [line.split()[1:3] for line in file]
    real = os.path.realpath(path)
    holding = [(place, kind) for place, kind in mounts if place == "/" or (real + "/").startswith(place + "/")]
    return max(holding, key=lambda mount: len(mount[0]), default=("/", "unknown"))[1]


class Ballast:
    """A file that is read again as far as it has left the page cache."""

    def __init__(self, scratch):
        self.path = os.path.join(scratch.path, "ballast")
        if file_system(scratch.path) in IN_MEMORY:
            raise Failed(f"{scratch.path} lies in memory: SUNSEO_BENCH_DIR names a folder on a disk")
        self.bytes = int(meminfo_mb("MemTotal")) * 1_000_000 // STEP * STEP
        scratch.room(self.bytes / 1e6 / ROOM_SHARE)
        with open(self.path, "wb", buffering=0) as file:
            for _ in range(self.bytes // len(BLOCK)):
                file.write(BLOCK)
            os.fsync(file.fileno())

    def fill(self):
        """Until hardly any memory is free; the megabytes that were read."""
        read = 0
        with open(self.path, "rb", buffering=0) as file:
            for at in range(0, self.bytes, STEP):
                if meminfo_mb("MemFree") < FREE_MB:
                    break
                if not is_cached(file.fileno(), at):
                    read += len(os.pread(file.fileno(), STEP, at))
        return read / 1e6


def is_cached(descriptor, at):
    """Whether most of a step of the file is in the page cache: what its pages say to mincore."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    place = libc.mmap(None, STEP, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, at)
    if place in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap of the ballast")
    pages = ctypes.create_string_buffer(STEP // mmap.PAGESIZE)
    try:
        if libc.mincore(place, STEP, pages) != 0:
            raise OSError(ctypes.get_errno(), "mincore of the ballast")
    finally:
        libc.munmap(place, STEP)
    return sum(byte & 1 for byte in pages.raw) * 2 > STEP // mmap.PAGESIZE
