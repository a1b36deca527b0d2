import pytest

pytest.register_assert_rewrite("tests.ops.attention_contract", "tests.tolerances")
