import pytest

pytest.register_assert_rewrite(
    "tests.deploy.detector_plans", "tests.ops.attention_contract", "tests.tolerances"
)
