"""Fails unless the demo found 60 % of the lesions at 4 false positives per image."""

import json
import sys
from pathlib import Path

results = json.loads(Path(sys.argv[1]).read_text())
found = dict(zip(results["false_positives_per_image"], results["sensitivity"], strict=True))
print("sensitivity at 4 false positives per image:", found[4.0])
sys.exit(found[4.0] < 0.6)
