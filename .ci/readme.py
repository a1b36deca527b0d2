"""Prints the README's N-th fenced block of a language: ``readme.py bash 1``."""

import re
import sys
from pathlib import Path

language, number = sys.argv[1], int(sys.argv[2])
text = (Path(__file__).parents[1] / "README.md").read_text()
print(re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)[number - 1])
