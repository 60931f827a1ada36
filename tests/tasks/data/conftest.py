import pytest

from tasks import data


@pytest.fixture(scope="session")
def digits():
    return data.load("digits8")
