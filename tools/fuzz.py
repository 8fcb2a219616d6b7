"""Open many thousands of files, whole and damaged, with every loader, and write down what came of them.

``python tools/fuzz.py --inputs 100000 --seed 0 --out runs/reliability/fuzz.json`` splits the inputs evenly between the
loaders. Inputs are opened in a process that is watched: one that dies or hangs is a failure as well. Every failure is
kept beside the result; ``python tools/fuzz.py --replay DIR`` looks at one again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzz_files import FAMILIES
from fuzzing import HANGS, judge, keep, limited_memory, replayed

#: One accepted input in so many is trained on.
FITTED = 10
MODELS = ("SparseAutoencoder", "BernoulliRBM", "GaussianRBM")
#: Seconds without a word after which a process is taken for dead.
PATIENCE = 2 * HANGS


def work(name: str, seed: int, numbers: range, failures: Path, pipe: Connection) -> None:
    """Judge inputs of one family and send what came of each; standard error is a file, so that the judge sees it."""
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile() as noise, limited_memory():
        os.dup2(noise.fileno(), 2)
        for number in numbers:
            folder = Path(scratch) / "input"
            folder.mkdir()
            r = Random(f"{seed} {name} {number}")
            given = FAMILIES[name](r, folder)
            verdict = judge(given, r.choice(MODELS) if number % FITTED == 0 else "")
            if verdict.kind == "failed":
                keep(given, verdict, failures / f"{name}-{number}")
            pipe.send((number, verdict))
            shutil.rmtree(folder)
    pipe.close()


def campaign(name: str, seed: int, n_inputs: int, failures: Path) -> dict[str, Any]:
    """All inputs of one family."""
    counts = {"accepted": 0, "refused": 0, "failed": 0}
    worst: dict[str, Any] = {"slowest_seconds": 0.0, "most_memory": 0, "most_memory_of_allowed": 0.0}
    listed: list[str] = []
    following = 0
    while following < n_inputs:
        ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
        numbers = range(following, n_inputs)
        process = multiprocessing.get_context("fork").Process(target=work, args=(name, seed, numbers, failures, theirs))
        process.start()
        theirs.close()
        try:
            while ours.poll(PATIENCE):
                number, verdict = ours.recv()
                following = number + 1
                counts[verdict.kind] += 1
                of_it = (round(verdict.seconds, 3), verdict.memory, round(verdict.share, 3))
                for key, value in zip(worst, of_it, strict=True):
                    worst[key] = max(worst[key], value)
                if verdict.kind == "failed":
                    listed.append(f"{name}-{number}: {verdict.why}")
            raise EOFError
        except EOFError:
            process.kill()
            process.join()
        if following < n_inputs:
            counts["failed"] += 1
            listed.append(f"{name}-{following}: the process died or hung (exit code {process.exitcode})")
            following += 1
    return {
        "inputs": n_inputs,
        "accepted": counts["accepted"],
        "refused": counts["refused"],
        "failures": counts["failed"],
        **worst,
        "failed": listed,
    }


def main() -> None:
    """Run the campaign, or look at one input again."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all loaders together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/reliability/fuzz.json"))
    parser.add_argument("--loaders", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--replay", type=Path, metavar="DIR", help="an input that failed")
    arguments = parser.parse_args()
    if arguments.replay:
        with limited_memory():
            print(judge(replayed(arguments.replay)))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    failures = arguments.out.with_suffix("")
    shutil.rmtree(failures, ignore_errors=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    began, loaders = time.monotonic(), {}
    share, more = divmod(arguments.inputs, len(arguments.loaders))
    for place, name in enumerate(arguments.loaders):
        loaders[name] = campaign(name, arguments.seed, share + (place < more), failures)
        shown = {key: value for key, value in loaders[name].items() if key != "failed"}
        print(f"{name}: {shown}", *loaders[name]["failed"][:20], sep="\n  ", flush=True)
    result = {"seed": arguments.seed, "loaders": loaders, "seconds": round(time.monotonic() - began, 1)}
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
