"""One module per metric; the public names are those of the package."""

from __future__ import annotations
