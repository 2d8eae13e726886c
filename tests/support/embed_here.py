"""embed_here.py GRAPH SOUNDS OUT: what a graph gives for sounds, on whatever processor this is."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime


def main(graph: str, sounds: str, out: str) -> None:
    """Run the graph on one window after another, as the agent does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    made = [session.run(["embedding"], {name: one[None]})[0] for one in np.load(sounds)]
    np.save(out, np.concatenate(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
