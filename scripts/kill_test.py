"""Kills a training at random instants with SIGKILL, resumes it each time, and compares it with one that was left alone.

    python scripts/kill_test.py --kills 20 -- digits --epochs 400

Everything after `--` goes to `winnow train`. Exit code 0 if `model.safetensors` and `labels.parquet` have the hashes
of the uninterrupted run, 1 otherwise.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

FILES = ("model.safetensors", "labels.parquet")


def command(arguments: list[str], out: Path) -> list[str]:
    """The training's command line."""
    return [sys.executable, "-m", "winnow", "train", *arguments, "--out", str(out), "--resume", "--quiet", "--json"]


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of the files that must agree."""
    return {name: sha256((run / name).read_bytes()).hexdigest() for name in FILES}


def main() -> int:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("arguments", nargs="+", help="of winnow train")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="winnow-kill-") as folder:
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        started = time.monotonic()
        subprocess.run(command(options.arguments, alone), check=True, stdout=subprocess.DEVNULL)
        took = time.monotonic() - started
        print(f"uninterrupted: {took:.1f} s")
        # A start costs some seconds: long enough to get on, short enough to leave work for most kills.
        longest = max(15.0, took / 4)
        for kill in range(options.kills):
            process = subprocess.Popen(command(options.arguments, killed), stdout=subprocess.DEVNULL)
            instant = chance.uniform(0.2, longest)
            try:
                process.wait(instant)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                epochs = killed / "metrics.jsonl"
                done = len(epochs.read_text().splitlines()) if epochs.exists() else 0
                print(f"kill {kill + 1:>2} after {instant:5.1f} s: {done} epochs on the disk", flush=True)
            else:
                print(f"finished with code {process.returncode} before kill {kill + 1}", flush=True)
                break
        subprocess.run(command(options.arguments, killed), check=True, stdout=subprocess.DEVNULL)
        same = hashes(alone) == hashes(killed)
        print("same bits" if same else f"DIFFERENT: {hashes(alone)} against {hashes(killed)}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
