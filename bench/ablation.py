"""Table 3 of Tao et al. 2019, the attention modules, on synthetic data.

``python -m bench.ablation`` takes two CPU cores half an hour; ``--size gpu`` runs it larger.
Started again it goes on where it was. Writes ``bench/results/ablation_synthetic.*`` or
``ablation_synthetic_gpu.*``: the table as Markdown and CSV, its curves, and what made it as JSON.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from bench.measure import machine
from lesionkit.cli.main import main as lesionkit
from lesionkit.files import atomic_write

RESULTS = Path(__file__).parent / "results"
SIZES = {
    "cpu": ["--seeds", "3"],
    "gpu": ["--seeds", "5", "--patients", "2400", "--jobs", "4", "training.epochs=12"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="cpu")
    parser.add_argument("--work", type=Path, default=Path("ablation"), help="data and trainings")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options, more = parser.parse_known_args()  # the rest is for lesionkit tables
    device = "cuda" if options.size == "gpu" else "cpu"
    arguments = ["--data", "synthetic", "--table", "3", "--device", device, *SIZES[options.size]]
    start, finished = time.time(), len(list(options.work.glob("runs/*/config.json")))
    if code := lesionkit(["tables", "--out", str(options.work), "--overwrite", *arguments, *more]):
        return code
    facts = {
        "command": shlex.join(["python", "-m", "bench.ablation", *sys.argv[1:]]),
        "tables": shlex.join(["lesionkit", "tables", *arguments, *more]),
        **machine(device),
        "minutes": round((time.time() - start) / 60, 1),
        "trainings": len(list(options.work.glob("runs/*/config.json"))),
        "trainings_finished_before": finished,
    }
    name = "ablation_synthetic" + ("_gpu" if options.size == "gpu" else "")
    table = options.work / "tables" / "table3.md"
    title, _, rest = table.read_text().partition("\n")
    head = "; ".join(f"{key} {value}" for key, value in facts.items() if key != "command")
    texts = {
        ".md": f"{title}\n\n`{facts['command']}`\n{head}\n{rest}",
        ".json": json.dumps(facts, indent=1) + "\n",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for suffix in (".md", ".csv", ".png", ".json"):
        with atomic_write(options.out / f"{name}{suffix}") as path:
            if suffix in texts:
                path.write_text(texts[suffix])
            else:
                path.write_bytes(table.with_suffix(suffix).read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
