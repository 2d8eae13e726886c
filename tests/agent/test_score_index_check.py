"""An index that no key vouches for: nothing in it may end the process."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest

from agent.core.errors import BundleError
from agent.score.index import write_index
from agent.score.index_check import check_index

ROWS, DIM, HEADER = 600, 8, 96

# What the agent does with an index, in a process of its own: rows are few, so that tests are quick.
_CHILD = """
import sys
import numpy as np
from pathlib import Path
from agent.bundle.manifest import Row
from agent.core.errors import BundleError
from agent.score import knn
from agent.score.bank import MemoryBank
from agent.config.scorer_knn import KnnConfig

knn.EXACT_UP_TO = 100
vectors = np.load(sys.argv[1])
rows = tuple(Row(source="a", start=0.0, group="a") for _ in vectors)
plain = np.tile(np.float32([1, 0]), (len(vectors), 1))
config = KnnConfig(metric="euclidean", normalization="none")
scorer = knn.KnnScorer(MemoryBank(vectors, plain, rows), config, Path(sys.argv[2]))
try:
    scorer.start()
except BundleError as fault:
    print("refused:", fault)
else:
    for _ in range(50):
        scorer.score(vectors + np.float32(0.01))
    print("scored")
"""


_FUZZ = """
import random, struct, sys
import hnswlib
import numpy as np
from pathlib import Path
from agent.core.errors import BundleError
from agent.score.index_check import check_index

vectors, good, bad = np.load(sys.argv[1]), Path(sys.argv[2]).read_bytes(), Path(sys.argv[3])
draw, counts = random.Random(0), [0, 0]
for turn in range(1500):
    data = bytearray(good)
    at = draw.randrange(0, 96 if turn % 3 == 0 else len(good) - 4)
    word = draw.choice([0, 1, len(vectors), 2**31, 2**32 - 1, draw.randrange(2**32)])
    data[at : at + 4] = struct.pack("<I", word)
    bad.write_bytes(data)
    try:
        check_index(bad, vectors, "euclidean")
    except BundleError:
        counts[0] += 1
        continue
    counts[1] += 1
    index = hnswlib.Index(space="l2", dim=vectors.shape[1])
    index.load_index(str(bad), max_elements=len(vectors))
    index.set_ef(128)
    index.knn_query(vectors[:20], k=10, num_threads=1)
print(*counts)
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    np.save(folder / "bank.npy", vectors)
    write_index(folder / "bank.hnsw", vectors, "euclidean")
    return folder, vectors, (folder / "bank.hnsw").read_bytes()


def place(data, row=0):
    """Where a row begins, and how long a row is."""
    size = struct.unpack_from("<Q", data, 24)[0]
    return HEADER + row * size, size


def altered(data, what):
    """The index with one thing in it that leads astray."""
    data = bytearray(data)
    at, size = place(data)
    m = struct.unpack_from("<Q", data, 72)[0]
    wide = struct.pack("<I", 0x7FFFFFFF)
    if what == "entry":
        data[52:56] = wide
    elif what == "level":
        data[48:52] = struct.pack("<i", 2**30)
    elif what == "count":
        data[16:24] = struct.pack("<Q", 2**40)
    elif what == "links":
        for row in range(ROWS):
            begin, _ = place(data, row)
            data[begin : begin + 4 * (1 + 2 * m)] = struct.pack("<I", 2 * m) + wide * (2 * m)
    elif what == "length":
        data[at : at + 4] = wide
    elif what == "labels":
        for row in range(ROWS):
            begin, size = place(data, row)
            data[begin + size - 8 : begin + size] = struct.pack("<Q", 2**50)
    elif what == "size":
        data[24:32] = struct.pack("<Q", 2**33)
    elif what == "upper":
        levels = HEADER + ROWS * size
        data[levels : levels + 4] = wide
    elif what == "cut":
        del data[len(data) // 2 :]
    elif what == "vectors":
        data[at + 4 * (1 + 2 * m) : at + 4 * (2 + 2 * m)] = struct.pack("<f", 9.0)
    return bytes(data)


KINDS = ["entry", "level", "count", "links", "length", "labels", "size", "upper", "cut", "vectors"]


@pytest.mark.parametrize("what", ["nothing", *KINDS])
def test_a_malformed_index_is_refused_and_ends_no_process(index, tmp_path, what):
    folder, _, good = index
    (tmp_path / "bad").write_bytes(altered(good, what))
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder / "bank.npy"), str(tmp_path / "bad")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    assert done.stdout.startswith("scored" if what == "nothing" else "refused:"), done.stdout


def test_whatever_passes_the_check_can_be_searched(index, tmp_path):
    """Any word of it may be wrong; hnswlib gets what was let through, in a process of its own."""
    folder, _, _ = index
    done = subprocess.run(
        [sys.executable, "-c", _FUZZ, str(folder / "bank.npy"), str(folder / "bank.hnsw"),
         str(tmp_path / "fuzzed")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    refused, passed = map(int, done.stdout.split())
    assert refused > 400
    assert passed > 100  # beyond the links that count, anything may stand


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_every_index_that_is_written_is_taken(tmp_path, metric):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(900, 12)).astype(np.float32) * 100
    write_index(tmp_path / "old", vectors[:700], metric)
    assert check_index(tmp_path / "old", vectors, metric) == 700
    write_index(tmp_path / "new", vectors, metric, grown_from=tmp_path / "old")
    assert check_index(tmp_path / "new", vectors, metric) == 900
    with pytest.raises(BundleError, match="row 0 holds another vector"):
        check_index(tmp_path / "new", vectors[::-1], metric)
