"""LESIONKIT_REQUIRE=nvcc,triton: a test that skips for a reason with such a word fails instead.

So a machine that is meant to have a tool does not lose its tests unseen.
"""

import os

import pytest

pytest.register_assert_rewrite(
    "tests.deploy.detector_plans", "tests.ops.attention_contract", "tests.tolerances"
)

REQUIRED = [word.strip().lower() for word in os.environ.get("LESIONKIT_REQUIRE", "").split(",")]


def refuse_skip(report):
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        found = [word for word in REQUIRED if word and word in reason.lower()]
        if found:
            report.outcome = "failed"
            report.longrepr = f"{reason}; LESIONKIT_REQUIRE asks for {', '.join(found)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():  # of modules that skip as a whole
    return refuse_skip((yield))
