"""``python -m fastgen`` is the same as ``fastgen``."""

from __future__ import annotations

from fastgen.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
