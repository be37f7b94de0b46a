"""Candidate hypnic jerks (sleep starts) in wrist or mattress acceleration, live or recorded."""

from __future__ import annotations

__version__ = "0.1.0"
