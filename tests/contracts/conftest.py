"""The cases of the contract suites as fixtures: every structure encoder."""

from __future__ import annotations

import pytest
from encoder_cases import EncoderCase, encoder_cases


@pytest.fixture(scope="module", params=encoder_cases(), ids=str)
def case(request: pytest.FixtureRequest) -> EncoderCase:
    """An encoder to test."""
    return request.param
