"""The cases of the contract suites as fixtures: every structure encoder, every head of a property."""

from __future__ import annotations

import pytest
from contract_cases import EncoderCase, HeadCase, encoder_cases, head_cases


@pytest.fixture(scope="module", params=encoder_cases(), ids=str)
def case(request: pytest.FixtureRequest) -> EncoderCase:
    """An encoder to test."""
    return request.param


@pytest.fixture(params=head_cases(), ids=str)
def head_case(request: pytest.FixtureRequest) -> HeadCase:
    """A head to test."""
    return request.param
