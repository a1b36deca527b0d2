"""Results as one HTML page that needs nothing but a browser."""

from lesionkit.visualize.report.make import make_report
from lesionkit.visualize.report.options import ReportOptions

__all__ = ["ReportOptions", "make_report"]
