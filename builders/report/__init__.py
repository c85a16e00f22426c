"""A page about a build: what came in, what came out, what was left out and why, how the songs look and sound."""

from builders.report.page import write_report

__all__ = ["write_report"]
